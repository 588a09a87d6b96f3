"""Session neighbours: what those took of late who took what the user took of late.

A session is what one user took last, told by SIGNALS as pairs of a user's key and an item. Of all users the most recent
sessions are kept; of a user no more is known here than the hash of their id, and that until they are erased.
"""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
from riverrank.operators.settings import MOST_WINDOW
from riverrank.state.hashing import session_key
from riverrank.state.item_tables import SESSION_ITEMS, SessionTable

RECENT = 32  # sessions kept of each item: those that took it last
NEAREST = 32  # sessions that are a user's neighbours
SESSION_RECENCY = 0.8  # weight of an interaction of the user's beside the next newer one
NEARNESS, ANYWHERE = 0.9, 0.3  # weight of an item beside the next nearer one to what is shared; weight of the farthest
SHRINKAGE = 0.1  # similarity of nobody
MIN_RELATIVE_SCORE = 0.03  # share of the most that any neighbour gives; what gets less from one gets nothing from it
_RECENCIES = (SESSION_RECENCY ** np.arange(MOST_WINDOW)).astype(np.float32)
_PLACES = np.arange(SESSION_ITEMS)
_NEARNESS = ANYWHERE + (1 - ANYWHERE) * NEARNESS ** np.abs(_PLACES[:, None] - _PLACES).astype(np.float32)


class Near(NamedTuple):
    """What the neighbours took: `rows` int32 (n,), each as often as it was taken, and what each gives, float32 (n,)."""

    rows: np.ndarray
    scores: np.ndarray


class Sessions:
    """The `most` most recent sessions, and by item which of them took it.

    Vector multiplication session kNN (Ludewig & Jannach, Evaluation of session-based recommendation algorithms, 2018)
    over an index that is bounded as in Kersbergen et al., Serenade, 2022. Items are rows of the index.

    >>> sessions = Sessions(most=100, capacity=8)
    >>> sessions.take([7, 7, 9], [4, 5, 4])  # one user took 4 and 5, another 4 alone
    >>> sessions.near(np.array([4]), np.ones(1, np.float32), own=sessions.table.rows["00000009"]).rows.tolist()
    [5]
    """

    def __init__(self, most: int, capacity: int) -> None:
        """`capacity` in rows."""
        self.most = most
        self.table = SessionTable()
        self.clock = 0  # pairs that were taken
        self.recent = np.zeros((0, RECENT), np.int32)  # by row, slots of the table counted from 1; 0 is none
        self._next = np.zeros(0, np.int32)  # by row, the place of `recent` that is written next
        self._weight = np.zeros(0, np.float32)  # by row, 0 between calls
        self.fit(capacity)

    def fit(self, capacity: int) -> None:
        """Make room for `capacity` rows."""
        if more := capacity - len(self.recent):
            self.recent = np.pad(self.recent, ((0, more), (0, 0)))
            self._next = np.pad(self._next, (0, more))
            self._weight = np.zeros(capacity + 1, np.float32)  # the last is that of row -1

    def slot(self, user_id: str) -> int:
        """The slot of the user's session, -1 where none is held."""
        return self.table.rows.get(_name(session_key(user_id)), -1)

    def take(self, keys: Iterable[int], rows: Iterable[int]) -> None:
        """Take pairs in their order: the user of the key took the row, or is erased where it is -1."""
        for key, row in zip(keys, rows, strict=True):
            name = _name(key)
            if row >= 0:
                self._add(name, row)
            elif name in self.table.rows:
                self._end(self.table.rows[name])

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`: other items will have them."""
        gone = np.isin(self.table.items, rows)
        self.table.items[gone] = -1
        self.table.touch(np.flatnonzero(gone.any(axis=1)))
        self.recent[rows] = 0
        self._next[rows] = 0

    def near(self, rows: np.ndarray, likes: np.ndarray, own: int) -> Near:
        """What those took who share most with `rows`, int (h,), newest first, of which all took `likes`, float32 (h,).

        `own` is the slot of the user's own session, which tells nothing new, -1 for none. A row weighs less the older
        and the more liked it is. Each of the NEAREST gives the weights of what it shares to what else it took, the more
        the nearer that stands (Garg et al., Sequence and time aware neighborhood for session-based recommendations,
        2019), by the root of its length, as a share of the sum.
        """
        weights = _RECENCIES[: len(rows)] / np.sqrt(likes)
        similarity = np.bincount(self.recent[rows].ravel(), np.repeat(weights, RECENT), len(self.table) + 1)
        similarity[0] = similarity[own + 1] = 0.0
        slots = (similarity > 0).nonzero()[0]
        if len(slots) > NEAREST:
            slots = slots[np.argpartition(-similarity[slots], NEAREST)[:NEAREST]]
        items = self.table.items[slots - 1]
        held = items >= 0
        self._weight[rows] = weights
        shared = self._weight[items]
        self._weight[rows] = 0.0
        given = shared @ _NEARNESS
        roots = np.sqrt(held.sum(axis=1))
        given *= (1.0 / (roots * ((similarity[slots] / roots).sum() + SHRINKAGE))).astype(np.float32)[:, None]
        given *= held & (shared == 0)
        kept = given > MIN_RELATIVE_SCORE * given.max(initial=0.0)
        return Near(items[kept], given[kept])

    def dump(self) -> dict[str, bytes]:
        """What changed since the last dump, by the key it is kept under."""
        return self.table.dump()

    def load(self, base: Mapping[str, bytes]) -> None:
        """Put back what was dumped. Of an item that more than RECENT sessions took, those that ended last are found."""
        table = self.table
        table.load(base)
        slots = sorted(table.rows.values(), key=table.at.__getitem__)
        for slot in slots:
            for row in reversed(table.items[slot].tolist()):
                if row >= 0:
                    self._list(row, slot)
            self.clock = int(table.at[slot]) + 1
        for slot in slots[: -self.most]:  # the configuration says fewer now
            self._end(slot)

    def _add(self, name: str, row: int) -> None:
        """Put the row in front of the session; the oldest leaves where there is no room."""
        table = self.table
        if name not in table.rows and len(table.rows) >= self.most:
            self._end(int(table.at[: len(table)].argmin()))
        slot = table.row(name)
        items = table.items[slot]
        held = items.tolist()
        position = held.index(row) if row in held else held.index(-1) if -1 in held else len(held) - 1
        if held[position] not in (row, -1):
            self._unlist(held[position], slot)
        items[1 : position + 1] = held[:position]
        items[0] = row
        table.at[slot] = self.clock
        self.clock += 1
        table.changed.add(slot // table.block_rows)
        self._list(row, slot)

    def _end(self, slot: int) -> None:
        for row in self.table.items[slot].tolist():
            if row >= 0:
                self._unlist(row, slot)
        self.table.release(np.array([slot]))

    def _list(self, row: int, slot: int) -> None:
        slots = self.recent[row]
        if slot + 1 not in slots:
            slots[self._next[row]] = slot + 1
            self._next[row] = (self._next[row] + 1) % RECENT

    def _unlist(self, row: int, slot: int) -> None:
        slots = self.recent[row]
        slots[slots == slot + 1] = 0


def _name(key: int) -> str:
    return f"{key:08x}"
