"""CACHE as Flink sees it: an outbox a bucket, one sender for all of a subtask; and what takes the receipts onward."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, ProcessFunction, RuntimeContext
from riverrank.operators.cache.outbox import Outbox, Sender
from riverrank.operators.cache.redis_cache import Cache
from riverrank.state import uids
from riverrank.state.messages import CacheWrite
from riverrank.state.outputs import Origin

from .channels import END_OF_INPUT, Emitter, MapEntries, Outputs, map_state
from .shipped import Shipped

NEVER = END_OF_INPUT


class CacheFunction(Shipped, KeyedProcessFunction):
    """CACHE, keyed by bucket. Receipts of what is gone are on the main output, as a timer can reach no other.

    A write after a quiet while goes out at once, and never into state where Redis takes it; under load those of
    `flush_every_ms` go together.
    """

    def __init__(self, cache: Callable[[], Cache], flush_every_ms: int, drain_ms: int) -> None:
        self.connect, self.flush_every_ms, self.drain_ms = cache, flush_every_ms, drain_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.CACHE_OUTBOX)))
        self.cache = self.connect()
        self.sender = Sender(self.cache, self.drain_ms)
        self.outboxes: dict[str, Outbox] = {}
        self.armed: dict[str, int] = {}  # by bucket: when its next timer fires
        self.quiet_from: dict[str, int] = {}  # by bucket: the processing time from which on a write need not wait

    def close(self) -> None:
        self.cache.close()

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Row]:
        bucket = ctx.get_current_key()
        outbox = self._outbox(bucket, ctx)
        outbox.add(value)
        now = ctx.timer_service().current_processing_time()
        if now >= self.quiet_from.get(bucket, 0):
            yield from self._flushed(outbox, bucket, now)
        outbox.save()
        self._arm(outbox, bucket, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        bucket = ctx.get_current_key()
        outbox = self._outbox(bucket, ctx)
        if timestamp == END_OF_INPUT:
            yield from _receipts(self.sender.drain(outbox, self.outboxes.values()))
        else:
            if self.armed.get(bucket) == timestamp:
                del self.armed[bucket]
            yield from self._flushed(outbox, bucket, ctx.timer_service().current_processing_time())
            self._arm(outbox, bucket, ctx)

    def _flushed(self, outbox: Outbox, bucket: str, now: int) -> Iterator[Row]:
        self.quiet_from[bucket] = now + self.flush_every_ms
        return _receipts(self.sender.flush(outbox))

    def _outbox(self, bucket: str, ctx: KeyedProcessFunction.Context) -> Outbox:
        if bucket not in self.outboxes:
            self.outboxes[bucket] = Outbox(self.entries)
            ctx.timer_service().register_event_time_timer(END_OF_INPUT)
        return self.outboxes[bucket]

    def _arm(self, outbox: Outbox, bucket: str, ctx: KeyedProcessFunction.Context) -> None:
        """Register a timer for what waits, unless one fires by then."""
        if not outbox:
            return
        timers = ctx.timer_service()
        now = timers.current_processing_time()
        at = max(self.quiet_from.get(bucket, 0), now + self.sender.wait_ms(outbox), now + 1)
        if self.armed.get(bucket, NEVER) > at:
            self.armed[bucket] = at
            timers.register_processing_time_timer(at)


def _receipts(settled: Iterable[CacheWrite]) -> Iterator[Row]:
    """The receipts of erasures that are done, each with its user."""
    for write in settled:
        if write.receipt is not None:
            yield Row(write.key.partition(":")[2], write.receipt)


class SendReceipts(Shipped, ProcessFunction):
    """Hands the receipts of CACHE to wherever they go."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def open(self, runtime_context: RuntimeContext) -> None:
        self.receipts = Emitter(self.outputs, Origin.RECEIPT)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        user_id, receipt = value
        yield from self.receipts.emit(user_id, receipt)
