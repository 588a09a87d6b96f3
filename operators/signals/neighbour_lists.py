"""Kernels on the rows of an ItemTable: what one interaction adds to counts and to lists of neighbours.

Which rows these are, and whose they are, is the business of SIGNALS; what changed is noted in the arrays of a
`Changes`, which every kernel here takes last and returns how many entries of are in use.
"""

import numpy as np
from numba import njit
from riverrank.state.item_tables import AFTER, BEFORE, NEGATIVES, POSITIVES, RATING_SUM, RATINGS

# How an interaction counts: not at all, as one, or as more of one that was counted, to whose reward it adds.
SKIP, COUNT, ADD = 0, 1, 2
# Columns of a step: how it counts, whether it is a rating, at which event, where it begins in the rows, how many
# were taken before it, where it ends in the rows, where its part of `own` and of `amounts` begins, the place on the
# list that it was shown on, -1 for an interaction; and how many rows after the item, what was taken and the user's
# cohorts, are not of the context that it happened in.
STEP = COUNTS, RATED, NOW, BEGIN, TAKEN, END, OWN_AT, AMOUNTS_AT, PLACE, STATED = tuple(range(10))
SLOWLY = 16  # times as long as others remember, the lists of contexts do: each is told of a large part of all there is
PLACES = 64  # of a list: the last is for all that follow
CLICKED, EXPECTED = 0, 1  # columns of `looks`
LOOKS_KEPT = 0.9999  # of a place's looks, with each new one
SURE = 20.0  # clicks that say as much of a place as all places do
LEAST_LOOKED = 0.1


@njit(cache=True)
def learn(  # type: ignore[no-untyped-def]
    stats, at, decay, neighbours, weights, forgetting, looks, of, steps, numbers, own, amounts,
    entry_of, rows, counted, renewals, cells, n,
):  # fmt: skip
    """One interaction a step: `count` it, where it counts, and `pair` it; of a cohort, note when it was told. What was
    shown and not taken counts by the share of looks that its place gets, which `looks` float64 (PLACES, 2) tells.

    `steps` int64 (s, 10) has the columns of STEP. `of` int32 are the rows, first that of the item. `numbers` float64
    (s, 2) are reward and value.
    """
    for k in range(len(steps)):
        step = steps[k]
        now, begin, taken, end = step[NOW], step[BEGIN], step[TAKEN], step[END]
        row, amount = of[begin], 1.0
        if step[PLACE] >= 0:
            amount = looked_at(min(step[PLACE], PLACES - 1), not step[COUNTS], stats[row], looks)
        if step[COUNTS]:
            reward, value, rated = numbers[k, 0], numbers[k, 1], step[RATED]
            if step[COUNTS] == ADD:
                amount = 0.0
            n = count(
                stats, at, decay, row, reward, value, rated, amount, now, entry_of, rows, counted, renewals, cells, n
            )
        for cohort in of[begin + 1 + taken : end]:
            at[cohort] = now
        n = pair(
            neighbours, weights, forgetting, row, of[begin + 1 : end],
            own[step[OWN_AT] :], amounts[step[AMOUNTS_AT] :], taken, step[STATED], now,
            entry_of, rows, counted, renewals, cells, n,
        )  # fmt: skip
    return n


@njit(cache=True)
def looked_at(place, clicked, stats, looks):  # type: ignore[no-untyped-def]
    """Note in `looks` that an item of `stats`, float32 (6,), was shown at `place`, and whether it was `clicked`. The
    share of looks that the place gets beside the first: the clicks there over those that its items would get at any
    place (position-based model; Chen and Yan, Position-normalized click prediction in search advertising, 2012).
    """
    before = max(stats[POSITIVES] - clicked, 0.0)  # its click was counted when it came
    liked = (before + 1.0) / (before + stats[NEGATIVES] + 10.0)
    looks[place] *= LOOKS_KEPT
    looks[place, CLICKED] += clicked
    looks[place, EXPECTED] += liked
    clicks, expected = 0.0, 0.0
    for other in range(PLACES):
        clicks += looks[other, CLICKED]
        expected += looks[other, EXPECTED]
    usual = (clicks + 1.0) / (expected + 1.0)
    here = (looks[place, CLICKED] + SURE) / (looks[place, EXPECTED] + SURE / usual)
    first = (looks[0, CLICKED] + SURE) / (looks[0, EXPECTED] + SURE / usual)
    return max(LEAST_LOOKED, min(1.0, here / first))


@njit(cache=True)
def count(stats, at, decay, row, reward, value, rated, amount, now, entry_of, rows, counted, renewals, cells, n):  # type: ignore[no-untyped-def]
    """Count one interaction of `reward` with `row` at event number `now`, in the like rate by `amount`: 0 where it adds
    to one that was counted.

    `decay` float64 (2,) is what popularity and trend keep over one event. `rated` says that `value` is a rating.
    """
    age = now - at[row]
    for column in range(len(decay)):  # DECAYED begins at 0
        stats[row, column] = stats[row, column] * decay[column] ** age + max(0.0, reward)
    stats[row, POSITIVES if reward > 0 else NEGATIVES] += np.float32(amount)
    if rated:
        stats[row, RATING_SUM] += value
        stats[row, RATINGS] += np.float32(1)
    at[row] = now
    entry, n = enter(row, entry_of, rows, counted, renewals, cells, n)
    counted[entry] = True
    return n


