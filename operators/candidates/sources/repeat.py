"""Repeats: what the user took before, as far as it may be served again (`slate.hide`)."""

import numpy as np
from numba import njit
from riverrank.operators.settings import MOST_HISTORY

from ..query import Query
from ..reached import slot_of
from ..source import Score, Source

RECENCY = 0.9  # weight of an interaction beside the next newer one
_RECENCIES = (RECENCY ** np.arange(1 + MOST_HISTORY)).astype(np.float32)  # of a history and what came after it


class Repeat(Source):
    """How often and how lately the user took the item, and whether it is what they took last."""

    name = "repeat"
    meaning = "what the user took before, unless slate.hide hides it"
    reason = "repeat"
    quota = 0.3
    scores = (
        Score("repeat", prior=1.0),
        Score("lately", proposes=False),
        Score("often", proposes=False),
        Score("last", plain=True),
    )
    reaches = True

    def applies(self, query: Query) -> bool:
        return len(query.context.again) > 0

    def reach(self, query: Query, column: int) -> None:
        again, reached = query.context.again, query.reached
        reached.fit(0, len(again))
        reached.n = reach(again, _RECENCIES, column, *reached.arrays)


@njit(cache=True)
def reach(again, recencies, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give each of `again`, int32 (h,), newest first, the sum of the recencies of what the user took of it in `column`
    of `scores`, then 1 / (1 + how many were taken since), then how often, then 1 for the last; how many rows are
    reached then.
    """
    for k in range(len(again)):
        position, n = slot_of(again[k], slot, rows, n)
        scores[position, column] += recencies[k]
        if scores[position, column + 1] == 0.0:
            scores[position, column + 1] = np.float32(1.0 / (1.0 + k))
            scores[position, column + 3] = np.float32(k == 0)
        scores[position, column + 2] += np.float32(1.0)
    return n
