"""The job's own records, as they travel between its operators: MessagePack arrays, one codec each.

These never leave the job. Fields are only ever added at the end, with a default.
"""

from typing import Any

import msgspec

from .records import Event, Item


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a history: an interaction with `item_id` at `ts` that was worth `reward`."""

    item_id: str
    ts: int
    reward: float


class Outcome(msgspec.Struct, frozen=True, array_like=True):
    """A resolved impression: for each item that was shown, 1 if a positive interaction followed, else 0."""

    event_id: str
    ts: int
    items: tuple[str, ...]
    labels: tuple[int, ...]
    slate_id: str | None = None


class Feedback(msgspec.Struct, frozen=True, array_like=True):
    """An accepted event of a user with what SESSION knows of them: the one record that every learner reads.

    `history` is the user's before this event, newest last. `reward` is 0 for an event that is no interaction.
    `attributes` is the user's profile as it stands after this event. `epoch` is the event time of the user's last
    erasure, 0 for none. `outcomes` are the impressions that this event resolved.
    """

    event: Event
    reward: float
    history: tuple[Seen, ...]
    outcomes: tuple[Outcome, ...] = ()
    attributes: dict[str, Any] = {}
    epoch: int = 0


class Neighbours(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What SIGNALS learned since its last update, by item: all arrays little-endian, all indices into `ids`.

    `stats` is float32 of shape (len(ids), 4): decayed popularity, interactions, sum of ratings, number of ratings;
    a row of negative interactions says nothing of that id. `rows` int32 (r,) names the r lists that follow:
    `neighbours` int32 (r, k), -1 where empty, with `weights` float32 (r, k) and `counts` float32 (r, k).
    """

    shard: int
    ids: tuple[str, ...]
    stats: bytes
    rows: bytes
    width: int
    neighbours: bytes
    weights: bytes
    counts: bytes
    events: int
    ts: int
    totals: tuple[float, float, float]  # sum of ratings, number of ratings, number of positive interactions


class Weights(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The ranker's weights (float64, one for each feature), its version, and the calibration of its logit."""

    shard: int
    version: int
    weights: bytes
    scale: float = 1.0
    bias: float = 0.0


class CatalogueUpdate(msgspec.Struct, frozen=True, array_like=True, tag=3):
    """An item of the `items` stream."""

    item: Item


class CacheWrite(msgspec.Struct, frozen=True, array_like=True):
    """What CACHE is asked to do with one key: put `slate` (JSON) there, or where it is None, erase the key.

    Order is by (`epoch`, `version`). `receipt` is the JSON that proves an erasure once the key is gone.
    """

    key: str
    epoch: int
    version: int
    slate: bytes | None
    receipt: bytes | None = None


Update = Neighbours | Weights | CatalogueUpdate

_ENCODER = msgspec.msgpack.Encoder()
encode = _ENCODER.encode
decode_event = msgspec.msgpack.Decoder(Event).decode
decode_feedback = msgspec.msgpack.Decoder(Feedback).decode
decode_update = msgspec.msgpack.Decoder(Update).decode
decode_write = msgspec.msgpack.Decoder(CacheWrite).decode
