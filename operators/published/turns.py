"""Whose turn it is among items of which a list is published, and what was written of each. Makes no list."""

import zlib

import numpy as np
from numba import njit

ROWS_LOOKED_AT = 4096  # for one turn, at most: some 8 us
NONE = -1


class Turns:
    """Round robin over the rows whose list may have changed, or is to be renewed because it was written more than half
    of `ttl_ms` ago: Redis would drop it (0: it never does). Rows whose hash falls to another of as many `parts` are
    those of others.

    Of each row 16 bytes are kept: the version and the second of the last write, and a checksum of what it said.

    >>> turns, changed, all_of_them = Turns(ttl_ms=0), np.array([False, True]), np.ones(2, np.bool_)
    >>> turns.fit(2)
    >>> turns.next(changed, all_of_them, np.zeros(2, np.uint32), version=7, now=1_000)
    1
    >>> turns.is_news(1, b"a list", 7, 1_000), turns.is_news(1, b"a list", 8, 2_000)
    (True, False)
    """

    def __init__(self, ttl_ms: int, part: int = 0, parts: int = 1) -> None:
        self.ttl_ms, self.part, self.parts = ttl_ms, part, parts
        self._row = 0  # to be looked at next
        self._version = np.zeros(0, np.int64)
        self._second = np.zeros(0, np.uint32)
        self._said = np.zeros(0, np.uint32)

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        if more := capacity - len(self._said):
            self._version, self._second, self._said = (
                np.append(column, np.zeros(more, column.dtype)) for column in (self._version, self._second, self._said)
            )

    def forget(self) -> None:
        """Know nothing of what was written: rows may be other items now."""
        for column in (self._version, self._second, self._said):
            column[:] = 0

    def next(self, changed: np.ndarray, servable: np.ndarray, marks: np.ndarray, version: int, now: int) -> int:
        """The next of the rows, whose turn is over then, or NONE where none of the next ROWS_LOOKED_AT has one.
        `changed` and `servable` bool and `marks`, the hashes of ids, uint32, by row; what a row had written with
        this `version` waits for a later one. `now` is the wall clock in epoch milliseconds.
        """
        before = self._before(now)
        row, self._row = next_row(
            self._row, changed, servable, marks, self._version, self._second, version, before, self.part, self.parts
        )
        if row >= 0:
            changed[row] = False
        return int(row)

    def is_news(self, row: int, list_: bytes, version: int, now: int) -> bool:
        """Whether what is listed of `row` is to be written: it is not what was said last, or that is to be renewed.
        Notes that it was. An empty list is news only after one that was none.
        """
        said, is_old = zlib.crc32(list_), int(self._second[row]) < self._before(now)
        is_same = said == self._said[row] if self._second[row] else not list_
        if is_same and not list_:
            self._second[row] = 0  # what says nothing is not renewed
        if is_same and not (is_old and list_):
            return False
        self._version[row], self._second[row], self._said[row] = version, now // 1000, said
        return True

    def _before(self, now: int) -> int:
        """The second, since 1970, before which what was written is to be renewed; 0 for none."""
        return max(0, (now - self.ttl_ms // 2) // 1000) if self.ttl_ms else 0


@njit(cache=True)
def next_row(begin, changed, servable, marks, versions, seconds, version, before, part, parts):  # type: ignore[no-untyped-def]
    """The first row from `begin` on, and round to it, that has a turn, NONE where there is none; and where to look
    next. About 2 ns a row.
    """
    n = len(changed)
    row = begin if begin < n else 0
    for _ in range(min(n, ROWS_LOOKED_AT)):
        is_old = np.uint32(0) < seconds[row] < before
        is_ours = parts == 1 or marks[row] % np.uint32(parts) == part
        has_turn = (changed[row] or is_old) and servable[row] and versions[row] < version and is_ours
        this, row = row, row + 1 if row + 1 < n else 0
        if has_turn:
            return this, row
    return NONE, row
