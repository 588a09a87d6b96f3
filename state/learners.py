"""What RECOMMEND keeps of one user, and RANKER of a shard beside its vectors: weights, by names of features."""

from collections.abc import Hashable, Sequence
from typing import Any

import msgspec
import numpy as np

from .codec import Fields, Layout
from .hashing import hash32

_SCORES_1 = (
    *("after", "before", "cosine", "embedding", "sessions", "content"),
    *("text", "interest", "cohort", "popular", "trending", "repeat"),
)
# The features of layout 1, of which only the number and the order were known: those of each weight that does not say.
FEATURES_1 = (*(f"{score}:{shape}" for shape in ("root", "share", "log") for score in _SCORES_1), "likes", "new")
SEGMENTS_1, RATES_1 = 2, (0.4, 1.0, 3.0)


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


class NetState(msgspec.Struct, array_like=True):
    """A net of `operators.models.net`: the steps that it made, the choices that it kept in all, `values` float32
    (3, d + 2, WIDTH) of itself and of what Adam keeps, and of the choices that are still kept, n of them, the rows
    `kept`, bfloat16 (n, KEPT_ROWS, d), and `kept_of`, float32 (n, 3).
    """

    steps: int
    count: int
    values: bytes
    kept: bytes
    kept_of: bytes


class ClickState(msgspec.Struct, frozen=True, array_like=True):
    """A model of `operators.clicks.model`: the lists that it learned from, and by the `names` of its features `values`
    float64 (3, names + 2), of itself and of what Adam keeps; the last two are its competition and its intercept.
    """

    steps: int = 0
    names: tuple[str, ...] = ()
    values: bytes = b""


class RankerState(msgspec.Struct, array_like=True, tag=3):
    """Layout 3. `version` counts the feedbacks learned from, `rewarded` those above 0, of which `reward` is the usual
    one; `bias` makes logits those of clicks on shown items.

    For each segment of users and each of the linear models, which are known by their `rates`, there is a number in
    `losses`, float64 (segments, rates), and one for each of the features, by `names`, in `weights`, float64 (segments,
    rates, names). `nets` are those of the segments, and `net_losses`, float64 (segments,), theirs. `clicks` is the
    model of clicks on shown lists.
    """

    version: int = 0
    weights: bytes = b""
    bias: float = 0.0
    losses: bytes = b""
    reward: float = 1.0
    names: tuple[str, ...] = ()
    rates: tuple[float, ...] = ()
    net_losses: bytes = b""
    nets: tuple[NetState, ...] = ()
    clicks: ClickState = ClickState()
    rewarded: int = -1  # not counted


def _ranker_named(fields: Fields) -> Fields:
    """From layout 1, whose features and rates were those of the version that wrote it: others begin anew."""
    defaults: Fields = [0, b"", 0.0, b"", 1.0]
    version, weights, bias, losses, reward = [*fields, *defaults[len(fields) :]]
    models = SEGMENTS_1 * len(RATES_1)
    known: Any = len(weights) == 8 * models * len(FEATURES_1) and len(losses) == 8 * models
    if not known:
        return [version, b"", bias, b"", reward, (), ()]
    return [version, weights, bias, losses, reward, FEATURES_1, RATES_1]


def _ranker_with_nets(fields: Fields) -> Fields:
    """From layout 2, which had none."""
    return [*fields, b"", ()]


RANKER = Layout("ranker state", RankerState, {1: _ranker_named, 2: _ranker_with_nets})


OF_ANY_TYPE, REFUSED = 254, 255  # kinds of rows of `seen` that are no code of an event type


class LearnerState(msgspec.Struct, array_like=True, tag=3):
    """Layout 3. Arrays are little-endian bytes, and names are kept as hashes (CRC-32).

    `version` is that of the user's last slate. `examples` counts the feedbacks learned from. `seen` uint32 are hashes
    of the items that are hidden from slates, oldest first, `seen_at` uint32 since when, in seconds since 1970, and
    `seen_by` uint8 by what: the code of an event type, or REFUSED, or OF_ANY_TYPE from layout 2. `rated` is the number
    of ratings, and a sum that is no longer used.
    `model_of` is the class that the learner is of, and `memory_of` its optimiser; 0 where it is not known. A linear
    learner is `intercept`, `weights` float32 of the ranker's logit and the features, which `features` uint32 names,
    `tokens` uint32, the content tokens it has weights for, `token_weights` float32, and `memory` of its optimiser: its
    steps, and arrays float64 by features and tokens. Any other learner is `model`: River's object, pickled, since River
    has no other form of it. `ratings` is the least and the greatest rating, how often rated the items were, and each
    rating model's squared errors, float32, then the models' weights, float16. `precision` float32 is how sure a linear
    learner is of each weight, features then tokens, kept where exploration asks for it. `losses` are the last ones, as
    `operators.models.drift` keeps them, and `since` is the event time from which on the history tells of the user's
    taste, 0 where it never changed. `slates` are the user's last ones, as `operators.slate.attribution` keeps them;
    `shown` are the lists that wait for what follows, as `operators.slate.waiting` does.
    """

    version: int = 0
    examples: int = 0
    seen: bytes = b""
    rated: tuple[int, float] = (0, 0.0)
    intercept: float = 0.0
    weights: bytes = b""
    tokens: bytes = b""
    token_weights: bytes = b""
    memory: dict[str, Any] = {}
    model: bytes = b""
    ratings: bytes = b""
    precision: bytes = b""
    losses: bytes = b""
    since: int = 0
    model_of: int = 0
    memory_of: int = 0
    features: bytes = b""
    seen_at: bytes = b""
    seen_by: bytes = b""
    slates: bytes = b""
    shown: bytes = b""

    def forget_learner(self) -> None:
        """Give up the learner, and the count of what it learned from."""
        self.examples = self.model_of = self.memory_of = 0
        self.intercept = 0.0
        self.weights = self.tokens = self.token_weights = self.model = self.precision = self.features = b""
        self.memory = {}


_MARKS_1 = b"".join(hash32(name).to_bytes(4, "little") for name in ("ranker", *FEATURES_1))


def _learner_named(fields: Fields) -> Fields:
    """From layout 1, whose features were those of the version that wrote it: a learner of others begins anew."""
    state = LearnerState(*fields)
    if len(state.weights) == len(_MARKS_1):
        state.features = _MARKS_1
    elif state.weights:
        model, examples = state.model, state.examples if state.model else 0
        state.forget_learner()
        state.model, state.examples = model, examples
    return [getattr(state, name) for name in LearnerState.__struct_fields__[:17]]


def _learner_hiding(fields: Fields) -> Fields:
    """From layout 2, which hid all that the user had interacted with, for ever."""
    state = LearnerState(*fields[:17])
    n = len(state.seen) // 4
    state.seen_at, state.seen_by = bytes(4 * n), bytes([OF_ANY_TYPE]) * n
    return [getattr(state, name) for name in LearnerState.__struct_fields__[:19]]


LEARNER = Layout("learner state", LearnerState, {1: _learner_named, 2: _learner_hiding})
encode_learner = LEARNER.encode
decode_learner = LEARNER.decode
