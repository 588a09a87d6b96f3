"""What another policy would have earned, from what was earned under logged propensities: weights of the slots of each
slate, and of these the field's estimators, with users as the sample. Knows no operators.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np

from .clusters import Estimate, Mean, Sums, ratio_of_sums

ROUNDING = 1e-5  # a propensity has six digits on a slate: chances that are nearer to it than that are equal to it
FIRST, SLATE = "first slot", "slate"


class Asked(NamedTuple):
    """What the other policy says of the first k ranks of a logged slate, float64 (k,) each: the `chance` with which it
    puts the same item there, behind the same items; and the mean over what it puts there of `worth`, a guess of what an
    item earns, 0 where it puts nothing; `logged` is the guess for what was there, 0 for what it does not know.
    """

    chance: np.ndarray
    worth: np.ndarray
    logged: np.ndarray


class Figure(msgspec.Struct, frozen=True):
    """What one estimator says of the other policy, and of how much more that is than what was earned; `sample` is the
    effective sample size of its weights, (sum w)^2 / sum w^2 (Kish, 1965), 0 where nothing is weighted.
    """

    of: str
    estimator: str
    earned: Estimate
    more: Estimate
    sample: float


class Guess:
    """By how much guesses of an item's worth have to be scaled, by rank, and what is earned from a rank on: from slates
    that are done with, so what is guessed of a slate never knows what that earned.
    """

    def __init__(self, depth: int) -> None:
        self._earned, self._guessed, self._slates = np.zeros(depth), np.zeros(depth), 1.0

    def scales(self) -> np.ndarray:
        """Per unit of worth, by rank: float64 (depth,)."""
        return np.divide(self._earned, self._guessed, out=np.zeros(len(self._earned)), where=self._guessed > 0.0)

    def from_on(self) -> np.ndarray:
        """What is earned at each rank and after it, in the mean, and 0 at the end: float64 (depth + 1,)."""
        return np.append(np.cumsum(self._earned[::-1])[::-1] / self._slates, 0.0)

    def learn(self, rewards: np.ndarray, logged: np.ndarray) -> None:
        """Take one more slate."""
        known = logged > 0.0
        self._guessed[: len(logged)] += logged
        self._earned[: len(logged)] += np.where(known, rewards[: len(logged)], 0.0)
        self._slates += 1.0


class Estimators:
    """Sums by user, from which all estimators are made.

    Of the first slot: inverse propensity scores (Horvitz and Thompson, 1952), the same divided by the sum of weights
    (Swaminathan and Joachims, 2015), and doubly robust (Dudik, Langford and Li, 2011). Of whole slates, whose user
    reads from the top: each rank weighted by the product of weights down to it, over the sum of these (RIPS: McInerney
    et al., Counterfactual evaluation of slate recommendations with sequential reward interactions, 2020), and cascade
    doubly robust (Kiyohara et al., 2022), whose guesses are predictable (see Guess), so that they bias nothing.

    >>> estimators = Estimators(1)
    >>> for user, reward in (("u", 1.0), ("v", 0.0), ("w", 1.0)):
    ...     asked = Asked(np.array([0.5]), np.array([0.1]), np.array([0.1]))
    ...     estimators.add(user, np.array([reward]), np.array([0.5]), asked)
    >>> {figure.estimator: round(figure.earned.value, 3) for figure in estimators.figures()}
    {'IPS': 0.667, 'SNIPS': 0.667, 'DR': 0.667, 'RIPS': 0.667, 'cascade DR': 0.667}
    """

    def __init__(self, depth: int) -> None:
        self.depth = depth
        self.guess = Guess(depth)
        # Of each slate: 1, reward first and in all, DR first and cascade, squared weights first and last, then by rank
        # the weight down to it, and that times its reward.
        self._sums = Sums(7 + 2 * depth)
        self.slates = self.fixed = self.empty = 0

    def add(self, user: str, rewards: np.ndarray, propensity: np.ndarray, asked: Asked) -> None:
        """Count a slate that earned `rewards`, by rank, float64 (k,) each; k is from 1 to `depth`."""
        k, depth = len(rewards), self.depth
        puts = asked.worth > 0.0  # else the other policy earns nothing there, for certain
        gained = np.where(puts, rewards, 0.0)
        weights = np.where(puts, asked.chance / propensity, 1.0)
        weights[np.abs(weights - 1.0) < ROUNDING] = 1.0
        down_to = np.cumprod(weights)
        scales, after = self.guess.scales()[:k], self.guess.from_on()[1 : k + 1]
        worth, logged = scales * asked.worth, np.where(puts, scales * asked.logged, 0.0)
        numbers = np.zeros(7 + 2 * depth)
        numbers[:7] = (
            1.0,
            rewards[0],
            rewards.sum(),
            weights[0] * (gained[0] - logged[0]) + worth[0],
            _cascade(gained, weights, worth, logged, np.where(puts, after, 0.0)),
            weights[0] ** 2,
            down_to[-1] ** 2,
        )
        # A rank that a slate does not have counts with the weight of its last: nothing was earned there.
        numbers[7 : 7 + depth] = np.append(down_to, np.full(depth - k, down_to[-1]))
        numbers[7 + depth : 7 + depth + k] = down_to * gained
        self.guess.learn(rewards, asked.logged)
        self.fixed += bool((propensity >= 1.0).all())
        self.empty += not puts[0]
        self.slates += 1
        self._sums.add(user, numbers)

    @property
    def users(self) -> int:
        """How many have a slate."""
        return len(self._sums)

    def earned(self, of: str) -> Estimate:
        """What was earned, a slate, under the policy that was logged."""
        return self._sums.ratio(1 if of == FIRST else 2, 0).estimate()

    def weight(self, of: str) -> Estimate:
        """The mean weight, which is 1 where the log has all that the other policy does."""
        return self._sums.ratio(7 if of == FIRST else 6 + self.depth, 0).estimate()

    def figures(self) -> list[Figure]:
        """What each estimator says."""
        rows = self._sums.rows()
        ones, weights, earned = rows[:, :1], rows[:, 7 : 7 + self.depth], rows[:, 7 + self.depth :]
        total = weights.sum(axis=0)
        samples = {
            of: float(total[at] ** 2 / squares) if (squares := rows[:, column].sum()) > 0.0 else 0.0
            for of, at, column in ((FIRST, 0, 5), (SLATE, -1, 6))
        }
        return [
            self._figure(FIRST, "IPS", earned[:, :1], ones, samples),
            self._figure(FIRST, "SNIPS", earned[:, :1], weights[:, :1], samples),
            self._figure(FIRST, "DR", rows[:, 3:4], ones, samples),
            self._figure(SLATE, "RIPS", earned, weights, samples),
            self._figure(SLATE, "cascade DR", rows[:, 4:5], ones, samples),
        ]

    def _figure(
        self, of: str, name: str, numerators: np.ndarray, denominators: np.ndarray, samples: dict[str, float]
    ) -> Figure:
        rows = self._sums.rows()
        logged = rows[:, 1:2] if of == FIRST else rows[:, 2:3]
        mean = ratio_of_sums(numerators, denominators)
        both = np.hstack([numerators, -logged]), np.hstack([denominators, rows[:, :1]])
        more = ratio_of_sums(*both) if math.isfinite(mean.value) else Mean(math.nan, math.nan, mean.users)
        return Figure(of, name, mean.estimate(), more.estimate(), samples[of])


def _cascade(
    rewards: np.ndarray, weights: np.ndarray, worth: np.ndarray, logged: np.ndarray, after: np.ndarray
) -> float:
    """Cascade doubly robust of one slate, from its last rank up: at each, the guess of what the other policy earns
    there and `after` it, and the weight times by how much what was earned from there on is more than was guessed.
    """
    value = 0.0
    for k in range(len(rewards) - 1, -1, -1):
        value = float(weights[k] * (rewards[k] + value - logged[k] - after[k]) + worth[k] + after[k])
    return value
