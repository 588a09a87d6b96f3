"""Embeddings: items whose target embedding is near to the mean of the context embeddings of what the user took."""

import math

import numpy as np
from numba import njit
from riverrank.operators.catalogue.vectors import dot_of
from riverrank.operators.index.pool import logits
from riverrank.operators.signals.embedding import recency

from ..query import Query
from ..selection import LEAST
from ..source import Score, Source
from ..vectors import touched

WHOLE = 0.97  # weight of an interaction beside the next newer one, where the whole history counts


class Embedding(Source):
    """How likely the item is next beside the most likely candidate: by the last few items, and by the whole history."""

    name = "embedding"
    meaning = "what the embeddings rank highest, among the 4,096 most popular items"
    reason = "because_of_your_history"
    quota = 0.35
    scores = (Score("embedding", prior=1.0), Score("embedding_whole"))
    ranks = describes = True
    needs_history = True

    def rank(self, query: Query) -> np.ndarray:
        pool = query.index.pool()
        return query.best(pool.rows, logits(pool.target, pool.bias, self._user(query)), LEAST, self.quota)

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        table, whole, user = query.index.table, query.context.whole, self._user(query)
        recencies = recency(len(whole), WHOLE)
        likeliness(rows, proposed, table.target, table.bias, user, whole, recencies, table.context, scores, column)

    def _user(self, query: Query) -> np.ndarray:
        user = query.memo.get(self.name)
        if user is None:
            rows, context = query.context.rows, query.index.table.context
            user = query.memo[self.name] = np.zeros(context.shape[1], np.float32)
            user_vector(rows, recency(len(rows)), context, user)
        return user


@njit(cache=True)
def user_vector(history, weights, context, user):  # type: ignore[no-untyped-def]
    """Add the weighed sum of the context embeddings of `history`, int32 (h,), to `user`, float32 (d,)."""
    for h in range(len(history)):
        vector = context[history[h]]
        weight = weights[h]
        for d in range(len(user)):
            user[d] += weight * vector[d]


@njit(cache=True)
def likeliness(rows, proposed, target, bias, user, history, recencies, context, scores, column):  # type: ignore[no-untyped-def]
    """exp(logit - the highest logit of the first `proposed`), 1 at most, of `rows`, by the vector of the `user`,
    float32 (d,), and by that of the whole `history`, int32 (h,), with its `recencies`, float32 (h,), into two columns
    of `scores`.
    """
    whole = np.zeros(len(user), np.float32)
    user_vector(history, recencies, context, whole)
    for c in range(len(rows)):
        scores[c, column] = touched(target[rows[c]])
    highest, of_whole = np.float32(-np.inf), np.float32(-np.inf)
    for c in range(len(rows)):
        vector, own = target[rows[c]], bias[rows[c]]
        scores[c, column] = dot_of(vector, user) + own
        scores[c, column + 1] = dot_of(vector, whole) + own
        if c < proposed:
            highest, of_whole = max(highest, scores[c, column]), max(of_whole, scores[c, column + 1])
    for c in range(len(rows)):
        scores[c, column] = math.exp(min(scores[c, column] - highest, 0.0))
        scores[c, column + 1] = math.exp(min(scores[c, column + 1] - of_whole, 0.0))
