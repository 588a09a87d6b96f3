"""`riverrank replay`: the job's operators in one Python process, without Flink.

The oracle for tests of the job, and the fastest way to look at quality: what is broadcast in the job is applied here
at once.
"""

import gzip
import logging
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import IO, Any, Protocol

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.operators.cache.redis_cache import Cache, CacheAway, slate_key
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.recommend import Recommend, receipt_of
from riverrank.state.messages import POPULAR, CacheWrite, CatalogueUpdate, Feedback, decode_update
from riverrank.state.records import Event, Item, Reject, dead_letter, decode_event, decode_item, to_json

from .reading import STANDARD, read_lines, read_topic

log = logging.getLogger(__name__)
CACHE_BATCH = 500


def run(config: Config) -> None:
    """Read everything there is, answer it, and end; raises UsageError or Failure."""
    started = time.monotonic()
    with ExitStack() as stack:
        outputs = {name: stack.enter_context(_sink(config, name)) for name in Sink.NAMES}
        cache = _CacheSide(config) if config.redis.url else None
        replay = Replay(config, outputs, cache)
        for arrival in _arrivals(config, "items"):
            replay.item(arrival)
        replay.refresh_popular()
        for arrival in _arrivals(config, "events"):
            replay.event(arrival)
        replay.finish()
    seconds = time.monotonic() - started
    log.info("%d slates in %.1f s, %.0f a second", replay.slates, seconds, replay.slates / max(seconds, 1e-9))


class Writer(Protocol):
    """Takes the records of one output; of predictions, none are made that nobody has `wanted`."""

    wanted: bool

    def write(self, key: str, value: bytes) -> None:
        """Take one JSON record; `key` is the record's key on a topic."""


class Sink:
    """Where one output goes: a file, standard output, a topic, or nowhere (then `wanted` is False)."""

    NAMES = ("slates", "predictions", "dead_letters", "receipts")

    def __init__(self, path: str = "", producer: Any = None, topic: str = "") -> None:
        self.wanted = bool(path or topic)
        self._producer, self._topic = producer, topic
        self._file: IO[bytes] | None = None
        if path == STANDARD:
            self._file = sys.stdout.buffer
        elif path:
            self._file = _created(path)

    def __enter__(self) -> "Sink":
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is sys.stdout.buffer:
            self._file.flush()
        elif self._file is not None:
            self._file.close()
        if self._producer is not None:
            self._producer.close()

    def write(self, key: str, value: bytes) -> None:
        if self._file is not None:
            self._file.write(value + b"\n")
        elif self._producer is not None:
            self._producer.send(self._topic, value, key.encode() or None)


class Replay:
    """All five operators, one after another, for one event at a time."""

    def __init__(self, config: Config, outputs: Mapping[str, Writer], cache: "_CacheSide | None" = None) -> None:
        behaviour = config.behaviour
        self.config, self.outputs, self.cache = config, outputs, cache
        self.index = ItemIndex(behaviour)
        self.session = Session(behaviour)
        self.signals = [Signals(behaviour, shard) for shard in range(behaviour.signals.shards)]
        self.ranker = Ranker(behaviour, self.index)
        self.recommend = Recommend(
            behaviour, self.index, predict=outputs["predictions"].wanted, popular_every=config.cache.popular_every
        )
        self.sessions: dict[str, bytes] = {}
        self.users: dict[str, bytes] = {}
        self.slates = 0

    def item(self, arrival: Arrival) -> None:
        """Take a record of the items stream."""
        item = decode_item(arrival.value, arrival.key, arrival.ts)
        if isinstance(item, Item):
            self.index.apply(CatalogueUpdate(item))
        else:
            self._bury(arrival, item, "items")

    def event(self, arrival: Arrival) -> None:
        """Take a record of the events stream, and answer it."""
        event = decode_event(arrival.value)
        if isinstance(event, Reject):
            return self._bury(arrival, event, "events")
        accepted = self.session.accept(event, self.sessions.get(event.user_id))
        _keep(self.sessions, event.user_id, accepted.state)
        if accepted.reject is not None:
            self._bury(arrival, accepted.reject, "events")
        if accepted.feedback is not None:
            self._feedback(event, accepted.feedback)
        return None

    def refresh_popular(self) -> None:
        """Put `rr:popular` where it is due."""
        slate = self.recommend.popular(self.index.meta.ts) if self.cache is not None else None
        if slate is not None and self.cache is not None:
            self.cache.put(CacheWrite(POPULAR, 0, self.index.events + 1, slate))

    def finish(self) -> None:
        """Write what is still on its way to Redis."""
        if self.cache is not None:
            for receipt, user_id in self.cache.flush():
                self.outputs["receipts"].write(user_id, receipt)

    def _feedback(self, event: Event, feedback: Feedback) -> None:
        answer = self.recommend.answer(feedback, self.users.get(event.user_id))
        _keep(self.users, event.user_id, answer.state)
        for prediction in answer.predictions:
            self.outputs["predictions"].write(event.user_id, prediction)
        if answer.slate is not None:
            self.slates += 1
            self.outputs["slates"].write(event.user_id, answer.slate)
            if self.cache is not None:
                self.cache.put(CacheWrite(slate_key(event.user_id), feedback.epoch, answer.version, answer.slate))
        if answer.erased:
            self._erase(event, feedback.epoch)
        sampled = self.session.sampled(feedback)
        if sampled:
            self.ranker.learn(feedback)
        for shard in self.session.routes(feedback):
            self.signals[shard].learn(feedback)
        self._broadcast()

    def _broadcast(self) -> None:
        for signals in self.signals:
            if signals.due():
                for update in signals.flush():
                    self.index.apply(decode_update(update))
                    self.refresh_popular()
        if self.ranker.due():
            for update in self.ranker.flush():
                self.index.apply(decode_update(update))

    def _erase(self, event: Event, epoch: int) -> None:
        receipt = receipt_of(event, cached=self.cache is not None)
        if self.cache is None:
            self.outputs["receipts"].write(event.user_id, receipt)
        else:
            self.cache.put(CacheWrite(slate_key(event.user_id), epoch, 0, None, receipt))

    def _bury(self, arrival: Arrival, reject: Reject, topic: str) -> None:
        letter = dead_letter(arrival.value, reject, topic, arrival.partition, arrival.offset, arrival.ts)
        self.outputs["dead_letters"].write("", to_json(letter))


