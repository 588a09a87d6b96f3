"""What rating a user will give an item, learned from the user's own ratings. Knows nothing of candidates or slates.

A prediction is the item's shrunk mean and what this user adds to it: two linear models of the same features that learn
at a slow and at a fast rate, since one user's taste stands still and another's moves, averaged by how well each
predicted of late.
"""

import math
from typing import Any

import numpy as np
from numba import njit
from riverrank.operators.catalogue.vectors import DIMENSIONS
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.item_tables import NEGATIVES, POSITIVES, RATING_SUM, RATINGS
from riverrank.state.learners import LearnerState

RATES = (0.015, 0.06)  # of the models
ITEM_SHRINKAGE = 3.0  # ratings of the mean that an item's own ratings are weighed against
MEMORY = 50  # ratings that a model's errors, and how widely rated a user's items are, are averaged over
RANGE_FROM = 5  # ratings of a user, from which on a prediction keeps to their range
LIMIT = 10_000.0  # what lies further from 0 is learned from as if it were this
FEATURES = DIMENSIONS + 3
SHAPE = (len(RATES), FEATURES)
LEAST, GREATEST, USUAL, ERRORS = range(4)  # of the numbers beside the weights, ERRORS on to the last
HEAD = ERRORS + len(RATES)
LARGEST_HALF = 65504.0  # float16
DISCOUNT = 1.0 - 1.0 / MEMORY


class Ratings:
    """One user's ratings, taken out of the user's state, and put back by `store`.

    The models are River's `linear_model.LinearRegression` with `optim.SGD`, at two rates, of what the user's ratings
    differ by from the items' means. The features are the item's content, its likes and dislikes as a share from -1 to
    1, how widely rated it is beside what the user usually rates (-1 to 1), and a constant. Their squares add up to 4 at
    most, so no step overshoots; nothing depends on the unit of the ratings.

    The weight of a model is its likelihood with Gaussian noise of unknown variance: the sum of its squared errors to
    the power of -n / 2, both discounted. Raftery et al., Online prediction under model uncertainty via dynamic model
    averaging (2010).

    >>> from riverrank.operators.settings import Behaviour
    >>> ratings = Ratings(ItemIndex(Behaviour()), LearnerState(), unrated=3.5)
    >>> ratings.learn(-1, 5.0), 3.5 < ratings.predict(-1) < 5.0
    (3.5, True)
    """

    def __init__(self, index: ItemIndex, state: LearnerState, unrated: float, unrated_weight: float = 0.0) -> None:
        """`unrated`: what to expect of an item before anyone has rated any; as many ratings as `unrated_weight` of all
        are expected to be that.
        """
        self.index = index
        mean = index.rating_mean(unrated, unrated_weight)
        self.mean = float(unrated if mean is None else mean)
        self.number = 0
        self.numbers = np.zeros(HEAD)  # least, greatest and usual, as the state has them, then the errors
        self.numbers[:2] = math.inf, -math.inf
        self.weights = np.zeros(SHAPE)
        if state.ratings:
            self.number = state.rated[0]
            self.numbers[:] = np.frombuffer(state.ratings, "<f4", HEAD)
            weights = np.frombuffer(state.ratings, "<f2", offset=4 * HEAD)
            if len(weights) == self.weights.size:  # else they are of a version with other features
                self.weights[:] = weights.reshape(SHAPE)

    def predict(self, row: int) -> float:
        """The rating expected for the item of `row`, -1 for one that nobody knows, in the unit of `value`."""
        return float(predict(row, *self._arrays()))

    def learn(self, row: int, value: float) -> float:
        """Learn from a rating of the item of `row`; what was predicted before."""
        expected = float(learn(row, *self._arrays(), value))
        self.number += 1
        return expected

    def store(self, state: LearnerState) -> None:
        """Put all of it into `state`."""
        weights = np.minimum(np.maximum(self.weights, -LARGEST_HALF), LARGEST_HALF)
        state.ratings = self.numbers.astype("<f4").tobytes() + weights.astype("<f2").tobytes()
        state.rated = (self.number, state.rated[1])

    def _arrays(self) -> tuple[np.ndarray, np.ndarray, float, int, np.ndarray, np.ndarray]:
        index = self.index
        return index.content, index.table.stats, self.mean, self.number, self.numbers, self.weights


