"""The probability of a click on each item of a list that was shown: a global model, learned online. What it knows of
an item is the business of `features`.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.state.learners import ClickState, by_name

from .features import NAMES, PLACES, PRIOR

RATE, LEAST_RATE = 4e-3, 1e-3  # of Adam, at first and at last
HALVED_AFTER = 1000  # lists
COMPETITION, COMPETITION_RATE = 0.5, 0.1  # at first, and how fast it is learned
RAREST = 3.0
_MOMENTUM, _MEMORY, _TINY, _FARTHEST = 0.9, 0.999, 1e-8, 500.0


class ClickWeights(NamedTuple):
    """What a click is foretold by: `weights` float64 (d,), and how much the items of a list take from each other,
    `competition`, 0 to 1, with the `intercept` that goes with it. Where nothing is learned yet, all are as at first.
    """

    weights: np.ndarray
    competition: float = COMPETITION
    intercept: float = 0.0

    @classmethod
    def of(cls, names: tuple[str, ...] = (), raw: bytes = b"") -> "ClickWeights":
        """What a model published, names and values; of a feature that it does not know the prior."""
        if not names or len(raw) != 8 * (len(names) + 2):
            return cls(PRIOR)
        values = named(names, raw)
        return cls(values[:-2], float(values[-2]), float(values[-1]))

    def logits(self, features: np.ndarray) -> np.ndarray:
        """The logits of clicks on the items of a list, from their `features`, float32 (n, d): float64 (n,)."""
        logits = np.empty(len(features))
        logits_of(features, self.weights, self.competition, self.intercept, logits, np.empty(len(features)))
        return logits


class ClickModel:
    """Logistic regression over what is known of an item and its place, in which each item of a list competes with the
    others: with z = x @ weights, the logit is z less `competition` times the log of the sum over the others of exp(z).

    Without competition items are taken or left each for itself, as in a feed; with a competition of 1 one of them is
    taken, as in a search (McFadden, Conditional logit analysis of qualitative choice behavior, 1974). How much there
    is of it is learned as well. Position is a feature, so that what the others say of an item is learned beside it
    (Guo et al., PAL, 2019). Adam, a step a list.

    >>> model = ClickModel(np.zeros(2))
    >>> for _ in range(500):
    ...     model.learn(np.eye(2, dtype=np.float32), np.array([True, False]))
    >>> model.learned().logits(np.eye(2, dtype=np.float32)).round().tolist()
    [2.0, -2.0]
    """

    def __init__(self, prior: np.ndarray = PRIOR) -> None:
        """As `prior`, float64 (d,)."""
        self.steps = 0
        self.values = np.zeros((3, len(prior) + 2))  # weights, competition and intercept; and what Adam keeps of them
        self.values[0, :-2], self.values[0, -2] = prior, COMPETITION

    def learn(self, features: np.ndarray, labels: np.ndarray) -> None:
        """Learn which of a list's items, float32 (n, d), were clicked, bool (n,)."""
        self.steps += 1
        learn(features, labels, self.values, self.steps)

    def learned(self) -> ClickWeights:
        """What to go by from now on."""
        weights = self.values[0]
        return ClickWeights(weights[:-2].copy(), float(weights[-2]), float(weights[-1]))

    def rarity(self, described: np.ndarray) -> np.ndarray:
        """How rare a click on each place of a list is beside its mean place, were all items alike: float64 (n,), so
        that clicks count by the inverse of the propensity to look there (Joachims et al., Unbiased learning-to-rank
        with biased feedback, 2017), RAREST at most.
        """
        effect = described[:, PLACES].astype(np.float64) @ self.values[0, :-2][PLACES]
        return np.clip(np.exp(effect.mean() - effect), 1.0 / RAREST, RAREST)

    def publish(self) -> tuple[tuple[str, ...], bytes]:
        """Names of features, and weights, competition and intercept as bytes; nothing where nothing was learned."""
        return (NAMES, self.values[0].tobytes()) if self.steps else ((), b"")

    def dump(self) -> ClickState:
        """All of it."""
        return ClickState(self.steps, NAMES, self.values.tobytes()) if self.steps else ClickState()

    def load(self, state: ClickState) -> None:
        """Put back what `dump` gave: a feature that was not known then begins as a new one."""
        if state.names and len(state.values) == 24 * (len(state.names) + 2):
            self.steps = state.steps
            for row, begun in enumerate((PRIOR, *np.zeros((2, len(PRIOR))))):
                part = slice(row * 8 * (len(state.names) + 2), (row + 1) * 8 * (len(state.names) + 2))
                self.values[row] = named(state.names, state.values[part], begun)


def named(names: Sequence[str], raw: bytes, begun: np.ndarray = PRIOR) -> np.ndarray:
    """Values, float64 (names + 2,), as they are by NAMES: that of `begun` for a feature that has none."""
    values = np.frombuffer(raw, "<f8")
    return np.append(by_name(values[:-2], names, NAMES, begun), values[-2:])


@njit(cache=True)
def logits_of(x, weights, competition, intercept, logits, others):  # type: ignore[no-untyped-def]
    """See ClickModel: the logits of the rows of `x`, float32 (n, d), and of each the log of the sum over the `others`
    of exp(z), 0 for one alone: float64 (n,) each.
    """
    n, top = len(x), -np.inf
    for k in range(n):
        z = 0.0
        for f in range(x.shape[1]):
            z += weights[f] * x[k, f]
        logits[k] = z
        top = max(top, z)
    total = 0.0
    for k in range(n):
        total += math.exp(logits[k] - top)
    for k in range(n):
        others[k] = math.log(max(total - math.exp(logits[k] - top), 1e-9)) + top if n > 1 else 0.0
        logits[k] += intercept - competition * others[k]


@njit(cache=True)
def learn(x, labels, values, number):  # type: ignore[no-untyped-def]
    """See ClickModel: step `number`, from 1 on. 2 us for 25 items of 37."""
    n, size = x.shape
    logits, others, slopes = np.empty(n), np.empty(n), np.zeros(size)
    weights = values[0]
    logits_of(x, weights, weights[size], weights[size + 1], logits, others)
    of_competition, of_intercept = 0.0, 0.0
    for k in range(n):
        error = 1.0 / (1.0 + math.exp(min(-logits[k], _FARTHEST))) - labels[k]
        of_competition -= error * others[k]
        of_intercept += error
        for f in range(size):
            slopes[f] += error * x[k, f]
    rate = max(LEAST_RATE, RATE / (1.0 + number / HALVED_AFTER))
    quick, slow = 1.0 - _MOMENTUM**number, 1.0 - _MEMORY**number
    for f in range(size):
        values[1, f] = _MOMENTUM * values[1, f] + (1.0 - _MOMENTUM) * slopes[f]
        values[2, f] = _MEMORY * values[2, f] + (1.0 - _MEMORY) * slopes[f] * slopes[f]
        weights[f] -= rate * (values[1, f] / quick) / (math.sqrt(values[2, f] / slow) + _TINY)
    competition = weights[size] - COMPETITION_RATE * of_competition / n
    weights[size] = min(1.0, max(0.0, competition))
    weights[size + 1] -= COMPETITION_RATE * of_intercept / n
