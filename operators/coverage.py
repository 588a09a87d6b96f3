"""How much of the catalogue slates show of late."""

import numpy as np
from numba import njit

SLATES, PLACES = 1_000, 10  # the last ones, and their first places


class Coverage:
    """How many distinct items were on the first PLACES of the last SLATES slates, by their rows in the index.

    >>> coverage = Coverage()
    >>> coverage.show(np.array([3, 5], np.int32))
    >>> coverage.show(np.array([5, 4], np.int32))
    >>> coverage.shown
    3
    """

    def __init__(self) -> None:
        self.shown = 0
        self._slates = np.full((SLATES, PLACES), -1, np.int32)
        self._times = np.zeros(1024, np.int32)  # by row, how often it is on these
        self._next = 0

    def show(self, rows: np.ndarray) -> None:
        """Count a slate of `rows`, int32 (n,), best first, in place of the oldest: 1 us."""
        if len(rows) and (most := int(rows.max())) >= len(self._times):
            self._times = np.pad(self._times, (0, max(len(self._times), most + 1 - len(self._times))))
        self.shown += replace(self._slates[self._next], rows, self._times)
        self._next = (self._next + 1) % SLATES


@njit(cache=True)
def replace(slate, rows, times):  # type: ignore[no-untyped-def]
    """Put `rows`, int32 (n,), in place of those in `slate`, int32 (PLACES,), and count both in `times`, int32 by row;
    by how many more rows are counted at all.
    """
    more = 0
    for place in range(len(slate)):
        if slate[place] >= 0:
            times[slate[place]] -= 1
            more -= times[slate[place]] == 0
        slate[place] = rows[place] if place < len(rows) else -1
        if slate[place] >= 0:
            times[slate[place]] += 1
            more += times[slate[place]] == 1
    return more
