"""Records that leave. What their fields mean is said once, here; `docs/integrate.md` is made of it."""

from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

Reason = Literal["bad_encoding", "bad_json", "bad_field", "too_large", "late", "ahead"]
Part = Literal["sessions", "learner", "cache"]
to_json = msgspec.json.Encoder().encode


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reason of a slot: what moved its score, and by which item or value."""

    code: Annotated[str, Meta(description="what it is: see docs/slates.md")]
    item_id: Annotated[str | None, Meta(description="the item of the user's history that it comes from")] = None
    value: Annotated[str | None, Meta(description="the value that the code is about, such as a category")] = None
    weight: Annotated[float | None, Meta(description="what it adds to the logit of the score")] = None


class Slot(msgspec.Struct, frozen=True):
    """One place of a slate."""

    item_id: Annotated[str, Meta(description="what to show")]
    rank: Annotated[int, Meta(description="its place, from 1")]
    score: Annotated[float, Meta(description="the probability of a positive reward, once it is looked at")]
    propensity: Annotated[
        float, Meta(description="the probability with which it was put on this place, given the places above")
    ]
    sources: Annotated[tuple[str, ...], Meta(description="what proposed it: see docs/slates.md")]
    reasons: Annotated[tuple[Cause, ...], Meta(description="why it is there, the strongest first")]


class ModelInfo(msgspec.Struct, frozen=True):
    """What the answer was made from."""

    examples: Annotated[int, Meta(description="feedbacks that this user's learner has learned from")]
    global_version: Annotated[int, Meta(description="feedbacks that the ranker has learned from")]


class Slate(msgspec.Struct, frozen=True):
    """The ranked list that answers one event."""

    slate_id: Annotated[str, Meta(description="`user_id:version`: to be named by what follows")]
    user_id: Annotated[str, Meta(description="whose slate it is; the key of its record on a topic")]
    version: Annotated[int, Meta(description="from 1, one more each time; only an erasure begins it again")]
    ts: Annotated[int, Meta(description="event time of what it answers: milliseconds since 1970, UTC")]
    trigger: Annotated[str, Meta(description="the id of the event that it answers")]
    strategy: Annotated[Literal["cold", "warm"], Meta(description="cold until the user has had an interaction")]
    arm: Annotated[str, Meta(description="the arm of an experiment that the user is in, `control` where none")]
    model: Annotated[ModelInfo, Meta(description="what it was made from")]
    items: Annotated[tuple[Slot, ...], Meta(description="the places, best first")]


class ListedItem(msgspec.Struct, frozen=True):
    """One place of a list of items."""

    item_id: Annotated[str, Meta(description="what to show")]
    rank: Annotated[int, Meta(description="its place, from 1")]
    score: Annotated[float, Meta(description="how much it is so, from 0 to 1: see docs/contract.md")]


class ItemList(msgspec.Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A list of items that is no user's, as Redis has it."""

    key: Annotated[str, Meta(description="which list it is: similar, together or trending")]
    item_id: Annotated[str | None, Meta(description="the item that it is of; none of what trends")] = None
    version: Annotated[int, Meta(description="one more than the events that were learned from; it only grows")]
    ts: Annotated[int, Meta(description="event time of the newest of these: milliseconds since 1970, UTC")]
    items: Annotated[tuple[ListedItem, ...], Meta(description="the places, best first")]


class DeadLetter(msgspec.Struct, frozen=True):
    """A record that cannot be used, with the reason."""

    topic: Annotated[str, Meta(description="the topic it came from, `events` or `items` of a file")]
    partition: Annotated[int, Meta(description="its partition there, 0 of a file")]
    offset: Annotated[int, Meta(description="its offset there; the number of the line, from 0, of a file")]
    reason: Annotated[Reason, Meta(description="why: see the table of reasons")]
    detail: Annotated[str, Meta(description="the field, what was expected, and what was there")]
    raw: Annotated[str, Meta(description="the record; its first 1,024 bytes where it is too large")]
    ts: Annotated[int, Meta(description="Kafka's time of it, milliseconds since 1970, UTC; 0 of a file")]


class Receipt(msgspec.Struct, frozen=True):
    """The proof of an erasure."""

    event_id: Annotated[str, Meta(description="the id of the event that asked for it")]
    user_id: Annotated[str, Meta(description="who was erased; the key of its record on a topic")]
    ts: Annotated[int, Meta(description="event time of what asked for it: milliseconds since 1970, UTC")]
    erased: Annotated[tuple[str, ...], Meta(description="what the user was erased from; slates: by a tombstone")]


class Export(msgspec.Struct, frozen=True):
    """A piece of what a part of the job keeps of a user."""

    event_id: Annotated[str, Meta(description="the id of the event that asked for it")]
    user_id: Annotated[str, Meta(description="of whom it is; the key of its record on a topic")]
    ts: Annotated[int, Meta(description="event time of what asked for it: milliseconds since 1970, UTC")]
    part: Annotated[Part, Meta(description="who keeps it: see docs/privacy.md")]
    next: Annotated[Part | None, Meta(description="the part that comes after this one; null: none does")]
    piece: Annotated[int, Meta(description="which piece of the part this is, from 1")]
    pieces: Annotated[int, Meta(description="how many pieces the part is cut into")]
    digest: Annotated[str, Meta(description="of the whole part, so the same in all of its pieces")]
    kept: Annotated[
        dict[str, Any],
        Meta(description="by name, rows or one value: see docs/privacy.md; rows go on in the next piece"),
    ]


class Prediction(msgspec.Struct, frozen=True):
    """A prediction made before learning from what it is about."""

    event_id: Annotated[str, Meta(description="the event it is about; of an item that was shown, its impression")]
    user_id: Annotated[str, Meta(description="the user")]
    item_id: Annotated[str, Meta(description="the item")]
    prediction: Annotated[
        float, Meta(description="a rating in the units of `value`, or the probability of a positive reward")
    ]
    label: Annotated[float, Meta(description="what came: the rating, or 1 for a positive reward and 0 for none")]
    kind: Annotated[Literal["rating", "click"], Meta(description="which of the two it is")]
