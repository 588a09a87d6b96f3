"""What rating a user will give an item, learned from the user's own ratings. Knows nothing of candidates or slates.

A prediction is the item's shrunk mean and what this user adds to it: two linear models of the same features that learn
at a slow and at a fast rate, since one user's taste stands still and another's moves, averaged by how well each
predicted of late.
"""

import math
from typing import NamedTuple

import numpy as np
from riverrank.operators.catalogue.vectors import DIMENSIONS
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.item_tables import NEGATIVES, POSITIVES, RATING_SUM, RATINGS, STATS
from riverrank.state.learners import LearnerState

RATES = np.array([[0.015], [0.06]])  # of the models
ITEM_SHRINKAGE = 3.0  # ratings of the mean that an item's own ratings are weighed against
MEMORY = 50  # ratings that a model's errors, and how widely rated a user's items are, are averaged over
RANGE_FROM = 5  # ratings of a user, from which on a prediction keeps to their range
LIMIT = 10_000.0  # what lies further from 0 is learned from as if it were this
FEATURES = DIMENSIONS + 3
SHAPE = (len(RATES), FEATURES)
HEAD = 3 + len(RATES)
DISCOUNT = 1.0 - 1.0 / MEMORY


class _Item(NamedTuple):
    """An item as the models see it: features float64 (FEATURES,), shrunk mean, and one more than its ratings."""

    features: np.ndarray
    base: float
    times: float


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

    def __init__(self, index: ItemIndex, state: LearnerState, unrated: float) -> None:
        """`unrated`: what to expect of an item before anyone has rated any."""
        self.index = index
        mean = index.rating_mean()
        self.mean = unrated if mean is None else mean
        self.number, self.errors = 0, [0.0] * len(RATES)
        self.least, self.greatest, self.usual = math.inf, -math.inf, 0.0
        self.weights = np.zeros(SHAPE)
        if state.ratings:
            self.number = state.rated[0]
            self.least, self.greatest, self.usual, *self.errors = np.frombuffer(state.ratings, "<f4", HEAD).tolist()
            weights = np.frombuffer(state.ratings, "<f2", offset=4 * HEAD)
            if len(weights) == self.weights.size:  # else they are of a version with other features
                self.weights = weights.reshape(SHAPE).astype(float)

    def predict(self, row: int) -> float:
        """The rating expected for the item of `row`, -1 for one that nobody knows, in the unit of `value`."""
        item = self._item(row)
        return self._average([item.base + added for added in (self.weights @ item.features).tolist()])

    def learn(self, row: int, value: float) -> float:
        """Learn from a rating of the item of `row`; what was predicted before."""
        item = self._item(row)
        predictions = [item.base + added for added in (self.weights @ item.features).tolist()]
        expected = self._average(predictions)
        value = _limited(value)
        errors = [prediction - value for prediction in predictions]
        self.weights -= 2.0 * RATES * np.array(errors)[:, None] * item.features  # the slope of a square is twice
        self.errors = [DISCOUNT * sum_ + error * error for sum_, error in zip(self.errors, errors, strict=True)]
        self.number += 1
        self.usual += (item.times - self.usual) / min(self.number, MEMORY)
        self.least, self.greatest = min(self.least, value), max(self.greatest, value)
        return expected

    def store(self, state: LearnerState) -> None:
        """Put all of it into `state`."""
        head = np.array([self.least, self.greatest, self.usual, *self.errors], "<f4")
        state.ratings = head.tobytes() + self.weights.clip(-65504.0, 65504.0).astype("<f2").tobytes()
        state.rated = (self.number, state.rated[1])

    def _item(self, row: int) -> _Item:
        features = np.ones(FEATURES)
        features[:DIMENSIONS] = self.index.content[row] if row >= 0 else 0.0
        stats = self.index.table.stats[row].tolist() if row >= 0 else [0.0] * STATS
        likes, dislikes, ratings = stats[POSITIVES], stats[NEGATIVES], stats[RATINGS]
        features[DIMENSIONS] = (likes - dislikes) / (likes + dislikes + 2.0)
        times = ratings + 1.0
        usual = self.usual if self.number else times
        features[DIMENSIONS + 1] = (times - usual) / (times + usual)
        base = (stats[RATING_SUM] + ITEM_SHRINKAGE * self.mean) / (ratings + ITEM_SHRINKAGE)
        return _Item(features, _limited(base), times)

    def _average(self, predictions: list[float]) -> float:
        """The models' predictions as one, within the range of the user's ratings."""
        evidence = 0.5 * MEMORY * (1.0 - DISCOUNT**self.number)
        least = min(self.errors)
        weights = [(least / sum_) ** evidence if sum_ > 0.0 else 1.0 for sum_ in self.errors]
        average = sum(w * p for w, p in zip(weights, predictions, strict=True)) / sum(weights)
        return min(self.greatest, max(self.least, average)) if self.number >= RANGE_FROM else average


def _limited(value: float) -> float:
    """`value` within LIMIT; also where it is no number, which sums of absurd ratings can be."""
    return min(LIMIT, max(-LIMIT, value))
