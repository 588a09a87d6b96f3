"""Slots drawn where floors are owed places: by the same exploration, from what may stand there. Knows no items."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.slate.explore import Caps, Drawn, epsilon, explore, softmax

NO_FLOOR = -1
NONE = -1
NOTHING_DRAWN = Drawn(np.zeros(0, np.int64), np.zeros(0), np.zeros(0, np.bool_))


class Due(NamedTuple):
    """What is owed of the slots to be drawn: `places` int64 (slots, f) up to each, `members` bool (n, f) of what they
    are drawn from; `held` int64 (f,), the places that floors have on the slots above; `anywhere` bool (n,), what may
    stand on a slot that is not owed.
    """

    places: np.ndarray
    members: np.ndarray
    held: np.ndarray
    anywhere: np.ndarray


def nothing_due(slots: int, n: int) -> Due:
    """Of that many slots, drawn from `n`."""
    members = np.zeros((n, 0), np.bool_)
    return Due(np.zeros((slots, 0), np.int64), members, np.zeros(0, np.int64), np.ones(n, np.bool_))


class DrawnOwed(NamedTuple):
    """As Drawn; and the floor that moved each slot, NO_FLOOR for none, `floors` int64 (k,)."""

    positions: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray
    floors: np.ndarray


def explore_owed(
    values: np.ndarray,
    kind: str,
    rate: float,
    draws: np.ndarray,
    caps: Caps,
    deviations: Callable[[np.ndarray], np.ndarray],
    due: Due,
) -> DrawnOwed:
    """As `explore`, of `values`, float64 (n,), best first, where what is `due` gets its places.

    A slot on which a floor would have less than it is owed is drawn from what the floors that are behind name alone, if
    there is any that caps let stand there; every other slot from all that is left. So each is drawn by the very chances
    that are its propensity. `deviations` are those of some positions.

    >>> from riverrank.operators.slate.explore import NO_CAPS
    >>> places, members = np.array([[0], [1]]), np.array([[False], [False], [True]])
    >>> due = Due(places, members, np.array([0]), np.ones(3, np.bool_))
    >>> drawn = explore_owed(np.array([3.0, 2.0, 1.0]), "epsilon", 0.0, np.zeros(2), NO_CAPS, lambda some: some, due)
    >>> drawn.positions.tolist(), drawn.floors.tolist()
    ([0, 2], [-1, 0])
    """
    if rate > 0.0 and kind == "thompson":
        return owed_by_steps(values, kind, rate, draws, caps, deviations, due)
    temperature = rate / max(1.0 - rate, 1e-9) if kind == "softmax" else 0.0
    return DrawnOwed(*draw_owed(values, temperature, rate, draws, *caps, *due))


def owed_by_steps(
    values: np.ndarray,
    kind: str,
    rate: float,
    draws: np.ndarray,
    caps: Caps,
    deviations: Callable[[np.ndarray], np.ndarray],
    due: Due,
) -> DrawnOwed:
    """See `explore_owed`: for any kind, with a call to `explore` for each stretch of slots that are drawn alike. What
    thompson keeps on a grid is that of what a stretch is drawn from.
    """

    def draw(some: np.ndarray, slots: np.ndarray) -> Drawn:
        above = caps
        if caps.cap:
            on_slate = np.concatenate([caps.pinned, caps.categories[positions]])
            above = Caps(caps.categories[some], on_slate, caps.cap)
        return explore(values[some], kind, rate, slots, above, lambda: deviations(some))

    left, held = np.arange(len(values)), due.held
    positions, propensity, explored, floors = DrawnOwed(*NOTHING_DRAWN, np.zeros(0, np.int64))
    while len(positions) < len(draws) and len(left):
        slot = len(positions)
        behind = held < due.places[slot]
        some, drawn = left[due.members[left][:, behind].any(axis=1)], NOTHING_DRAWN
        if len(some):
            drawn = draw(some, draws[slot : slot + 1])
        is_owed, others = len(drawn.positions) > 0, left[due.anywhere[left]]
        if not is_owed:
            some, drawn = others, draw(others, draws[slot : stretch_end(held, due.places, slot)])
        if not len(drawn.positions):
            break
        chosen = some[drawn.positions]
        moved = np.full(len(chosen), NO_FLOOR)
        if is_owed and not (len(others) and chosen[0] == others[0]):
            moved[0] = (due.members[chosen[0]] & behind).argmax()
        positions, floors = np.concatenate([positions, chosen]), np.concatenate([floors, moved])
        propensity = np.concatenate([propensity, drawn.propensity])
        explored = np.concatenate([explored, drawn.explored])
        held = held + due.members[chosen].sum(axis=0)
        left = left[~np.isin(left, chosen)]
    return DrawnOwed(positions, propensity, explored, floors)


@njit(cache=True)
def draw_owed(  # type: ignore[no-untyped-def]
    values, temperature, rate, draws, categories, pinned, cap, places, members, held, anywhere
):
    """The arrays of DrawnOwed for softmax, or epsilon where the `temperature` is 0; a stretch of slots that are drawn
    alike at a time. About 10 us for 20 of 120 with a floor of a tenth.
    """
    slots = len(draws)
    positions, propensity = np.empty(slots, np.int64), np.empty(slots)
    explored, floors = np.zeros(slots, np.bool_), np.full(slots, NO_FLOOR)
    free, held = np.ones(len(values), np.bool_), held.copy()
    on_slate = np.full((len(pinned) + slots, categories.shape[1]), NONE, np.int32)
    on_slate[: len(pinned)] = pinned
    slot = 0
    while slot < slots:
        left = np.flatnonzero(free)
        if len(left) == 0:
            break
        some, others = named_by(left, members, held, places[slot]), left[anywhere[left]]
        above = on_slate[: len(pinned) + slot]
        drawn, chances, tried = draw_some(
            values, some, temperature, rate, draws[slot : slot + min(1, len(some))], categories, above, cap
        )
        is_owed = len(drawn) > 0
        if not is_owed:
            some, end = others, stretch_end(held, places, slot)
            drawn, chances, tried = draw_some(values, some, temperature, rate, draws[slot:end], categories, above, cap)
        if len(drawn) == 0:
            break
        for s in range(len(drawn)):
            position = some[drawn[s]]
            if is_owed and (len(others) == 0 or position != others[0]):
                floors[slot] = first_behind(members[position], held, places[slot])
            positions[slot], propensity[slot], explored[slot] = position, chances[s], tried[s]
            free[position] = False
            if cap > 0:
                on_slate[len(pinned) + slot] = categories[position]
            for f in range(len(held)):
                held[f] += members[position, f]
            slot += 1
    return positions[:slot], propensity[:slot], explored[:slot], floors[:slot]


@njit(cache=True)
def draw_some(values, some, temperature, rate, draws, categories, above, cap):  # type: ignore[no-untyped-def]
    """The arrays of Drawn: a slot for each of `draws` of the positions `some`, int64, with `above` on the slate."""
    of_some = categories[some] if cap > 0 else categories
    if temperature > 0.0:
        return softmax(values[some], temperature, draws, of_some, above, cap)
    return epsilon(len(some), rate, draws, of_some, above, cap)


@njit(cache=True)
def first_behind(named, held, owed):  # type: ignore[no-untyped-def]
    """The first floor that has less than it is `owed`, int64 (f,), and names an item, `named` bool (f,); NO_FLOOR for
    none.
    """
    for f in range(len(held)):
        if named[f] and held[f] < owed[f]:
            return f
    return NO_FLOOR


@njit(cache=True)
def named_by(left, members, held, owed):  # type: ignore[no-untyped-def]
    """Of `left`, int64, what a floor names that is behind."""
    some, n = np.empty(len(left), np.int64), 0
    for position in left:
        if first_behind(members[position], held, owed) != NO_FLOOR:
            some[n] = position
            n += 1
    return some[:n]


@njit(cache=True)
def stretch_end(held, places, slot):  # type: ignore[no-untyped-def]
    """The first slot after `slot` on which a floor would be behind, if nothing more of what it names came before."""
    for end in range(slot + 1, len(places)):
        for f in range(len(held)):
            if held[f] < places[end, f]:
                return end
    return len(places)
