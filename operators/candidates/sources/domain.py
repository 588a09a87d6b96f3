"""The domain that an item is in, beside those of what the user took: where `domain.attribute` says what a domain is."""

import numpy as np
from numba import njit

from ..query import Query
from ..source import Score, Source


class Domain(Source):
    """Whether the item is in the domain of what the user took last, and the weighed share of the history in its own."""

    name = "domain"
    meaning = "no candidates of its own: orders by the domains of what the user took, where `domain.attribute` is set"
    reason = "like_your_history"
    scores = (Score("domain_last", plain=True), Score("domain_share", plain=True))
    describes = needs_history = True

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        context, domain_of = query.context, query.index.domains.of
        share_in(rows, context.rows[:1], _ONE, domain_of, scores, column)
        share_in(rows, context.rows, context.weights, domain_of, scores, column + 1)


_ONE = np.ones(1, np.float32)
_ONE.flags.writeable = False  # as the weights of histories are


@njit(cache=True)
def share_in(rows, history, weights, domain_of, scores, column):  # type: ignore[no-untyped-def]
    """The sum of the `weights`, float32 (h,), of those of `history`, int32 (h,), in the domain of each of `rows`, int32
    (c,), into the column of `scores`, float32 (c, S); `domain_of` int16 by row, below 0 for none.
    """
    for c in range(len(rows)):
        domain, share = domain_of[rows[c]], 0.0
        for h in range(len(history)):
            if domain >= 0 and domain_of[history[h]] == domain:
                share += weights[h]
        scores[c, column] = share
