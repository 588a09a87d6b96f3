"""What the service can do, without HTTP: read slates and lists, know items, take records.

A page or another interface asks the same `Backend`: `slate_of`, `popular`, `list_of`, `entries`, `served`, `take`, and
`preview`.
"""

import asyncio
import logging
import time
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeVar

import msgspec
from riverrank.jobs.config.schema import Config
from riverrank.jobs.serving.groups import groups_of
from riverrank.jobs.serving.previews import Previews
from riverrank.operators.arms import arms_of
from riverrank.operators.cache.redis_cache import slate_key, without_user
from riverrank.operators.flink.arrivals import Arrival, event_of, item_of, wall_ms
from riverrank.state.event_types import PREVIEW
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import GONE, POPULAR
from riverrank.state.outputs import PREVIEWS
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate, to_json

from .answers import Accepted, List, Refusal
from .catalogue import Catalogue, Entry, ItemsFollower
from .metrics import Metrics
from .reads import OfAnotherType, Reads, RedisAway, members_command, slate_command
from .writes import KafkaAway, Record, RecordTooLarge, Writes

Stream = Literal["events", "items"]
ListName = Literal["similar", "together", "trending"]

FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS = 0.01, 0.1  # between two looks for a slate that is waited for
GONE_SECONDS = 4e-5  # between two readings of what is gone, for each of it: some 20 times what it takes
TOLD_SECONDS = 60.0  # between two lines on keys that can't be read

log = logging.getLogger(__name__)
_slate = msgspec.json.Decoder(Slate)
_list = msgspec.json.Decoder(List)


class NotConfigured(Exception):
    """There is no Redis, Kafka or catalogue to do it with; the message names the setting."""