def rating_models(state: LearnerState) -> list[dict[str, Any]]:
    """What is kept of a user's ratings, a row a model: what all have in common, and its own error and weights."""
    if not state.ratings:
        return []
    numbers = np.frombuffer(state.ratings, "<f4", HEAD).astype(float).tolist()
    weights = np.array_split(np.frombuffer(state.ratings, "<f2", offset=4 * HEAD).astype(float), len(RATES))
    shared = {"ratings": state.rated[0], "least": numbers[LEAST], "greatest": numbers[GREATEST]}
    shared["usual_number_of_ratings"] = numbers[USUAL]
    each = zip(RATES, numbers[ERRORS:], weights, strict=True)
    return [shared | {"rate": rate, "squared_errors": error, "weights": own.tolist()} for rate, error, own in each]


@njit(cache=True)
def describe(row, content, stats, mean, number, numbers):  # type: ignore[no-untyped-def]
    """An item as the models see it: its features, float64 (FEATURES,), its shrunk mean, and one more than its ratings.

    `content` float32 (rows, DIMENSIONS) and `stats` float32 (rows, STATS) are the index's, `mean` that of all ratings.
    """
    features = np.zeros(FEATURES)
    likes, dislikes, ratings, total = np.float64(0.0), np.float64(0.0), np.float64(0.0), np.float64(0.0)
    if row >= 0:
        features[:DIMENSIONS] = content[row]
        likes, dislikes = np.float64(stats[row, POSITIVES]), np.float64(stats[row, NEGATIVES])
        ratings, total = np.float64(stats[row, RATINGS]), np.float64(stats[row, RATING_SUM])
    features[DIMENSIONS] = (likes - dislikes) / (likes + dislikes + 2.0)
    times = ratings + 1.0
    usual = numbers[USUAL] if number else times
    features[DIMENSIONS + 1] = (times - usual) / (times + usual)
    features[DIMENSIONS + 2] = 1.0
    base = (total + ITEM_SHRINKAGE * mean) / (ratings + ITEM_SHRINKAGE)
    return features, _limited(base), times


@njit(cache=True)
def average(predictions, number, numbers):  # type: ignore[no-untyped-def]
    """The models' predictions, float64 (len(RATES),), as one, within the range of the user's ratings."""
    evidence = 0.5 * MEMORY * (1.0 - DISCOUNT**number)
    least = numbers[ERRORS]
    for error in numbers[ERRORS:]:
        least = min(least, error)
    total, weight = 0.0, 0.0
    for k in range(len(predictions)):
        error = numbers[ERRORS + k]
        w = (least / error) ** evidence if error > 0.0 else 1.0
        total += w * predictions[k]
        weight += w
    if number < RANGE_FROM:
        return total / weight
    return min(numbers[GREATEST], max(numbers[LEAST], total / weight))


@njit(cache=True)
def _predictions(features, base, weights):  # type: ignore[no-untyped-def]
    predictions = np.full(len(weights), base)
    for k in range(len(weights)):
        added = 0.0
        for f in range(len(features)):
            added += weights[k, f] * features[f]
        predictions[k] += added
    return predictions


@njit(cache=True)
def predict(row, content, stats, mean, number, numbers, weights):  # type: ignore[no-untyped-def]
    """See Ratings. 1.5 us."""
    features, base, _ = describe(row, content, stats, mean, number, numbers)
    return average(_predictions(features, base, weights), number, numbers)


@njit(cache=True)
def learn(row, content, stats, mean, number, numbers, weights, value):  # type: ignore[no-untyped-def]
    """See Ratings. Changes `numbers` and `weights`; what was predicted before. 2 us."""
    features, base, times = describe(row, content, stats, mean, number, numbers)
    predictions = _predictions(features, base, weights)
    expected = average(predictions, number, numbers)
    value = _limited(value)
    for k in range(len(weights)):
        error = predictions[k] - value
        for f in range(len(features)):
            weights[k, f] -= 2.0 * RATES[k] * error * features[f]  # the slope of a square is twice
        numbers[ERRORS + k] = DISCOUNT * numbers[ERRORS + k] + error * error
    numbers[USUAL] += (times - numbers[USUAL]) / min(number + 1, MEMORY)
    numbers[LEAST], numbers[GREATEST] = min(numbers[LEAST], value), max(numbers[GREATEST], value)
    return expected


@njit(cache=True)
def _limited(value):  # type: ignore[no-untyped-def]
    """`value` within LIMIT; also where it is no number, which sums of absurd ratings can be."""
    if not value > -LIMIT:
        return -LIMIT
    return value if value < LIMIT else LIMIT
