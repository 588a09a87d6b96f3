"""The features that candidates are ordered by: each score of a source in several shapes, or as it stands."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.state.hashing import hash32

from .context import SEGMENTS
from .source import ROOT, SHAPES, Score, Source

LEAST = 1e-9  # a best score below counts as this much
_ZERO = np.float32(0.0)


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
    """The features of `sources`: first the shapes of all scores, score by score, then those that are plain.

    Raises:
        ValueError: two features have one name, or the scores of a source contradict each other (see Source.check).
    """
    for source in sources:
        source.check()
    found: list[tuple[str, float, int]] = []  # name, prior, source
    for plain in (False, True):
        for number, source in enumerate(sources):
            for score in source.scores:
                if score.plain is plain:
                    priors = (score.prior,) if score.plain else [score.prior * (shape == ROOT) for shape in SHAPES]
                    found += [(name, prior, number) for name, prior in zip(score.names, priors, strict=True)]
    names, prior, numbers = zip(*found, strict=True)
    if len(set(names)) < len(names):
        raise ValueError(f"two features have one name: {sorted(name for name in names if names.count(name) > 1)}")
    return FeatureSpace(
        names,
        np.array([hash32(name) for name in names], np.uint32),
        np.tile(np.array(prior), (SEGMENTS, 1)),
        tuple(source.name for source in sources),
        np.array(numbers, np.int32),
        tuple(source.reason for source in sources),
    )


class Shaping(NamedTuple):
    """How scores become features: the numbers of those that are `shaped` and of those that are `plain`, int32; and of
    each shaped one whether only its share has a meaning, `relative` bool.
    """

    shaped: np.ndarray
    plain: np.ndarray
    relative: np.ndarray

    @classmethod
    def of(cls, scores: Sequence[Score]) -> "Shaping":
        """That of all scores of all sources, in their order."""
        shaped, plain = ([k for k, score in enumerate(scores) if score.plain is is_plain] for is_plain in (False, True))
        return cls(
            np.array(shaped, np.int32), np.array(plain, np.int32), np.array([scores[k].relative for k in shaped], bool)
        )


@njit(cache=True)
def best_of(scores, proposed, shaped, best):  # type: ignore[no-untyped-def]
    """Write the highest of each of the scores `shaped`, int32 (s,), of `scores`, float32 (c, S), among the first
    `proposed` to `best`, float64 (s,), LEAST at least.
    """
    best[:] = LEAST
    for c in range(proposed):
        for s in range(len(shaped)):
            best[s] = max(best[s], np.float64(scores[c, shaped[s]]))


@njit(cache=True, error_model="numpy")
def shape(scores, best, shaped, plain, relative, features):  # type: ignore[no-untyped-def]
    """Write to `features`, float32 (c, F), the SHAPES of those of `scores`, float32 (c, S), that are `shaped`, int32
    (s,), beside the `best`, float64 (s,), and then those that are `plain`, int32, as they stand. Of a `relative` one,
    bool (s,), the root is that of its share. A share is 1 at most: a row that nobody proposed may have a higher score
    than the best. About 4 us for 100 rows of 17 shaped scores: those of a row are brought together first, so that a
    machine takes several roots at once.
    """
    begin = len(SHAPES) * len(shaped)
    held, roots, shares = (np.empty(len(shaped), np.float32), np.empty(len(shaped), np.float32), np.empty(len(shaped)))
    for c in range(len(scores)):
        for s in range(len(shaped)):
            score = scores[c, shaped[s]]
            held[s] = score if score > _ZERO else _ZERO
        for s in range(len(shaped)):
            roots[s] = np.sqrt(held[s])
            shares[s] = min(held[s] / best[s], 1.0)
        for s in range(len(shaped)):
            features[c, len(SHAPES) * s] = math.sqrt(shares[s]) if relative[s] else roots[s]
            features[c, len(SHAPES) * s + 1] = shares[s]
        for k in range(len(plain)):
            features[c, begin + k] = scores[c, plain[k]]


@njit(cache=True)
def shape_found(scores, proposed, shaped, plain, relative, best, features):  # type: ignore[no-untyped-def]
    """`shape` beside the `best_of` the first `proposed`: one call for two."""
    best_of(scores, proposed, shaped, best)
    shape(scores, best, shaped, plain, relative, features)
