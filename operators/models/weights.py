"""The global ranker as it is gone by: the mean of what the shards of RANKER last published."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.feature_space import PRIOR
from riverrank.state.messages import Weights


class RankerWeights(NamedTuple):
    """The global ranker: `weights` float64 (SEGMENTS, F), the bias of a click on a shown item, what it learned from."""

    weights: np.ndarray
    bias: float
    version: int

    @classmethod
    def of(cls, shards: Mapping[int, Weights]) -> "RankerWeights":
        """The mean over shards; those with other features than this version's are left out."""
        held = [shard for shard in shards.values() if len(shard.weights) == 8 * PRIOR.size]
        if not held:
            return cls(PRIOR, 0.0, 0)
        weights = np.mean([np.frombuffer(shard.weights, "<f8").reshape(PRIOR.shape) for shard in held], axis=0)
        return cls(weights, sum(shard.bias for shard in held) / len(held), sum(shard.version for shard in held))

    def logits(self, features: np.ndarray, segment: int) -> np.ndarray:
        """The logits of `features`, float64 (c, F), of a user of `segment`: float64 (c,)."""
        return features @ self.weights[segment] + self.bias
