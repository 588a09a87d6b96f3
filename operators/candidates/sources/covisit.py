"""Co-visitation: what users took after, and before, what this user took."""

import numpy as np
from numba import njit
from riverrank.state.item_tables import AFTER, BEFORE

from ..query import Query
from ..reached import slot_of
from ..source import Score, Source

RECENCY = 0.7  # weight of an interaction beside the next newer one


class Covisit(Source):
    """The item's share of each list of the history, the newer the interaction the more."""

    name = "covisit"
    meaning = "what is taken before and after what the user took"
    reason = "because_of_your_history"
    quota = 0.35  # of what came after, and as much again of what came before
    scores = (Score("after", prior=2.0), Score("before", prior=1.0), Score("next", proposes=False))
    reaches = True
    needs_history = True

    def reach(self, query: Query, column: int) -> None:
        history, table, reached = query.context.rows, query.index.table, query.reached
        reached.fit(0, len(history) * table.width)
        reached.n = reach(history, RECENCY, table.neighbours, table.weights, column, *reached.arrays)


@njit(cache=True)
def shares(row, recency, total, weights):  # type: ignore[no-untyped-def]
    """What a unit of weight in the list of `row` is worth, after and before, in a history whose recencies sum to
    `total`: an item's share of the list, of which one is left for what is in no list.
    """
    after = np.float32(0.0)
    before = np.float32(0.0)
    for k in range(weights.shape[1]):
        after += weights[row, k, AFTER]
        before += weights[row, k, BEFORE]
    return recency / ((after + 1.0) * total), recency / ((before + 1.0) * total)


@njit(cache=True)
def total_of(recency, n):  # type: ignore[no-untyped-def]
    """The sum of the recencies of `n` interactions."""
    return (1.0 - recency**n) / (1.0 - recency)


@njit(cache=True)
def reach(history, recency, neighbours, weights, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give the neighbours of `history`, int32 (h,), newest first, their shares in `column` (after) and the next one
    (before) of `scores`, and in the third what the newest alone gives of the first; how many rows are reached then.
    About 6 us for 20 lists of 60.
    """
    total = total_of(recency, len(history))
    newness = 1.0
    for h in range(len(history)):
        row = history[h]
        after, before = shares(row, newness, total, weights)
        newness *= recency
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other >= 0:
                position, n = slot_of(other, slot, rows, n)
                scores[position, column] += after * weights[row, k, AFTER]
                scores[position, column + 1] += before * weights[row, k, BEFORE]
                if h == 0:
                    scores[position, column + 2] += after * np.float32(total) * weights[row, k, AFTER]
    return n


@njit(cache=True)
def strongest_list(history, neighbours, weights, wanted, slot, positions):  # type: ignore[no-untyped-def]
    """Write the position in `history`, int32, newest first, of the item whose list gives each of `wanted`, int32 (p,),
    distinct, the most, after and before together, to `positions`, int64 (p,), -1 where none gives anything. Of equals
    the newest. `slot` is -1 by row, before and after. About 1 us for 12 lists of 60.
    """
    best = np.zeros(len(wanted))
    positions[:] = -1
    for p in range(len(wanted)):
        slot[wanted[p]] = p
    total = total_of(RECENCY, len(history))
    newness = 1.0
    for h in range(len(history)):
        row = history[h]
        after, before = shares(row, newness, total, weights)
        newness *= RECENCY
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other >= 0 and slot[other] >= 0:
                given = after * weights[row, k, AFTER] + before * weights[row, k, BEFORE]
                if given > best[slot[other]]:
                    best[slot[other]] = given
                    positions[slot[other]] = h
    for p in range(len(wanted)):
        slot[wanted[p]] = -1
