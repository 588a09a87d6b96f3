"""SIGNALS: what items tell about each other, learned from all users' feedback by one shard of the items.

Decayed popularity, likes and dislikes, ratings, and for each item a bounded list of the items that are taken with it,
with forgetting. A cohort (a stated attribute of users) has such a list as well, under a name no item can have.
"""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from riverrank.operators.catalogue.tokens import COHORT, MAX_COHORTS, cohorts
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import Layout
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS
from riverrank.state.hashing import hash32, session_key
from riverrank.state.item_tables import DECAYED, POPULARITY, ItemTable, decay_of
from riverrank.state.journal import Journal
from riverrank.state.messages import Feedback, Outcome, SignalUpdate, decode_feedback, encode

from .changes import Changes
from .neighbour_lists import count, learn

ORDER_DECAY = 0.9  # of a pair's weight, for each interaction that lies between
DUMPED_BYTES = 1 << 15  # of the table at most, for each record of the log that a dump replaces: some 10 us
_COUNTS = "counts"


class Counts(msgspec.Struct, array_like=True, tag=1):
    """The numbers of a shard beside its table, kept under `counts`: layout 1."""

    events: int = 0
    ratings: tuple[float, float] = (0.0, 0.0)


COUNTS = Layout("counts", Counts)


class Beside(NamedTuple):
    """What the lists of an item are told of, and tell of it: `names`, of which the user took the first `taken`, newest
    first, and the others are the user's cohorts. `owned` and `amounts` as `neighbour_lists.pair` takes them.
    """

    names: list[str]
    taken: int
    owned: np.ndarray
    amounts: np.ndarray


