"""Exploration: a slate is drawn slot by slot, and the chance of each draw is its propensity.

Knows values and chances, not items. Every policy gives, for what is left, the chance of each; a slot is drawn by
exactly these, so its propensity, conditional on the slots above it, holds by construction.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.settings import ExplorationSettings
from scipy.special import log_ndtr

FLOOR = 0.2  # of the configured rate, which a user's budget never falls below
NARROWEST = 0.25  # beside the widest deviation: what the grid still resolves
REACH = 6.0  # deviations, beyond which a Gaussian is nothing
STEP = 0.1  # of the grid, in widest deviations
NONE = -1
_LOWEST, _HIGHEST, _NODES = -REACH * (1.0 + 1.0 / NARROWEST) - 1.0, 10.0, 64  # of the table of log Phi; nodes a unit
_Z = np.arange(_LOWEST, _HIGHEST + 2.0 / _NODES, 1.0 / _NODES)
_LOG_PHI = log_ndtr(_Z)
_SLOPE = np.exp(-0.5 * _Z * _Z - _LOG_PHI) / math.sqrt(2.0 * math.pi) / _NODES  # from node to node


class Drawn(NamedTuple):
    """`positions` int64 (k,), in slate order; `propensity` float64 (k,); `explored` bool (k,), not the best left."""

    positions: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray


class Caps(NamedTuple):
    """How many slots a category may have, `cap`, 0 for no limit: `categories` int32 (n, t) are the numbers of each
    one's categories before NONE, `pinned` int32 (k, t) those of what is on the slate already.
    """

    categories: np.ndarray
    pinned: np.ndarray
    cap: int


NO_CAPS = Caps(np.zeros((0, 0), np.int32), np.zeros((0, 0), np.int32), 0)


def budget(settings: ExplorationSettings, examples: int) -> float:
    """The rate for a user whose model learned from so many examples: full at first, half after `halved_after`, ...

    rate * max(FLOOR, halved_after / (halved_after + examples)).

    >>> [budget(ExplorationSettings(rate=0.1, halved_after=50), n) for n in (0, 50, 150)]
    [0.1, 0.05, 0.025]
    """
    return settings.rate * max(FLOOR, settings.halved_after / (settings.halved_after + examples))


def explore(
    values: np.ndarray,
    kind: str,
    rate: float,
    draws: np.ndarray,
    caps: Caps = NO_CAPS,
    deviations: Callable[[], np.ndarray] | None = None,
) -> Drawn:
    """A slot for each of `draws`, float64 in [0, 1), of `values`, float64 (n,), best first; fewer where none is left.

    `kind` is epsilon, softmax or thompson; `rate` 0 is none, 1 the most: the share of slots that are drawn evenly; for
    softmax t / (1 + t), t the temperature in units of `values`; for thompson the factor on `deviations`, float64 (n,).

    >>> explore(np.array([3.0, 2.0, 1.0]), "epsilon", 0.3, np.array([0.1, 0.9])).propensity.round(3).tolist()
    [0.8, 0.15]
    """
    if rate <= 0.0 or kind == "epsilon" or not len(values):
        return Drawn(*epsilon(len(values), rate, draws, *caps))
    if kind == "softmax":
        return Drawn(*softmax(values, rate / max(1.0 - rate, 1e-9), draws, *caps))
    assert deviations is not None
    return Thompson(values, rate * deviations()).draw(draws, caps)


@njit(cache=True)
def has(categories, n, category):  # type: ignore[no-untyped-def]
    """Whether row `n` of `categories` has `category`."""
    for t in range(categories.shape[1]):
        if categories[n, t] == category:
            return True
        if categories[n, t] == NONE:
            return False
    return False


@njit(cache=True)
def bar_full(held, n, categories, free, cap):  # type: ignore[no-untyped-def]
    """Make nothing `free`, bool (n,), of the categories that are full with the last of the first `n` rows of `held`."""
    for t in range(held.shape[1]):
        category = held[n - 1, t]
        if category == NONE:
            break
        count = 0
        for other in range(n):
            count += has(held, other, category)
        if count >= cap:
            for k in range(len(free)):
                if free[k] and has(categories, k, category):
                    free[k] = False


@njit(cache=True)
def begin(n, slots, categories, pinned, cap):  # type: ignore[no-untyped-def]
    """What is free of `n` before anything is drawn, bool (n,), and the categories of what is on the slate, with room
    for `slots` more: int32.
    """
    free = np.ones(n, np.bool_)
    held = np.full((len(pinned) + slots, categories.shape[1]), NONE, np.int32)
    if cap > 0:
        for k in range(len(pinned)):
            held[k] = pinned[k]
            bar_full(held, k + 1, categories, free, cap)
    return free, held


@njit(cache=True)
def take(position, on_slate, free, held, categories, cap):  # type: ignore[no-untyped-def]
    """Put `position` on the slate, behind `on_slate` others."""
    free[position] = False
    if cap > 0:
        held[on_slate] = categories[position]
        bar_full(held, on_slate + 1, categories, free, cap)


@njit(cache=True)
def first_of(free):  # type: ignore[no-untyped-def]
    """The first position that is free, NONE where none is."""
    for k in range(len(free)):
        if free[k]:
            return k
    return NONE


@njit(cache=True)
def pick(chances, u):  # type: ignore[no-untyped-def]
    """The position that `u`, in [0, 1), falls on, and its share of `chances`, float64 (n,), which need not sum to 1."""
    total = 0.0
    for k in range(len(chances)):
        total += chances[k]
    reach, last, share = 0.0, 0, 0.0
    for k in range(len(chances)):
        before = reach
        reach += chances[k]
        if chances[k] > 0.0:
            last, share = k, (reach - before) / total
            if reach > u * total:
                break
    return last, share


@njit(cache=True)
def epsilon(n, rate, draws, categories, pinned, cap):  # type: ignore[no-untyped-def]
    """The arrays of Drawn, where each slot goes to the best that is left, but with probability `rate` to any, all with
    the same chance: the best has 1 - rate + rate / number left, any other rate / number left. About 1 us for 60.
    """
    slots = len(draws)
    positions, propensity = np.empty(slots, np.int64), np.empty(slots)
    explored = np.zeros(slots, np.bool_)
    free, held = begin(n, slots, categories, pinned, cap)
    for s in range(slots):
        best = first_of(free)
        if best == NONE:
            return positions[:s], propensity[:s], explored[:s]
        left = 0
        for k in range(best, n):
            left += free[k]
        wanted = min(int((draws[s] - 1.0 + rate) * left / rate), left - 1) if draws[s] > 1.0 - rate else 0
        position = best
        for _ in range(wanted):
            position += 1
            while not free[position]:
                position += 1
        positions[s] = position
        propensity[s] = rate / left if wanted else 1.0 - rate + rate / left
        explored[s] = wanted > 0
        take(position, len(pinned) + s, free, held, categories, cap)
    return positions, propensity, explored


@njit(cache=True)
def softmax(values, temperature, draws, categories, pinned, cap):  # type: ignore[no-untyped-def]
    """The arrays of Drawn, where chances are in proportion to exp(value / temperature): slot by slot, the model of
    Plackett (1975) and Luce (1959). About 10 us for 20 of 60.
    """
    n, slots = len(values), len(draws)
    positions, propensity = np.empty(slots, np.int64), np.empty(slots)
    explored, chances = np.zeros(slots, np.bool_), np.empty(n)
    free, held = begin(n, slots, categories, pinned, cap)
    for s in range(slots):
        best = first_of(free)
        if best == NONE:
            return positions[:s], propensity[:s], explored[:s]
        for k in range(n):
            chances[k] = math.exp(min(values[k] - values[best], 0.0) / temperature) if free[k] else 0.0
        position, propensity[s] = pick(chances, draws[s])
        positions[s] = position
        explored[s] = position != best
        take(position, len(pinned) + s, free, held, categories, cap)
    return positions, propensity, explored


class Thompson:
    """The chance of each to be the best, where each is Gaussian by itself: mean `values`, standard `deviations`.

    P(i) = integral of N_i(x) * product over the others of Phi_j(x), by the trapezoidal rule, which for what is so
    smooth is good to 1e-6. A deviation below NARROWEST of the widest counts as that much. The functions are kept on a
    grid that serves several slots; what is free may only become less from call to call.
    """

    def __init__(self, values: np.ndarray, deviations: np.ndarray) -> None:
        self._values = values
        self._widest = max(float(deviations.max()), 1e-9)
        self._deviations = np.maximum(deviations, NARROWEST * self._widest)
        self._low = values - REACH * self._deviations
        self._high = values + REACH * self._deviations
        self._start = np.inf

    def chances(self, free: np.ndarray) -> np.ndarray:
        """The chances of what is `free`, bool (n,): float64 (n,), which need not sum to 1."""
        chances = np.zeros(len(free))
        if self._start > lowest(free, self._low):
            self._lay(free)
        best_chances(free, self._near, self._below, self._hazards, chances)
        return chances

    def draw(self, draws: np.ndarray, caps: Caps) -> Drawn:
        """A slot for each of `draws`, by the chances of what is left."""
        slots = len(draws)
        drawn = Drawn(np.empty(slots, np.int64), np.empty(slots), np.zeros(slots, bool))
        free, held = begin(len(self._values), slots, *caps)
        slot = 0
        while slot < slots and free.any():
            self._lay(free)
            grid = self._low, self._start, self._near, self._below, self._hazards
            slot = draw_on_grid(slot, draws, *grid, free, held, *caps, *drawn)
        return Drawn(*(array[:slot] for array in drawn))

    def _lay(self, free: np.ndarray) -> None:
        """Make a grid for all that may be the best of what is `free`."""
        start = lowest(free, self._low) - REACH * self._widest
        near = np.flatnonzero(free & (self._high > start))
        x = np.arange(start, self._high[near].max(), STEP * self._widest)
        self._start, self._near = start, near
        self._below, self._hazards = lay(x, self._values[near], self._deviations[near])


@njit(cache=True)
def log_phi(z):  # type: ignore[no-untyped-def]
    """The logarithm of the normal distribution function at `z`, at least _LOWEST: a cubic between the nodes of a table,
    within 1e-10.
    """
    if z >= _HIGHEST:
        return 0.0
    node = int((z - _LOWEST) * _NODES)
    t = (z - _LOWEST) * _NODES - node
    low, high = _LOG_PHI[node], _LOG_PHI[node + 1]
    bend, end = _SLOPE[node] - (high - low), (high - low) - _SLOPE[node + 1]
    return low + t * (high - low) + t * (1.0 - t) * (bend * (1.0 - t) + end * t)


@njit(cache=True)
def lay(x, values, deviations):  # type: ignore[no-untyped-def]
    """On the grid `x`, float64 (g,), of m Gaussians: the logarithm of Phi, float64 (m, g), and N / Phi, but for a
    factor that all have alike, float64 (g, m). About 7 ns a cell.
    """
    below, hazards = np.empty((len(values), len(x))), np.empty((len(x), len(values)))
    for m in range(len(values)):
        for g in range(len(x)):
            z = (x[g] - values[m]) / deviations[m]
            below[m, g] = log_phi(z)
            hazards[g, m] = math.exp(-0.5 * z * z - below[m, g]) / deviations[m]
    return below, hazards


@njit(cache=True)
def lowest(free, low):  # type: ignore[no-untyped-def]
    """What the best of all that is free is above: the highest of `low`, float64 (n,)."""
    floor = -np.inf
    for k in range(len(free)):
        if free[k] and low[k] > floor:
            floor = low[k]
    return floor


@njit(cache=True)
def best_chances(free, near, below, hazards, chances):  # type: ignore[no-untyped-def]
    """Write the `chances`, float64 (n,), of those of `near`, int64 (m,), that are free; the others are 0 before.

    On a grid of g: `below` float64 (m, g), the logarithm of Phi, `hazards` float64 (g, m), N / Phi. About 10 us.
    """
    grid = len(hazards)
    product, found = np.zeros(grid), np.zeros(len(near))
    for m in range(len(near)):
        if free[near[m]]:
            for g in range(grid):
                product[g] += below[m, g]
    for g in range(grid):
        raised = math.exp(product[g])
        if raised > 0.0:
            for m in range(len(near)):
                found[m] += hazards[g, m] * raised
    for m in range(len(near)):
        chances[near[m]] = found[m] if free[near[m]] else 0.0


@njit(cache=True)
def draw_on_grid(  # type: ignore[no-untyped-def]
    slot, draws, low, start, near, below, hazards, free, held, categories, pinned, cap, positions, propensity, explored
):
    """Draw the slots from `slot` on, as far as the grid serves; the next slot. `free`, `held` and the last three, the
    arrays of Drawn, are written to.
    """
    chances = np.zeros(len(free))
    while slot < len(draws):
        best = first_of(free)
        if best == NONE or lowest(free, low) < start:
            break
        best_chances(free, near, below, hazards, chances)
        position, propensity[slot] = pick(chances, draws[slot])
        positions[slot] = position
        explored[slot] = position != best
        take(position, len(pinned) + slot, free, held, categories, cap)
        slot += 1
    return slot
