"""CACHE as Flink sees it: an outbox a bucket, one sender for all of a subtask; and what takes the receipts onward."""

from collections.abc import Callable, Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, ProcessFunction, RuntimeContext
from riverrank.operators.cache.outbox import Outbox, Sender
from riverrank.operators.cache.redis_cache import Cache
from riverrank.state import uids
from riverrank.state.outputs import Origin

from .channels import Emitter, Outputs, map_state
from .entries import MapEntries

END_OF_INPUT = 1 << 62  # an event time that only the last watermark reaches


class CacheFunction(KeyedProcessFunction):
    """CACHE, keyed by bucket. Receipts of what is gone are on the main output, as a timer can reach no other."""

    def __init__(self, cache: Callable[[], Cache], flush_every_ms: int, drain_ms: int) -> None:
        self.connect, self.flush_every_ms, self.drain_ms = cache, flush_every_ms, drain_ms

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.CACHE_OUTBOX)))
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

    def open(self, runtime_context: RuntimeContext) -> None:
        self.receipts = Emitter(self.outputs, Origin.RECEIPT)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        user_id, receipt = value
        yield from self.receipts.emit(user_id, receipt)
