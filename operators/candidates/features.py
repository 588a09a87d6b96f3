"""The features that candidates are ordered by: each score of a source in several shapes, and what sources add."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.state.hashing import hash32

from .context import SEGMENTS
from .source import Source

SHAPES = ("root", "share")  # of a score: its root, and its share of the best candidate's
LEAST = 1e-9  # a best score below counts as this much


class FeatureSpace(NamedTuple):
    """`names` of the F features, in the order of a candidate's row of features; `marks` uint32 (F,), their hashes, by
    which stored weights are known; `prior` float64 (SEGMENTS, F), the ranker's weights before anything is learned;
    `sources`, in the order of the bits of `Candidates.proposed`; `source_of` int32 (F,), the source of each feature;
    `reasons`, the reason code that the features of each source give.
    """

    names: tuple[str, ...]
    marks: np.ndarray
    prior: np.ndarray
    sources: tuple[str, ...]
    source_of: np.ndarray
    reasons: tuple[str, ...]

    @property
    def size(self) -> int:
        """F."""
        return len(self.names)


def feature_space(sources: Sequence[Source]) -> FeatureSpace:
    """The features of `sources`: first the shapes of all scores, score by score, then the others."""
    found: list[tuple[str, float, int]] = []  # name, prior, source
    for number, source in enumerate(sources):
        for score in source.scores:
            found += [(f"{score.name}:{shape}", score.prior if shape == "root" else 0.0, number) for shape in SHAPES]
    for number, source in enumerate(sources):
        found += [(name, feature.prior, number) for feature in source.features for name in feature.names]
    names, priors, numbers = zip(*found, strict=True)
    if len(set(names)) < len(names):
        raise ValueError(f"two features have one name: {sorted(name for name in names if names.count(name) > 1)}")
    return FeatureSpace(
        names,
        np.array([hash32(name) for name in names], np.uint32),
        np.tile(np.array(priors), (SEGMENTS, 1)),
        tuple(source.name for source in sources),
        np.array(numbers, np.int32),
        tuple(source.reason for source in sources),
    )


@njit(cache=True)
def best_of(scores, proposed, best):  # type: ignore[no-untyped-def]
    """Write the highest of each score, float32 (c, S), among the first `proposed` to `best`, float64 (S,), LEAST at
    least.
    """
    best[:] = LEAST
    for c in range(proposed):
        for s in range(scores.shape[1]):
            best[s] = max(best[s], np.float64(scores[c, s]))


@njit(cache=True, error_model="numpy")
def shape(scores, best, relative, features):  # type: ignore[no-untyped-def]
    """Write the SHAPES of `scores`, float32 (c, S), beside the `best`, float64 (S,), to the first columns of
    `features`, float64 (c, F). Of a `relative` score, bool (S,), the root is that of its share. A share is 1 at most: a
    row that nobody proposed may have a higher score than the best.
    """
    for c in range(len(scores)):
        for s in range(scores.shape[1]):
            held = np.float64(scores[c, s])
            score = held if held > 0.0 else 0.0
            share = min(score / best[s], 1.0)
            features[c, len(SHAPES) * s] = math.sqrt(share if relative[s] else score)
            features[c, len(SHAPES) * s + 1] = share


@njit(cache=True)
def shape_found(scores, proposed, relative, best, features):  # type: ignore[no-untyped-def]
    """`shape` beside the `best_of` the first `proposed`: one call for two."""
    best_of(scores, proposed, best)
    shape(scores, best, relative, features)
