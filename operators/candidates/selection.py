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
        if seen.flags.writeable:  # numba compiles for arrays that may be written to and for others: here one of them
            seen = seen.view()
            seen.flags.writeable = False
        size = 1 << (2 * len(seen)).bit_length()
        if len(self.table) < size:
            self.table = np.full(size, EMPTY, np.int64)
        self.mask = size - 1
        fill_table(self.table, self.mask, seen)


@njit(cache=True)
def fill_table(table, mask, seen):  # type: ignore[no-untyped-def]
    """Put the hashes `seen`, uint32, into the first `mask` + 1 places of `table`. About 3 ns each."""
    table[: mask + 1] = EMPTY
    for k in range(len(seen)):
        mark = np.int64(seen[k])
        place = mark & mask
        while table[place] != EMPTY and table[place] != mark:
            place = (place + 1) & mask
        table[place] = mark


@njit(cache=True)
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


@njit(cache=True)
def is_before(value, order, other, other_order):  # type: ignore[no-untyped-def]
    """Whether what has `value` stands before what has `other`: the higher first, of equals the one that came first."""
    return value > other or (value == other and order < other_order)


@njit(cache=True)
def sift(values, orders, n):  # type: ignore[no-untyped-def]
    """Let the root of a heap of `n`, of which the last stands at the root, sink to where it belongs."""
    value = values[0]
    order = orders[0]
    hole = 0
    while True:
        child = 2 * hole + 1
        if child >= n:
            break
        if child + 1 < n and is_before(values[child], orders[child], values[child + 1], orders[child + 1]):
            child += 1
        if is_before(values[child], orders[child], value, order):
            break
        values[hole] = values[child]
        orders[hole] = orders[child]
        hole = child
    values[hole] = value
    orders[hole] = order


@njit(cache=True)
def push(values, orders, n, most, value, order):  # type: ignore[no-untyped-def]
    """Keep `order` among the `most` with the highest values; how many there are then. The caller asks only what beats
    the root, once the heap is full, and asks in ascending `order`.
    """
    if n == most:
        values[0] = value
        orders[0] = order
        sift(values, orders, n)
        return n
    hole = n
    while hole > 0:
        parent = (hole - 1) // 2
        if is_before(value, order, values[parent], orders[parent]):
            break
        values[hole] = values[parent]
        orders[hole] = orders[parent]
        hole = parent
    values[hole] = value
    orders[hole] = order
    return n + 1


@njit(cache=True)
def sort(values, orders, n):  # type: ignore[no-untyped-def]
    """Make of a heap of `n` a list, best first."""
    for last in range(n - 1, 0, -1):
        value = values[last]
        order = orders[last]
        values[last] = values[0]
        orders[last] = orders[0]
        values[0] = value
        orders[0] = order
        sift(values, orders, last)
