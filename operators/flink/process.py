"""The operators as Flink sees them: each class here hands records, keyed state and timers to one class of plain logic.

The only module of `operators` that imports PyFlink. Everything is written for `python.execution-mode: thread`; what
PyFlink does differently there is said where it matters.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any
from zlib import crc32

import msgspec
from pyflink.common import Row, Time, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, ProcessFunction, RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor
from riverrank.operators.cache.outbox import Outbox, Sender
from riverrank.operators.cache.redis_cache import Cache, slate_key
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.recommend import Recommend, receipt_of
from riverrank.state import uids as descriptors
from riverrank.state.journal import Journal
from riverrank.state.messages import POPULAR, CacheWrite, CatalogueUpdate, SignalUpdate, decode_feedback, encode
from riverrank.state.records import Event, Reject, Slate, dead_letter, decode_event, decode_item, to_json

from .arrivals import Arrival, decode_arrival
from .broadcast_index import BroadcastIndex, Catalogue
from .entries import MapEntries
from .flushes import INTERPRETER_LOCK, Flushes
from .native import import_apart  # before whatever imports River

# Between operators bytes travel as byte[], which pemja hands over as they are. In state the same type comes back as a
# tuple of numbers; a pickled byte array does not.
BYTES = Types.PRIMITIVE_ARRAY(Types.BYTE())
KEYED = Types.ROW([Types.STRING(), BYTES])  # the key, and what the function is called with
LINE = Types.STRING()
STORED = Types.PICKLED_BYTE_ARRAY()

END_OF_INPUT = 1 << 62  # an event time that only the last watermark reaches


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
        arrival = decode_arrival(value)
        event = decode_event(arrival.value)
        assert isinstance(event, Event), "parse lets only events through"
        held = self.state.value()
        with INTERPRETER_LOCK:
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
        with INTERPRETER_LOCK:
            signals.learn(decode_feedback(value))
        yield from self.flushes.after(signals, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        yield from self.flushes.on_timer(self._shard(ctx.get_current_key()), ctx)

    def _shard(self, shard: str) -> Signals:
        if shard not in self.shards:
            self.shards[shard] = Signals.restore(self.behaviour, int(shard), Journal(self.entries))
        return self.shards[shard]


class RankerFunction(KeyedBroadcastProcessFunction):
    """RANKER: one learner a shard, restored as those of SIGNALS are, over the subtask's index."""

    def __init__(self, behaviour: Behaviour, catalogue: Catalogue) -> None:
        self.behaviour, self.catalogue = behaviour, catalogue

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(_map(descriptors.RANKER_JOURNAL)))
        self.views = BroadcastIndex(
            self.behaviour, broadcast_state(descriptors.RANKER_VIEW), self.catalogue, INTERPRETER_LOCK
        )
        self.shards: dict[str, Ranker] = {}
        self.flushes = Flushes(self.behaviour.ranker.flush_every)

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        feedback = decode_feedback(value)
        ranker = self._shard(ctx)
        self.views.read(ctx, feedback.event.ts)
        with INTERPRETER_LOCK:
            ranker.learn(feedback)
        yield from self.flushes.after(ranker, ctx)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        self.views.take(value, ctx)
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
        catalogue: Catalogue,
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
        self.views = BroadcastIndex(
            self.behaviour, broadcast_state(descriptors.RECOMMEND_VIEW), self.catalogue, INTERPRETER_LOCK
        )
        self.recommend: Recommend | None = None

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        feedback = decode_feedback(value)
        user_id = feedback.event.user_id
        held = self.state.value()
        recommend = self._logic(ctx)
        self.views.read(ctx, feedback.event.ts)
        with INTERPRETER_LOCK:
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
            receipt = receipt_of(feedback.event, cached=self.cache is not None)
            if self.cache is not None:
                yield self.cache.write(slate_key(user_id), feedback.epoch, 0, None, receipt)
            elif Output.RECEIPTS in self.outputs:
                yield from self.outputs.emit(Output.RECEIPTS, user_id, receipt)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Any]:
        update = self.views.take(value, ctx)
        if self.cache is not None:
            logic = self._logic(ctx)
            popular = logic.popular(update.ts if isinstance(update, SignalUpdate) else logic.index.meta.ts)
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
    """CACHE: an outbox a bucket, one sender for all of a subtask; receipts of what is gone on the main output, as a
    timer can reach no other.
    """

    def __init__(self, cache: Callable[[], Cache], flush_every_ms: int, drain_ms: int) -> None:
        self.connect, self.flush_every_ms, self.drain_ms = cache, flush_every_ms, drain_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(_map(descriptors.CACHE_OUTBOX)))
        self.cache = self.connect()
        self.sender = Sender(self.cache, self.drain_ms)
        self.outboxes: dict[str, Outbox] = {}
        self.armed: set[str] = set()

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
            settled = self.sender.drain(outbox)
        else:
            self.armed.discard(bucket)
            settled = self.sender.flush(outbox)
        for write in settled:
            if write.receipt is not None:
                yield Row(write.key.partition(":")[2], write.receipt)
        if outbox:
            self._arm(bucket, ctx)

    def _outbox(self, bucket: str, ctx: KeyedProcessFunction.Context) -> Outbox:
        if bucket not in self.outboxes:
            self.outboxes[bucket] = Outbox(self.entries)
            ctx.timer_service().register_event_time_timer(END_OF_INPUT)
        return self.outboxes[bucket]

    def _arm(self, bucket: str, ctx: KeyedProcessFunction.Context) -> None:
        if bucket not in self.armed:
            self.armed.add(bucket)
            wait_ms = max(self.flush_every_ms, self.sender.wait_ms())
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + wait_ms)


class SendReceipts(ProcessFunction):
    """Hands the receipts of CACHE to wherever they go."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        user_id, receipt = value
        if Output.RECEIPTS in self.outputs:
            yield from self.outputs.emit(Output.RECEIPTS, user_id, receipt)


def broadcast_state(name: str) -> MapStateDescriptor:
    """The broadcast state of that name."""
    return MapStateDescriptor(name, Types.STRING(), STORED)


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
