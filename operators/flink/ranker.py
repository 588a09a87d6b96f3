"""RANKER as Flink sees it: one learner a shard, over the index of its subtask; its updates on the main output."""

from collections.abc import Iterator
from typing import Any

from pyflink.datastream import RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from riverrank.operators.metrics import Counts, Metrics
from riverrank.operators.models.prior import PriorFile
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.privacy.ranker import ranker_of
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.journal import Journal
from riverrank.state.messages import decode_feedback

from .arrivals import wall_ms
from .broadcast_index import BroadcastIndex, Catalogue
from .channels import ONE_SHARD, MapEntries, map_state
from .flushes import Flushes
from .native import make_ready
from .shipped import Shipped, refusals_told


class RankerFunction(Shipped, KeyedBroadcastProcessFunction):
    """RANKER, under one key: the learner lives in the instance, restored from its journal at its first record."""

    def __init__(self, behaviour: Behaviour, catalogue: Catalogue) -> None:
        self.behaviour, self.catalogue = behaviour, catalogue

    def open(self, runtime_context: RuntimeContext) -> None:
        make_ready(self.behaviour)
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.RANKER_JOURNAL)))
        self.index = BroadcastIndex(self.behaviour, map_state(uids.RANKER_VIEW), self.catalogue)
        self.ranker: Ranker | None = None
        self.flushes = Flushes(self.behaviour.ranker.flush_every)
        self.prior_file = PriorFile(self.behaviour.prior, wall_ms)
        self.counts, self.metrics = Counts(), Metrics(runtime_context.get_metrics_group())

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        feedback = decode_feedback(value)
        ranker = self._restored(ctx)
        self.index.advance(ctx, feedback.event.ts)
        ranker.learn(feedback, value)
        self.counts.add("ranker")
        self.metrics.tell(self.counts)
        yield from self.flushes.after(ranker, ONE_SHARD, ctx)
        self.prior_file.write_if_due(ranker.prior)

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        self.index.take(value, ctx)
        return iter(())

    def on_timer(self, timestamp: int, ctx: KeyedBroadcastProcessFunction.OnTimerContext) -> Iterator[bytes]:
        yield from self.flushes.on_timer(timestamp, self._restored(ctx), ONE_SHARD)

    def close(self) -> None:
        if self.ranker is not None:
            self.prior_file.write(self.ranker.prior)

    def _restored(self, ctx: Any) -> Ranker:
        if self.ranker is None:
            index, journal = self.index.read(ctx), Journal(self.entries)
            with refusals_told():
                self.ranker = ranker_of(self.behaviour).restore(self.behaviour, index, journal)
        return self.ranker
