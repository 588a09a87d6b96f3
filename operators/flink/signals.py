"""SIGNALS as Flink sees it: one learner a shard, its updates on the main output."""

from collections.abc import Iterator

from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from riverrank.operators.metrics import Counts, Metrics
from riverrank.operators.privacy.signals import NoisedSignals, signals_of
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.state import uids
from riverrank.state.journal import Journal
from riverrank.state.messages import decode_feedback

from .channels import ONE_SHARD, MapEntries, map_state
from .flushes import Flushes
from .native import make_ready
from .shipped import Shipped, refusals_told


class SignalsFunction(Shipped, KeyedProcessFunction):
    """SIGNALS, keyed by shard: the learner lives in the instance, restored from its journal at its first record."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour

    def open(self, runtime_context: RuntimeContext) -> None:
        make_ready(self.behaviour)
        self.entries = MapEntries(runtime_context.get_map_state(map_state(uids.SIGNALS_JOURNAL)))
        self.shards: dict[str, Signals | NoisedSignals] = {}
        self.flushes = Flushes(self.behaviour.signals.flush_every)
        self.counts, self.metrics = Counts(), Metrics(runtime_context.get_metrics_group())

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        # To ask for the key is a call to Java.
        shard = ONE_SHARD if self.behaviour.signals.shards == 1 else ctx.get_current_key()
        signals = self._signals(shard)
        signals.learn(decode_feedback(value), value)
        self.counts.add("signals")
        if isinstance(signals, NoisedSignals) and signals.due():
            self.counts.set("epsilon_thousandths", round(1000 * signals.spent().epsilon))
        self.metrics.tell(self.counts)
        yield from self.flushes.after(signals, shard, ctx)

    def on_timer(self, timestamp: int, ctx: KeyedProcessFunction.OnTimerContext) -> Iterator[bytes]:
        shard = ctx.get_current_key()
        yield from self.flushes.on_timer(timestamp, self._signals(shard), shard)

    def _signals(self, shard: str) -> Signals | NoisedSignals:
        if shard not in self.shards:
            with refusals_told():
                self.shards[shard] = signals_of(self.behaviour).restore(
                    self.behaviour, int(shard), Journal(self.entries)
                )
        return self.shards[shard]
