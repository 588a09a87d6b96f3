"""The items that the embedding looks among, with their target embeddings laid out to be multiplied fast."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import ItemTable

from .ranked_lists import RankedList

REFRESH_EVENTS = 256  # after which the pool takes the most popular rows of then


class Pool:
    """`rows[:n]` int32; `target[:, :n]` float32 (d, n), an item a column, so that all items take one step together;
    `bias[:n]` float32. What was never learned is not in it.
    """

    def __init__(self, table: ItemTable, size: int, dimensions: int) -> None:
        self.table = table
        self.size = size
        self.rows = np.zeros(0, np.int32)
        self.target = np.zeros((dimensions, 0), np.float32)
        self.bias = np.zeros(0, np.float32)
        self._column = np.zeros(0, np.int32)  # by row, -1 where it is not in the pool
        self._outside = 0  # updates since it was filled of rows that are not in the pool and are popular by now
        self.is_filled = False
        self._filled_at: int | None = None  # in events; None until what was learned settles it

    def wants_refresh(self, events: int) -> bool:
        """Whether enough changed, as of so many events, for the pool to be filled again."""
        filled = self._filled_at
        return filled is None or events - filled >= REFRESH_EVENTS or self._outside > len(self.rows) // 32

    def fill(self, popular: np.ndarray, events: int | None = None) -> None:
        """Take the learned ones of `popular`, int32, as of so many events; None: until more changes."""
        table = self.table
        rows = popular[table.target[popular].any(axis=1)]
        self.rows = rows.copy()
        self.target = np.ascontiguousarray(table.target[rows].T)
        self.bias = table.bias[rows]
        self._column = np.full(table.capacity, -1, np.int32)
        self._column[rows] = np.arange(len(rows), dtype=np.int32)
        self._outside, self._filled_at, self.is_filled = 0, events, True

    def update(self, rows: np.ndarray, popular: RankedList) -> None:
        """The target embeddings of `rows`, int (m,), changed. The `popular` ones of these belong in the pool."""
        table = self.table
        self._outside += copy(rows, table.target, table.bias, self._column, popular.listed, self.target, self.bias)

    def forget(self) -> None:
        """Fill the pool again before it is next read."""
        if self.is_filled:
            self._column[:] = -1
        self._filled_at, self.is_filled = None, False

    def catalogue_changed(self) -> None:
        """Forget it, unless what was learned settled it: else it would depend on whether somebody read it before."""
        if self._filled_at is None:
            self.forget()


@njit(cache=True)
def copy(rows, target, bias, column_of, listed, columns, biases):  # type: ignore[no-untyped-def]
    """Copy what is in the pool; how many of `rows` are not, and are `listed`, as in RankedList. About 0.2 us a row."""
    outside = 0
    for k in range(len(rows)):
        row = rows[k]
        column = column_of[row] if row < len(column_of) else -1
        if column < 0:
            outside += row < len(listed) and listed[row] == listed[row]
            continue
        biases[column] = bias[row]
        for d in range(len(columns)):
            columns[d, column] = target[row, d]
    return outside


@njit(cache=True)
def logits(columns, biases, user):  # type: ignore[no-untyped-def]
    """The dot product of each column of float32 (d, n) and `user`, float32 (d,), and its bias: float32 (n,). 2 us a
    thousand items: the inner loop takes several items in one step of the CPU, each in the same order of sums; of four
    dimensions, so that a sum is read and written a quarter as often.
    """
    values = biases.copy()
    whole = len(columns) // 4 * 4
    for d in range(0, whole, 4):
        one, two, three, four = columns[d], columns[d + 1], columns[d + 2], columns[d + 3]
        first, second, third, fourth = user[d], user[d + 1], user[d + 2], user[d + 3]
        for k in range(len(values)):
            values[k] = (((values[k] + one[k] * first) + two[k] * second) + three[k] * third) + four[k] * fourth
    for d in range(whole, len(columns)):
        weight = user[d]
        for k in range(columns.shape[1]):
            values[k] += columns[d, k] * weight
    return values
