"""The global ranker as RECOMMEND goes by it: what RANKER, which is one learner, last published, by feature."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.candidates.features import FeatureSpace, feature_space
from riverrank.operators.clicks.model import ClickWeights
from riverrank.state.learners import FEATURES_1, by_name
from riverrank.state.messages import Weights

from .net import WIDTH, logits_of

SHARD = 0  # of all that RANKER tells
_LAST_ROWS = (-2, -1)  # of a net: of no feature


class RankerWeights(NamedTuple):
    """The global ranker: linear `weights` float64 (SEGMENTS, F), the bias of a click on a shown item, what it learned
    from, the `units` of its nets, float32 (SEGMENTS, F + 2, WIDTH), and the model of `clicks` on shown lists.
    """

    weights: np.ndarray
    bias: float
    version: int
    units: np.ndarray
    clicks: ClickWeights = ClickWeights.of()

    @classmethod
    def of(cls, told: Weights | None, features: FeatureSpace | None = None) -> "RankerWeights":
        """What was told of `features`, None where nothing was yet; what RANKER does not know counts by its prior."""
        features = features or feature_space(registry.SOURCES)
        units = np.zeros((SEGMENTS, features.size + 2, WIDTH), np.float32)
        weights = None if told is None else _weights(told, features)
        if told is None or weights is None:
            return cls(features.prior.copy(), 0.0, 0, units)
        _take_units(told, features, units)
        return cls(weights, told.bias, told.version, units, ClickWeights.of(told.click_names, told.clicks))

    def logits(self, features: np.ndarray, segment: int) -> np.ndarray:
        """The logits of `features`, float32 (c, F), of a user of `segment`: float64 (c,)."""
        return logits_of(features, self.weights[segment], self.units[segment], self.bias)


def _weights(told: Weights, features: FeatureSpace) -> np.ndarray | None:
    """The weights of `features`, float64 (SEGMENTS, F); None where it is not said of what they are."""
    names = told.names or FEATURES_1
    if len(told.weights) != 8 * SEGMENTS * len(names):
        return None
    weights = np.frombuffer(told.weights, "<f8").reshape(SEGMENTS, len(names))
    return weights if names == features.names else by_name(weights, names, features.names, features.prior)


def _take_units(told: Weights, features: FeatureSpace, units: np.ndarray) -> None:
    """Write the units to `units`, float32 (SEGMENTS, F + 2, WIDTH): 0 for a feature that RANKER does not know."""
    names = (*told.names, *_LAST_ROWS)
    if len(told.units) == 4 * SEGMENTS * len(names) * WIDTH:
        held = np.frombuffer(told.units, "<f4").reshape(SEGMENTS, len(names), WIDTH).swapaxes(1, 2)
        units[:] = by_name(held, names, (*features.names, *_LAST_ROWS), np.zeros((), np.float32)).swapaxes(1, 2)


class LatestRanker:
    """`RankerWeights.of` what an index was told last, made when that is another than before."""

    def __init__(
        self, told: Mapping[int, Weights], features: FeatureSpace, before: RankerWeights | None = None
    ) -> None:
        """`told`, by shard, is looked at in each call; `before` is gone by until there is something."""
        self._told = told
        self._features = features
        self._read: Weights | None = None
        self._made = before or RankerWeights.of(None, features)

    def read(self) -> RankerWeights:
        """The ranker by the weights that were last published."""
        told = self._told.get(SHARD)
        if told is not self._read:
            self._read, self._made = told, RankerWeights.of(told, self._features)
        return self._made
