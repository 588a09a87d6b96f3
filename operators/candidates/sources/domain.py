"""The domain that an item is in, beside those of what the user took: where `domain.attribute` says what a domain is."""

import numpy as np
from numba import njit

from ..query import Query
from ..source import Feature, Source


class Domain(Source):
    """Whether the item is in the domain of what the user took last, and the weighed share of the history in its own."""

    name = "domain"
    meaning = "no candidates of its own: orders by the domains of what the user took, where `domain.attribute` is set"
    reason = "like_your_history"
    needs_history = True

    def __init__(self) -> None:
        self.features = (Feature("domain_last", _fill_last), Feature("domain_share", _fill_share))


def _fill_last(query: Query, rows: np.ndarray, features: np.ndarray, column: int) -> None:
    share_in(rows, query.context.rows[:1], _ONE, query.index.domains.of, features, column)


def _fill_share(query: Query, rows: np.ndarray, features: np.ndarray, column: int) -> None:
    context = query.context
    share_in(rows, context.rows, context.weights, query.index.domains.of, features, column)


_ONE = np.ones(1, np.float32)
_ONE.flags.writeable = False  # as the weights of histories are


@njit(cache=True)
def share_in(rows, history, weights, domain_of, features, column):  # type: ignore[no-untyped-def]
    """The sum of the `weights`, float32 (h,), of those of `history`, int32 (h,), in the domain of each of `rows`, int32
    (c,), into the column of `features`, float64 (c, F); `domain_of` int16 by row, below 0 for none.
    """
    for c in range(len(rows)):
        domain, share = domain_of[rows[c]], 0.0
        for h in range(len(history)):
            if domain >= 0 and domain_of[history[h]] == domain:
                share += weights[h]
        features[c, column] = share
