"""The operators as Flink sees them: each class here hands records, keyed state and timers to one class of plain logic.

The only module of `operators` that imports PyFlink. Everything is written for `python.execution-mode: thread`; what
PyFlink does differently there is said where it matters.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from enum import StrEnum
from typing import Any
from zlib import crc32

import msgspec
from pyflink.common import Row, Time, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, ProcessFunction, RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from ..state import descriptors
from ..state.journal import Journal
from ..state.records import (
    Event,
    Item,
    Receipt,
    Reject,
    Slate,
    dead_letter,
    decode_event,
    decode_item,
    to_json,
)
from ..state.wire import (
    CacheWrite,
    CatalogueUpdate,
    SignalUpdate,
    Update,
    decode_feedback,
    decode_update,
    decode_write,
    encode,
)
from .cache import POPULAR, Cache, CacheAway, slate_key
from .native import import_apart  # before whatever imports River
from .ranker import Ranker
from .recommend import Recommend
from .session import Session
from .settings import Behaviour
from .signals import Signals
from .view import View

# Between operators bytes travel as byte[], which pemja hands over as they are. In state the same type comes back as a
# tuple of numbers; a pickled byte array does not.
BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
KEYED = Types.ROW([Types.STRING(), BYTES])  # the key, and what the function is called with
LINE = Types.STRING()
STORED = Types.PICKLED_BYTE_ARRAY()

END_OF_INPUT = 1 << 62  # an event time that only the last watermark reaches
FIRST_RETRY_MS = 100
LAST_RETRY_MS = 5_000
WRITES_AT_ONCE = 1_000

# All subtasks of a TaskManager share one interpreter. numpy lets go of its lock in every call, and two threads that
# hand it to and fro at each spend more time on that than on the work: so one at a time, never across a yield (a
# thread that waits for its output to be taken must not hold up the one that takes it).
TURN = threading.Lock()

_log = logging.getLogger(__name__)


class Output(StrEnum):
    """What leaves the job."""

    SLATES = "slates"
    PREDICTIONS = "predictions"
    RECEIPTS = "receipts"
    DEAD_LETTERS = "dead-letters"


PAIRS = OutputTag("pairs", KEYED)
SAMPLE = OutputTag("sample", KEYED)
WRITES = OutputTag("writes", KEYED)
LINES = {output: OutputTag(f"{output}-lines", LINE) for output in Output}
RECORDS = {output: OutputTag(f"{output}-records", KEYED) for output in Output}


class Outputs(msgspec.Struct, frozen=True):
    """Which outputs are wanted, as lines of a file and as records with a key. A tag without a consumer is an error."""

    lines: frozenset[Output] = frozenset()
    records: frozenset[Output] = frozenset()

    def __contains__(self, output: Output) -> bool:
        return output in self.lines or output in self.records

    def emit(self, output: Output, key: str, value: bytes) -> Iterator[tuple[OutputTag, Any]]:
        """`value` to wherever `output` goes."""
        if output in self.lines:
            yield LINES[output], value.decode()
        if output in self.records:
            yield RECORDS[output], Row(key, value)


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """A record as it came: `value` is None for a tombstone, `ts` is Kafka's, 0 for a line of a file."""

    partition: int
    offset: int
    ts: int
    value: bytes | None
    key: bytes | None = None


_decode_arrival = msgspec.msgpack.Decoder(Arrival).decode


