"""From scored candidates to a slate: diversity, then exploration. Knows scores and vectors, not their origin."""

from typing import NamedTuple

import numpy as np


class Drawn(NamedTuple):
    """`places` int64 (k,) into the pool, in slate order; `propensity` float64 (k,); `explored` bool (k,)."""

    places: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray


def diversify(scores: np.ndarray, vectors: np.ndarray, strength: float, size: int) -> np.ndarray:
    """The order of the pool by maximal marginal relevance: int64 (n,), the first `size` diversified, the rest by score.

    Each place goes to the item with the most of (1 - strength) * relevance - strength * likeness to the nearest item
    above it, where relevance is the score scaled to 0..1 and likeness the cosine of `vectors`, float32 (n, d), of unit
    length. Carbonell and Goldstein, The use of MMR (1998).

    >>> same, other = [1.0, 0.0], [0.0, 1.0]
    >>> diversify(np.array([3.0, 2.9, 2.0]), np.array([same, same, other]), 0.5, 2).tolist()
    [0, 2, 1]
    """
    order = np.argsort(-scores, kind="stable")
    n = len(order)
    if strength <= 0 or n < 3:
        return order
    ranked = scores[order]
    span = float(ranked[0] - ranked[-1])
    value = (1.0 - strength) * ((ranked - ranked[-1]) / span if span > 0 else np.ones(n))
    likeness = strength * (vectors[order] @ vectors[order].T)
    nearest = np.zeros(n)
    taken = []
    for _ in range(min(size, n)):
        best = int((value - nearest).argmax())
        taken.append(best)
        value[best] = -np.inf
        np.maximum(nearest, likeness[best], out=nearest)
    rest = np.ones(n, bool)
    rest[taken] = False
    return np.concatenate([order[taken], order[rest]])


def explore(order: np.ndarray, rate: float, size: int, draws: np.ndarray) -> Drawn:
    """The first `size` of `order`, where each place is, with probability `rate`, drawn evenly from all that is left.

    The propensity of a place is conditional on the places above it: 1 - rate + rate / left for the best that is left,
    rate / left for any other; their product is that of the slate. `draws` float64 (2 * size,) are uniform in [0, 1).

    >>> drawn = explore(np.array([7, 8, 9]), 0.2, 2, np.array([0.9, 0.0, 0.1, 0.99]))
    >>> drawn.places.tolist(), drawn.propensity.round(3).tolist()
    ([7, 9], [0.867, 0.1])
    """
    n = len(order)
    size = min(size, n)
    left = n - np.arange(size)
    coins = draws[0 : 2 * size : 2] < rate
    if not coins.any():
        return Drawn(order[:size], 1.0 - rate + rate / left, coins)
    remaining = order.tolist()
    places, propensity, explored = [], [], []
    for k in range(size):
        pick = int(draws[2 * k + 1] * len(remaining)) if coins[k] else 0
        propensity.append(rate / len(remaining) + (0.0 if pick else 1.0 - rate))
        explored.append(pick > 0)
        places.append(remaining.pop(pick))
    return Drawn(np.array(places), np.array(propensity), np.array(explored))
