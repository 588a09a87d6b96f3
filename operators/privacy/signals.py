"""SIGNALS with noise: contributions of bounded size are counted in blocks, and what is told of the blocks is all that
the index ever hears. Tells nothing of sessions, cohorts, contexts, ratings and what was shown.
"""

from collections import defaultdict

import msgspec
import numpy as np
from riverrank.operators.made_with import OF_SIGNALS, made_with, require
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.state.codec import Layout, StateRefused
from riverrank.state.event_types import INTERACTIONS
from riverrank.state.item_tables import AFTER, BEFORE, ORDERS, STATS
from riverrank.state.journal import NOISED, Journal
from riverrank.state.messages import Feedback, SignalUpdate, decode_feedback, encode, told_last

from .blocks import BLOCK, Block, Blocks, Told
from .bounds import contribution_of, window_of
from .budget import MOST_BLOCKS, Accountant, Spent, budget_of

_BLOCK = "block:"  # begins the keys of the blocks, in a ring
OF_NOISE = (*OF_SIGNALS, "history.size", "noise.window", "noise.contributions", "noise.pairs")


class Kept(msgspec.Struct, array_like=True, tag=1):
    """Layout 1, beside the blocks: `events` interactions so far, the block that is `open`, the `windows` that anything
    was learned in, the items that were `told` of last, and what all of it was `made` with.
    """

    events: int = 0
    open: Block = msgspec.field(default_factory=Block)
    windows: set[int] = msgspec.field(default_factory=set)
    told: tuple[str, ...] = ()
    made: dict[str, int] = {}


KEPT = Layout("noised signals", Kept)