class Lines:
    """Reads the lines of a file, decoded as ISO-8859-1, back to bytes, and counts them. Blank ones are no record."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, line: str) -> Arrival | None:
        offset, self._next = self._next, self._next + 1
        value = line.encode("latin-1")
        return Arrival(0, offset, 0, value) if value else None


def kafka_record(row: Row) -> Arrival:
    """A row of the Kafka table: key, value, partition, offset, timestamp."""
    key, value, partition, offset, ts = row
    return Arrival(partition, offset, ts, value, key)


Read = Callable[[Any], Arrival | None]


class ParseEvents(ProcessFunction):
    """Keys each event by its user; what is none becomes a dead letter."""

    def __init__(self, read: Read, topic: str, outputs: Outputs) -> None:
        self.read, self.topic, self.outputs = read, topic, outputs

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Any]:
        arrival = self.read(value)
        if arrival is None:
            return
        event = decode_event(arrival.value)
        if isinstance(event, Event):
            yield Row(event.user_id, encode(arrival))
        else:
            yield from _dead_letter(self.outputs, arrival, event, self.topic)


class ParseItems(ProcessFunction):
    """Makes a catalogue update of each item; what is none becomes a dead letter."""

    def __init__(self, read: Read, topic: str, outputs: Outputs, *, updates: bool) -> None:
        self.read, self.topic, self.outputs, self.updates = read, topic, outputs, updates

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Any]:
        arrival = self.read(value)
        if arrival is None:
            return
        item = decode_item(arrival.value, arrival.key, arrival.ts)
        if isinstance(item, Reject):
            yield from _dead_letter(self.outputs, arrival, item, self.topic)
        elif self.updates:
            yield encode(CatalogueUpdate(item))


class SessionFunction(KeyedProcessFunction):
    """SESSION. Feedbacks on the main output, keyed by user; beside it what SIGNALS and RANKER learn from, by shard."""

    def __init__(self, behaviour: Behaviour, topic: str, outputs: Outputs, ttl_ms: int) -> None:
        self.behaviour, self.topic, self.outputs, self.ttl_ms = behaviour, topic, outputs, ttl_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.session = Session(self.behaviour)
        self.state = runtime_context.get_state(_value(descriptors.SESSION_VALUE, self.ttl_ms))

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        arrival = _decode_arrival(value)
        event = decode_event(arrival.value)
        assert isinstance(event, Event), "parse lets only events through"
        held = self.state.value()
        with TURN:
            accepted = self.session.accept(event, held)
        _keep(self.state, held, accepted.state)
        if accepted.reject is not None:
            yield from _dead_letter(self.outputs, arrival, accepted.reject, self.topic)
        feedback = accepted.feedback
        if feedback is None:
            return
        encoded = encode(feedback)
        yield Row(event.user_id, encoded)
        for shard in self.session.routes(feedback):
            yield PAIRS, Row(str(shard), encoded)
        if self.session.sampled(feedback):
            yield SAMPLE, Row("0", encoded)


class SignalsFunction(KeyedProcessFunction):
    """SIGNALS: one learner a shard, in the instance, restored from the shard's journal when it is first touched."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(_map(descriptors.SIGNALS_JOURNAL)))
        self.shards: dict[str, Signals] = {}
        self.flushes = Flushes(self.behaviour.signals.flush_every)

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        signals = self._shard(ctx.get_current_key())
        with TURN:
            signals.learn(decode_feedback(value))
        yield from self.flushes.after(signals, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        yield from self.flushes.on_timer(self._shard(ctx.get_current_key()), ctx)

    def _shard(self, shard: str) -> Signals:
        if shard not in self.shards:
            self.shards[shard] = Signals.restore(self.behaviour, int(shard), Journal(self.entries))
        return self.shards[shard]


class RankerFunction(KeyedBroadcastProcessFunction):
    """RANKER: one learner a shard, restored as those of SIGNALS are, over the subtask's view."""

    def __init__(self, behaviour: Behaviour, catalogue: "Catalogue") -> None:
        self.behaviour, self.catalogue = behaviour, catalogue

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(_map(descriptors.RANKER_JOURNAL)))
        self.views = Views(self.behaviour, descriptors.RANKER_VIEW, self.catalogue)
        self.shards: dict[str, Ranker] = {}
        self.flushes = Flushes(self.behaviour.ranker.flush_every)

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        ranker = self._shard(ctx)
        with TURN:
            ranker.learn(decode_feedback(value))
        yield from self.flushes.after(ranker, ctx)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        self.views.apply(value, ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: KeyedBroadcastProcessFunction.OnTimerContext) -> Iterator[bytes]:
        yield from self.flushes.on_timer(self._shard(ctx), ctx)

    def _shard(self, ctx: Any) -> Ranker:
        shard = ctx.get_current_key()
        if shard not in self.shards:
            journal = Journal(self.entries)
            self.shards[shard] = Ranker.restore(self.behaviour, self.views.read(ctx), int(shard), journal)
        return self.shards[shard]


