"""From scored candidates to the slots of a slate: pins, diversity, category caps, then exploration."""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import random_bits, uniforms

from .explore import NO_CAPS, Caps, budget, epsilon, explore
from .fairness.drawing import NO_FLOOR, Due, explore_owed
from .fairness.floors import Owed
from .rules import Pins, Rules

POOL = 3  # slates, of candidates, from which one is drawn
COUNTED = 512  # numbers, up to which counting is quicker than sorting
LANES = 32  # columns that the machine does in one round: of fewer, each is done by itself
_BITS = np.dtype("<u4")
ALMOST_ALL = 0.999  # strength, above which relevance would be lost in rounding
NO_FLOORS = np.zeros(0, np.int64)


class Ranked(NamedTuple):
    """What is on a slate, in its order: `positions` int64 (k,) among the candidates, `propensity` float64 (k,),
    `explored` bool (k,), not the best left; for the first slots, which are pinned, the rule that pins it, `pins`
    int64, a number of Rules.tokens; and for slots that a floor moved, its number of Floors.tokens, `floors` int64 (k,),
    NO_FLOOR for others, and none at all without floors.
    """

    positions: np.ndarray
    propensity: np.ndarray
    explored: np.ndarray
    pins: np.ndarray
    floors: np.ndarray = NO_FLOORS


class Pool(NamedTuple):
    """What a slate is drawn from, below its `pins`: `positions` int64 (n,) among the candidates, and what each is
    worth, `values` float64 (n,), best first; the `rate` of exploration; and of what is there the `caps`, and what is
    `due` to floors, None without any.
    """

    pins: Pins
    positions: np.ndarray
    values: np.ndarray
    rate: float
    caps: Caps
    due: Due | None


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
        owed: Owed | None = None,
    ) -> Ranked:
        """The slate of the candidates `rows`, int32 (c,), whose `logits`, float64 (c,), are given.

        `proposed`, uint32 (c,), are the bits of their sources: exploration may draw what is new wherever it stands.
        `history` are the rows that tell how wide the taste is, `examples` how much the user's learner has learned, and
        `deviations` how unsure it is of the logits at some positions. `owed` is what the slate owes to floors.
        """
        size, seed = self.behaviour.slate.size, self.behaviour.seed
        if not self._simple or owed is not None:
            pool = self.pool(rows, logits, proposed, history, examples, owed)
            return self._drawn(pool, uniforms(seed, event_id, size - len(pool.pins.positions)), deviations)
        pins, rate = self._pins(rows, logits), budget(self.behaviour.exploration, examples)
        arguments = logits, rows, self.index.content, proposed, self.new, history, pins.positions
        positions, propensity, explored = np.empty(size, np.int64), np.empty(size), np.empty(size, np.bool_)
        bits = np.frombuffer(random_bits(seed, event_id, size - len(pins.positions)), _BITS)
        strength = self.behaviour.diversity.strength
        n = simple_slate(*arguments, bits, strength, rate, POOL * size, positions, propensity, explored)
        if n < size:
            positions, propensity, explored = positions[:n], propensity[:n], explored[:n]
        return Ranked(positions, propensity, explored, pins.rules)

    def pool(
        self,
        rows: np.ndarray,
        logits: np.ndarray,
        proposed: np.ndarray,
        history: np.ndarray,
        examples: int,
        owed: Owed | None,
    ) -> Pool:
        """What the slate that `rerank` makes of the same is drawn from."""
        behaviour, pins = self.behaviour, self._pins(rows, logits)
        size, cap, pinned = behaviour.slate.size, behaviour.diversity.category_cap, pins.positions
        rate, most = budget(behaviour.exploration, examples), len(rows) if cap else POOL * size
        also = tried = to_try(proposed, self.new, rate)
        if owed is not None:
            also = tried | owed.members.any(axis=1)
        arguments = logits, rows, self.index.content, also, history, pinned
        positions, values = pool_of(*arguments, behaviour.diversity.strength, most, size, True)
        caps, due = NO_CAPS, None
        if cap:
            caps = Caps(self.rules.categories(rows[positions]), self.rules.categories(rows[pinned]), cap)
        if owed is not None:
            anywhere = tried[positions]
            anywhere[:most] = True
            held = owed.members[pinned].sum(axis=0)
            due = Due(owed.places[len(pinned) :], owed.members[positions], held, anywhere)
        return Pool(pins, positions, values, rate, caps, due)

    def below(
        self,
        rows: np.ndarray,
        logits: np.ndarray,
        proposed: np.ndarray,
        history: np.ndarray,
        above: np.ndarray,
        depth: int,
    ) -> np.ndarray:
        """Positions of what stands below a slate whose own are `above`, int64 (k,), up to `depth` slots with these:
        int64. The other arguments are those of `rerank`.

        Each `slate.size` of them are a slate of what is left, diversified and capped by itself, with no pins and no
        floors, and nothing drawn. Where one is not full, there is nothing below it. Some 10 us for each.
        """
        size, cap = self.behaviour.slate.size, self.behaviour.diversity.category_cap
        most, strength = len(rows) if cap else POOL * size, self.behaviour.diversity.strength
        placed = last = above
        nothing = np.zeros(len(rows), np.bool_)
        while len(last) == size and len(placed) < depth:
            given = logits, rows, self.index.content, nothing, history, placed
            pool, values = pool_of(*given, strength, most, size, cap > 0)
            if cap:
                caps = Caps(self.rules.categories(rows[pool]), self.rules.categories(rows[:0]), cap)
                pool = pool[explore(values, "epsilon", 0.0, np.zeros(size), caps).positions]
            last = pool[:size]
            placed = np.concatenate([placed, last])
        return placed[len(above) : depth]

    def _pins(self, rows: np.ndarray, logits: np.ndarray) -> Pins:
        """What is pinned of the candidates, as far as a slate has room."""
        size, pins = self.behaviour.slate.size, self.rules.pins(rows, logits)
        return Pins(pins.positions[:size], pins.rules[:size])

    def _drawn(self, pool: Pool, draws: np.ndarray, deviations: Callable[[np.ndarray], np.ndarray]) -> Ranked:
        """A slate drawn from `pool`, by as many `draws` as there are slots below the pins."""

        def unsure(some: np.ndarray) -> np.ndarray:
            return deviations(pool.positions[some])

        kind, floors, pinned = self.behaviour.exploration.kind, NO_FLOORS, pool.pins.positions
        given = pool.values, kind, pool.rate, draws, pool.caps
        if pool.due is None:
            drawn, propensity, explored = explore(*given, lambda: deviations(pool.positions))
        else:
            drawn, propensity, explored, moved = explore_owed(*given, unsure, pool.due)
            floors = np.concatenate([np.full(len(pinned), NO_FLOOR), moved])
        positions = pool.positions[drawn]
        if len(pinned):
            positions = np.concatenate([pinned, positions])
            propensity = np.concatenate([np.ones(len(pinned)), propensity])
            explored = np.concatenate([np.zeros(len(pinned), bool), explored])
        return Ranked(positions, propensity, explored, pool.pins.rules, floors)


