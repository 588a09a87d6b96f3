"""RANKER as Flink sees it: one learner a shard, over the index of its subtask; its updates on the main output."""

from collections.abc import Iterator
from typing import Any

from pyflink.datastream import RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.journal import Journal
from riverrank.state.messages import decode_feedback
from riverrank.state.runtime.environment import share_core

from .broadcast_index import BroadcastIndex, Catalogue
from .channels import map_state
from .entries import MapEntries
from .flushes import Flushes
from .native import make_ready


class RankerFunction(KeyedBroadcastProcessFunction):
    """RANKER, keyed by shard: restored as the learners of SIGNALS are."""

    Logic = Ranker

    def __init__(self, behaviour: Behaviour, catalogue: Catalogue) -> None:
        self.behaviour, self.catalogue = behaviour, catalogue

    def open(self, runtime_context: RuntimeContext) -> None:
        share_core()
        make_ready(self.behaviour)
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.RANKER_JOURNAL)))
        self.index = BroadcastIndex(self.behaviour, map_state(uids.RANKER_VIEW), self.catalogue)
        self.shards: dict[str, Ranker] = {}
        self.flushes = Flushes(self.behaviour.ranker.flush_every)

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        feedback = decode_feedback(value)
        ranker = self._shard(ctx)
        self.index.read(ctx, feedback.event.ts)
        ranker.learn(feedback, value)
        yield from self.flushes.after(ranker, ctx)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        self.index.take(value, ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: KeyedBroadcastProcessFunction.OnTimerContext) -> Iterator[bytes]:
        yield from self.flushes.on_timer(self._shard(ctx), ctx)

    def _shard(self, ctx: Any) -> Ranker:
        shard = ctx.get_current_key()
        if shard not in self.shards:
            journal = Journal(self.entries)
            self.shards[shard] = self.Logic.restore(self.behaviour, self.index.read(ctx), int(shard), journal)
        return self.shards[shard]
