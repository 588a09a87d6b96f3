"""What SESSION keeps of one user, and its bytes."""

from typing import Any

import msgspec

from .codec import Fields, Layout
from .messages import EMPTY, History, Seen


class OpenImpression(msgspec.Struct, array_like=True):
    """An impression that waits for what follows it. `labels` has a byte an item: 1 once a positive interaction with
    it came, else 0.
    """

    event_id: str
    ts: int
    items: tuple[str, ...]
    labels: bytes
    slate_id: str | None = None


class SessionState(msgspec.Struct, array_like=True, tag=2):
    """Layout 2.

    Of each event id that is remembered, oldest arrival first, `hashes` has the 64-bit hash and `times` the event's
    time, unsigned 64-bit numbers, little-endian. `newest` is the newest event time, -1 for none. `floor` is the time up
    to which ids were forgotten for want of room, -1 for none: events up to it count as late. `epoch` is the time of the
    last erasure, 0 for none. `history` is newest last.
    """

    newest: int = -1
    floor: int = -1
    epoch: int = 0
    hashes: bytes = b""
    times: bytes = b""
    history: History = EMPTY
    impressions: list[OpenImpression] = []
    attributes: dict[str, Any] = {}


def _by_columns(fields: Fields) -> Fields:
    """From layout 1: hash and time in turn, a history of entries, labels as a list."""
    defaults: Fields = [-1, -1, 0, b"", [], [], {}]
    newest, floor, epoch, ids, history, impressions, attributes = [*fields, *defaults[len(fields) :]]
    hashes, times = (b"".join(ids[k : k + 8] for k in range(start, len(ids), 16)) for start in (0, 8))
    history = History.of(msgspec.convert(history, list[Seen]))
    for impression in impressions:
        impression[3] = bytes(impression[3])
    return [newest, floor, epoch, hashes, times, history, impressions, attributes]


SESSION = Layout("session state", SessionState, {1: _by_columns})
encode_session = SESSION.encode
decode_session = SESSION.decode
