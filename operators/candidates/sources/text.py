"""Text: items with the words of what the user took."""

import numpy as np
from numba import njit

from ..query import Query
from ..source import Score, Source
from .content import likeness


class Text(Source):
    """The dot product of the item's words and the weighed mean of the words of what the user took."""

    name = "text"
    meaning = "no candidates of its own: orders by the words of title and text"
    reason = "like_your_history"
    scores = (Score("text"),)
    describes = True

    def applies(self, query: Query) -> bool:
        return len(query.context.rows) > 0

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        context, text = query.context, query.index.text
        likeness_to_mean(rows, context.rows, context.weights, text, scores, column)


@njit(cache=True)
def likeness_to_mean(rows, history, weights, vectors, scores, column):  # type: ignore[no-untyped-def]
    """`likeness` of `rows`, int32 (c,), to the `mean_of` the history, in one call."""
    likeness(rows, vectors, mean_of(history, weights, vectors), scores, column)


@njit(cache=True)
def mean_of(history, weights, vectors):  # type: ignore[no-untyped-def]
    """The sum of the vectors of `history`, int32 (h,), each with its weight, float32 (h,): float32 (d,)."""
    mean = np.zeros(vectors.shape[1], np.float32)
    for h in range(len(history)):
        vector = vectors[history[h]]
        weight = weights[h]
        for d in range(len(mean)):
            mean[d] += weight * vector[d]
    return mean
