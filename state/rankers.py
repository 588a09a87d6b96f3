"""What RANKER keeps of a shard beside its vectors, and its bytes."""

from typing import Any

import msgspec

from .codec import Fields, Layout

_SCORES_1 = (
    *("after", "before", "cosine", "embedding", "sessions", "content"),
    *("text", "interest", "cohort", "popular", "trending", "repeat"),
)
# The features of layout 1, of which only the number and the order were known: those of each weight that does not say.
FEATURES_1 = (*(f"{score}:{shape}" for shape in ("root", "share", "log") for score in _SCORES_1), "likes", "new")
SEGMENTS_1, RATES_1 = 2, (0.4, 1.0, 3.0)


class RankerState(msgspec.Struct, array_like=True, tag=2):
    """Layout 2. `version` counts the feedbacks learned from, `reward` is the usual one of those above 0, `bias` makes
    logits those of clicks on shown items.

    For each segment of users and each of the models, which are known by their `rates`, there is a number in `losses`,
    float64 (segments, rates), and one for each of the features, by `names`, in `weights`, float64 (segments, rates,
    names).
    """

    version: int = 0
    weights: bytes = b""
    bias: float = 0.0
    losses: bytes = b""
    reward: float = 1.0
    names: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()


def _named(fields: Fields) -> Fields:
    """From layout 1, whose features and rates were those of the version that wrote it: others begin anew."""
    defaults: Fields = [0, b"", 0.0, b"", 1.0]
    version, weights, bias, losses, reward = [*fields, *defaults[len(fields) :]]
    models = SEGMENTS_1 * len(RATES_1)
    known: Any = len(weights) == 8 * models * len(FEATURES_1) and len(losses) == 8 * models
    if not known:
        return [version, b"", bias, b"", reward, (), ()]
    return [version, weights, bias, losses, reward, FEATURES_1, RATES_1]


RANKER = Layout("ranker state", RankerState, {1: _named})