class NoisedSignals:
    """The learner of the one shard, in the place of `Signals`; everything it knows is in its journal.

    >>> from riverrank.operators.settings import NoiseSettings
    >>> signals = NoisedSignals(Behaviour(noise=NoiseSettings(epsilon=1.0, key=b"secret", release=1)))
    >>> from riverrank.state.records.incoming import Event
    >>> signals.learn(Feedback(Event("e", "click", "u", 1, "i-1"), 1.0, ()))
    >>> [update.ids for update in signals.updates()]  # of what one user took, nothing
    [()]
    """

    def __init__(self, behaviour: Behaviour, shard: int = 0, journal: Journal | None = None) -> None:
        self.behaviour, self.settings, self.shard, self.journal = behaviour, behaviour.noise, shard, journal
        self.blocks = Blocks(behaviour, budget_of(behaviour.noise))
        self.kept = Kept(made=made_with(behaviour, OF_NOISE))
        self._accountant: Accountant | None = None
        self._ready: list[SignalUpdate] = []
        self._newest = 0  # event time of what was learned from
        self._compact = False
        self._is_to_forget = False

    @classmethod
    def restore(cls, behaviour: Behaviour, shard: int, journal: Journal) -> "NoisedSignals":
        """The learner as it was when the journal was last written. Raises StateRefused, with the mend, where it was
        kept without noise, or by bounds that are others now.
        """
        signals = cls(behaviour, shard)
        base, log = journal.load()
        if base and NOISED not in base:
            raise StateRefused(
                "state was made without noise, and noise.epsilon is set now: start without this savepoint"
            )
        if NOISED in base:
            signals._recall(KEPT.decode(base.pop(NOISED)))
        blocks = sorted((BLOCK.decode(raw) for key, raw in base.items() if key.startswith(_BLOCK)), key=_number)
        for block in blocks:
            signals.blocks.take(block)
        for record in log:
            signals.learn(decode_feedback(record))
        journal.put({NOISED: KEPT.encode(signals.kept)} if not log else {})
        signals.journal = journal
        return signals

    def _recall(self, kept: Kept) -> None:
        require(kept.made, self.kept.made)
        self.kept = kept

    def spent(self) -> Spent:
        """What all windows so far cost a user who contributed in each. Raises ImportError without dp-accounting."""
        if self._accountant is None:
            self._accountant = Accountant(self.settings)
        return self._accountant.spent(len(self.kept.windows))

    def learn(self, feedback: Feedback, encoded: bytes | None = None) -> None:
        """Take what the feedback contributes, if it does; and where a block is over, make ready what is told of it."""
        event = feedback.event
        if event.type in INTERACTIONS:
            self._count(feedback)
        self._is_to_forget |= event.type == "erase"
        if self.journal is not None:
            self._compact = self.journal.append(encoded or encode(feedback)) or self._compact

    def settle(self) -> None:
        """Nothing waits."""

    def due(self) -> bool:
        """Whether something is to be told, or the journal to be made short."""
        return bool(self._ready) or self._compact or self._is_to_forget

    def flush(self, *, last: bool = False) -> list[bytes]:
        """The encoded `updates`; the `last` are for no event that is on its way. What is not over is never told."""
        return [encode(told_last(update) if last else update) for update in self.updates()]

    def updates(self) -> list[SignalUpdate]:
        """What is to be told of blocks that are over. When that is depends on how many events came, and their times."""
        ready, self._ready = self._ready, []
        if self.journal is not None and (ready or self._compact or self._is_to_forget):
            self.journal.compact({NOISED: KEPT.encode(self.kept), **self._ring()})
        self._compact = self._is_to_forget = False
        return ready

    def _count(self, feedback: Feedback) -> None:
        kept, window = self.kept, window_of(feedback.event.ts, self.settings.window)
        if window > kept.open.window:
            if kept.open.window >= 0 and kept.events > kept.open.events:
                self._end()
            kept.open.window = window
        kept.events += 1
        kept.windows.add(kept.open.window)
        self._newest = max(self._newest, feedback.event.ts)
        contribution = contribution_of(feedback, self.behaviour) if window == kept.open.window else None
        if contribution is not None:
            kept.open.add(contribution, self.blocks.weights)
        if kept.events - kept.open.events >= self.settings.release:
            self._end()

    def _end(self) -> None:
        """End the block that is open. Until then its `events` are those at its beginning."""
        kept, of = self.kept, self.kept.open
        began = of.events
        of.events = kept.events
        self.blocks.end(of)
        assert began < kept.events
        kept.open = Block(of.number + 1, of.window, kept.events)
        told = self.blocks.told()
        self._ready.append(self._update(told))

    def _ring(self) -> dict[str, bytes]:
        return {f"{_BLOCK}{block.number % MOST_BLOCKS:02d}": BLOCK.encode(block) for block in self.blocks.held}

    def _update(self, told: Told) -> SignalUpdate:
        """All that is told, in place of all that was told before."""
        lists = _lists(told, self.behaviour.signals.neighbours)
        listed = dict.fromkeys([*lists, *told.ids, *self.kept.told])  # all have a list, if an empty one
        named = dict.fromkeys([*listed, *(other for cells in lists.values() for other in cells)])
        at = {name: number for number, name in enumerate(named)}
        stats = np.zeros((len(listed), STATS), "<f4")
        stats[[at[item_id] for item_id in told.ids], :4] = told.counts
        neighbours = [at[other] for cells in lists.values() for other in cells]
        weights = [weight for cells in lists.values() for weight in cells.values()]
        lengths = np.zeros((len(listed), 2), "<i4")
        lengths[: len(lists), 1] = [len(cells) for cells in lists.values()]
        positions = [position for cells in lists.values() for position in range(len(cells))]
        self.kept.told = tuple(dict.fromkeys([*lists, *told.ids]))
        every = np.arange(len(listed), dtype="<i4").tobytes()
        return SignalUpdate(
            shard=self.shard,
            ids=tuple(named),
            counted=every,
            stats=stats.tobytes(),
            lists=lengths.tobytes(),
            positions=np.array(positions, "<u2").tobytes(),
            neighbours=np.array(neighbours, "<i4").tobytes(),
            weights=np.array(weights, "<f4").reshape(-1, ORDERS).tobytes(),
            events=self.kept.events,
            ts=self._newest,
            ratings=(0.0, 0.0),
            whole=every,
        )


def _lists(told: Told, width: int) -> dict[str, dict[str, list[float]]]:
    """By item the heaviest `width` of those that are taken with it, with their two weights."""
    lists: defaultdict[str, dict[str, list[float]]] = defaultdict(dict)
    for (before, after), weight in zip(told.pairs, told.weights.tolist(), strict=True):
        for item_id, other, order in ((before, after, AFTER), (after, before, BEFORE)):
            lists[item_id].setdefault(other, [0.0] * ORDERS)[order] = weight
    return {
        item_id: dict(sorted(cells.items(), key=lambda cell: (-sum(cell[1]), cell[0]))[:width])
        for item_id, cells in lists.items()
    }


def _number(block: Block) -> int:
    return block.number


def signals_of(behaviour: Behaviour) -> type[Signals] | type[NoisedSignals]:
    """What learns in SIGNALS: with noise, or without."""
    return NoisedSignals if behaviour.noise.epsilon else Signals
