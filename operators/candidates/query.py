"""What a source is asked: for whom, over which items, and what may be served."""

from typing import Any

import numpy as np
from riverrank.operators.index.domains import ANY
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.item_tables import POPULARITY

from .context import Context
from .reached import Reached
from .selection import Allowed, best_allowed

MOST_POPULAR = 4096  # rows of a domain
FOR_HIDDEN = 6  # one of so many candidates is for what is hidden
_POPULAR = ""  # what is kept of a query's own, under no source's name


class Query:
    """One user's question to all sources, and the scratch that answers are gathered in. It is asked again and again."""

    context: Context

    def __init__(self, index: ItemIndex, most: int, columns: int) -> None:
        """`most` is how many candidates there may be, `columns` how many scores lists give."""
        self.index = index
        self.limit = self._most = most  # how many candidates are looked for
        self.reached = Reached(columns)
        self.allowed = Allowed()
        self.memo: dict[str, Any] = {}  # what a source found out, for its other methods

    def begin(self, context: Context, seen: np.ndarray | None) -> None:
        """Begin to ask for the user of `context`, who is not to be served what is in `seen`, uint32 hashes of ids, nor
        what is in another domain than is asked for.
        """
        index = self.index
        self.context = context
        self.memo.clear()
        hidden = self.allowed.begin(servable_for(context, index), index.hash, seen)
        self.limit = limit_for(self._most, hidden)
        self.reached.fit(index.table.capacity, 0)

    def popular(self) -> np.ndarray:
        """The most popular rows: int32. Where a domain is asked for, its own: of the most popular ones of all, and
        where these are fewer than candidates, of all that are in it.
        """
        index, servable = self.index, self.allowed.servable
        if self.context.domain == ANY:
            return index.popular()
        rows = self.memo.get(_POPULAR)
        if rows is None:
            rows = index.popular()
            rows = rows[servable[rows]]
            if len(rows) < self.limit:
                every = np.flatnonzero(servable).astype(np.int32)
                rows = every[np.argsort(-index.keys_of(every, POPULARITY), kind="stable")[:MOST_POPULAR]]
            self.memo[_POPULAR] = rows
        return rows

    def best(self, rows: np.ndarray, values: np.ndarray, above: int, quota: float) -> np.ndarray:
        """Of `rows` those that may be served and are best by `values`, at most a share of the candidates: int32, best
        first. See `best_allowed`.
        """
        found = np.empty(self.most(quota), np.int32)
        n = best_allowed(rows, values, above, *self.allowed.arrays, found)
        return found if n == len(found) else found[:n]

    def most(self, quota: float) -> int:
        """How many candidates a share of them is, 1 at least."""
        return max(1, round(quota * self.limit))


def limit_for(most: int, hidden: int) -> int:
    """How many candidates are looked for, of `most`, for a user from whom so many items are `hidden`: where these are
    few, one of FOR_HIDDEN less. What is hidden thins out every list, and what is left is proposed by few.

    >>> limit_for(120, 3), limit_for(120, 20)
    (100, 120)
    """
    spare = most // FOR_HIDDEN
    return most - spare if hidden < spare else most


def servable_for(context: Context, index: ItemIndex) -> np.ndarray:
    """What may be served to whoever has seen nothing: all that is servable, or what of it is in the domain that is
    asked for. Bool by row, not to be written to.
    """
    return index.servable if context.domain == ANY else index.domains.mask(context.domain, index.servable)
