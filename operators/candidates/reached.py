"""The rows that sources with lists reach, each once, with the scores that the lists give them."""

import numpy as np
from numba import njit


class Reached:
    """`rows[:n]` int32 are the rows reached so far, `scores[:n]` float32 (n, columns) what they were given, and
    `slot[row]` int32 where a row stands among them, -1 for a row that is not reached. Scores after the first `n` are 0.

    >>> reached = Reached(columns=1)
    >>> reached.fit(capacity=4, most=10)
    >>> reached.add(np.array([2, 0, 2], np.int32), np.ones(3, np.float32), 0)
    >>> reached.rows[: reached.n].tolist(), reached.scores[: reached.n, 0].tolist()
    ([2, 0], [2.0, 1.0])
    """

    def __init__(self, columns: int) -> None:
        self.columns = max(1, columns)
        self.n = 0
        self.slot = np.zeros(0, np.int32)
        self.rows = np.zeros(0, np.int32)
        self.scores = np.zeros((0, self.columns), np.float32)

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """The last arguments of kernels that reach rows; they return the new `n`."""
        return self.slot, self.rows, self.scores, self.n

    def fit(self, capacity: int, most: int) -> None:
        """Make room for rows below `capacity`, and for `most` of them more than are reached now."""
        if len(self.slot) < capacity:
            self.slot = np.full(capacity, -1, np.int32)
            self.slot[self.rows[: self.n]] = np.arange(self.n, dtype=np.int32)
        if len(self.rows) < self.n + most:
            room = 2 * (self.n + most)
            self.rows, rows = np.zeros(room, np.int32), self.rows
            self.scores, scores = np.zeros((room, self.columns), np.float32), self.scores
            self.rows[: self.n], self.scores[: self.n] = rows[: self.n], scores[: self.n]

    def add(self, rows: np.ndarray, given: np.ndarray, column: int) -> None:
        """Give each of `rows`, int32 (m,), `given`, float32 (m,), in `column`."""
        self.fit(0, len(rows))
        self.n = add(rows, given, column, *self.arrays)

    def clear(self) -> None:
        """Reach nothing."""
        forget(self.slot, self.rows, self.scores, self.n)
        self.n = 0


@njit(cache=True)
def slot_of(row, slot, rows, n):  # type: ignore[no-untyped-def]
    """Where `row` stands among the reached, at the end where it was not reached; and how many are reached then.

    Whether it was is no branch, which a CPU would guess wrong too often: 3 ns instead of 15.
    """
    held = slot[row]
    is_new = held < 0
    position = n if is_new else np.int64(held)
    slot[row] = position
    rows[position] = row
    return position, n + is_new


@njit(cache=True)
def add(rows, given, column, slot, reached, scores, n):  # type: ignore[no-untyped-def]
    """Give each of `rows` what is `given` it; how many are reached then. About 3 ns a row."""
    for k in range(len(rows)):
        position, n = slot_of(rows[k], slot, reached, n)
        scores[position, column] += given[k]
    return n


@njit(cache=True)
def forget(slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Make `slot` -1 for the reached rows, and their scores 0."""
    for k in range(n):
        slot[rows[k]] = -1
    scores[:n] = np.float32(0.0)