class NotRead(Exception):
    """What it takes is still being read: the message names it, and `field` the parameter that asked for it."""

    def __init__(self, message: str, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class Unreadable(Exception):
    """What Redis holds there is no list."""


class NoAnswer(Exception):
    """The job did not answer in time; the message says what to look at."""


class Busy(Exception):
    """As many wait for an answer of the job as may; the message names the setting."""


class Found(NamedTuple):
    """A slate, or the popular one; `stale`: Redis is away, or lost it, and it is what was read last."""

    slate: Slate
    is_popular: bool
    stale: bool

    def answers(self, event_id: str) -> bool:
        """Whether it is the user's own slate for that event."""
        return not self.is_popular and self.slate.trigger == event_id


class Wanted(NamedTuple):
    """Which places of a list are asked for. `where`: names of attributes, or category, and the value of each."""

    n: int
    offset: int = 0
    exclude: Collection[str] = ()
    where: Sequence[tuple[str, str]] = ()


class Place(Protocol):
    """A place of a slate or a list."""

    @property
    def item_id(self) -> str:
        """What is on it."""


AnyPlace = TypeVar("AnyPlace", bound=Place)
AnyBody = TypeVar("AnyBody", Slate, List)


class _Shared(NamedTuple):
    """What all reads share, as Redis held it last."""

    popular: Slate | None = None
    gone: frozenset[str] = frozenset()
    is_old: bool = False  # it holds no popular slate any more: this is the one before


class Backend:
    """The Redis, the Kafka and the catalogue of `config`, each as far as it is configured. For one event loop.

    Raises:
        UsageError: a URL or a file that `config` names is none.
    """

    def __init__(self, config: Config, clock: Callable[[], float] = time.monotonic) -> None:
        serve, kafka = config.serve, config.kafka
        self.config, self.metrics, self._clock = config, Metrics(), clock
        self._secret = config.privacy.key()
        self._sizes = {arm: settings.slate.size for arm, settings in arms_of(config.behaviour).items()}
        self._reads = Reads(config.redis, serve.timeout // 2) if config.redis.url else None
        topics = [topic for topic in (kafka.events, kafka.items) if topic]
        self._writes = Writes(kafka, topics, serve.timeout * 3 // 4) if kafka.bootstrap else None
        previews = kafka.of(PREVIEWS) if self._writes is not None and kafka.events else ""
        self._previews = Previews(kafka, previews, serve.timeout) if previews else None
        has_items = bool(config.files.items or (kafka.bootstrap and kafka.items))
        groups = groups_of(config)
        self.catalogue = Catalogue(config.behaviour.catalogue.items, groups) if has_items else None
        self._follower = ItemsFollower(config, self.catalogue) if self.catalogue is not None else None
        self._shared, self._fresh_until = _Shared(), 0.0
        self._tell_from = -TOLD_SECONDS  # when the log may say again that a key can't be read
        ready = {name: lambda name=name: self.readiness()[name] for name in self.readiness()}
        self.metrics.watch(ready, lambda: len(self.catalogue or ()))

    def start(self) -> None:
        """Begin to reach for all of it; nothing has to be there yet."""
        for part in (self._reads, self._writes, self._follower, self._previews):
            if part is not None:
                part.start()

    def close(self) -> None:
        """End all that `start` began, in bounded time."""
        for part in (self._previews, self._follower, self._writes, self._reads):
            if part is not None:
                part.close()

    def readiness(self) -> dict[str, bool]:
        """Of each part whether it works now; what is not configured does."""
        return {
            "redis": self._reads is None or self._reads.ready,
            "kafka": self._writes is None or self._writes.ready,
            "catalogue": self.catalogue is None or self.catalogue.caught_up,
        }

    async def slate_of(self, user_id: str) -> Found | None:
        """The slate of a user, whole; the popular one for who has none, or while Redis is away. None: there is neither.

        Raises:
            RedisAway: Redis is away, and has told no popular slate yet.
            NotConfigured: there is no Redis.
        """
        return self._counted(await self._look(user_id))

    async def slate_after(self, user_id: str, event_id: str) -> Found | None:
        """The slate of a user once it answers that event; at the end of serve.wait, or while Redis is away, whatever
        there is. Raises as `slate_of`.
        """
        loop, pause = asyncio.get_running_loop(), FIRST_PAUSE_SECONDS
        until = loop.time() + self.config.serve.wait / 1000
        while True:
            found = await self._look(user_id)
            left = until - loop.time()
            if left <= 0 or (found is not None and (found.stale or found.answers(event_id))):
                return self._counted(found)
            await asyncio.sleep(min(pause, left))
            pause = min(1.5 * pause, LONGEST_PAUSE_SECONDS)

    async def _look(self, user_id: str) -> Found | None:
        """See `slate_of`."""
        try:
            own = self._decoded(_slate, slate_key(user_id), await self._read(slate_key(user_id)))
            stale = False
        except RedisAway:
            if self._shared.popular is None:
                raise
            own, stale = None, True
        if own is not None:
            return Found(own, False, False)
        if self._shared.popular is None:
            return None
        return Found(self._shared.popular, True, stale or self._shared.is_old)

    def _counted(self, found: Found | None) -> Found | None:
        if found is not None and found.is_popular:
            self.metrics.fall_back()
        return found

    async def popular(self) -> Found | None:
        """The slate of who has none. Raises as `slate_of`."""
        try:
            await self._read(POPULAR)
            stale = False
        except RedisAway:
            if self._shared.popular is None:
                raise
            stale = True
        shared = self._shared
        return None if shared.popular is None else Found(shared.popular, True, stale or shared.is_old)

    async def list_of(self, name: ListName, item_id: str = "") -> List | None:
        """What is like an item, taken together with it, or (without one) trends; whole. None: nothing is told of it.

        Raises:
            RedisAway, NotConfigured: as `slate_of`.
            Unreadable: Redis holds something else there.
        """
        key = f"{name}:{item_id}" if item_id else name
        raw = await self._read(key)
        found = self._decoded(_list, key, raw)
        if raw is not None and found is None:
            raise Unreadable
        return found

    def served(self, places: Iterable[AnyPlace], wanted: Wanted) -> tuple[AnyPlace, ...]:
        """Those of `places` that are wanted, without what is gone or out of stock; ranks stay as they are.

        Raises:
            NotConfigured: `where` asks what the catalogue says, and there is none.
            NotRead: so it does, and not all of it is there yet.
        """
        if wanted.where and self.catalogue is None:
            raise NotConfigured("no catalogue is followed; give --kafka HOST:PORT, with kafka.items, or --items FILE")
        if wanted.where and self.catalogue is not None and not self.catalogue.caught_up:
            raise NotRead("where: the catalogue is still being read; come again later", "where")
        left = [place for place in places if self._is_served(place.item_id, wanted)]
        return tuple(left[wanted.offset : wanted.offset + wanted.n])

    def entries(self, item_ids: Iterable[str]) -> Mapping[str, Entry]:
        """What the catalogue says of items; without those that it doesn't hold."""
        found = {} if self.catalogue is None else {item_id: self.catalogue.of(item_id) for item_id in item_ids}
        return {item_id: entry for item_id, entry in found.items() if entry is not None}

    def places_of(self, slate: Slate) -> int:
        """How many places of `slate` are answered with where no number is asked for: all, but where `cache.depth` has
        more of them cached than a slate has, those of a slate of its arm.
        """
        if not self.config.cache.depth:
            return len(slate.items)
        return self._sizes.get(slate.arm, self.config.behaviour.slate.size)

    async def take(self, stream: Stream, raws: Sequence[bytes]) -> Accepted:
        """Check each record as the job does, and write the good ones to the topic; returns once they are written.

        Raises:
            KafkaAway: Kafka did not say that all were written. All may be given again: the job tells a redelivery.
            RecordTooLarge: the broker takes no record of that size.
            NotConfigured: there is no Kafka, or no such topic.
        """
        records, refused = self._checked(stream, raws)
        await self._write(stream, records)
        self.metrics.take(stream, "accepted", len(records))
        for refusal in refused:
            self.metrics.take(stream, refusal.reason)
        return Accepted(len(records), tuple(refused))

    async def log_impression(self, user_id: str, slate_id: str, item_ids: Sequence[str]) -> str | None:
        """Write that these were shown; the id of that event, None where Kafka is away, or there is nothing to tell."""
        if not item_ids:
            return None
        event = Event(
            f"impression-{uuid.uuid4()}", "impression", user_id, wall_ms(), items=tuple(item_ids), slate_id=slate_id
        )
        try:
            await self._write_event(event)
        except (KafkaAway, RecordTooLarge):
            self.metrics.take("events", "not_logged")
            return None
        self.metrics.take("events", "accepted")
        return event.event_id

    @property
    def answers_previews(self) -> bool:
        """Whether there are topics to ask the job by, and to hear of it."""
        return self._previews is not None

    async def preview(self, user_id: str, item_id: str) -> Slate:
        """The slate that a click of the user on that item would be answered with now, which the job is asked for. The
        job learns nothing from it, nor does anything change for the user.

        Raises:
            NotConfigured: there is no topic to ask by, or to hear of it.
            NotRead: the topic of previews is not followed yet.
            Busy, NoAnswer: too many wait; the job did not answer within serve.wait.
            KafkaAway: Kafka did not say that the job is asked.
        """
        serve, previews = self.config.serve, self._previews
        if previews is None:
            raise NotConfigured("kafka.previews: previews go to no topic; name one for the job, and here")
        if not previews.ready:
            raise NotRead("the topic of previews can't be followed now; come again later")
        if len(previews) >= serve.requests:
            raise Busy("as many previews as serve.requests are waited for; come again later")
        event = Event(f"preview-{uuid.uuid4()}", PREVIEW, user_id, wall_ms(), item_id)
        with previews.expected(event.event_id, user_id) as answer:
            await self._write_event(event)
            try:
                return await asyncio.wait_for(answer, serve.wait / 1000)
            except TimeoutError:
                raise NoAnswer(
                    "the job did not answer within serve.wait; see whether it runs, and has kafka.previews"
                ) from None

    def pseudonym(self, user_id: str) -> str:
        """What logs name a user by."""
        return pseudonym(user_id, self._secret)

    async def _read(self, key: str) -> bytes | OfAnotherType | None:
        """The field `slate` of a key; what all reads share is read with it, where it is no longer fresh."""
        if self._reads is None:
            raise NotConfigured("redis.url: no Redis is configured; give --redis redis://HOST:PORT/0")
        prefix = self.config.redis.prefix
        commands = [slate_command(prefix, key)]
        if self._clock() >= self._fresh_until:
            commands += [slate_command(prefix, POPULAR), members_command(prefix, GONE)]
        held, *shared = await self._reads.ask(commands)
        if shared:
            popular, gone = shared
            if isinstance(gone, OfAnotherType):
                self._say_unreadable(GONE, gone)
                told = self._shared.gone
            else:
                told = frozenset(item_id.decode("utf-8", "surrogateescape") for item_id in gone)
            newest = self._decoded(_slate, POPULAR, popular)
            self._shared = _Shared(newest or self._shared.popular, told, newest is None)
            self._fresh_until = self._clock() + max(self.config.serve.refresh / 1000, len(told) * GONE_SECONDS)
        return held if held is None or isinstance(held, OfAnotherType) else bytes(held)

    def _decoded(
        self, decoder: "msgspec.json.Decoder[AnyBody]", key: str, raw: bytes | OfAnotherType | None
    ) -> AnyBody | None:
        """None where there is nothing, or something else."""
        if raw is None:
            return None
        try:
            if isinstance(raw, OfAnotherType):
                raise raw
            return decoder.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OfAnotherType) as error:
            self._say_unreadable(key, error)
            return None

    def _say_unreadable(self, key: str, error: Exception) -> None:
        """One line a minute at most: the metric has how many there are."""
        self.metrics.find_unreadable()
        if self._clock() >= self._tell_from:
            self._tell_from = self._clock() + TOLD_SECONDS
            named = without_user(key, self._secret)
            log.warning("what Redis holds for %s is not what it should be: %s", named, error)

    def _is_served(self, item_id: str, wanted: Wanted) -> bool:
        if item_id in self._shared.gone or item_id in wanted.exclude:
            return False
        if self.catalogue is None:
            return True
        entry = self.catalogue.of(item_id)
        if entry is None:
            return not wanted.where and not (self.config.behaviour.catalogue.strict and self.catalogue.caught_up)
        return entry.available and all(entry.holds(name, value) for name, value in wanted.where)

    def _checked(self, stream: Stream, raws: Sequence[bytes]) -> tuple[list[Record], list[Refusal]]:
        behaviour, records, refused = self.config.behaviour, list[Record](), list[Refusal]()
        for index, raw in enumerate(raws):
            arrival = Arrival(0, index, 0, raw)
            checked = event_of(arrival, behaviour) if stream == "events" else item_of(arrival, behaviour)
            if isinstance(checked, Reject):
                refused.append(_refusal(index, checked))
            else:
                key = checked.user_id if isinstance(checked, Event) else checked.item_id
                records.append(Record(key.encode(), raw))
        return records, refused

    async def _write_event(self, event: Event) -> None:
        await self._write("events", [Record(event.user_id.encode(), to_json(event))])

    async def _write(self, stream: Stream, records: Sequence[Record]) -> None:
        kafka = self.config.kafka
        topic = kafka.events if stream == "events" else kafka.items
        if self._writes is None or not topic:
            raise NotConfigured(f"kafka.{'bootstrap' if topic else stream}: there is no topic to write {stream} to")
        if records:
            await self._writes.write(topic, records)


def _refusal(index: int, reject: Reject) -> Refusal:
    """A `bad_field` and an `ahead` begin with the field that they are about."""
    field = reject.detail.partition(":")[0] if reject.reason in ("bad_field", "ahead") else None
    return Refusal(index, reject.reason, None if field == "record" else field, reject.detail)
