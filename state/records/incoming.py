"""Records that come in: events and items. What their fields mean is said here; `docs/integrate.md` is made of it."""

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from .bounds import (
    MAX_COMPONENTS,
    MAX_ID_BYTES,
    MAX_IMPRESSION_ITEMS,
    MAX_NUMBER,
    MAX_SLATE_ID_BYTES,
    MAX_TS,
)


def _means(description: str, **bounds: Any) -> Meta:
    """What a field means, and its `bounds` as JSON Schema has them; `decoding` sees to them, and names the fault."""
    return Meta(description=description, extra_json_schema=bounds)


_ID = {"minLength": 1, "maxLength": MAX_ID_BYTES}
_TIME = {"minimum": 0, "maximum": MAX_TS}
_NUMBER = {"minimum": -MAX_NUMBER, "maximum": MAX_NUMBER}


class Event(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record of the `events` stream: something that a user did, was shown, stated or asks for."""

    event_id: Annotated[str, _means("names the event: one that comes again is not used", **_ID)]
    type: Annotated[str, _means("what happened: see the table of types")]
    user_id: Annotated[str, _means("whose event it is; the key of its record on a topic", **_ID)]
    ts: Annotated[int, _means("when it happened: milliseconds since 1970, UTC", **_TIME)]
    item_id: Annotated[str | None, _means("what it happened to", **_ID)] = None
    value: Annotated[float | None, _means("the rating, of a `rate`; of others it says nothing", **_NUMBER)] = None
    items: Annotated[
        tuple[str, ...] | None,
        _means("what was shown, first place first, of an `impression`", minItems=1, maxItems=MAX_IMPRESSION_ITEMS),
    ] = None
    slate_id: Annotated[
        str | None,
        _means("the slate that was shown, or that the user acted on", maxLength=MAX_SLATE_ID_BYTES),
    ] = None
    context: Annotated[
        dict[str, Any] | None,
        _means("where and when, such as device, hour or page: the first four names with a short value; 1 KB as JSON"),
    ] = None
    attributes: Annotated[
        dict[str, Any] | None, _means("what a `profile` states: names, and a value or a list of values; 8 KB as JSON")
    ] = None

    @property
    def shown(self) -> tuple[str, ...]:
        """What was shown, each item once, at its first place."""
        return tuple(dict.fromkeys(self.items or ()))


class Item(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record of the `items` stream: an item as it is from `ts` on. The newest `ts` of an item wins, whatever the
    order of arrival.
    """

    item_id: Annotated[str, _means("names the item; the key of its record on a topic", **_ID)]
    ts: Annotated[int, _means("since when it is so: milliseconds since 1970, UTC", **_TIME)]
    title: Annotated[str | None, _means("its name, for whoever reads; its words tell what it is like")] = None
    text: Annotated[str | None, _means("more about it, whose words tell what it is like")] = None
    categories: Annotated[tuple[str, ...], _means("what it is; those longer than 256 bytes name nothing")] = ()
    attributes: Annotated[
        dict[str, Any],
        _means("more of the kind, such as brand, year or price; text longer than 256 bytes names nothing"),
    ] = {}
    embedding: Annotated[
        tuple[float, ...] | None,
        _means("a vector of your own, each component between -1e6 and 1e6", maxItems=MAX_COMPONENTS),
    ] = None
    published_ts: Annotated[int | None, _means("when it came: what is new is tried", **_TIME)] = None
    available: Annotated[bool, _means("whether it may be on a slate now")] = True
    deleted: Annotated[bool, _means("whether it is gone; other fields say nothing then")] = False
