"""What RECOMMEND keeps of one user, and its bytes."""

from typing import Any

import msgspec

LAYOUT = 1


class LearnerState(msgspec.Struct, array_like=True):
    """Layout 1, MessagePack array of these fields in this order. Arrays are little-endian bytes.

    `version` is that of the user's last slate. `examples` counts the feedbacks learned from. `seen` uint32 are hashes
    of the items interacted with, oldest first. `rated` is the number of ratings, and a sum that is no longer used. A
    linear learner is `intercept`, `weights` float32 (features), `tokens` uint32 (hashes of the content tokens it has
    weights for), `token_weights` float32, and `memory` of its optimiser. Any other learner is `model`: River's object,
    pickled, since River has no other form of it. `ratings` is the least and the greatest rating, how often rated the
    items were, and each rating model's squared errors, float32, then the models' weights, float16. `precision`
    float32 is how sure a linear learner is of each weight, features then tokens, kept where exploration asks for it.
    `losses` are the last ones, as `operators.models.drift` keeps them, and `since` is the event time from which on the
    history tells of the user's taste, 0 where it never changed.
    """

    layout: int = LAYOUT
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


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(LearnerState).decode


def encode_learner(state: LearnerState) -> bytes:
    """The bytes of `state`, in the newest layout."""
    return _encode(state)


def decode_learner(raw: bytes | None) -> LearnerState:
    """The state that `raw` holds, a new one for None; raises ValueError on a layout of a later version."""
    if raw is None:
        return LearnerState()
    state = _decode(raw)
    if state.layout != LAYOUT:
        raise ValueError(f"learner state of layout {state.layout}: this version reads {LAYOUT}")
    return state
