"""RECOMMEND as Flink sees it. What CACHE is to write is on the main output, which timers reach too; all else goes to
side outputs, and only where there is a consumer.
"""

from collections.abc import Iterator
from typing import Any
from zlib import crc32

import msgspec
from pyflink.common import Row
from pyflink.datastream import RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.export.learner import learner_pieces
from riverrank.operators.metrics import Metrics, within
from riverrank.operators.published.gone import Gone
from riverrank.operators.published.lists import ItemLists
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.recommend import Recommend, receipt_of
from riverrank.state import uids
from riverrank.state.codec import StateRefused
from riverrank.state.event_types import ASKING, EXPORT
from riverrank.state.messages import LAST, CacheWrite, CatalogueUpdate, Feedback, SignalUpdate, decode_feedback, encode
from riverrank.state.outputs import PREDICTIONS, PREVIEWS, SLATES, Origin
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Part
from riverrank.state.runtime.environment import clear_core, share_core

from .arrivals import wall_ms
from .broadcast_index import BroadcastIndex, Catalogue
from .channels import END_OF_INPUT, Emitter, Outputs, keep, map_state, subtask_of, subtasks_of, tally_file, value_state
from .native import make_ready
from .shipped import Shipped, refusals_told, tell_refusal

# Feedbacks from one `clear_core` to the next, as threads come and go. By the first Java has compiled what a feedback
# needs: its compilers may use every core until then.
CLEAR_EVERY = 4096


class CacheRoute(msgspec.Struct, frozen=True):
    """How RECOMMEND reaches CACHE: the number of buckets that keys fall into, how often `popular` is written, how long
    a slate is cached, how many lists of items are made for each answer, and how many places of a slate are cached (0:
    all that it has).
    """

    buckets: int
    popular_every_ms: int
    ttl_ms: int
    lists: float = 0.0
    depth: int = 0

    def write(self, write: CacheWrite) -> Row:
        """What asks for one write."""
        bucket = crc32(write.key.encode()) % self.buckets
        return Row(str(bucket), encode(write))


