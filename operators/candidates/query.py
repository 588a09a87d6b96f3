"""What a source is asked: for whom, over which items, and what may be served."""

from typing import Any

import numpy as np
from riverrank.operators.index.item_index import ItemIndex

from .context import Context
from .reached import Reached
from .selection import Allowed, best_allowed


class Query:
    """One user's question to all sources, and the scratch that answers are gathered in. It is asked again and again."""

    context: Context

    def __init__(self, index: ItemIndex, limit: int, columns: int) -> None:
        """`limit` is how many candidates there may be, `columns` how many scores lists give."""
        self.index = index
        self.limit = limit
        self.reached = Reached(columns)
        self.allowed = Allowed()
        self.memo: dict[str, Any] = {}  # what a source found out, for its other methods

    def begin(self, context: Context, seen: np.ndarray | None) -> None:
        """Begin to ask for the user of `context`, who is not to be served what is in `seen`, uint32 hashes of ids."""
        index = self.index
        self.context = context
        self.memo.clear()
        self.allowed.begin(index.servable, index.hash, seen)
        self.reached.fit(index.table.capacity, 0)

    def best(self, rows: np.ndarray, values: np.ndarray, above: int, quota: float) -> np.ndarray:
        """Of `rows` those that may be served and are best by `values`, at most a share of the candidates: int32, best
        first. See `best_allowed`.
        """
        found = np.empty(self.most(quota), np.int32)
        return found[: best_allowed(rows, values, above, *self.allowed.arrays, found)]

    def most(self, quota: float) -> int:
        """How many candidates a share of them is, 1 at least."""
        return max(1, round(quota * self.limit))
