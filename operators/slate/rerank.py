"""From scored candidates to the places of a slate: pins, diversity, category caps, then exploration."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import uniforms

from .explore import Drawn, Left, budget, explore
from .rules import Rules

POOL = 3  # slates, of candidates, from which one is drawn
ALMOST_ALL = 0.999  # strength, above which relevance would be lost in rounding


class Ordered(NamedTuple):
    """`order` int64 (n,) into the pool, best first, and what each is worth there: `values` float64 (n,)."""

    order: np.ndarray
    values: np.ndarray


class Reranker:
    """Places candidates on a slate, by the settings of diversity and exploration and by the rules."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex, rules: Rules) -> None:
        self.behaviour = behaviour
        self.index = index
        self.rules = rules

    def position(
        self,
        event_id: str,
        rows: np.ndarray,
        logits: np.ndarray,
        new: np.ndarray,
        history: np.ndarray,
        examples: int,
        deviations: Callable[[np.ndarray], np.ndarray],
    ) -> tuple[Drawn, dict[int, str]]:
        """The slate's places among the candidates `rows`, whose `logits` are given; and its pins, by place.

        `new`, bool (c,), tells which candidates are due for a first exposure: exploration may draw these wherever they
        stand. `history` are the rows that tell how wide the taste is, `examples` how much the user's learner has
        learned, and `deviations` how unsure it is of the logits at some places.
        """
        behaviour, content = self.behaviour, self.index.content
        cap, size = behaviour.diversity.category_cap, behaviour.slate.size
        pins = dict(list(self.rules.pins(rows, logits).items())[:size])
        pool = np.argsort(-logits, kind="stable")
        if pins:
            pool = pool[~np.isin(pool, list(pins))]
        if not cap:
            pool = pool[: POOL * size]
        strength = behaviour.diversity.strength
        if strength > 0.0:
            strength *= spread(content[history])
        order, values = diversify(logits[pool], content[rows[pool]], strength, size)
        pool = pool[order]
        rate = budget(behaviour.exploration, examples)
        if rate > 0.0:
            new = new.copy()
            new[pool] = new[list(pins)] = False
            first = new.nonzero()[0]
            first = first[np.argsort(-logits[first], kind="stable")]
            pool = np.concatenate([pool, first])
            values = np.concatenate([values, np.minimum(logits[first], values.min(initial=np.inf))])
        left = Left(len(pool), self.rules.categories(rows[pool]) if cap else None, cap)
        if cap and pins:
            for categories in self.rules.categories(rows[list(pins)]):
                left.count(categories)
        drawn = explore(
            values,
            behaviour.exploration.kind,
            rate,
            uniforms(behaviour.seed, event_id, size - len(pins)),
            left,
            lambda: deviations(pool),
        )
        drawn = drawn._replace(positions=pool[drawn.positions])
        if not pins:
            return drawn, pins
        pinned = Drawn(np.array(list(pins)), np.ones(len(pins)), np.zeros(len(pins), bool))
        return Drawn(*map(np.concatenate, zip(pinned, drawn, strict=True))), pins


def diversify(scores: np.ndarray, vectors: np.ndarray, strength: float, size: int) -> Ordered:
    """The pool by maximal marginal relevance: the first `size` diversified, the rest behind them.

    Each place goes to the item with the most of (1 - strength) * relevance - strength * likeness to the nearest item
    above it, where relevance is the score scaled to 0..1 and likeness the cosine of `vectors`, float32 (n, d), of unit
    length. The values are that, in units of the scores. Carbonell and Goldstein, The use of MMR (1998).

    >>> same, other = [1.0, 0.0], [0.0, 1.0]
    >>> diversify(np.array([3.0, 2.9, 2.0]), np.array([same, same, other]), 0.5, 2).order.tolist()
    [0, 2, 1]
    """
    order = np.argsort(-scores, kind="stable")
    ranked = scores[order]
    n = len(order)
    span = float(ranked[0] - ranked[-1]) if n else 0.0
    if strength <= 0 or n < 3:
        return Ordered(order, ranked)
    strength = min(strength, ALMOST_ALL)
    units = strength / (1.0 - strength) * (span or 1.0)
    likeness = vectors[order] @ vectors[order].T
    below = ranked - units * likeness  # row k: what each is worth at most once k is placed
    below.ravel()[:: n + 1] = -np.inf
    gain, taken, values = ranked.copy(), [], []
    for _ in range(min(size, n)):
        best = gain.argmax()
        taken.append(best)
        values.append(gain[best])
        np.minimum(gain, below[best], gain)
    rest = np.argsort(-gain, kind="stable")[: n - len(taken)]
    return Ordered(order[np.concatenate([taken, rest])], np.concatenate([values, gain[rest]]))


def spread(vectors: np.ndarray) -> float:
    """How wide a taste is, 0 to 1, from the history's content vectors, float32 (h, d), of unit length or zero.

    The mean of 1 - cosine over its pairs, and over one pair of 1 beside them: who is not known counts as wide.

    >>> spread(np.eye(3)), spread(np.array([[1.0, 0.0]] * 10)) < 0.03, spread(np.zeros((0, 3)))
    (1.0, True, 1.0)
    """
    pairs = len(vectors) * (len(vectors) - 1) / 2
    total = vectors.sum(axis=0)
    cosines = float(total @ total - np.vdot(vectors, vectors)) / 2
    return min(1.0, max(0.0, (pairs - cosines + 1.0) / (pairs + 1.0)))


def novelty(popularity: np.ndarray, highest: float) -> np.ndarray:
    """How little known items are, 1 for nobody knows it, 0 for the most popular: float64 (n,).

    The logarithm of popularity, as in the self-information of Zhou et al. (2010), scaled by the highest.

    >>> novelty(np.array([0.0, 3.0, 15.0]), 15.0).tolist()
    [1.0, 0.5, 0.0]
    """
    return 1.0 - np.log1p(popularity) / np.log1p(highest)
