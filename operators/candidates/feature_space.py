"""The features that candidates are ordered by, made of what the registered sources say of themselves."""

from typing import NamedTuple

import numpy as np
from riverrank.state.hashing import hash32

from .features import FEATURES, PRIOR, SOURCE_OF_FEATURE, SOURCES

REASONS = {  # the reason that a source's features tell; those of any other tell its own name
    "covisit": "because_of_your_history",
    "cosine": "because_of_your_history",
    "embedding": "because_of_your_history",
    "sessions": "because_of_your_history",
    "content": "like_your_history",
    "text": "like_your_history",
    "interest": "like_your_history",
}


class FeatureSpace(NamedTuple):
    """`names` of the F features, in the order of a candidate's row of features; `marks` uint32 (F,), their hashes, by
    which stored weights are known; `prior` float64 (SEGMENTS, F), the ranker's weights before anything is learned;
    `sources`, in the order of the bits of `Candidates.proposed`; `source_of` int32 (F,), the source of each feature;
    `reasons`, the reason code that the features of each source tell.
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


def feature_space() -> FeatureSpace:
    """That of the sources which are registered now."""
    return FeatureSpace(
        FEATURES,
        np.array([hash32(name) for name in FEATURES], np.uint32),
        PRIOR,
        SOURCES,
        np.array(SOURCE_OF_FEATURE, np.int32),
        tuple(REASONS.get(source, source) for source in SOURCES),
    )
