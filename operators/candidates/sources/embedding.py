"""Embeddings: items whose target embedding is near to the mean of the context embeddings of what the user took."""

import math

import numpy as np
from numba import njit
from riverrank.operators.catalogue.vectors import dot_of
from riverrank.operators.index.pool import logits
from riverrank.operators.signals.embedding import recency

from ..query import Query
from ..selection import is_allowed, key_of, order_of, select, sort
from ..source import Score, Source
from ..vectors import touched


class Embedding(Source):
    """How likely the item is next beside the most likely candidate."""

    name = "embedding"
    meaning = "what the embeddings rank highest, among the 4,096 most popular items"
    reason = "because_of_your_history"
    quota = 0.35
    scores = (Score("embedding", prior=1.0),)
    ranks = describes = True

    def applies(self, query: Query) -> bool:
        return len(query.context.rows) > 0

    def rank(self, query: Query) -> np.ndarray:
        pool = query.index.pool()
        found = np.empty(query.most(self.quota), np.int32)
        n = nearest(pool.rows, pool.target, pool.bias, self._user(query), *query.allowed.arrays, found)
        return found[:n]

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        table = query.index.table
        likeliness(rows, proposed, table.target, table.bias, self._user(query), scores, column)

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
def nearest(pool, columns, biases, user, servable, marks, table, mask, found):  # type: ignore[no-untyped-def]
    """Write the rows of `pool`, int32 (n,), that may be served and have the highest logits to `found`, int32, as many
    as there is room for, best first; how many they are. About 12 us for 4,096 rows.
    """
    most = len(found)
    bits = logits(columns, biases, user).view(np.int32)
    keys = np.empty(4 * most, np.int64)
    best = np.empty(most, np.int64)
    least = np.iinfo(np.int64).min
    n = 0
    for k in range(len(pool)):
        key = key_of(bits[k], k)
        if key > least and is_allowed(pool[k], servable, marks, table, mask):
            keys[n] = key
            n += 1
            if n == len(keys):
                n = most
                select(keys, len(keys), most)
                least = keys[:most].min()
    most = min(n, most)
    select(keys, n, most)
    sort(keys, most, best)
    for k in range(most):
        found[k] = pool[order_of(best[k])]
    return most


@njit(cache=True)
def likeliness(rows, proposed, target, bias, user, scores, column):  # type: ignore[no-untyped-def]
    """exp(logit - the highest logit of the first `proposed`), 1 at most, of `rows`, into the column of `scores`."""
    for c in range(len(rows)):
        scores[c, column] = touched(target[rows[c]])
    highest = np.float32(-np.inf)
    for c in range(len(rows)):
        scores[c, column] = dot_of(target[rows[c]], user) + bias[rows[c]]
        if c < proposed:
            highest = max(highest, scores[c, column])
    for c in range(len(rows)):
        scores[c, column] = math.exp(min(scores[c, column] - highest, 0.0))
