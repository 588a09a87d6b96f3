"""The global ranker as RECOMMEND goes by it: the mean of what the shards of RANKER last published, by feature."""

from collections.abc import Mapping
from operator import is_not
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.candidates.features import FeatureSpace, feature_space
from riverrank.operators.clicks.model import ClickWeights
from riverrank.state.learners import FEATURES_1, by_name
from riverrank.state.messages import Weights

from .net import WIDTH, logits_of

_LAST_ROWS = (-2, -1)  # of a net: of no feature


class RankerWeights(NamedTuple):
    """The global ranker: linear `weights` float64 (SEGMENTS, F), the bias of a click on a shown item, what it learned
    from, the `units` of its nets, float32 (SEGMENTS, F + 2, WIDTH), and the model of `clicks` on shown lists.
    """

    weights: np.ndarray
    bias: float
    version: int
    units: np.ndarray
    clicks: ClickWeights = ClickWeights.of(())

    @classmethod
    def of(cls, shards: Mapping[int, Weights], features: FeatureSpace | None = None) -> "RankerWeights":
        """The mean over shards of the weights of `features`; one that a shard does not know counts by its prior. Nets
        have no such mean: the first shard's is gone by.
        """
        features = features or feature_space(registry.SOURCES)
        units = np.zeros((SEGMENTS, features.size + 2, WIDTH), np.float32)
        held = [shards[number] for number in sorted(shards)]
        weights = [found for shard in held if (found := _weights(shard, features)) is not None]
        if not weights:
            return cls(features.prior.copy(), 0.0, 0, units)
        _take_units(held[0], features, units)
        bias = sum(shard.bias for shard in held) / len(held)
        clicks = ClickWeights.of([(shard.click_names, shard.clicks) for shard in held])
        return cls(np.mean(weights, axis=0), bias, sum(shard.version for shard in held), units, clicks)

    def logits(self, features: np.ndarray, segment: int) -> np.ndarray:
        """The logits of `features`, float32 (c, F), of a user of `segment`: float64 (c,)."""
        return logits_of(features, self.weights[segment], self.units[segment], self.bias)


def _weights(shard: Weights, features: FeatureSpace) -> np.ndarray | None:
    """A shard's weights of `features`, float64 (SEGMENTS, F); None where it does not say of what they are."""
    names = shard.names or FEATURES_1
    if len(shard.weights) != 8 * SEGMENTS * len(names):
        return None
    weights = np.frombuffer(shard.weights, "<f8").reshape(SEGMENTS, len(names))
    return weights if names == features.names else by_name(weights, names, features.names, features.prior)


def _take_units(shard: Weights, features: FeatureSpace, units: np.ndarray) -> None:
    """Write a shard's units to `units`, float32 (SEGMENTS, F + 2, WIDTH): 0 for a feature that it does not know."""
    names = (*shard.names, *_LAST_ROWS)
    if len(shard.units) == 4 * SEGMENTS * len(names) * WIDTH:
        told = np.frombuffer(shard.units, "<f4").reshape(SEGMENTS, len(names), WIDTH).swapaxes(1, 2)
        units[:] = by_name(told, names, (*features.names, *_LAST_ROWS), np.zeros((), np.float32)).swapaxes(1, 2)


class LatestRanker:
    """`RankerWeights.of` the shards of an index, made when one of them is another than before: else 0.5 us."""

    def __init__(
        self, shards: Mapping[int, Weights], features: FeatureSpace, before: RankerWeights | None = None
    ) -> None:
        """`shards` are looked at in each call; `before` is gone by until there is one."""
        self._shards = shards
        self._features = features
        self._read: tuple[Weights, ...] = ()
        self._made = before or RankerWeights.of({}, features)

    def read(self) -> RankerWeights:
        """The ranker by the weights that the shards last published."""
        shards = self._shards.values()
        if len(shards) != len(self._read) or any(map(is_not, shards, self._read)):
            self._read, self._made = tuple(shards), RankerWeights.of(self._shards, self._features)
        return self._made