class Signals:
    """The learner of one shard; everything it knows is in its journal.

    >>> from riverrank.state.records import Event
    >>> signals = Signals(Behaviour(), 0)
    >>> signals.learn(Feedback(Event("e", "click", "u", 1, "i-1"), 1.0, ()))
    >>> len(signals.flush()), len(signals.flush())
    (1, 0)
    """

    def __init__(self, behaviour: Behaviour, shard: int, journal: Journal | None = None) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.signals
        self.shard = shard
        self.journal = journal
        self.table = ItemTable(self.settings.neighbours)
        self.counts = Counts()
        self._decay = decay_of((self.settings.half_life_events, self.settings.trend_half_life_events))
        self._forgetting = np.float32(self.settings.forgetting)
        self._amounts = (ORDER_DECAY ** np.arange(self.settings.window)).astype(np.float32)  # by interactions between
        self._all_owned = np.ones(self.settings.window + MAX_COHORTS + 1, np.bool_)
        self._nothing = Beside([], 0, self._all_owned, self._amounts)
        self._changes = Changes(self.table)
        self._taken: list[tuple[int, int]] = []  # keys of users and the row that each took, -1: is erased
        self._pending = 0  # feedbacks since the last update
        self._newest = 0  # event time of these
        self._compact = False

    @classmethod
    def restore(cls, behaviour: Behaviour, shard: int, journal: Journal) -> "Signals":
        """The learner as it was when the journal was last written."""
        signals = cls(behaviour, shard)
        base, log = journal.load()
        if _COUNTS in base:
            signals.counts = COUNTS.decode(base.pop(_COUNTS))
        signals.table.load(base)
        for record in log:
            signals.learn(decode_feedback(record))
        signals._changes.resend()  # which changes of the log were sent before, is not known
        signals.journal = journal
        return signals

    def learn(self, feedback: Feedback, encoded: bytes | None = None) -> None:
        """Learn what `feedback`, which came as `encoded`, if it did, tells of the items of this shard."""
        event = feedback.event
        self._newest = max(self._newest, event.ts)
        self._pending += 1
        if event.type == "erase":
            self._taken.append((session_key(event.user_id), -1))
        else:
            self._learn(feedback)
        if self.journal is not None:
            self._compact = self.journal.append(encoded or encode(feedback)) or self._compact

    def _learn(self, feedback: Feedback) -> None:
        event = feedback.event
        shown = sum([len(o.items) for o in feedback.outcomes]) if feedback.outcomes else 0
        self._make_room(1 + self.settings.window + MAX_COHORTS + shown)
        self.counts.events += 1
        if feedback.outcomes:
            self._count_refused(feedback.outcomes)
        item_id = event.item_id
        if item_id is None or event.type not in INTERACTIONS:
            return
        own = self._owns(item_id)
        beside = self._beside(item_id, own, feedback) if feedback.reward > 0 else self._nothing
        if own or beside.names:
            row = self._count_and_pair(item_id, own, beside, feedback)
            if own and feedback.reward > 0:
                self._taken.append((session_key(event.user_id), row))

    def due(self) -> bool:
        """Whether enough was learned since the last update for a new one."""
        return self._pending >= self.settings.flush_events

    def flush(self) -> list[bytes]:
        """The encoded update of all that changed since the last one; none where nothing did."""
        return [encode(update) for update in self.updates()]

    def updates(self) -> list[SignalUpdate]:
        """`flush`, not encoded."""
        if not self._pending:
            return []
        packed = self._changes.pack(self._decay, self.counts.events, [row for _, row in self._taken])
        update = SignalUpdate(
            shard=self.shard,
            ids=tuple(map(self.table.ids.__getitem__, packed.named.tolist())),
            counted=packed.counted.tobytes(),
            stats=packed.stats.tobytes(),
            lists=packed.lists.tobytes(),
            positions=packed.positions.tobytes(),
            neighbours=packed.neighbours.tobytes(),
            weights=packed.weights.tobytes(),
            events=self.counts.events,
            ts=self._newest,
            ratings=self.counts.ratings,
            keys=np.array([key for key, _ in self._taken], "<u4").tobytes(),
            taken=packed.taken.tobytes(),
        )
        self._pending = self._newest = 0
        self._taken = []
        if self.journal is not None and self._compact and self._is_worth_dumping(self.journal.length):
            # Only now: what is not in the log was sent.
            self.journal.compact({_COUNTS: COUNTS.encode(self.counts), **self.table.dump()})
            self._compact = False
        return [update]

    def _is_worth_dumping(self, records: int) -> bool:
        """Whether the log is so long that a dump costs little a record: in a large table many blocks change."""
        table = self.table
        row_bytes = sum(getattr(table, name).nbytes for name in table.columns) // table.capacity
        return np.count_nonzero(table.changed) * table.block_rows * row_bytes <= records * DUMPED_BYTES

    def _owns(self, name: str) -> bool:
        return self.settings.shards == 1 or hash32(name) % self.settings.shards == self.shard

    def _make_room(self, rows: int) -> None:
        """Where `rows` more would be too many, release the least popular, a thirty-second of all. Cohorts stay."""
        table = self.table
        if len(table.rows) + rows <= self.settings.items:
            return
        used = np.array([row for name, row in table.rows.items() if not name.startswith(COHORT)], np.int64)
        self._decay_to_now(used)
        order = used[np.argsort(table.stats[used, POPULARITY], kind="stable")]
        gone = order[: max(rows, len(order) // 32)]
        table.release(gone)
        self._changes.drop(gone)
        released = set(gone.tolist())
        self._taken = [pair for pair in self._taken if pair[1] not in released]

    def _decay_to_now(self, rows: np.ndarray) -> None:
        table, now = self.table, self.counts.events
        table.stats[rows, DECAYED] *= self._decay ** (now - table.at[rows])[:, None]
        table.at[rows] = now

    def _count_refused(self, outcomes: Sequence[Outcome]) -> None:
        """Count what was shown and not taken."""
        refused = [i for o in outcomes for i, label in zip(o.items, o.labels, strict=True) if not label]
        rows = [self.table.row(item_id) for item_id in refused if self._owns(item_id)]
        table, changes = self.table, self._changes
        changes.fit(len(rows))
        changes.n = count(
            table.stats, table.at, self._decay, np.array(rows, np.int32), 0.0, 0.0, False, self.counts.events,
            *changes.arrays(),
        )  # fmt: skip

    def _beside(self, item_id: str, own: bool, feedback: Feedback) -> Beside:
        """What of the user's is paired with the item, which is of this shard if `own`."""
        taken = dict.fromkeys(feedback.history.taken(self.settings.window))
        taken.pop(item_id, None)
        past = list(taken)
        members = cohorts(feedback.attributes) if feedback.attributes else []
        owned, amounts = self._all_owned, self._amounts
        if self.settings.shards > 1:
            owned = np.array([self._owns(name) for name in (*past, *members, item_id)])
            if not own:  # then only lists of this shard are told of the item
                amounts = amounts[: len(past)][owned[: len(past)]]
                past, members = [*filter(self._owns, past)], [*filter(self._owns, members)]
                owned = np.append(np.ones(len(past) + len(members), np.bool_), False)
        return Beside(past + members, len(past), owned, amounts)

    def _count_and_pair(self, item_id: str, own: bool, beside: Beside, feedback: Feedback) -> int:
        """Count an interaction with the item, if that is of this shard, and tell the lists of the item and of what is
        `beside` it of each other. The item's row.
        """
        table, changes, value = self.table, self._changes, feedback.event.value
        rated = own and value is not None and EVENT_TYPES[feedback.event.type].is_rating
        row, rows = table.row(item_id), self._rows(beside.names)
        changes.fit(len(rows) + 1)
        changes.n = learn(
            table.stats, table.at, self._decay, own, float(feedback.reward), float(value or 0.0), rated,
            self.counts.events, table.neighbours, table.weights, self._forgetting, row, rows, beside.owned,
            beside.amounts, beside.taken, *changes.arrays(),
        )  # fmt: skip
        if rated and value is not None:
            self.counts.ratings = (self.counts.ratings[0] + value, self.counts.ratings[1] + 1)
        return row

    def _rows(self, names: list[str]) -> np.ndarray:
        """The rows of `names`, begun where there are none: int32 (n,)."""
        try:
            return np.fromiter(map(self.table.rows.__getitem__, names), np.int32, len(names))
        except KeyError:
            return np.array(list(map(self.table.row, names)), np.int32)