class RecommendFunction(KeyedBroadcastProcessFunction):
    """RECOMMEND. Everything it emits goes to side outputs, and only where there is a consumer."""

    def __init__(
        self,
        behaviour: Behaviour,
        catalogue: "Catalogue",
        outputs: Outputs,
        ttl_ms: int,
        cache: "CacheRoute | None",
    ) -> None:
        self.behaviour, self.catalogue, self.outputs = behaviour, catalogue, outputs
        self.ttl_ms, self.cache = ttl_ms, cache

    def open(self, runtime_context: RuntimeContext) -> None:
        for name in (self.behaviour.learner.model, self.behaviour.learner.optimizer):
            import_apart(f"river.{name.rpartition('.')[0]}")
        self.state = runtime_context.get_state(_value(descriptors.LEARNER_VALUE, self.ttl_ms))
        self.views = Views(self.behaviour, descriptors.RECOMMEND_VIEW, self.catalogue)
        self.recommend: Recommend | None = None

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        feedback = decode_feedback(value)
        user_id = feedback.event.user_id
        held = self.state.value()
        recommend = self._logic(ctx)
        with TURN:
            answer = recommend.answer(feedback, held)
        _keep(self.state, held, answer.state)
        if Output.PREDICTIONS in self.outputs:
            for prediction in answer.predictions:
                yield from self.outputs.emit(Output.PREDICTIONS, user_id, prediction)
        if answer.slate is not None:
            if Output.SLATES in self.outputs:
                yield from self.outputs.emit(Output.SLATES, user_id, answer.slate)
            if self.cache is not None:
                yield self.cache.write(slate_key(user_id), feedback.epoch, answer.version, answer.slate)
        if answer.erased:
            parts = ("sessions", "learner", "slates", *(("cache",) if self.cache else ()))
            receipt = to_json(Receipt(feedback.event.event_id, user_id, feedback.event.ts, parts))
            if self.cache is not None:
                yield self.cache.write(slate_key(user_id), feedback.epoch, 0, None, receipt)
            elif Output.RECEIPTS in self.outputs:
                yield from self.outputs.emit(Output.RECEIPTS, user_id, receipt)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Any]:
        update = self.views.apply(value, ctx)
        if self.cache is not None and isinstance(update, SignalUpdate):
            popular = self._logic(ctx).popular(update.ts)
            if popular is not None:
                version = msgspec.json.decode(popular, type=Slate).version
                yield self.cache.write(POPULAR, 0, version, popular)

    def _logic(self, ctx: Any) -> Recommend:
        if self.recommend is None:
            self.recommend = Recommend(
                self.behaviour,
                self.views.read(ctx),
                predict=Output.PREDICTIONS in self.outputs,
                popular_every=self.cache.popular_every_ms if self.cache else 0,
            )
        return self.recommend


class CacheRoute(msgspec.Struct, frozen=True):
    """How RECOMMEND reaches CACHE: the number of buckets that keys fall into, and how often `popular` is written."""

    buckets: int
    popular_every_ms: int

    def write(
        self, key: str, epoch: int, version: int, slate: bytes | None, receipt: bytes | None = None
    ) -> tuple[OutputTag, Row]:
        """The side output that asks for one write."""
        bucket = crc32(key.encode()) % self.buckets
        return WRITES, Row(str(bucket), encode(CacheWrite(key, epoch, version, slate, receipt)))