@njit(cache=True)
def pair(  # type: ignore[no-untyped-def]
    neighbours, weights, forgetting, row, past, own, amounts, taken, stated, now,
    entry_of, rows, counted, renewals, cells, n,
):  # fmt: skip
    """Tell the lists of `past`, int32 (p,), of `row`, and the list of `row` of the first `taken` of `past`, which are
    what the user took before it; the others are the user's cohorts, and from `stated` on contexts.

    `own` bool (p + 1,) says which lists are of this shard, that of `row` last; `amounts` float32 (taken,) is what each
    pair weighs, with a cohort 1. Both may be longer. A list forgets a little each time, that of a context one time in
    SLOWLY, as the number `now` of the event draws. On a full list a newcomer first
    wears down the weakest, and takes its position once nothing of it is left, so that what comes often stays (Yang et
    al., HeavyKeeper, 2018, without its dice). Costs 4 us for 20 lists of 60 neighbours.
    """
    held = np.zeros(neighbours.shape[1], np.bool_)  # positions that a newcomer may not have
    for k in range(len(past)):
        if own[k]:
            of = past[k]
            amount = amounts[k] if k < taken else np.float32(1)
            entry, n = enter(of, entry_of, rows, counted, renewals, cells, n)
            if k < stated or is_drawn(now):
                renewals[entry] += 1
                forget(weights[of], forgetting)
            position = find(neighbours[of], row)
            if position >= 0:
                weights[of, position, AFTER] += amount
            else:
                position = weakest(neighbours[of], weights[of], held)
                challenge(neighbours[of], weights[of], position, row, AFTER, amount)
            cells[entry, position] = True
    if taken > 0 and own[len(past)]:
        entry, n = enter(row, entry_of, rows, counted, renewals, cells, n)
        renewals[entry] += 1
        forget(weights[row], forgetting)
        pair_own(neighbours[row], weights[row], past[:taken], amounts, held, cells[entry])
    return n


@njit(cache=True)
def pair_own(neighbours, weights, past, amounts, held, cells):  # type: ignore[no-untyped-def]
    """Tell one list, int32 (width,) and float32 (width, 2), of all of `past`; positions that changed are set in
    `cells`. Those it holds first: of the others none has the position of another of `past`.
    """
    new = np.empty(len(past), np.int64)
    missing = 0
    for k in range(len(past)):
        position = find(neighbours, past[k])
        if position >= 0:
            weights[position, BEFORE] += amounts[k]
            held[position] = True
            cells[position] = True
        else:
            new[missing] = k
            missing += 1
    for k in new[:missing]:
        position = weakest(neighbours, weights, held)
        if position < 0:
            break
        challenge(neighbours, weights, position, past[k], BEFORE, amounts[k])
        held[position] = True
        cells[position] = True


@njit(cache=True)
def enter(row, entry_of, rows, counted, renewals, cells, n):  # type: ignore[no-untyped-def]
    """The entry of `row` among what changed, begun where there is none; and how many entries there are now."""
    entry = entry_of[row] - 1
    if entry < 0:
        entry = n
        n += 1
        entry_of[row] = n
        rows[entry] = row
        counted[entry] = False
        renewals[entry] = 0
        cells[entry, :] = False
    return entry, n


@njit(cache=True)
def is_drawn(now):  # type: ignore[no-untyped-def]
    """Whether event number `now` is one of SLOWLY, drawn by its digits (Knuth's multiplicative hash)."""
    return ((np.int64(now) * 2654435761) & 0xFFFFFFFF) >> 16 & (SLOWLY - 1) == 0


@njit(cache=True)
def forget(weights, forgetting):  # type: ignore[no-untyped-def]
    """Multiply the weights of one list, float32 (width, 2), by `forgetting`, float32."""
    for position in range(len(weights)):
        weights[position, AFTER] *= forgetting
        weights[position, BEFORE] *= forgetting


@njit(cache=True)
def find(neighbours, other):  # type: ignore[no-untyped-def]
    """The position of `other` in one list, -1 where it is not there. Without an early exit, so that it vectorises."""
    found = -1
    for position in range(len(neighbours)):
        if neighbours[position] == other:
            found = position
    return found


@njit(cache=True)
def weakest(neighbours, weights, held):  # type: ignore[no-untyped-def]
    """The first free position of one list, else that of the weakest neighbour; -1 where all are `held`."""
    found, least = -1, np.float32(np.inf)
    for position in range(len(neighbours)):
        strength = weights[position, AFTER] + weights[position, BEFORE]
        if neighbours[position] < 0:
            strength = np.float32(-1)
        if strength < least and not held[position]:
            found, least = position, strength
    return found


@njit(cache=True)
def challenge(neighbours, weights, position, other, order, amount):  # type: ignore[no-untyped-def]
    """Wear down the neighbour at `position` by `amount`; where nothing of it is left, `other` takes the position."""
    strength = np.float32(0)
    if neighbours[position] >= 0:
        strength = weights[position, AFTER] + weights[position, BEFORE]
    left = strength - amount
    if left > 0:
        weights[position, AFTER] *= left / strength
        weights[position, BEFORE] *= left / strength
    else:
        neighbours[position] = other
        weights[position, :] = 0
        weights[position, order] = amount - strength
