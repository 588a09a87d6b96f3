"""New items: the newest of the catalogue, those with the fewest feedbacks first, for their first exposures."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import POSITIVES

from ..query import Query
from ..source import Score, Source


class New(Source):
    """The newest items; how new one is, is told by how few took it."""

    name = "new"
    meaning = "the newest items of the catalogue, the least known first"
    reason = "new"
    quota = 0.05
    scores = (Score("new", plain=True),)
    ranks = describes = True

    def rank(self, query: Query) -> np.ndarray:
        return query.index.newest()

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        newness(rows, query.index.table.stats, scores, column)


@njit(cache=True)
def newness(rows, stats, scores, column):  # type: ignore[no-untyped-def]
    """1 / (1 + positive feedbacks) of `rows`, into the column of `scores`."""
    for c in range(len(rows)):
        scores[c, column] = 1.0 / (1.0 + stats[rows[c], POSITIVES])
