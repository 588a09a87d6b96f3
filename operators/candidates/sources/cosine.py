"""Item cosine: what is taken by the users who took what this user took, whatever the order."""

import math

from numba import njit
from riverrank.state.item_tables import POSITIVES, TOGETHER

from ..query import Query
from ..reached import slot_of
from ..source import Score, Source

SHRINKAGE = 3.0  # of a cosine, in interactions


class Cosine(Source):
    """The mean over the history of how often two items are taken together beside the root of how often each is."""

    name = "cosine"
    meaning = "what is taken together with what the user took"
    reason = "because_of_your_history"
    quota = 0.15
    scores = (Score("cosine"),)
    reaches = True

    def applies(self, query: Query) -> bool:
        return len(query.context.rows) > 0

    def reach(self, query: Query, column: int) -> None:
        history, table, reached = query.context.rows, query.index.table, query.reached
        reached.fit(0, len(history) * table.width)
        reached.n = reach(history, table.stats, table.neighbours, table.weights, column, *reached.arrays)


@njit(cache=True)
def reach(history, stats, neighbours, weights, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give the neighbours of `history`, int32 (h,), their cosines in `column` of `scores`; how many rows are reached
    then. Linden et al., Amazon.com recommendations (2003), shrunk. About 6 us for 20 lists of 60.
    """
    for h in range(len(history)):
        row = history[h]
        own = max(stats[row, POSITIVES], 1.0)
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other >= 0 and weights[row, k, TOGETHER] > 0.0:
                position, n = slot_of(other, slot, rows, n)
                likes = max(stats[other, POSITIVES], 1.0)
                scores[position, column] += weights[row, k, TOGETHER] / (
                    (math.sqrt(own * likes) + SHRINKAGE) * len(history)
                )
    return n
