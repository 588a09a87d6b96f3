"""From scored candidates to the slots of a slate: pins, diversity, category caps, then exploration."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import random_bits, uniforms

from .explore import NO_CAPS, Caps, budget, epsilon, explore
from .rules import Pins, Rules

POOL = 3  # slates, of candidates, from which one is drawn
LANES = 32  # columns that the machine does in one round: of fewer, each is done by itself
_BITS = np.dtype("<u4")
ALMOST_ALL = 0.999  # strength, above which relevance would be lost in rounding


class Ranked(NamedTuple):
    """What is on a slate, in its order: `positions` int64 (k,) among the candidates, `propensity` float64 (k,),
    `explored` bool (k,), not the best left; and for the first slots, which are pinned, the rule that pins it, `pins`
    int64, a number of Rules.tokens.
    """

    positions: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray
    pins: np.ndarray


class Reranker:
    """Makes a slate of candidates, by the settings of diversity and exploration and by the rules."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex, rules: Rules, new: int = 0) -> None:
        """`new`: the bit of the source of what waits for a first exposure, 0 where there is none."""
        self.behaviour = behaviour
        self.index = index
        self.rules = rules
        self.new = np.uint32(new)
        exploration, capped = behaviour.exploration, behaviour.diversity.category_cap > 0
        self._simple = not capped and (exploration.kind == "epsilon" or exploration.rate <= 0.0)

    def rerank(
        self,
        event_id: str,
        rows: np.ndarray,
        logits: np.ndarray,
        proposed: np.ndarray,
        history: np.ndarray,
        examples: int,
        deviations: Callable[[np.ndarray], np.ndarray],
    ) -> Ranked:
        """The slate of the candidates `rows`, int32 (c,), whose `logits`, float64 (c,), are given.

        `proposed`, uint32 (c,), are the bits of their sources: exploration may draw what is new wherever it stands.
        `history` are the rows that tell how wide the taste is, `examples` how much the user's learner has learned, and
        `deviations` how unsure it is of the logits at some positions.
        """
        size = self.behaviour.slate.size
        pins = self.rules.pins(rows, logits)
        pinned = pins.positions[:size]
        rate = budget(self.behaviour.exploration, examples)
        arguments = logits, rows, self.index.content, proposed, self.new, history, pinned
        strength = self.behaviour.diversity.strength
        if self._simple:
            positions, propensity, explored = np.empty(size, np.int64), np.empty(size), np.empty(size, np.bool_)
            bits = np.frombuffer(random_bits(self.behaviour.seed, event_id, size - len(pinned)), _BITS)
            n = simple_slate(*arguments, bits, strength, rate, POOL * size, positions, propensity, explored)
            return Ranked(positions[:n], propensity[:n], explored[:n], pins.rules[:size])
        draws = uniforms(self.behaviour.seed, event_id, size - len(pinned))
        most = len(rows) if self.behaviour.diversity.category_cap else POOL * size
        pool, values = pool_of(*arguments, strength, rate, most, size)
        return self._drawn(rows, pool, values, rate, draws, pins, deviations)

    def _drawn(
        self,
        rows: np.ndarray,
        pool: np.ndarray,
        values: np.ndarray,
        rate: float,
        draws: np.ndarray,
        pins: Pins,
        deviations: Callable[[np.ndarray], np.ndarray],
    ) -> Ranked:
        """A slate drawn from `pool`, positions int64 (n,), what each is worth being `values`, float64 (n,)."""
        size, cap = self.behaviour.slate.size, self.behaviour.diversity.category_cap
        pinned, caps = pins.positions[:size], NO_CAPS
        if cap:
            caps = Caps(self.rules.categories(rows[pool]), self.rules.categories(rows[pinned]), cap)
        kind = self.behaviour.exploration.kind
        positions, propensity, explored = explore(values, kind, rate, draws, caps, lambda: deviations(pool))
        positions = pool[positions]
        if len(pinned):
            positions = np.concatenate([pinned, positions])
            propensity = np.concatenate([np.ones(len(pinned)), propensity])
            explored = np.concatenate([np.zeros(len(pinned), bool), explored])
        return Ranked(positions, propensity, explored, pins.rules[:size])


@njit(cache=True)
def ranked_pool(logits, rows, content, new, pinned, most, strength, size, tries):  # type: ignore[no-untyped-def]
    """What a slate is drawn from: positions among the candidates, int64 (n,), and what each is worth, float64 (n,).

    The best `most` by `logits` that are not `pinned`, diversified (see `diversify`); behind them, where it `tries`
    things, what else is `new`, bool (c,). About 10 us for 120 candidates, of which 60 are diversified.
    """
    free = np.ones(len(logits), np.bool_)
    free[pinned] = False
    order = np.empty(len(logits), np.int64)
    n = pool = 0
    for position in np.argsort(-logits, kind="mergesort"):
        if free[position] and (pool < most or (tries and new[position])):
            order[n] = position
            n += 1
            pool = min(n, most)
    order = order[:n]
    values = logits[order]
    diversified, values[:pool] = diversify(values[:pool], content, rows[order[:pool]], strength, size)
    order[:pool] = order[diversified]
    for k in range(pool, n):  # in order of their logits, as they are
        values[k] = min(values[k], values[pool - 1])
    return order, values


