"""What SESSION keeps of one user, and its bytes."""

from typing import Any

import msgspec

from .messages import Seen

LAYOUT = 1


class OpenImpression(msgspec.Struct, array_like=True):
    """An impression that waits for what follows it; `labels[k]` is 1 once a positive interaction with item k came."""

    event_id: str
    ts: int
    items: tuple[str, ...]
    labels: list[int]
    slate_id: str | None = None


class SessionState(msgspec.Struct, array_like=True):
    """Layout 1, MessagePack array of these fields in this order.

    `ids` holds an entry of 16 bytes for each event id that is remembered, oldest arrival first: the 64-bit hash of
    the id and the event's time as an unsigned 64-bit number, both little-endian. `newest` is the newest event time,
    -1 for none. `floor` is the time up to which ids were forgotten for want of room, -1 for none: events up to it
    count as late. `epoch` is the time of the last erasure, 0 for none.
    """

    layout: int = LAYOUT
    newest: int = -1
    floor: int = -1
    epoch: int = 0
    ids: bytes = b""
    history: list[Seen] = []
    impressions: list[OpenImpression] = []
    attributes: dict[str, Any] = {}


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SessionState).decode


def encode_session(state: SessionState) -> bytes:
    """The bytes of `state`, in the newest layout."""
    return _encode(state)


def decode_session(raw: bytes | None) -> SessionState:
    """The state that `raw` holds, a new one for None; raises ValueError on a layout of a later version."""
    if raw is None:
        return SessionState()
    state = _decode(raw)
    if state.layout != LAYOUT:
        raise ValueError(f"session state of layout {state.layout}: this version reads {LAYOUT}")
    return state
