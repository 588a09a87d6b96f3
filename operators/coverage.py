"""How much of the catalogue slates show of late."""

from collections import deque

import numpy as np

SLATES, PLACES = 1_000, 10  # the last ones, and their first places
COUNTED_EVERY = 100  # slates


class Coverage:
    """How many distinct items were on the first PLACES of the last SLATES slates, by their rows in the index.

    >>> coverage = Coverage()
    >>> coverage.show(np.array([3, 5], np.int32))
    >>> coverage.show(np.array([5, 4], np.int32))
    >>> coverage.distinct()
    3
    """

    def __init__(self) -> None:
        self._slates: deque[np.ndarray] = deque(maxlen=SLATES)
        self._since = COUNTED_EVERY  # slates since it was counted
        self._distinct = 0

    def show(self, rows: np.ndarray) -> None:
        """Note a slate of `rows`, int32 (n,), best first, which nobody writes to any more."""
        self._slates.append(rows)
        self._since += 1

    def distinct(self) -> int:
        """The number, as it was less than COUNTED_EVERY slates ago: 0.5 ms where it is counted anew."""
        if self._since >= COUNTED_EVERY and self._slates:
            self._distinct = len(np.unique(np.concatenate([rows[:PLACES] for rows in self._slates])))
            self._since = 0
        return self._distinct