@njit(cache=True)
def descending(numbers):  # type: ignore[no-untyped-def]
    """The positions of `numbers`, float64 (n,), highest first, of equals the first, NaN as the lowest: int64 (n,).

    By counting what stands above each, which the machine does for several at once: 1.6 us for 120, half of a sort.
    """
    n = len(numbers)
    if n > COUNTED:
        return np.argsort(-numbers, kind="mergesort")
    order, keys = np.full(n, -1), np.empty(n)
    for k in range(n):
        keys[k] = -np.inf if math.isnan(numbers[k]) else numbers[k]
    for k in range(n):
        key, above = keys[k], 0
        for j in range(n):
            above += keys[j] > key
        while order[above] >= 0:  # an equal one, which came first
            above += 1
        order[above] = k
    return order


@njit(cache=True)
def ranked_pool(logits, rows, content, also, pinned, most, strength, size, whole):  # type: ignore[no-untyped-def]
    """What a slate is drawn from: positions among the candidates, int64 (n,), and what each is worth, float64 (n,).

    The best `most` by `logits` that are not `pinned`, diversified (see `diversify`); behind them what else is there
    `also`, bool (c,). Unless it is to be `whole`, only the first `size` stand where they belong. About 5 us for 120
    candidates, of which 60 are diversified, 8 us for the whole.
    """
    free = np.ones(len(logits), np.bool_)
    free[pinned] = False
    order = np.empty(len(logits), np.int64)
    n = pool = 0
    for position in descending(logits):
        if free[position] and (pool < most or also[position]):
            order[n] = position
            n += 1
            pool = min(n, most)
    order = order[:n]
    values = logits[order]
    diversified, values[:pool] = diversify(values[:pool], content, rows[order[:pool]], strength, size, whole)
    order[:pool] = order[diversified]
    for k in range(pool, n):  # in order of their logits, as they are
        values[k] = min(values[k], values[pool - 1])
    return order, values


