"""Popularity: what everybody takes, and how much it is liked."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import NEGATIVES, POPULARITY, POSITIVES

from ..query import Query
from ..source import Score, Source

PROPOSABLE = 400  # of the most popular, of which those that may be served are proposed
PRIOR_LIKES, PRIOR_DISLIKES = 3.0, 1.0


class Popular(Source):
    """The item's decayed popularity beside the most popular candidate's."""

    name = "popular"
    meaning = "the most popular items"
    reason = "popular"
    quota = 0.1
    scores = (Score("popular", prior=0.5, relative=True), Score("likes", plain=True))
    ranks = describes = True

    def rank(self, query: Query) -> np.ndarray:
        return query.popular()[:PROPOSABLE]

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        query.index.decayed_into(rows, POPULARITY, scores, column)
        likes(rows, query.index.table.stats, scores, column + 1)


@njit(cache=True)
def likes(rows, stats, scores, column):  # type: ignore[no-untyped-def]
    """The share of likes among the feedbacks of `rows`, shrunk to that of the prior, into the column of `scores`."""
    for c in range(len(rows)):
        liked = stats[rows[c], POSITIVES] + PRIOR_LIKES
        scores[c, column] = liked / (liked + stats[rows[c], NEGATIVES] + PRIOR_DISLIKES)