@njit(cache=True)
def diversify(scores, content, rows, strength, size):  # type: ignore[no-untyped-def]
    """The order of `rows`, int (n,), by maximal marginal relevance, the first `size` diversified, the rest behind them,
    as positions int64 (n,); and what each is worth there, float64 (n,). `scores`, float64 (n,), are best first.

    Each slot goes to the item with the most of (1 - strength) * relevance - strength * likeness to the nearest item
    above it, where relevance is the score scaled to 0..1 and likeness the cosine of the rows of `content`, float32
    (all, d), of unit length. The values are that, in units of the scores. Carbonell and Goldstein, The use of MMR
    (1998). About 6 us for 20 of 60 rows of 48 dimensions.

    >>> content = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    >>> diversify(np.array([3.0, 2.9, 2.0]), content, np.arange(3), 0.5, 2)[0].tolist()
    [0, 2, 1]
    """
    n = len(scores)
    order, values = np.arange(n), scores.copy()
    if strength <= 0.0 or n < 3:
        return order, values
    strength = min(strength, ALMOST_ALL)
    units = strength / (1.0 - strength) * (scores[0] - scores[n - 1] or 1.0)
    width = (n + LANES - 1) // LANES * LANES
    vectors = np.zeros((content.shape[1], width), np.float32)  # what is next to each other is of one dimension
    for k in range(n):
        vectors[:, k] = content[rows[k]]
    likeness = np.empty(width, np.float32)
    worth = scores.copy()  # at most, after what stands above; -inf once it has a slot
    placed = min(size, n)
    for slot in range(placed):
        best = highest(worth)
        order[slot], values[slot] = best, worth[best]
        liken(vectors, best, likeness)
        for k in range(n):
            worth[k] = min(worth[k], scores[k] - units * likeness[k])
        worth[best] = -np.inf
    rest = np.argsort(-worth, kind="mergesort")[: n - placed]
    order[placed:], values[placed:] = rest, worth[rest]
    return order, values


@njit(cache=True)
def highest(numbers):  # type: ignore[no-untyped-def]
    """Where the highest stands, of equals the first; as `numpy.argmax`, which looks for NaN, in half the time."""
    best = 0
    for k in range(1, len(numbers)):
        if numbers[k] > numbers[best]:
            best = k
    return best


@njit(cache=True)
def liken(vectors, one, likeness):  # type: ignore[no-untyped-def]
    """Write the products of column `one` of `vectors`, float32 (d, n), with each column to `likeness`, float32 (n,).

    Four dimensions at a time, and the columns innermost, so that the machine does several at once.
    """
    d, n = vectors.shape
    likeness[:] = 0.0
    for j in range(0, d - d % 4, 4):
        x, y, z, w = vectors[j, one], vectors[j + 1, one], vectors[j + 2, one], vectors[j + 3, one]
        for k in range(n):
            likeness[k] += x * vectors[j, k] + y * vectors[j + 1, k] + z * vectors[j + 2, k] + w * vectors[j + 3, k]
    for j in range(d - d % 4, d):
        for k in range(n):
            likeness[k] += vectors[j, one] * vectors[j, k]


@njit(cache=True)
def spread(content, rows):  # type: ignore[no-untyped-def]
    """How wide a taste is, 0 to 1: from the rows of `content`, float32 (all, d), of unit length or zero, of what the
    history holds, int (h,).

    The mean of 1 - cosine over its pairs, and over one pair of 1 beside them: a user of whom nothing is known counts
    as one of wide taste. About 1 us for 20 rows.
    """
    d = content.shape[1]
    total, squares = np.zeros(d), np.zeros(d)
    for h in range(len(rows)):
        for j in range(d):
            x = np.float64(content[rows[h], j])
            total[j] += x
            squares[j] += x * x
    cosines = 0.0
    for j in range(d):
        cosines += total[j] * total[j] - squares[j]
    pairs = len(rows) * (len(rows) - 1) / 2
    return min(1.0, max(0.0, (pairs - cosines / 2 + 1.0) / (pairs + 1.0)))


@njit(cache=True)
def pool_of(logits, rows, content, proposed, new, history, pinned, strength, rate, most, size):  # type: ignore[no-untyped-def]
    """See `ranked_pool`: with a strength of `strength` times the spread of `history`; `new` is a bit in `proposed`."""
    if strength > 0.0:
        strength *= spread(content, history)
    return ranked_pool(logits, rows, content, proposed & new != 0, pinned, most, strength, size, rate > 0.0)


@njit(cache=True)
def simple_slate(  # type: ignore[no-untyped-def]
    logits, rows, content, proposed, new, history, pinned, bits, strength, rate, most, positions, propensity, explored
):
    """The slate of epsilon, without caps, in one go, drawn by the `bits` of `uniforms`: writes the last three,
    the arrays of Ranked; how many slots.
    """
    size = len(positions)
    pool, _ = pool_of(logits, rows, content, proposed, new, history, pinned, strength, rate, most, size)
    none = np.empty((0, 0), np.int32)
    drawn, chances, tried = epsilon(len(pool), rate, bits * 2.0**-32, none, none, 0)
    first = len(pinned)
    positions[:first], propensity[:first], explored[:first] = pinned, 1.0, False
    for s in range(len(drawn)):
        positions[first + s], propensity[first + s], explored[first + s] = pool[drawn[s]], chances[s], tried[s]
    return first + len(drawn)


def novelty(popularity: np.ndarray, highest: float) -> np.ndarray:
    """How little known items are, 1 where nothing is known, 0 for the most popular: float64 (n,).

    The logarithm of popularity, as in the self-information of Zhou et al. (2010), scaled by the highest.

    >>> novelty(np.array([0.0, 3.0, 15.0]), 15.0).tolist()
    [1.0, 0.5, 0.0]
    """
    return 1.0 - np.log1p(popularity) / np.log1p(highest)