@njit(cache=True)
def diversify(scores, content, rows, strength, size, whole):  # type: ignore[no-untyped-def]
    """The order of `rows`, int (n,), by maximal marginal relevance, the first `size` diversified, the rest behind them,
    as positions int64 (n,); and what each is worth there, float64 (n,). `scores`, float64 (n,), are best first.

    Each slot goes to the item with the most of (1 - strength) * relevance - strength * likeness to the nearest item
    above it, where relevance is the score scaled to 0..1 and likeness the cosine of the rows of `content`, float32
    (all, d), of unit length. The values are that, in units of the scores. Carbonell and Goldstein, The use of MMR
    (1998). Unless it is to be `whole`, the rest stands as it was, and its values are the scores.

    >>> content = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]], np.float32)
    >>> diversify(np.array([3.0, 2.9, 2.0]), content, np.arange(3), 0.5, 2, True)[0].tolist()
    [0, 2, 1]
    """
    n = len(scores)
    if strength <= 0.0 or n < 3:
        return np.arange(n), scores.copy()
    strength = min(strength, ALMOST_ALL)
    units = strength / (1.0 - strength) * (scores[0] - scores[n - 1] or 1.0)
    placed = min(size, n)
    order, values, considered = np.arange(n), scores.copy(), n
    if not whole:  # what is below the last slot, were that like what is above it, is not to be on the slate
        considered = placed
        while considered < n and scores[considered] >= scores[placed - 1] - units:
            considered += 1
    worth = place(scores[:considered], content, rows, units, order, values, placed)
    if considered < n and values[placed - 1] < scores[considered]:  # it might have been, as lengths are not quite 1
        worth = place(scores, content, rows, units, order, values, placed)
    free = np.ones(n, np.bool_)
    free[order[:placed]] = False
    rest = np.flatnonzero(free)[: n - placed]
    if whole:
        rest = rest[descending(worth[rest])]
        values[placed:] = worth[rest]
    order[placed:] = rest
    return order, values


@njit(cache=True)
def place(scores, content, rows, units, order, values, placed):  # type: ignore[no-untyped-def]
    """Write the first `placed` of the `order` and their `values`, of the first n of `rows`, those that have `scores`,
    float64 (n,), with likeness counting `units`. What the others are worth below these: float64 (n,), -inf for these.
    """
    n = len(scores)
    width = (n + LANES - 1) // LANES * LANES
    vectors = np.zeros((content.shape[1], width), np.float32)  # what is next to each other is of one dimension
    for k in range(n):
        for j in range(content.shape[1]):
            vectors[j, k] = content[rows[k], j]
    likeness = np.empty(width, np.float32)
    worth = scores.copy()  # at most, after what stands above; -inf once it has a slot
    for slot in range(placed):
        best = highest(worth)
        order[slot], values[slot] = best, worth[best]
        liken(vectors, best, likeness)
        for k in range(n):
            worth[k] = min(worth[k], scores[k] - units * likeness[k])
        worth[best] = -np.inf
    return worth


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
def pool_of(  # type: ignore[no-untyped-def]
    logits, rows, content, also, history, pinned, strength, most, size, whole
):
    """See `ranked_pool`: with a strength of `strength` times the spread of `history`."""
    if strength > 0.0:
        strength *= spread(content, history)
    return ranked_pool(logits, rows, content, also, pinned, most, strength, size, whole)


@njit(cache=True)
def to_try(proposed, new, rate):  # type: ignore[no-untyped-def]
    """What is drawn wherever it stands, bool (c,): what is `new`, a bit in `proposed`, where the rate is above 0."""
    return proposed & new != 0 if rate > 0.0 else np.zeros(len(proposed), np.bool_)


@njit(cache=True)
def simple_slate(  # type: ignore[no-untyped-def]
    logits, rows, content, proposed, new, history, pinned, bits, strength, rate, most, positions, propensity, explored
):
    """The slate of epsilon, without caps, in one go, drawn by the `bits` of `uniforms`: writes the last three,
    the arrays of Ranked; how many slots.
    """
    size, draws = len(positions), bits * 2.0**-32
    whole = draws.max() > 1.0 - rate if len(draws) else False  # else each slot goes to the best that is left
    also = to_try(proposed, new, rate)
    pool, _ = pool_of(logits, rows, content, also, history, pinned, strength, most, size, whole)
    none = np.empty((0, 0), np.int32)
    drawn, chances, tried = epsilon(len(pool), rate, draws, none, none, 0)
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
