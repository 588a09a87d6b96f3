"""CACHE as Flink sees it: an outbox a bucket, one sender for all of a subtask; and what takes the receipts onward."""

from collections.abc import Callable, Iterator
from typing import Any

from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, ProcessFunction, RuntimeContext
from riverrank.operators.cache.outbox import Outbox
from riverrank.operators.cache.redis_cache import Cache, user_of
from riverrank.operators.cache.sender import Sender
from riverrank.operators.export.cache import cache_pieces
from riverrank.operators.metrics import Counts, Metrics
from riverrank.state import uids
from riverrank.state.outputs import Origin

from .channels import END_OF_INPUT, Emitter, MapEntries, Outputs, map_state
from .shipped import Shipped, refusals_told

LONGEST_LOOK_MS = 1_000


class CacheFunction(Shipped, KeyedProcessFunction):
    """CACHE, keyed by bucket. Receipts of what is gone are on the main output, as a timer can reach no other.

    Redis is written to by another thread. What it took is looked for by a timer, as state can only be changed under its
    key; further and further apart while it takes nothing.
    """

    def __init__(
        self,
        cache: Callable[[], Cache],
        flush_every_ms: int,
        drain_ms: int,
        key: bytes,
        ttl_ms: int,
        outputs: Outputs = Outputs(),  # noqa: B008 - immutable
    ) -> None:
        """`key` makes the pseudonyms by which users are told of; `ttl_ms` is how long Redis keeps a slate."""
        self.connect, self.flush_every_ms, self.drain_ms, self.key = cache, flush_every_ms, drain_ms, key
        self.ttl_ms, self.outputs = ttl_ms, outputs

    def open(self, runtime_context: RuntimeContext) -> None:
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.CACHE_OUTBOX)))
        self.sender = Sender(self.connect(), self.flush_every_ms, self.drain_ms, self.key)
        self.sender.start()
        self.outboxes: dict[str, Outbox] = {}
        self.counts, self.metrics = Counts(), Metrics(runtime_context.get_metrics_group())
        self.exports = Emitter(self.outputs, Origin.EXPORT)
        self.looks: dict[str, int] = {}  # by bucket that a timer will look after: milliseconds to that look

    def close(self) -> None:
        self.sender.close()

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        bucket = ctx.get_current_key()
        self.sender.check()
        outbox = self._outbox(bucket, ctx)
        write = outbox.add(value)
        if write.asked is not None:
            pieces = cache_pieces(write.asked, outbox.waiting(write.key))
            return iter(self.exports.emit(write.asked.user_id, pieces))
        self._tell()
        if bucket not in self.looks:
            self._look(bucket, self.flush_every_ms, ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[Row]:
        self.sender.check()
        bucket = ctx.get_current_key()
        outbox = self._outbox(bucket, ctx)
        if timestamp == END_OF_INPUT:
            self.sender.drain(outbox)
            yield from _receipts(outbox)
            self._tell(at_once=True)
            return
        before, waited = len(outbox), self.looks.pop(bucket, self.flush_every_ms)
        yield from _receipts(outbox)
        outbox.expire(timestamp)
        self._tell(at_once=self.sender.is_idle)  # there may be no next time
        if outbox:
            has_moved = len(outbox) < before
            self._look(bucket, self.flush_every_ms if has_moved else min(2 * waited, LONGEST_LOOK_MS), ctx)

    def _tell(self, *, at_once: bool = False) -> None:
        self.metrics.tell(self.counts, lambda: self.sender.count(self.counts), at_once=at_once)

    def _outbox(self, bucket: str, ctx: KeyedProcessFunction.Context) -> Outbox:
        if bucket not in self.outboxes:
            with refusals_told():
                self.outboxes[bucket] = Outbox(self.entries, self.sender, self.ttl_ms)
            ctx.timer_service().register_event_time_timer(END_OF_INPUT)
        return self.outboxes[bucket]

    def _look(self, bucket: str, after_ms: int, ctx: KeyedProcessFunction.Context) -> None:
        """Register the timer that looks what Redis took of the bucket."""
        self.looks[bucket] = after_ms
        timers = ctx.timer_service()
        timers.register_processing_time_timer(timers.current_processing_time() + max(1, after_ms))


def _receipts(outbox: Outbox) -> Iterator[Row]:
    """The receipts of erasures that are done, each with its user."""
    for write in outbox.settled():
        if write.receipt is not None:
            yield Row(user_of(write.key), write.receipt)


class SendReceipts(Shipped, ProcessFunction):
    """Hands the receipts of CACHE to wherever they go."""

    def __init__(self, outputs: Outputs) -> None:
        self.outputs = outputs

    def open(self, runtime_context: RuntimeContext) -> None:
        self.receipts = Emitter(self.outputs, Origin.RECEIPT)

    def process_element(self, value: Row, ctx: ProcessFunction.Context) -> Iterator[Any]:
        user_id, receipt = value
        yield from self.receipts.emit(user_id, receipt)
