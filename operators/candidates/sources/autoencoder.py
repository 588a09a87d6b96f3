"""The linear autoencoder: what all that the user took says together, each item beside what the others say already."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import from_bfloat16

from ..context import NONE
from ..query import Query
from ..selection import OF_NOTHING
from ..source import Score, Source

RECENCY, LATELY = 0.97, 0.7  # weight of an interaction beside the next newer one
LEAST_COUNTED = 0.01  # of an interaction, lately


class Autoencoder(Source):
    """The sum over the whole history of what each item says of the candidate, and over the last few items of it; 0
    where more speaks against it. Beside these, how short the history is: what a net needs to know to trust in them.
    """

    name = "autoencoder"
    meaning = "what the whole history says together, of the items that are taken most"
    reason = "because_of_your_history"
    quota = 0.2
    scores = (Score("autoencoder", prior=1.0), Score("autoencoder_lately"), Score("brevity", plain=True))
    ranks = describes = True
    needs_history = True

    def rank(self, query: Query) -> np.ndarray:
        weights = query.index.item_weights
        if not len(weights.rows):
            return NONE
        return query.best(weights.rows, self._told(query)[0], OF_NOTHING, self.quota)

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        put(rows, query.index.item_weights.slot, self._told(query), len(query.context.whole), scores, column)

    def _told(self, query: Query) -> np.ndarray:
        made = query.memo.get(self.name)
        if made is None:
            weights = query.index.item_weights
            made = query.memo[self.name] = np.empty((2, len(weights.rows)), np.float32)
            told(query.context.whole, RECENCY, LATELY, weights.slot, weights.weights, made)
        return made


@njit(cache=True)
def told(history, recency, lately, slot, weights, scores):  # type: ignore[no-untyped-def]
    """Write to `scores`, float32 (2, n), what the rows of `history`, int32 (h,), newest first, say of all items by
    `weights`, bfloat16 (n, n): each counts `recency` of the next newer one, and in the second `lately` of it. About 5
    us for 50 of 1,024.
    """
    room = len(history) + 3  # so that there are always four at once
    held, counted = np.zeros(room, np.int64), np.zeros((2, room), np.float32)
    n, late, whole_counts, late_counts = 0, 0, 1.0, 1.0
    for h in range(len(history)):
        if slot[history[h]] >= 0:
            held[n], counted[0, n], counted[1, n] = slot[history[h]], whole_counts, late_counts
            n += 1
            late = n if late_counts > LEAST_COUNTED else late
        whole_counts *= recency
        late_counts *= lately
    add_up(held, counted[0], n, weights, scores[0])
    add_up(held, counted[1], late, weights, scores[1])


@njit(cache=True)
def add_up(held, counted, n, weights, sums):  # type: ignore[no-untyped-def]
    """Write to `sums`, float32 (m,), the first `n` of the rows `held`, int64 (n + 3,), of `weights`, bfloat16 (m, m),
    each times what is `counted`, float32 (n + 3,). Four at once, so that sums are read and written a quarter as often.
    """
    sums[:] = np.float32(0.0)
    for h in range(0, n, 4):
        one, two, three, four = weights[held[h]], weights[held[h + 1]], weights[held[h + 2]], weights[held[h + 3]]
        by_one = counted[h]
        by_two = counted[h + 1] if h + 1 < n else np.float32(0.0)
        by_three = counted[h + 2] if h + 2 < n else np.float32(0.0)
        by_four = counted[h + 3] if h + 3 < n else np.float32(0.0)
        for k in range(len(sums)):
            sums[k] += (by_one * from_bfloat16(one[k]) + by_two * from_bfloat16(two[k])) + (
                by_three * from_bfloat16(three[k]) + by_four * from_bfloat16(four[k])
            )


@njit(cache=True)
def put(rows, slot, told, length, scores, column):  # type: ignore[no-untyped-def]
    """Write what is `told`, float32 (2, n), of `rows`, int32 (c,), if it is above 0, and the share of one interaction
    in a history of that `length` into three columns of `scores`.
    """
    brevity = np.float32(1.0 / max(1, length))
    for c in range(len(rows)):
        held = slot[rows[c]]
        for which in range(2):
            scores[c, column + which] = max(told[which, held], np.float32(0.0)) if held >= 0 else np.float32(0.0)
        scores[c, column + 2] = brevity
