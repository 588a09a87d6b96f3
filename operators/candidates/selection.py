"""Which rows may be served to a user, and the best few of many rows."""

import numpy as np
from numba import njit

EMPTY = -1


class Allowed:
    """What may be served: what the index calls servable, less the items whose hash the user has seen.

    The hashes are in `table` int64, of a power of two, by linear probing, EMPTY where it is free.
    """

    def __init__(self) -> None:
        self.servable = np.zeros(0, bool)
        self.marks = np.zeros(0, np.uint32)
        self.table = np.full(16, EMPTY, np.int64)
        self.mask = 0  # of the part of the table that is in use, 0 where nothing was seen

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """The arguments of `is_allowed` that follow the row."""
        return self.servable, self.marks, self.table, self.mask

    def ask(self, servable: np.ndarray, marks: np.ndarray, seen: np.ndarray | None) -> None:
        """Allow the rows that are `servable`, bool, and whose hash in `marks`, uint32, is not in `seen`, uint32."""
        self.servable, self.marks = servable, marks
        self.mask = 0
        if seen is None or not len(seen):
            return
        size = 1 << (2 * len(seen)).bit_length()
        if len(self.table) < size:
            self.table = np.full(size, EMPTY, np.int64)
        self.mask = size - 1
        fill_table(self.table, self.mask, seen)


@njit(cache=True, nogil=True)
def fill_table(table, mask, seen):  # type: ignore[no-untyped-def]
    """Put the hashes `seen`, uint32, into the first `mask` + 1 places of `table`. About 3 ns each."""
    table[: mask + 1] = EMPTY
    for k in range(len(seen)):
        mark = np.int64(seen[k])
        place = mark & mask
        while table[place] != EMPTY and table[place] != mark:
            place = (place + 1) & mask
        table[place] = mark


@njit(cache=True, nogil=True)
def is_allowed(row, servable, marks, table, mask):  # type: ignore[no-untyped-def]
    """Whether `row` may be served."""
    if not servable[row]:
        return False
    if mask == 0:
        return True
    mark = np.int64(marks[row])
    place = mark & mask
    while table[place] != EMPTY:
        if table[place] == mark:
            return False
        place = (place + 1) & mask
    return True


@njit(cache=True, nogil=True)
def insert(values, rows, n, most, value, row):  # type: ignore[no-untyped-def]
    """Keep `row` among the `most` with the highest values, best first; of equals the first stays first. How many there
    are then. `values` and `rows` have room for one more than `most`; the caller asks only what beats the last.
    """
    position = n
    while position > 0 and values[position - 1] < value:
        values[position] = values[position - 1]
        rows[position] = rows[position - 1]
        position -= 1
    values[position] = value
    rows[position] = row
    return min(n + 1, most)
