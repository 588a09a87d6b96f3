"""What changed in a shard's table since its last update, and its way into a SignalUpdate. Learns nothing itself."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.state.item_tables import ORDERS, STATS, ItemTable

FIRST_ENTRIES = 256
WHOLE_EVERY = 256  # renewals of a list, of which .995 ** 256 is a quarter; 1/8 more cells where each pairs 20 items


class Packed(NamedTuple):
    """The changes as arrays, in the order of a SignalUpdate's fields. `named` int32 (i,) are rows of the table; the
    other arrays name an item by its position there.
    """

    named: np.ndarray
    counted: np.ndarray
    stats: np.ndarray
    lists: np.ndarray
    positions: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray
    whole: np.ndarray
    taken: np.ndarray


class Changes:
    """An entry for each row that changed: whether its counts did, how often its list was renewed, which cells changed.

    A row or a cell that changes several times stands here once. A list is sent whole when it changes first, in its row
    and since this was made, and again after WHOLE_EVERY renewals: so it becomes the same wherever it is kept, whatever
    was given up here or there (docs/decisions/0002).
    """

    def __init__(self, table: ItemTable) -> None:
        self.table = table
        self.n = 0  # entries in use
        self.entry_of = np.zeros(0, np.int32)  # by row of the table: its entry, counted from 1; 0 is none
        self.rows = np.zeros(0, np.int32)  # by entry; -1 for one that was dropped
        self.counted = np.zeros(0, np.bool_)
        self.renewals = np.zeros(0, np.int32)
        self.cells = np.zeros((0, table.width), np.bool_)
        self._until_whole = np.zeros(0, np.int32)  # by row, renewals until its list is sent whole: 0 or less, at once
        self._local = np.zeros(0, np.int32)  # by row, 0 between calls
        self._packed = _room_for(0, table.width, 0)

    def fit(self, more: int) -> None:
        """Make room for `more` entries, and for the rows that the table has."""
        if len(self.entry_of) != self.table.capacity:
            self.entry_of = _longer(self.entry_of, self.table.capacity)
            self._local = _longer(self._local, self.table.capacity)
            self._until_whole = _longer(self._until_whole, self.table.capacity)
        if self.n + more > len(self.rows):
            size = max(FIRST_ENTRIES, 2 * (self.n + more))
            self.rows, self.renewals = _longer(self.rows, size), _longer(self.renewals, size)
            self.counted, self.cells = _longer(self.counted, size), _longer(self.cells, size)

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """What kernels that change the table take last."""
        return self.entry_of, self.rows, self.counted, self.renewals, self.cells, self.n

    def drop(self, rows: np.ndarray) -> None:
        """Forget what changed in `rows`: other items will have them."""
        self.fit(0)
        entries = self.entry_of[rows] - 1
        self.rows[entries[entries >= 0]] = -1
        self.entry_of[rows] = 0
        self._until_whole[rows] = 0

    def pack(self, decay: np.ndarray, now: float, taken: Sequence[int]) -> Packed:
        """The changes as of event number `now`, with rows that users took, -1 for none; after this there are none. It
        is in memory that the next call uses again.
        """
        self.fit(0)
        table, width = self.table, self.table.width
        if self.n > len(self._packed.counted) or self.n * (width + 1) + len(taken) > len(self._packed.named):
            self._packed = _room_for(len(self.rows), width, len(taken))
        named, counted, stats, lists, positions, neighbours, weights, whole = self._packed[:-1]
        rows = np.array(taken, np.int32)
        i, m, r, c, w = _pack(
            table.stats, table.at, table.neighbours, table.weights, decay, now, table.block_rows, table.changed,
            self.entry_of, self.rows, self.counted, self.renewals, self.cells, self.n, self._local, self._until_whole,
            named, counted, stats, lists, positions, neighbours, weights, whole, rows,
        )  # fmt: skip
        self.n = 0
        return Packed(
            named[:i], counted[:m], stats[:m], lists[:r], positions[:c], neighbours[:c], weights[:c], whole[:w], rows
        )  # fmt: skip


def _room_for(entries: int, width: int, taken: int) -> Packed:
    """Room for as many entries of lists of `width`, and rows that were taken."""
    cells = entries * width
    return Packed(
        named=np.empty(entries + cells + taken, np.int32),
        counted=np.empty(entries, np.int32),
        stats=np.empty((entries, STATS), np.float32),
        lists=np.empty((entries, 2), np.int32),
        positions=np.empty(cells, np.uint16),
        neighbours=np.empty(cells, np.int32),
        weights=np.empty((cells, ORDERS), np.float32),
        whole=np.empty(entries, np.int32),
        taken=np.empty(0, np.int32),
    )


@njit(cache=True)
def _pack(  # type: ignore[no-untyped-def]
    stats, at, neighbours, weights, decay, now, block_rows, changed,
    entry_of, rows, counted, renewals, cells, n, local, until_whole,
    named, of_counted, new_stats, lists, positions, others, amounts, whole, taken,
):  # fmt: skip
    """Write the `n` entries as they stand in the table into the arrays of a Packed, note their blocks in `changed`, and
    end them; `local` int32 by row is 0 before and after. Returns how many items are named, counted, have an entry, how
    many cells there are, and how many lists are whole. Costs 10 ns a cell.
    """
    r = m = c = w = 0
    for entry in range(n):
        row = rows[entry]
        if row >= 0:
            entry_of[row] = 0
            changed[row // block_rows] = True
            named[r] = row
            r += 1
            local[row] = r
    i = r
    k = 0
    for entry in range(n):
        row = rows[entry]
        if row < 0:
            continue
        if counted[entry]:
            _decay_to_now(row, stats, at, decay, now)
            of_counted[m] = k
            new_stats[m] = stats[row]
            m += 1
        before = c
        is_whole = _is_whole(row, renewals[entry], until_whole)
        whole[w] = k
        w += is_whole
        for position in range(cells.shape[1]):
            if (is_whole or cells[entry, position]) and neighbours[row, position] >= 0:
                i = _name(neighbours[row, position], local, named, i)
                positions[c] = position
                others[c] = local[neighbours[row, position]] - 1
                amounts[c] = weights[row, position]
                c += 1
        lists[k, 0] = renewals[entry]
        lists[k, 1] = c - before
        k += 1
    for k in range(len(taken)):
        if taken[k] >= 0:
            i = _name(taken[k], local, named, i)
            taken[k] = local[taken[k]] - 1
    for row in named[:i]:
        local[row] = 0
    return i, m, r, c, w


@njit(cache=True)
def _decay_to_now(row, stats, at, decay, now):  # type: ignore[no-untyped-def]
    """Make popularity and trend of `row` those of event number `now`."""
    for column in range(len(decay)):  # DECAYED begins at 0
        stats[row, column] *= decay[column] ** (now - at[row])
    at[row] = now


@njit(cache=True)
def _is_whole(row, renewals, until_whole):  # type: ignore[no-untyped-def]
    """Whether the list of `row`, renewed so often since it was sent, is to be sent whole; and note that it is."""
    until_whole[row] -= renewals
    if until_whole[row] > 0:
        return False
    until_whole[row] = WHOLE_EVERY
    return True


@njit(cache=True)
def _name(row, local, named, i):  # type: ignore[no-untyped-def]
    """Give `row` a number, `local[row] - 1`, if it has none; returns how many have one."""
    if local[row] == 0:
        named[i] = row
        i += 1
        local[row] = i
    return i


def _longer(array: np.ndarray, length: int) -> np.ndarray:
    """`array` with zeros after it, up to `length` rows."""
    made = np.zeros((length, *array.shape[1:]), array.dtype)
    made[: len(array)] = array
    return made
