"""The global ranker as RECOMMEND goes by it: the mean of what the shards of RANKER last published, by feature."""

from collections.abc import Hashable, Mapping, Sequence
from operator import is_not
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import SEGMENTS
from riverrank.operators.candidates.features import FeatureSpace, feature_space
from riverrank.state.learners import FEATURES_1
from riverrank.state.messages import Weights

from .linear_kernels import dots


def by_name(values: np.ndarray, names: Sequence[Hashable], wanted: Sequence[Hashable], prior: np.ndarray) -> np.ndarray:
    """`values`, whose last axis is by `names`, as they are by `wanted`; that of `prior` for a name that has no value.

    >>> by_name(np.array([1.0, 2.0]), ("gone", "likes"), ("new", "likes"), np.array([0.5, 0.0])).tolist()
    [0.5, 2.0]
    """
    found = {name: position for position, name in enumerate(names)}
    made = np.array(np.broadcast_to(prior, (*values.shape[:-1], len(wanted))))
    for position, name in enumerate(wanted):
        if name in found:
            made[..., position] = values[..., found[name]]
    return made


class RankerWeights(NamedTuple):
    """The global ranker: `weights` float64 (SEGMENTS, F), the bias of a click on a shown item, what it learned from."""

    weights: np.ndarray
    bias: float
    version: int

    @classmethod
    def of(cls, shards: Mapping[int, Weights], features: FeatureSpace | None = None) -> "RankerWeights":
        """The mean over shards of the weights of `features`; one that a shard does not know counts by its prior."""
        features = features or feature_space(registry.SOURCES)
        held = [shards[number] for number in sorted(shards)]
        weights = [found for shard in held if (found := _weights(shard, features)) is not None]
        if not weights:
            return cls(features.prior.copy(), 0.0, 0)
        bias = sum(shard.bias for shard in held) / len(held)
        return cls(np.mean(weights, axis=0), bias, sum(shard.version for shard in held))

    def logits(self, features: np.ndarray, segment: int) -> np.ndarray:
        """The logits of `features`, float64 (c, F), of a user of `segment`: float64 (c,)."""
        return dots(features, self.weights[segment], self.bias)


def _weights(shard: Weights, features: FeatureSpace) -> np.ndarray | None:
    """A shard's weights of `features`, float64 (SEGMENTS, F); None where it does not say of what they are."""
    names = shard.names or FEATURES_1
    if len(shard.weights) != 8 * SEGMENTS * len(names):
        return None
    weights = np.frombuffer(shard.weights, "<f8").reshape(SEGMENTS, len(names))
    return weights if names == features.names else by_name(weights, names, features.names, features.prior)


class LatestRanker:
    """`RankerWeights.of` the shards of an index, made when one of them is another than before: else 0.5 us."""

    def __init__(self, shards: Mapping[int, Weights], features: FeatureSpace) -> None:
        """`shards` are looked at in each call."""
        self._shards = shards
        self._features = features
        self._read: tuple[Weights, ...] = ()
        self._made = RankerWeights.of({}, features)

    def read(self) -> RankerWeights:
        """The ranker by the weights that the shards last published."""
        shards = self._shards.values()
        if len(shards) != len(self._read) or any(map(is_not, shards, self._read)):
            self._read, self._made = tuple(shards), RankerWeights.of(self._shards, self._features)
        return self._made
