"""Trends: what everybody takes these days."""

import numpy as np
from riverrank.state.item_tables import TRENDING

from ..query import Query
from ..source import Score, Source


class Trending(Source):
    """The item's quickly decayed popularity beside the highest candidate's."""

    name = "trending"
    meaning = "what is popular at present"
    reason = "trending"
    quota = 0.05
    scores = (Score("trending", relative=True),)
    ranks = describes = True

    def rank(self, query: Query) -> np.ndarray:
        return query.index.trending()

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        query.index.decayed_into(rows, TRENDING, scores, column)
