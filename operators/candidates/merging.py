"""From what each source proposes to one list of candidates."""

import numpy as np
from numba import njit

from .reached import slot_of
from .selection import is_allowed, key_of, order_of, select, sort


@njit(cache=True)
def take(row, bit, rows, proposed, n, marked):  # type: ignore[no-untyped-def]
    """Put `row` among the candidates, if there is room and it is not there yet, and note who proposed it."""
    if (marked[row] < 0) & (n >= len(rows)):
        return n
    position, n = slot_of(row, marked, rows, n)
    proposed[position] |= bit
    return n


@njit(cache=True)
def merge(  # type: ignore[no-untyped-def]
    columns, quotas, bits, ranked, begins, ends, reached, scores, n_reached,
    servable, marks, table, mask, marked, limit, always,
):  # fmt: skip
    """The first `limit` distinct rows that are proposed, best first within a proposal, then those of `always` which are
    not among them: int32 (c,), and the bits of who proposed each, uint32 (c,), 0 for nobody.

    A proposal is the `quotas[p]` allowed rows with the highest scores above 0 in column `columns[p]` of the reached,
    or where that is -1 the first of `ranked[begins[p] : ends[p]]`. `marked` is -1 by row, before and after. About
    15 us for 300 reached rows.
    """
    rows = np.empty(limit + len(always), np.int32)
    proposed = np.zeros(limit + len(always), np.uint32)
    bits_of = scores.view(np.int32)
    allowed = np.empty(n_reached, np.bool_)
    for k in range(n_reached):
        allowed[k] = is_allowed(reached[k], servable, marks, table, mask)
    keys = np.empty(n_reached, np.int64)
    best = np.empty(n_reached, np.int64)
    n = 0
    room = rows[:limit]
    for p in range(len(columns)):
        column = columns[p]
        if column >= 0:
            found = 0
            for k in range(n_reached):
                keys[found] = key_of(bits_of[k, column], k)
                found += allowed[k] & (bits_of[k, column] > 0)
            most = min(found, quotas[p])
            select(keys, found, most)
            sort(keys, most, best)
            for k in range(most):
                n = take(reached[order_of(best[k])], bits[p], room, proposed, n, marked)
        else:
            left = quotas[p]
            for k in range(begins[p], ends[p]):
                if left == 0:
                    break
                if is_allowed(ranked[k], servable, marks, table, mask):
                    n = take(ranked[k], bits[p], room, proposed, n, marked)
                    left -= 1
    for k in range(len(always)):
        n = take(always[k], np.uint32(0), rows, proposed, n, marked)
    for k in range(n):
        marked[rows[k]] = -1
    return rows[:n], proposed[:n]


@njit(cache=True)
def gather(rows, slot, reached, score_of, count):  # type: ignore[no-untyped-def]
    """The scores that lists gave to `rows`, int32 (c,), in the columns `score_of` of float32 (c, count); others 0."""
    scores = np.zeros((len(rows), count), np.float32)
    for c in range(len(rows)):
        position = slot[rows[c]]
        if position >= 0:
            for k in range(len(score_of)):
                scores[c, score_of[k]] = reached[position, k]
    return scores
