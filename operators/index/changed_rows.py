"""Which rows of an index changed, for whoever publishes something of each. Decides nothing about them."""

import numpy as np


class ChangedRows:
    """`neighbours` and `likeness`, bool by row: whether what the row is taken with changed, or what it is like, since
    who reads that set it back. Nothing is noted before `follow`.

    >>> changed = ChangedRows()
    >>> changed.fit(2)
    >>> changed.follow()
    >>> changed.neighbours[:] = False
    >>> changed.note(changed.neighbours, np.array([1]))
    >>> changed.neighbours.tolist()
    [False, True]
    """

    def __init__(self) -> None:
        self.neighbours = self.likeness = np.zeros(0, np.bool_)
        self._capacity = 0
        self._is_followed = False

    def follow(self) -> None:
        """Note changes from now on; until something is set back, all rows changed."""
        self._is_followed = True
        self.neighbours, self.likeness = np.ones(self._capacity, np.bool_), np.ones(self._capacity, np.bool_)

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        more = capacity - self._capacity
        self._capacity = capacity
        if self._is_followed:
            self.neighbours, self.likeness = (
                np.append(noted, np.zeros(more, np.bool_)) for noted in (self.neighbours, self.likeness)
            )

    def note(self, noted: np.ndarray, rows: np.ndarray | int) -> None:
        """Note in `neighbours` or `likeness` that `rows`, int (n,) or one, changed."""
        if self._is_followed:
            noted[rows] = True