class RecommendFunction(Shipped, KeyedBroadcastProcessFunction):
    """RECOMMEND, keyed by the user's pseudonym: keeps a value of bytes a user, and the index of its subtask."""

    Logic = Recommend
    shares_core_later = True

    def __init__(
        self,
        behaviour: Behaviour,
        catalogue: Catalogue,
        outputs: Outputs,
        ttl_ms: int,
        cache: CacheRoute | None,
    ) -> None:
        self.behaviour, self.catalogue, self.outputs = behaviour, catalogue, outputs
        self.ttl_ms, self.cache = ttl_ms, cache

    def open(self, runtime_context: RuntimeContext) -> None:
        make_ready(self.behaviour)
        self.state = runtime_context.get_state(value_state(uids.LEARNER_VALUE, self.ttl_ms))
        self.index = BroadcastIndex(self.behaviour, map_state(uids.RECOMMEND_VIEW), self.catalogue)
        self.answers = Emitter(self.outputs, Origin.ANSWER)
        self.receipts = Emitter(self.outputs, Origin.RECEIPT)
        self.exports = Emitter(self.outputs, Origin.EXPORT)
        self.recommend: Recommend | None = None
        self.gone: Gone | None = None
        self.lists: ItemLists | None = None
        self.untold: list[CacheWrite] = []
        self.subtask = subtask_of(runtime_context), subtasks_of(runtime_context)
        self.metrics = Metrics(runtime_context.get_metrics_group())
        self.ends_for = ""  # the user whose timer tells of the end of the input
        self.tally_file = tally_file(self.outputs, uids.RECOMMEND, runtime_context)

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        feedback = decode_feedback(value)
        user_id = feedback.event.user_id
        held = self.state.value()
        recommend = self._logic(ctx)
        if self.cache is not None and not self.ends_for:
            self.ends_for = user_id
            ctx.timer_service().register_event_time_timer(END_OF_INPUT)
        if self.untold:
            yield from self._told_at_first()
        if feedback.event.type in ASKING:  # which tells nothing of the time up to which all is learned
            yield from self._asked(feedback, held, recommend)
            return
        self.index.advance(ctx, feedback.event.ts)
        try:
            answer = recommend.answer(feedback, held)
        except StateRefused as fault:
            tell_refusal(fault)
            raise
        now = 0
        if answer.slate is not None:
            now = wall_ms()
            recommend.counts.add("slate_age", within(now - feedback.event.ts))
            self.tally_file.tally.slates += 1
            self.tally_file.write()
        self.metrics.tell(recommend.counts, recommend.measure)
        self.took_record()
        if self.taken % CLEAR_EVERY == 0:
            clear_core()
        keep(self.state, held, answer.state)
        cache = self.cache
        if cache is not None and answer.slate is not None:  # first: a page reads it from Redis
            yield cache.write(CacheWrite(slate_key(user_id), feedback.epoch, answer.version, answer.cached, made=now))
        yield from self.answers.emit(user_id, answer)
        if answer.erased:
            yield from self._erased(feedback, ctx)
        elif cache is not None and self.lists is not None and answer.slate is not None:
            yield from map(cache.write, self.lists.after_answer())

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Any]:
        cache = self.cache
        if cache is None:
            self.index.take(value, ctx)
            return
        logic = self._logic(ctx)  # before the update: what it changes is told
        if self.untold:
            yield from self._told_at_first()
        update = self.index.take(value, ctx)
        gone = self.gone
        if gone is not None and isinstance(update, CatalogueUpdate) and (write := gone.after(update)) is not None:
            yield cache.write(write)
        ts = update.ts if isinstance(update, SignalUpdate) and update.ts < LAST else logic.index.meta.ts
        yield from self._refreshed(logic, ts)

    def on_timer(self, timestamp: int, ctx: KeyedBroadcastProcessFunction.OnTimerContext) -> Iterator[Row]:
        """At the end of the input: what is for whoever comes, once all that was learned is known."""
        if self.cache is None:  # the timer is of a run that had one
            return
        logic = self._logic(ctx)
        yield from self._told_at_first()
        self.index.advance(ctx, timestamp)
        yield from self._refreshed(logic, logic.index.meta.ts, last=True)

    def _refreshed(self, logic: Recommend, ts: int, *, last: bool = False) -> Iterator[Row]:
        """What is made anew now that something was learned, or for the `last` time."""
        assert self.cache is not None and self.lists is not None, "there is somewhere to write to"
        if (popular := logic.popular(ts, last=last)) is not None:
            yield self.cache.write(popular)
        yield from map(self.cache.write, self.lists.after_update(ts, last=last))

    def _erased(self, feedback: Feedback, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        """What follows an erasure here: no timer names the user, and a receipt, by way of the cache if there is one."""
        user_id, cache = feedback.event.user_id, self.cache
        if user_id == self.ends_for:
            self.ends_for = ""
        receipt = receipt_of(feedback.event, told=SLATES.name in self.outputs.records, cached=cache is not None)
        if cache is None:
            yield from self.receipts.emit(user_id, receipt)
            return
        ctx.timer_service().delete_event_time_timer(END_OF_INPUT)  # an earlier instance may have set it too
        yield cache.write(CacheWrite(slate_key(user_id), feedback.epoch, 0, None, receipt))

    def _asked(self, feedback: Feedback, held: bytes | None, recommend: Recommend) -> Iterator[Any]:
        """What answers an event that asks, and leaves all as it is."""
        if feedback.event.type == EXPORT:
            yield from self._export(feedback.event, held, recommend)
            return
        with refusals_told():
            answer = recommend.answer(feedback, held)
        yield from self.answers.emit(feedback.event.user_id, answer)

    def _export(self, asked: Event, held: bytes | None, recommend: Recommend) -> Iterator[Any]:
        """What is kept of the user here, and what asks CACHE for the same."""
        if not self.exports:
            return
        then: Part | None = None if self.cache is None else "cache"
        with refusals_told():
            pieces = learner_pieces(asked, held, recommend.index, recommend.control.learners.names, then)
        yield from self.exports.emit(asked.user_id, pieces)
        if self.cache is not None:
            yield self.cache.write(CacheWrite(slate_key(asked.user_id), 0, 0, None, asked=asked))

    def _logic(self, ctx: Any) -> Recommend:
        if self.recommend is None:
            share_core()
            self.recommend = self.Logic(
                self.behaviour,
                self.index.read(ctx),
                predict=PREDICTIONS.name in self.outputs,
                preview=PREVIEWS.name in self.outputs,
                popular_every=self.cache.popular_every_ms if self.cache else 0,
                depth=self.cache.depth if self.cache else 0,
            )
            index, cache, counts = self.recommend.index, self.cache, self.recommend.counts
            if cache is not None:
                every, ttl_ms = cache.popular_every_ms, cache.ttl_ms
                self.lists = ItemLists(index, cache.lists, ttl_ms, every, wall_ms, self.subtask, counts)
            if cache is not None and self.subtask[0] == 0:
                self.gone = Gone(index, cache.ttl_ms, wall_ms)
                self.untold = [*self.gone.first()]
        return self.recommend

    def _told_at_first(self) -> Iterator[Any]:
        """What the cache is to be told of items that went before this instance came."""
        assert self.cache is not None, "there is something to tell"
        yield from map(self.cache.write, self.untold)
        self.untold = []
