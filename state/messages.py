"""The job's own records, as they travel between its operators: MessagePack arrays, one codec each.

These never leave the job. Fields are only ever added at the end, with a default.
"""

from typing import Any

import msgspec
import numpy as np

from .records import INTERACTIONS, Event, Item

POPULAR = "popular"  # names the slate for whoever has none


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """One entry of a history: an interaction with `item_id` at `ts` that was worth `reward`, of type `kind`."""

    item_id: str
    ts: int
    reward: float
    kind: int = INTERACTIONS.index("click")  # of `records.INTERACTIONS`


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

    def history_after(self) -> tuple[Seen, ...]:
        """The history with the event's own interaction in it."""
        event = self.event
        if event.type not in INTERACTIONS or event.item_id is None:
            return self.history
        return (*self.history, Seen(event.item_id, event.ts, self.reward, INTERACTIONS.index(event.type)))


class SignalUpdate(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """What one shard of SIGNALS learned since its last update. Arrays are little-endian, items are indices into `ids`.

    `counted` int32 (m,) names the items whose `stats`, float32 (m, 6), follow. `lists` int32 (r, 2) is of the first r
    items: how often the list of each was renewed (and so forgot), and how many cells of it changed. A cell is one
    position of a list; in the order of the lists, `positions` uint16 (c,), `neighbours` int32 (c,) and `weights`
    float32 (c, 3) say which, the neighbour now there, and its three weights.
    `events` is how many feedbacks the shard has learned from; `ts` is the newest time of those this update is about.
    `keys` uint32 (p,) are users, by a hash, who each took one of `taken`, int32 (p,), in this order; -1: is erased.
    """

    shard: int
    ids: tuple[str, ...]
    counted: bytes
    stats: bytes
    lists: bytes
    positions: bytes
    neighbours: bytes
    weights: bytes
    events: int
    ts: int
    ratings: tuple[float, float]  # their sum and their number, over all items of the shard
    keys: bytes = b""
    taken: bytes = b""


class Weights(msgspec.Struct, frozen=True, array_like=True, tag=2):
    """The weights of one shard's ranker: float64 (segments, names), by the `names` of features; `version` counts what
    it learned from. Where no names are said, the features are `rankers.FEATURES_1`.
    """

    shard: int
    version: int
    weights: bytes
    bias: float = 0.0  # makes the logit that of a click on a shown item
    names: tuple[str, ...] = ()


class VectorUpdate(msgspec.Struct, frozen=True, array_like=True, tag=4):
    """Vectors of items that moved since they were last told. Arrays are little-endian, items are indices into `ids`.

    `context_of` int32 (m,) names the items whose `context` embeddings, bfloat16 (m, d), follow; `target_of` int32 (n,)
    those whose `target` embeddings, bfloat16 (n, d), and `bias`, float32 (n,), follow. `ts` is the newest time of what
    this was learned from.
    """

    shard: int
    ids: tuple[str, ...]
    context_of: bytes
    context: bytes
    target_of: bytes
    target: bytes
    bias: bytes
    ts: int


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


Learned = SignalUpdate | VectorUpdate  # what was learned from events up to a time
Update = Learned | Weights | CatalogueUpdate

_ENCODER = msgspec.msgpack.Encoder()
encode = _ENCODER.encode
decode_event = msgspec.msgpack.Decoder(Event).decode
decode_feedback = msgspec.msgpack.Decoder(Feedback).decode
decode_update = msgspec.msgpack.Decoder(Update).decode
decode_write = msgspec.msgpack.Decoder(CacheWrite).decode


def to_bfloat16(numbers: np.ndarray) -> bytes:
    """The upper halves of float32 numbers, rounded: two bytes each, little-endian.

    >>> from_bfloat16(to_bfloat16(np.array([1.0, -0.3], np.float32))).tolist()
    [1.0, -0.30078125]
    """
    bits = np.ascontiguousarray(numbers, "<f4").view("<u4")
    return ((bits + np.uint32(0x8000)) >> np.uint32(16)).astype("<u2").tobytes()


def from_bfloat16(raw: bytes) -> np.ndarray:
    """The numbers of `to_bfloat16`, float32, flat."""
    return (np.frombuffer(raw, "<u2").astype("<u4") << np.uint32(16)).view("<f4")
