"""The context of the event that is answered: what is taken on that device, at that hour, on that page."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import AFTER, POSITIVES

from ..query import Query
from ..reached import slot_of
from ..source import Score, Source

SHRINKAGE = 5.0  # interactions outside of the context, that every item has beside its own
SIGNS = 4  # features that tell contexts apart
KNOWN = 100.0  # interactions in a context, from which on it counts half as much as it ever will


class EventContext(Source):
    """The mean over the context's values of the item's share of what is taken there, and of the share of the item's
    interactions that happen there: the popular is taken in any context. And for a net, which may trust in other scores
    on one page than on another, SIGNS numbers that all candidates have alike: a hash of each value, 1 or -1.
    """

    name = "context"
    meaning = "what is taken in the same context, such as a device, an hour or a page"
    reason = "context"
    quota = 0.1
    scores = (
        Score("context", prior=1.0),
        Score("context_rate", relative=True, proposes=False),
        *(Score(f"context_{k}", plain=True, described=True) for k in range(SIGNS)),
    )
    reaches = describes = True

    def applies(self, query: Query) -> bool:
        return bool(query.context.said)

    def reach(self, query: Query, column: int) -> None:
        index, reached = query.index, query.reached
        table = index.table
        members = table.rows_of([value.list_name for value in query.context.said])
        if len(members):
            signs = query.memo[self.name] = np.zeros(SIGNS)
            reached.fit(0, len(members) * table.width)
            reached.n = reach(
                members, index.hash, table.stats, table.neighbours, table.weights, signs, column, *reached.arrays
            )

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        signs = query.memo.get(self.name)
        if signs is not None:
            scores[:, column : column + SIGNS] = signs


@njit(cache=True)
def reach(members, hashes, stats, neighbours, weights, signs, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give what is in the lists of `members`, int32 (m,), its shares of them in `column`, and the shares that its
    interactions there are of all with it in the next, both a mean over the lists; how many rows are reached then.

    Add to each of `signs`, float64 (SIGNS,), 1 or -1 for each list by a bit of its mixed hash, the nearer to it the
    more the list was told of, over the root of their number.
    """
    part = np.float32(1.0 / len(members))
    for m in range(len(members)):
        row = members[m]
        total = np.float32(1.0)
        for k in range(neighbours.shape[1]):
            total += weights[row, k, AFTER]
        bits = (np.int64(hashes[row]) * 2654435761) >> 16
        for sign in range(len(signs)):
            told = total / (total + KNOWN) * np.sqrt(part)
            signs[sign] += told if bits >> sign & 1 else -told
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other >= 0:
                position, n = slot_of(other, slot, rows, n)
                rate = weights[row, k, AFTER] / (stats[other, POSITIVES] + np.float32(SHRINKAGE))
                scores[position, column] += part * (weights[row, k, AFTER] / total)
                scores[position, column + 1] += part * min(rate, np.float32(1.0))
    return n