class CacheFunction(KeyedProcessFunction):
    """CACHE: an outbox a bucket; receipts of what is gone on the main output, as a timer can reach no other.

    Redis being away costs one attempt of the subtask at a time, further and further apart, and never the job; only at
    the end of bounded input it does, when `drain_ms` have passed.
    """

    def __init__(self, cache: Callable[[], Cache], flush_every_ms: int, drain_ms: int) -> None:
        self.connect, self.flush_every_ms, self.drain_ms = cache, flush_every_ms, drain_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(_map(descriptors.CACHE_OUTBOX)))
        self.cache = self.connect()
        self.outboxes: dict[str, Outbox] = {}
        self.armed: set[str] = set()
        self.away: CacheAway | None = None
        self.retry_ms = FIRST_RETRY_MS
        self.retry_at = 0.0
        self.drained_by: float | None = None

    def close(self) -> None:
        self.cache.close()

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        bucket = ctx.get_current_key()
        self._outbox(bucket, ctx).add(value)
        self._arm(bucket, ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        bucket = ctx.get_current_key()
        outbox = self._outbox(bucket, ctx)
        if timestamp == END_OF_INPUT:
            yield from self._drain(outbox)
            return
        self.armed.discard(bucket)
        if time.monotonic() >= self.retry_at:
            yield from self._flush(outbox)
        if outbox:
            self._arm(bucket, ctx)

    def _outbox(self, bucket: str, ctx: KeyedProcessFunction.Context) -> "Outbox":
        if bucket not in self.outboxes:
            self.outboxes[bucket] = Outbox(self.entries)
            ctx.timer_service().register_event_time_timer(END_OF_INPUT)
        return self.outboxes[bucket]

    def _arm(self, bucket: str, ctx: KeyedProcessFunction.Context) -> None:
        if bucket not in self.armed:
            self.armed.add(bucket)
            wait_ms = max(self.flush_every_ms, round((self.retry_at - time.monotonic()) * 1000))
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + wait_ms)

    def _flush(self, outbox: "Outbox") -> Iterator[Row]:
        batch = outbox.batch()
        try:
            settled: Iterable[str] = self.cache.write([write for _, write in batch])
        except CacheAway as away:
            if self.away is None:
                _log.warning("%s; slates are kept until it is back", away)
            self.away, settled = away, away.settled
            self.retry_at = time.monotonic() + self.retry_ms / 1000
            self.retry_ms = min(self.retry_ms * 2, LAST_RETRY_MS)
        else:
            if self.away is not None:
                _log.warning("Redis is back")
            self.away, self.retry_ms, self.retry_at = None, FIRST_RETRY_MS, 0.0
        settled = frozenset(settled)
        for entry, write in batch:
            if write.key in settled:
                outbox.settle(entry)
                if write.receipt is not None:
                    yield Row(write.key.partition(":")[2], write.receipt)

    def _drain(self, outbox: "Outbox") -> Iterator[Row]:
        if self.drained_by is None:
            self.drained_by = time.monotonic() + self.drain_ms / 1000
        while outbox:
            before = len(outbox)
            yield from self._flush(outbox)
            if len(outbox) < before:
                continue
            if time.monotonic() >= self.drained_by:
                why = str(self.away) if self.away else "it refuses them"
                raise RuntimeError(f"{len(outbox)} writes to Redis are left at the end of the input: {why}")
            time.sleep(min(FIRST_RETRY_MS / 1000, max(0.0, self.drained_by - time.monotonic())))


class SendReceipts(ProcessFunction):
    """Hands the receipts of CACHE to wherever they go."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        user_id, receipt = value
        if Output.RECEIPTS in self.outputs:
            yield from self.outputs.emit(Output.RECEIPTS, user_id, receipt)


class Outbox:
    """The writes of one bucket that are still to be done, in the instance and in state. Not empty is true.

    Of a key the latest slate is kept, and every erasure with its receipt; an erasure drops the slates before it and
    goes ahead of those after it.
    """

    def __init__(self, entries: "MapEntries") -> None:
        self._entries = entries
        self._waiting = dict(entries.items())

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, encoded: bytes) -> None:
        """Take an encoded `CacheWrite`."""
        write = decode_write(encoded)
        slate = f"slate\0{write.key}"
        entry = slate if write.slate is not None else f"erase\0{write.key}\0{write.epoch:020d}"
        if write.slate is None and slate in self._waiting:
            self.settle(slate)
        self._waiting[entry] = encoded
        self._entries.put(entry, encoded)

    def batch(self) -> list[tuple[str, CacheWrite]]:
        """What may be written at once: of each key one write only, its first."""
        chosen: dict[str, tuple[str, CacheWrite]] = {}
        for entry in sorted(self._waiting):  # erasures before slates, by epoch
            write = decode_write(self._waiting[entry])
            chosen.setdefault(write.key, (entry, write))
            if len(chosen) >= WRITES_AT_ONCE:
                break
        return list(chosen.values())

    def settle(self, entry: str) -> None:
        """Forget an entry that is done."""
        del self._waiting[entry]
        self._entries.remove(entry)


Catalogue = Callable[[], Iterable[Item]]


class Views:
    """The one view of a subtask, over broadcast state, restored from it at the first element of either side.

    Where that state is empty the catalogue is read first: no slate is made without it. The user's side may only read
    broadcast state, so what it would write waits in memory for the first element of the broadcast side; a checkpoint
    before that leaves the state empty, and the catalogue is read again.
    """

    def __init__(self, behaviour: Behaviour, name: str, catalogue: Catalogue) -> None:
        self._behaviour, self._catalogue = behaviour, catalogue
        self._descriptor = broadcast_state(name)
        self._view: View | None = None
        self._entries: BroadcastEntries | None = None
        self._journal: Journal | None = None

    def read(self, ctx: Any) -> View:
        """The view, for either side."""
        if self._view is None:
            self._entries = BroadcastEntries(ctx.get_broadcast_state(self._descriptor))
            self._journal = Journal(self._entries)
            self._view = View.restore(self._behaviour, self._journal)
            if self._view.empty:
                for item in self._catalogue():
                    self._view.apply(CatalogueUpdate(item), self._journal)
        return self._view

    def apply(self, encoded: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Update:
        """Apply an encoded update to the view and to broadcast state; returns it decoded."""
        view = self.read(ctx)
        if self._entries is not None and not self._entries.writable:
            self._entries.make_writable(ctx.get_broadcast_state(self._descriptor))
        update: Update = decode_update(encoded)
        with TURN:
            view.apply(update, self._journal)
        return update


class Flushes:
    """When what a learner has to tell goes out: as soon as it is due, else by a processing-time timer."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._armed: set[str] = set()

    def after(self, learner: Signals | Ranker, ctx: Any) -> Iterator[bytes]:
        """To be called after a feedback was learned."""
        if learner.due():
            yield from _flushed(learner)
            return
        key = ctx.get_current_key()
        if key not in self._armed:
            self._armed.add(key)
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + self._every_ms)

    def on_timer(self, learner: Signals | Ranker, ctx: Any) -> Iterator[bytes]:
        """To be called when the timer fires."""
        self._armed.discard(ctx.get_current_key())
        yield from _flushed(learner)


