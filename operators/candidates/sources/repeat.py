"""Repeats: what the user took before, as far as it may be served again (`slate.hide`)."""

import numpy as np
from riverrank.operators.settings import MOST_HISTORY

from ..query import Query
from ..source import Score, Source

RECENCY = 0.9  # weight of an interaction beside the next newer one
_RECENCIES = (RECENCY ** np.arange(MOST_HISTORY)).astype(np.float32)


class Repeat(Source):
    """How often and how lately the user took the item."""

    name = "repeat"
    meaning = "what the user took before, unless slate.hide hides it"
    reason = "repeat"
    quota = 0.3
    scores = (Score("repeat", prior=1.0),)
    reaches = True

    def applies(self, query: Query) -> bool:
        return len(query.context.again) > 0

    def reach(self, query: Query, column: int) -> None:
        again = query.context.again
        query.reached.add(again, _RECENCIES[: len(again)], column)
