"""Session neighbours: what those took lately who took what the user took lately."""

import numpy as np
from numba import njit
from riverrank.operators.signals.sessions import MOST_GIVEN, neighbours_of
from riverrank.state.item_tables import POSITIVES

from ..query import Query
from ..reached import add
from ..source import Score, Source


class SessionNeighbours(Source):
    """What the most similar of the most recent sessions hold beside what they share with the user's."""

    name = "sessions"
    meaning = "what users took lately who took the same lately"
    reason = "because_of_your_history"
    quota = 0.2
    scores = (Score("sessions", prior=0.5),)
    reaches = True
    needs_history = True

    def reach(self, query: Query, column: int) -> None:
        context, index, reached = query.context, query.index, query.reached
        reached.fit(0, MOST_GIVEN)
        reached.n = reach(context.rows, context.own, *index.sessions.arrays, index.table.stats, column, *reached.arrays)


@njit(cache=True)
def reach(history, own, recent, items, weight, similarity, stats, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give what the neighbours took of the user with `history`, int32 (h,), and the session `own` what they give it, in
    `column` of `scores`; how many rows are reached then. The arrays of sessions are as in `neighbours_of`.
    """
    likes = np.empty(len(history), np.float32)
    for h in range(len(history)):
        likes[h] = max(stats[history[h], POSITIVES], 1.0)
    given = np.empty(MOST_GIVEN, np.int32)
    shares = np.empty(MOST_GIVEN, np.float32)
    m = neighbours_of(recent, items, weight, similarity, history, likes, own, given, shares)
    return add(given[:m], shares[:m], column, slot, rows, scores, n)
