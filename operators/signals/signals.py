"""SIGNALS: what items tell about each other, learned from all users' feedback by one shard of the items.

Decayed popularity, likes and dislikes, ratings, and for each item a bounded list of the items that are taken with it,
with forgetting. A cohort (a stated attribute of users) has such a list as well, under a name no item can have.
"""

import msgspec
import numpy as np
from riverrank.operators.catalogue.tokens import COHORT, MAX_COHORTS, cohorts
from riverrank.operators.settings import Behaviour
from riverrank.state.event_types import INTERACTIONS
from riverrank.state.hashing import hash32, session_key
from riverrank.state.item_tables import (
    AFTER,
    BEFORE,
    DECAYED,
    NEGATIVES,
    POPULARITY,
    POSITIVES,
    RATING_SUM,
    RATINGS,
    TOGETHER,
    ItemTable,
    decay_of,
)
from riverrank.state.journal import Journal
from riverrank.state.messages import Feedback, SignalUpdate, decode_feedback, encode

ORDER_DECAY = 0.9  # of a pair's weight, for each interaction that lies between
_COUNTS = "counts"
LAYOUT = 1


class Counts(msgspec.Struct, array_like=True):
    """The numbers of a shard beside its table, kept under `counts`: layout 1, a MessagePack array."""

    layout: int = LAYOUT
    events: int = 0
    ratings: tuple[float, float] = (0.0, 0.0)


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
        self._forgetting = np.array([self.settings.forgetting, self.settings.forgetting, 1.0], np.float32)
        self._compact = False
        self._newest = 0  # event time of what is pending
        self._start_update()

    @classmethod
    def restore(cls, behaviour: Behaviour, shard: int, journal: Journal) -> "Signals":
        """The learner as it was when the journal was last written."""
        signals = cls(behaviour, shard)
        base, log = journal.load()
        if _COUNTS in base:
            signals.counts = msgspec.msgpack.decode(base.pop(_COUNTS), type=Counts)
            if signals.counts.layout != LAYOUT:
                raise ValueError(f"counts of layout {signals.counts.layout}: this version reads {LAYOUT}")
        signals.table.load(base)
        for record in log:
            signals.learn(decode_feedback(record))
        signals._resend()
        signals.journal = journal
        return signals

    def learn(self, feedback: Feedback) -> None:
        """Learn what `feedback` tells of the items of this shard."""
        event = feedback.event
        self._newest = max(self._newest, event.ts)
        self._pending += 1
        if event.type == "erase":
            self._taken.append((session_key(event.user_id), -1))
        else:
            self._learn(feedback)
        if self.journal is not None:
            self._compact = self.journal.append(encode(feedback)) or self._compact

    def _learn(self, feedback: Feedback) -> None:
        event = feedback.event
        self._make_room(1 + self.settings.window + MAX_COHORTS + sum(len(o.items) for o in feedback.outcomes))
        self.counts.events += 1
        for outcome in feedback.outcomes:
            for item_id, label in zip(outcome.items, outcome.labels, strict=True):
                if not label and self._owns(item_id):
                    self._count(self.table.row(item_id), 0.0, event.value, rating=False)
        if event.item_id is not None and event.type in INTERACTIONS:
            if self._owns(event.item_id):
                row = self.table.row(event.item_id)
                self._count(row, feedback.reward, event.value, rating=event.type == "rate")
                if feedback.reward > 0:
                    self._taken.append((session_key(event.user_id), row))
            if feedback.reward > 0:
                self._pair(event.item_id, feedback)

    def due(self) -> bool:
        """Whether enough was learned since the last update for a new one."""
        return self._pending >= self.settings.flush_events

    def flush(self) -> list[bytes]:
        """The encoded update of all that changed since the last one; none where nothing did."""
        if not self._pending:
            return []
        table, width = self.table, self.table.width
        counted = np.fromiter(self._counted, np.int32, len(self._counted))
        rows = np.fromiter(self._renewed, np.int32, len(self._renewed))
        renewals = np.fromiter(self._renewed.values(), np.int32, len(self._renewed))
        cells = np.unique(np.concatenate(self._cells)) if self._cells else np.zeros(0, np.int64)
        cell_rows, positions = cells // width, cells % width
        neighbours = table.neighbours[cell_rows, positions]
        held = neighbours >= 0
        cell_rows, positions, neighbours = cell_rows[held], positions[held], neighbours[held]
        keys, taken = np.array(self._taken, np.int64).reshape(-1, 2).T
        parts = [counted, rows, cell_rows, neighbours, taken[taken >= 0]]
        named, local = np.unique(np.concatenate(parts), return_inverse=True)
        split = np.split(local.astype(np.int32), np.cumsum([len(part) for part in parts[:-1]]))
        taken[taken >= 0] = split[4]
        self._decay_to_now(counted)
        update = SignalUpdate(
            shard=self.shard,
            ids=tuple(table.ids[row] for row in named.tolist()),
            counted=split[0].tobytes(),
            stats=table.stats[counted].tobytes(),
            rows=split[1].tobytes(),
            renewals=renewals.tobytes(),
            cells=np.stack([split[2], positions.astype(np.int32), split[3]], axis=1).tobytes(),
            weights=table.weights[cell_rows, positions].tobytes(),
            events=self.counts.events,
            ts=self._newest,
            ratings=self.counts.ratings,
            keys=keys.astype("<u4").tobytes(),
            taken=taken.astype("<i4").tobytes(),
        )
        self._start_update()
        if self.journal is not None and self._compact:  # only now: what is not in the log was told
            self.journal.compact({_COUNTS: encode(self.counts), **self.table.dump()})
            self._compact = False
        return [encode(update)]

    def _start_update(self) -> None:
        self._pending = 0
        self._newest = 0
        self._taken: list[tuple[int, int]] = []  # keys of users and the row that each took, -1: is erased
        self._counted: dict[int, None] = {}  # rows whose stats changed, in order
        self._renewed: dict[int, int] = {}  # rows whose list was renewed, and how often
        self._cells: list[np.ndarray] = []  # row * width + place of each cell that changed

    def _resend(self) -> None:
        """After a restore nobody knows which of the log's changes were told: tell the changed lists whole."""
        if not self._renewed:
            return
        rows = np.fromiter(self._renewed, np.int64, len(self._renewed))
        self._renewed = dict.fromkeys(self._renewed, 0)
        self._cells = [(rows[:, None] * self.table.width + np.arange(self.table.width)).ravel()]

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
        for row in gone.tolist():
            self._counted.pop(row, None)
            self._renewed.pop(row, None)
        released = set(gone.tolist())
        self._taken = [pair for pair in self._taken if pair[1] not in released]

    def _decay_to_now(self, rows: np.ndarray) -> None:
        table, now = self.table, self.counts.events
        table.stats[rows, DECAYED] *= self._decay ** (now - table.at[rows])[:, None]
        table.at[rows] = now

    def _count(self, row: int, reward: float, value: float | None, *, rating: bool) -> None:
        table, now = self.table, self.counts.events
        stats = table.stats[row]
        stats[DECAYED] = stats[DECAYED] * self._decay ** (now - table.at[row]) + max(0.0, reward)
        stats[POSITIVES if reward > 0 else NEGATIVES] += 1
        if rating and value is not None:
            stats[RATING_SUM] += value
            stats[RATINGS] += 1
            self.counts.ratings = (self.counts.ratings[0] + value, self.counts.ratings[1] + 1)
        table.at[row] = now
        table.changed.add(row // table.block_rows)
        self._counted[row] = None

    def _pair(self, item_id: str, feedback: Feedback) -> None:
        """Tell the lists of the item, of what the user took before it, and of the user's cohorts, of each other."""
        past: dict[str, float] = {}
        weight = 1.0
        for seen in reversed(feedback.history[-self.settings.window :]):
            if seen.reward > 0 and seen.item_id != item_id and seen.item_id not in past:
                past[seen.item_id] = weight
                weight *= ORDER_DECAY
        names = [name for name in past if self._owns(name)]
        members = [name for name in cohorts(feedback.attributes) if self._owns(name)]
        if not names and not members and not (past and self._owns(item_id)):
            return
        row = self.table.row(item_id)
        lists = np.array([self.table.row(name) for name in (*names, *members)], np.int32)
        if len(lists):
            weights = np.array([past.get(name, 1.0) for name in (*names, *members)], np.float32)
            self._renew(lists, np.full(len(lists), row, np.int32), weights, AFTER)
        if past and self._owns(item_id):
            others = np.array([self.table.row(name) for name in past], np.int32)
            weights = np.fromiter(past.values(), np.float32, len(past))
            self._renew(np.full(len(others), row, np.int32), others, weights, BEFORE)

    def _renew(self, lists: np.ndarray, others: np.ndarray, weights: np.ndarray, order: int) -> None:
        """Add `weights[k]` for neighbour `others[k]` to list `lists[k]`: either all lists differ, or all are the same.

        `order` is AFTER or BEFORE: on which side of the list's item the neighbours were taken.

        A list forgets a little each time. On a full list a newcomer first wears down the weakest, and takes its place
        once nothing of it is left, so that what comes often stays (Yang et al., HeavyKeeper, 2018, without its dice).
        """
        table, one_list = self.table, len(lists) > 1 and lists[0] == lists[1]
        changed = lists[:1] if one_list else lists
        table.weights[changed] *= self._forgetting
        for row in changed.tolist():
            self._renewed[row] = self._renewed.get(row, 0) + 1
        found = table.neighbours[lists] == others[:, None]
        known = found.any(axis=1)
        positions = found.argmax(axis=1)
        if not known.all():
            new = np.flatnonzero(~known)
            if one_list:
                held = table.neighbours[lists[0]] >= 0
                strength = np.where(held, _strength(table.weights[lists[0]]), np.float32(-1))
                strength[positions[known]] = np.inf
                new = new[: np.count_nonzero(np.isfinite(strength))]
                positions[new] = np.argsort(strength, kind="stable")[: len(new)]
            else:
                held = table.neighbours[lists[new]] >= 0
                strength = _strength(table.weights[lists[new]])
                positions[new] = np.where(held, strength, np.float32(-1)).argmin(axis=1)
            self._challenge(lists[new], positions[new], others[new], weights[new], order)
        rows, spots = lists[known], positions[known]
        table.weights[rows, spots, order] += weights[known]
        table.weights[rows, spots, TOGETHER] += 1
        table.touch(changed)
        self._cells.append(lists.astype(np.int64) * table.width + positions)

    def _challenge(
        self, lists: np.ndarray, positions: np.ndarray, others: np.ndarray, weights: np.ndarray, order: int
    ) -> None:
        """Newcomers `others` at `positions`, which are free or held by the weakest."""
        table = self.table
        cells = table.weights[lists, positions]
        held = np.where(table.neighbours[lists, positions] >= 0, _strength(cells), np.float32(0))
        left = held - weights
        won = left <= 0
        cells[~won, :TOGETHER] *= (left[~won] / held[~won])[:, None]
        cells[won] = 0
        cells[won, order] = -left[won]
        cells[won, TOGETHER] = 1
        table.weights[lists, positions] = cells
        table.neighbours[lists[won], positions[won]] = others[won]


def _strength(weights: np.ndarray) -> np.ndarray:
    """How much each neighbour weighs, on both sides: of float32 (..., 3), float32 (...); much sooner than `sum`."""
    return weights[..., AFTER] + weights[..., BEFORE]
