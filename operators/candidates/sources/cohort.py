"""Cohorts: what is taken by users who stated the same of themselves."""

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import cohorts
from riverrank.state.item_tables import AFTER

from ..query import Query
from ..reached import slot_of
from ..source import Score, Source


class Cohort(Source):
    """The mean of the item's shares of the cohorts' lists."""

    name = "cohort"
    meaning = "what is taken by users with the same attributes"
    reason = "cohort"
    quota = 0.1
    scores = (Score("cohort", prior=1.0),)
    reaches = True

    def applies(self, query: Query) -> bool:
        return bool(query.context.attributes)

    def reach(self, query: Query, column: int) -> None:
        table, reached = query.index.table, query.reached
        listed = query.index.behaviour.cohorts.attributes
        members = table.rows_of(cohorts(query.context.attributes, listed))
        if len(members):
            reached.fit(0, len(members) * table.width)
            reached.n = reach(members, table.neighbours, table.weights, column, *reached.arrays)


@njit(cache=True)
def reach(members, neighbours, weights, column, slot, rows, scores, n):  # type: ignore[no-untyped-def]
    """Give what is in the lists of `members`, int32 (m,), its shares in `column`; how many rows are reached then."""
    for m in range(len(members)):
        row = members[m]
        total = np.float32(1.0)
        for k in range(neighbours.shape[1]):
            total += weights[row, k, AFTER]
        for k in range(neighbours.shape[1]):
            other = neighbours[row, k]
            if other >= 0:
                position, n = slot_of(other, slot, rows, n)
                scores[position, column] += weights[row, k, AFTER] / (total * len(members))
    return n
