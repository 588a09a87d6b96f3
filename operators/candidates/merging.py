"""From what each source proposes to one list of candidates."""

import numpy as np
from numba import njit

from .reached import forget, slot_of
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
    columns, quotas, bits, lists, servable, marks, table, mask, marked, limit, fill, fill_bit, least, always,
    rows, proposed, found, score_of, slot, reached, scores, n_reached,
):  # fmt: skip
    """Write the first `limit` distinct rows that are proposed, best first within a proposal, then where they are fewer
    than `least` what can `fill_up`, then those of `always` which are not among them, to `rows`, int32, and the bits of
    who proposed each to `proposed`, uint32, which is 0; how many they are. Then `gather` their scores in `found`. About
    12 us for 400 reached rows.

    A proposal is the `quotas[p]` allowed rows with the highest scores above 0 in column `columns[p]` of the reached, or
    where that is below 0 the first of list -1 - `columns[p]`. `marked` is -1 by row, before and after.
    """
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
            m = 0
            for k in range(n_reached):
                keys[m] = key_of(bits_of[k, column], k)
                m += allowed[k] & (bits_of[k, column] > 0)
            most = min(m, quotas[p])
            select(keys, m, most)
            sort(keys, most, best)
            for k in range(most):
                n = take(reached[order_of(best[k])], bits[p], room, proposed, n, marked)
        else:
            n = take_first(
                lists[-1 - column], quotas[p], bits[p], servable, marks, table, mask, room, proposed, n, marked
            )
    n = fill_up(fill, fill_bit, least, servable, marks, table, mask, rows, proposed, n, marked)
    for k in range(len(always)):
        n = take(always[k], np.uint32(0), rows, proposed, n, marked)
    for k in range(n):
        marked[rows[k]] = -1
    gather(rows[:n], found, score_of, slot, reached, scores, n_reached)
    return n


@njit(cache=True)
def take_first(ranked, quota, bit, servable, marks, table, mask, rows, proposed, n, marked):  # type: ignore[no-untyped-def]
    """`take` the first `quota` of `ranked`, int32, that are allowed; how many candidates there are then."""
    for k in range(len(ranked)):
        if quota == 0:
            break
        if is_allowed(ranked[k], servable, marks, table, mask):
            n = take(ranked[k], bit, rows, proposed, n, marked)
            quota -= 1
    return n


@njit(cache=True)
def fill_up(ranked, bit, least, servable, marks, table, mask, rows, proposed, n, marked):  # type: ignore[no-untyped-def]
    """`take` the first of `ranked`, int32, that are allowed and no candidates yet, until there are `least`; how many
    candidates there are then.
    """
    for k in range(len(ranked)):
        if n >= least:
            break
        if (marked[ranked[k]] < 0) & is_allowed(ranked[k], servable, marks, table, mask):
            n = take(ranked[k], bit, rows, proposed, n, marked)
    return n


@njit(cache=True)
def gather(rows, found, score_of, slot, reached, scores, n_reached):  # type: ignore[no-untyped-def]
    """Write the scores that `rows`, int32 (c,), were reached with to the columns `score_of` of `found`, float32
    (c, S), 0 to all others. Then nothing is reached.
    """
    for c in range(len(rows)):
        found[c, :] = 0.0
        position = slot[rows[c]]
        if position >= 0:
            for k in range(len(score_of)):
                found[c, score_of[k]] = scores[position, k]
    forget(slot, reached, scores, n_reached)