class MapEntries:
    """`state.journal.Entries` over a keyed MapState; it holds the entries of whatever key is current."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def put(self, key: str, value: bytes) -> None:
        self._state.put(key, value)

    def remove(self, key: str) -> None:
        self._state.remove(key)

    def items(self) -> Iterator[tuple[str, bytes]]:
        return iter(list(self._state.items()))


class BroadcastEntries:
    """`state.journal.Entries` over broadcast state. While it can only be read, what is written waits in memory."""

    def __init__(self, readable: Any) -> None:
        self._readable = readable
        self._writable: Any = None
        self._waiting: dict[str, bytes | None] = {}  # None: to be removed

    def make_writable(self, state: Any) -> None:
        """Write what waits to `state`, and everything to come."""
        self._writable = state
        waiting, self._waiting = self._waiting, {}
        for key, value in waiting.items():
            if value is None:
                state.remove(key)
            else:
                state.put(key, value)

    @property
    def writable(self) -> bool:
        return self._writable is not None

    def put(self, key: str, value: bytes) -> None:
        if self._writable is None:
            self._waiting[key] = value
        else:
            self._writable.put(key, value)

    def remove(self, key: str) -> None:
        if self._writable is None:
            self._waiting[key] = None
        else:
            self._writable.remove(key)

    def items(self) -> Iterator[tuple[str, bytes]]:
        entries = dict(self._readable.items()) | self._waiting
        return iter([(key, value) for key, value in entries.items() if value is not None])


def broadcast_state(name: str) -> MapStateDescriptor:
    """The broadcast state of that name."""
    return MapStateDescriptor(name, Types.STRING(), STORED)


def _flushed(learner: Signals | Ranker) -> Iterator[bytes]:
    with TURN:
        update = learner.flush()
    if update is not None:
        yield update


def _dead_letter(outputs: Outputs, arrival: Arrival, reject: Reject, topic: str) -> Iterator[Any]:
    if Output.DEAD_LETTERS in outputs:
        letter = dead_letter(arrival.value, reject, topic, arrival.partition, arrival.offset, arrival.ts)
        yield from outputs.emit(Output.DEAD_LETTERS, "", to_json(letter))


def _keep(state: Any, held: bytes | None, new: bytes | None) -> None:
    if new is None:
        if held is not None:
            state.clear()
    elif new is not held:
        state.update(new)


def _value(name: str, ttl_ms: int) -> ValueStateDescriptor:
    descriptor = ValueStateDescriptor(name, STORED)
    ttl = StateTtlConfig.new_builder(Time.milliseconds(ttl_ms))
    descriptor.enable_time_to_live(ttl.set_update_type(StateTtlConfig.UpdateType.OnCreateAndWrite).build())
    return descriptor


def _map(name: str) -> MapStateDescriptor:
    return MapStateDescriptor(name, Types.STRING(), STORED)
