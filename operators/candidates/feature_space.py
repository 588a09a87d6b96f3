"""Moved: see `features` and `registry`."""

from . import registry
from .context import COLD, SEGMENTS, WARM
from .features import FeatureSpace, feature_space

_SPACE = feature_space(registry.SOURCES)
FEATURES, F, PRIOR, SOURCES = _SPACE.names, _SPACE.size, _SPACE.prior, _SPACE.sources
SOURCE_OF_FEATURE, NEW = _SPACE.source_of.tolist(), SOURCES.index("new")
__all__ = [
    "COLD",
    "FEATURES",
    "NEW",
    "PRIOR",
    "SEGMENTS",
    "SOURCES",
    "SOURCE_OF_FEATURE",
    "WARM",
    "F",
    "FeatureSpace",
    "feature_space",
]
