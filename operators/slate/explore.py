"""Exploration: a slate is drawn slot by slot, and the chance of each draw is its propensity.

Knows values and chances, not items. Every policy gives, for what is left, the chance of each; a slot is drawn by
exactly these, so its propensity, conditional on the slots above it, holds by construction.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from riverrank.operators.settings import ExplorationSettings
from scipy.special import log_ndtr  # type: ignore[import-untyped]

FLOOR = 0.2  # of the configured rate, which a user's budget never falls below
NARROWEST = 0.25  # beside the widest deviation: what the grid still resolves
REACH = 6.0  # deviations, beyond which a Gaussian is nothing
STEP = 0.1  # of the grid, in widest deviations

Chances = Callable[[np.ndarray, int], np.ndarray]  # of what is free, bool (n,), and the first that is: float64 (n,)


class Drawn(NamedTuple):
    """`positions` int64 (k,), in slate order; `propensity` float64 (k,); `explored` bool (k,), not the best left."""

    positions: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray


class Left:
    """What may still be placed: what is not placed yet, and in no category that is full.

    `categories` int32 (n, t) are the numbers of each one's categories, -1 for none; `cap` 0: no category is ever full.

    >>> left = Left(3, np.array([[7, 8], [8, -1], [9, -1]]), cap=1)
    >>> left.take(0)
    >>> left.free.tolist()
    [False, False, True]
    """

    def __init__(self, n: int, categories: np.ndarray | None = None, cap: int = 0) -> None:
        self.free = np.ones(n, bool)
        self.cap = cap if categories is not None else 0
        self._categories = categories
        self._held: dict[int, int] = {}

    def take(self, position: int) -> None:
        """Place what is at `position`."""
        self.free[position] = False
        if self.cap and self._categories is not None:
            self.count(self._categories[position])

    def count(self, categories: np.ndarray) -> None:
        """Count one more of each of `categories`."""
        for category in categories[categories >= 0].tolist():
            held = self._held[category] = self._held.get(category, 0) + 1
            if held == self.cap and self._categories is not None:
                self.free[(self._categories == category).any(axis=1)] = False


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
    left: Left,
    deviations: Callable[[], np.ndarray] | None = None,
) -> Drawn:
    """A slot for each of `draws`, float64 in [0, 1), of `values`, float64 (n,), best first; fewer where none is left.

    `kind` is epsilon, softmax or thompson; `rate` 0 is none, 1 the most: the share of slots that are drawn evenly; for
    softmax t / (1 + t), t the temperature in units of `values`; for thompson the factor on `deviations`, float64 (n,).

    >>> explore(np.array([3.0, 2.0, 1.0]), "epsilon", 0.3, np.array([0.1, 0.9]), Left(3)).propensity.round(3).tolist()
    [0.8, 0.15]
    """
    if rate <= 0.0 or kind == "epsilon":
        return epsilon(len(values), rate, draws, left)
    if kind == "softmax":
        return draw(softmax(values, rate / max(1.0 - rate, 1e-9)), draws, left)
    assert deviations is not None
    return draw(Thompson(values, rate * deviations()), draws, left)


def epsilon(n: int, rate: float, draws: np.ndarray, left: Left) -> Drawn:
    """Each slot goes to the best that is left, but with probability `rate` to any, all with the same chance.

    The best has 1 - rate + rate / number left, any other rate / number left.
    """
    size = min(len(draws), n)
    if not left.cap:
        best = 1.0 - rate + rate / (n - np.arange(size))
        if (draws[:size] < best).all():  # which nearly every slate is
            return Drawn(np.arange(size), best, np.zeros(size, bool))
    remaining = left.free.nonzero()[0].tolist()
    positions, propensity, explored = [], [], []
    for u in draws.tolist():
        number = len(remaining)
        if not number:
            break
        pick = min(int((u - 1.0 + rate) * number / rate), number - 1) if u > 1.0 - rate else 0
        positions.append(remaining.pop(pick))
        propensity.append(rate / number + (0.0 if pick else 1.0 - rate))
        explored.append(pick > 0)
        if left.cap:
            left.take(positions[-1])
            remaining = left.free.nonzero()[0].tolist()
    return Drawn(np.array(positions, np.int64), np.array(propensity), np.array(explored, bool))


def draw(chances: Chances, draws: np.ndarray, left: Left) -> Drawn:
    """A slot for each of `draws`, by the `chances` of what is left, which need not sum to 1."""
    positions, propensity, explored = [], [], []
    for u in draws.tolist():
        best = int(left.free.argmax())
        if not left.free[best]:
            break
        reach = chances(left.free, best).cumsum()
        position = int(reach.searchsorted(u * reach[-1], side="right"))
        positions.append(position)
        propensity.append(float((reach[position] - (reach[position - 1] if position else 0.0)) / reach[-1]))
        explored.append(position != best)
        left.take(position)
    return Drawn(np.array(positions, np.int64), np.array(propensity), np.array(explored, bool))


def softmax(values: np.ndarray, temperature: float) -> Chances:
    """In proportion to exp(value / temperature): slot by slot, the model of Plackett (1975) and Luce (1959)."""

    def chances(free: np.ndarray, best: int) -> np.ndarray:
        return np.exp(np.minimum(values - values[best], 0.0) / temperature) * free

    return chances


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

    def __call__(self, free: np.ndarray, best: int) -> np.ndarray:
        floor = float(self._low[free].max())  # the best of all is above it
        if floor < self._start:
            self._lay(free, floor - REACH * self._widest)
        held = free[self._near].astype(float)
        chance = np.zeros(len(free))
        chance[self._near] = held * (self._hazards @ np.exp(held @ self._below))
        return chance

    def _lay(self, free: np.ndarray, start: float) -> None:
        """Make the grid anew, from `start` on, for all that may be the best above it."""
        near = np.flatnonzero(free & (self._high > start))
        x = np.arange(start, self._high[near].max(), STEP * self._widest)
        width = self._deviations[near, None]
        z = (x - self._values[near, None]) / width
        self._start, self._near = start, near
        self._below = log_ndtr(z)
        self._hazards = np.exp(-0.5 * z * z - self._below) / width  # N / Phi
