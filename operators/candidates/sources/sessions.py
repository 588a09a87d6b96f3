"""Session neighbours: what those took lately who took what the user took lately."""

import numpy as np
from riverrank.state.item_tables import POSITIVES

from ..query import Query
from ..source import Score, Source


class SessionNeighbours(Source):
    """What the most similar of the most recent sessions hold beside what they share with the user's."""

    name = "sessions"
    meaning = "what users took lately who took the same lately"
    reason = "because_of_your_history"
    quota = 0.2
    scores = (Score("sessions", prior=0.5),)
    reaches = True

    def applies(self, query: Query) -> bool:
        return len(query.context.rows) > 0

    def reach(self, query: Query, column: int) -> None:
        context, index = query.context, query.index
        likes = np.maximum(index.table.stats[context.rows, POSITIVES], 1.0)
        near = index.sessions.near(context.rows, likes, context.own)
        query.reached.add(near.rows, near.scores, column)