class _CacheSide:
    """CACHE without Flink: the outbox in memory, written whenever it is long enough."""

    def __init__(self, config: Config) -> None:
        redis = config.redis
        self.cache = Cache(redis.url, redis.prefix, config.cache.ttl, redis.timeout)
        self.drain_seconds = config.cache.drain / 1000
        self.outbox: dict[str, CacheWrite] = {}
        self.receipts: list[tuple[bytes, str]] = []

    def put(self, write: CacheWrite) -> None:
        held = self.outbox.get(write.key)
        if held is not None and held.receipt is not None:
            self._write()
        self.outbox[write.key] = write
        if len(self.outbox) >= CACHE_BATCH:
            self._write()

    def flush(self) -> list[tuple[bytes, str]]:
        """Write all; the receipts of all erasures, each with its user."""
        self._write()
        return self.receipts

    def _write(self) -> None:
        until = time.monotonic() + self.drain_seconds
        wait = 0.1
        while self.outbox:
            try:
                settled = self.cache.write(list(self.outbox.values()))
            except CacheAway as away:
                if time.monotonic() > until:
                    raise Failure(f"{away}; it stayed away for {self.drain_seconds:.0f} s") from away
                time.sleep(wait)
                wait = min(2 * wait, 5.0)
                continue
            for key in settled:
                write = self.outbox.pop(key)
                if write.receipt is not None:
                    self.receipts.append((write.receipt, key.partition(":")[2]))


def _created(path: str) -> IO[bytes]:
    try:
        return gzip.open(path, "wb", 6) if path.endswith(".gz") else Path(path).open("wb")  # type: ignore[return-value]
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder that is there") from error


def _keep(store: dict[str, bytes], user_id: str, state: bytes | None) -> None:
    if state is None:
        store.pop(user_id, None)
    else:
        store[user_id] = state


def _arrivals(config: Config, name: str) -> Iterator[Arrival]:
    """The records of an input, in order, with a line of progress on standard error now and then."""
    path = getattr(config.files, name)
    topic = getattr(config.kafka, name)
    if path:
        source: Iterable[Arrival] = read_lines(path)
    elif config.kafka.bootstrap and topic:
        source = read_topic(config.kafka, topic)
    else:
        source = ()
    for number, arrival in enumerate(source, start=1):
        yield arrival
        if number % 20_000 == 0:
            log.info("%d %s read", number, name)


def _sink(config: Config, name: str) -> Sink:
    path, topic = getattr(config.files, name), getattr(config.kafka, name)
    if path or not (config.kafka.bootstrap and topic):
        return Sink(path)
    from kafka import KafkaProducer  # noqa: PLC0415 - slow to import, and files need none of it

    return Sink("", KafkaProducer(**config.kafka.python_arguments()), topic)
