"""The one way from bytes to a record, or to a reason.

Nothing here knows what a record is used for. A decoder never raises on bad input: it returns a `Reject`.
"""

import re
from typing import Any, TypeVar

import msgspec
from riverrank.state.event_types import EVENT_TYPES

from .bounds import (
    MAX_COMPONENTS,
    MAX_CONTEXT_BYTES,
    MAX_DEPTH,
    MAX_ID_BYTES,
    MAX_IMPRESSION_ITEMS,
    MAX_NUMBER,
    MAX_PROFILE_BYTES,
    MAX_RECORD_BYTES,
    MAX_SLATE_ID_BYTES,
    MAX_TS,
    fits,
)
from .incoming import Event, Item
from .outgoing import DeadLetter, Reason, to_json

RAW_KEPT_BYTES = 1024
MAX_LETTER_BYTES = 1_000_000  # of a dead letter's `raw` as JSON: a broker takes 1 MiB a record, unless told otherwise
DETAIL_KEPT = 200  # characters of what msgspec says, which may quote the record


class Reject(msgspec.Struct, frozen=True):
    """Why bytes are not a record: one of `Reason`, and a sentence that names the field and what was expected."""

    reason: Reason
    detail: str


class _Deletion(msgspec.Struct):
    """An item that may be gone: then nothing else of it matters."""

    item_id: str
    ts: int
    deleted: bool = False


class _Key(msgspec.Struct):
    """The key of a deletion, as an object."""

    item_id: str


Record = TypeVar("Record", Event, Item)

_EVENT = msgspec.json.Decoder(Event)
_ITEM = msgspec.json.Decoder(Item)
_DELETION = msgspec.json.Decoder(_Deletion)
_FIELDS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_may_overflow = re.compile(rb"\d{19}").search


def decode_event(raw: bytes | None, latest: int = MAX_TS) -> Event | Reject:
    """The event that `raw` holds, or why it holds none; one that is newer than `latest`, epoch milliseconds, is ahead.

    >>> decode_event(b'{"event_id":"e","type":"click","user_id":"u","item_id":"i","ts":1}').type
    'click'
    >>> decode_event(b'{"event_id":"e","type":"click","user_id":"u","ts":1}')
    Reject(reason='bad_field', detail='item_id: a click needs one, none is there')
    """
    if raw is None:
        return Reject("bad_json", "the record has no value (null): expected a JSON object")
    event = _decode(raw, _EVENT)
    if isinstance(event, Reject):
        return event
    fault = _event_fault(event)
    return Reject("bad_field", fault) if fault else _in_time(_without_unused(event), latest)


def decode_item(raw: bytes | None, key: bytes | None = None, ts: int = 0, latest: int = MAX_TS) -> Item | Reject:
    """The item that `raw` holds, or why it holds none. No value (a tombstone) deletes the item named by `key` at `ts`:
    the key is the id, the id as a JSON string, or a JSON object with `item_id`. `latest` as in `decode_event`.

    >>> [decode_item(None, key, 7).item_id for key in (b"i-3", b'"i-3"', b'{"item_id": "i-3"}')]
    ['i-3', 'i-3', 'i-3']
    """
    if raw is None:
        item_id = _id_of_key(key or b"")
        if isinstance(item_id, Reject):
            return item_id
        fault = _item_id_fault("key", item_id)
        item = Item(item_id=item_id, ts=max(0, ts), deleted=True)
    else:
        decoded = _decode_item(raw)
        if isinstance(decoded, Reject):
            return decoded
        item = decoded
        fault = _item_fault(item)
    return Reject("bad_field", fault) if fault else _in_time(item, latest)


def dead_letter(raw: bytes | None, reject: Reject, topic: str, partition: int, offset: int, ts: int) -> DeadLetter:
    """The dead letter of `raw`, with replacement characters for what is not UTF-8.

    `raw` is cut to 1 KiB where it is over 1 MiB, or where its JSON would be too long for a broker to take.
    """
    kept = raw or b""
    if len(kept) > MAX_RECORD_BYTES:
        kept = kept[:RAW_KEPT_BYTES]
    text = kept.decode("utf-8", "replace")
    if len(kept) > MAX_LETTER_BYTES // 6 and len(to_json(text)) > MAX_LETTER_BYTES:  # a byte is six at most: \\u0000
        text = kept[:RAW_KEPT_BYTES].decode("utf-8", "replace")
    return DeadLetter(topic, partition, offset, reject.reason, reject.detail, text, ts)


def _decode_item(raw: bytes) -> Item | Reject:
    """The item; of one that is gone its id and time alone."""
    if b"deleted" in raw:
        gone = _decode(raw, _DELETION)
        if isinstance(gone, _Deletion) and gone.deleted:
            return Item(gone.item_id, gone.ts, deleted=True)
    item: Item | Reject = _decode(raw, _ITEM)
    return item


def _decode(raw: bytes, decoder: msgspec.json.Decoder) -> Any:
    if len(raw) > MAX_RECORD_BYTES:
        return Reject("too_large", f"{len(raw)} bytes: expected at most {MAX_RECORD_BYTES}")
    try:
        if not raw.isascii():
            raw.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject("bad_encoding", f"not UTF-8: {error.reason} at byte {error.start}")
    try:
        record = _present(raw, decoder) if b"null" in raw else decoder.decode(raw)
    except msgspec.ValidationError as error:
        return Reject("bad_field", _field_first(str(error)))
    except (msgspec.DecodeError, RecursionError) as error:
        return Reject("bad_json", f"not JSON: {error}")
    if _may_overflow(raw) or raw.count(b"[") + raw.count(b"{") > MAX_DEPTH:
        for field in ("context", "attributes"):
            if fault := _nested_fault(field, getattr(record, field, None)):
                return Reject("bad_field", fault)
    return record


def _present(raw: bytes, decoder: msgspec.json.Decoder) -> Any:
    """The record of an object in which a field that is null is as if it were absent; raises as msgspec does."""
    try:
        fields = _FIELDS.decode(raw)
    except msgspec.ValidationError:  # no object
        return decoder.decode(raw)
    there = {name: value for name, value in fields.items() if bytes(value) != b"null"}
    return decoder.decode(raw if len(there) == len(fields) else msgspec.json.encode(there))


def _without_unused(event: Event) -> Event:
    """`event` without what can be of any size and its type has no use for: it would travel for nothing."""
    there = [field for field in ("items", "attributes") if getattr(event, field) is not None]
    entry = EVENT_TYPES[event.type]
    unused = [field for field in there if field not in entry.needs and field not in entry.uses]
    return msgspec.structs.replace(event, **dict.fromkeys(unused)) if unused else event


def _in_time(record: Record, latest: int) -> Record | Reject:
    """`record`, unless it is newer than `latest`."""
    ts = record.ts
    if ts <= latest:
        return record
    return Reject("ahead", f"ts: {ts} is {ts - latest} ms beyond what the wall clock allows (allowed_ahead)")


def _id_of_key(key: bytes) -> str | Reject:
    """The item's id that the key of a deletion holds."""
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError as error:
        return Reject("bad_encoding", f"the key of a deletion is not UTF-8: {error.reason} at byte {error.start}")
    if text.startswith(("{", '"')):
        try:
            named = msgspec.json.decode(key, type=_Key | str)
        except (msgspec.DecodeError, RecursionError) as error:
            return Reject("bad_field", f"key: expected an item id, as it is or as JSON: {str(error)[:DETAIL_KEPT]}")
        return named if isinstance(named, str) else named.item_id
    return text


def _nested_fault(field: str, value: object) -> str | None:
    """What MessagePack could not carry on from here: integers over 64 bits, or nesting without end."""
    pending: list[tuple[object, int]] = [(value, 0)]
    while pending:
        inner, depth = pending.pop()
        if depth > MAX_DEPTH:
            return f"{field}: expected at most {MAX_DEPTH} levels of nesting"
        if isinstance(inner, dict):
            pending.extend((each, depth + 1) for each in inner.values())
        elif isinstance(inner, list):
            pending.extend((each, depth + 1) for each in inner)
        elif isinstance(inner, int) and not -(1 << 63) <= inner < 1 << 63:
            return f"{field}: expected integers of at most 64 bits, got one of {inner.bit_length()}"
    return None


def _field_first(message: str) -> str:
    """msgspec says ``Expected `int`, got `str` - at `$.ts```; a dead letter names the field first.

    >>> _field_first("Expected `int`, got `str` - at `$.ts`")
    'ts: expected int, got str'
    >>> _field_first("Object missing required field `ts`")
    'ts: a required field, none is there'
    """
    message = message.replace("`", "")
    missing = "Object missing required field "
    if message.startswith(missing):
        return f"{message[len(missing) :].split(' ')[0]}: a required field, none is there"
    what, _, where = message.rpartition(" - at $") if " - at $" in message else (message, "", "")
    return f"{where.lstrip('.') or 'record'}: {what[:1].lower()}{what[1 : DETAIL_KEPT + 1]}"


def _id_fault(field: str, value: str) -> str | None:
    if value and fits(value, MAX_ID_BYTES):
        return None
    return f"{field}: expected a string of 1 to {MAX_ID_BYTES} bytes, got {len(value.encode('utf-8'))} bytes"


def _ts_fault(field: str, value: int) -> str | None:
    if 0 <= value <= MAX_TS:
        return None
    got = value if value.bit_length() <= 64 else f"an integer of {value.bit_length()} bits"
    return f"{field}: expected epoch milliseconds from 0 to {MAX_TS}, got {got}"


def _event_fault(event: Event) -> str | None:
    entry = EVENT_TYPES.get(event.type)
    if entry is None:
        what = f"expected one of {', '.join(EVENT_TYPES)}, got {to_json(event.type[:DETAIL_KEPT]).decode()}"
        return f"type: {what[: DETAIL_KEPT + 1]}"
    fault = _id_fault("event_id", event.event_id) or _id_fault("user_id", event.user_id) or _ts_fault("ts", event.ts)
    if fault:
        return fault
    fault = (
        (_item_id_fault("item_id", event.item_id) if event.item_id is not None else None)
        or (_number_fault("value", event.value) if event.value is not None else None)
        or (_size_fault(event, entry.uses) if event.slate_id or event.context or event.attributes else None)
    )
    if fault:
        return fault
    for field in entry.needs:
        if getattr(event, field) in (None, ()):
            what = "at least one item id" if field == "items" else "one"
            return f"{field}: {'an' if entry.name[0] in 'aeiou' else 'a'} {entry.name} needs {what}, none is there"
    return _items_fault(event.items) if event.items and "items" in entry.needs else None


def _size_fault(event: Event, uses: tuple[str, ...]) -> str | None:
    if event.slate_id is not None and not fits(event.slate_id, MAX_SLATE_ID_BYTES):
        got = len(event.slate_id.encode("utf-8"))
        return f"slate_id: expected a string of at most {MAX_SLATE_ID_BYTES} bytes, got {got} bytes"
    for field, most in (("context", MAX_CONTEXT_BYTES), ("attributes", MAX_PROFILE_BYTES)):
        value = getattr(event, field) if field == "context" or field in uses else None
        if value and (got := len(to_json(value))) > most:
            return f"{field}: expected at most {most} bytes as JSON, got {got}"
    return None


def _number_fault(field: str, value: float) -> str | None:
    if -MAX_NUMBER <= value <= MAX_NUMBER:
        return None
    return f"{field}: expected a number from {-MAX_NUMBER:.0f} to {MAX_NUMBER:.0f}, got {value!r}"


def _item_id_fault(field: str, value: str) -> str | None:
    if value.startswith("\0"):  # so do the names that the job gives to what is no item
        return f"{field}: expected an id that does not begin with the NUL character (U+0000)"
    return _id_fault(field, value)


def _items_fault(items: tuple[str, ...]) -> str | None:
    if len(items) > MAX_IMPRESSION_ITEMS:
        return f"items: expected at most {MAX_IMPRESSION_ITEMS} item ids, got {len(items)}"
    return next((fault for item_id in items if (fault := _item_id_fault("items", item_id))), None)


def _item_fault(item: Item) -> str | None:
    fault = _item_id_fault("item_id", item.item_id) or _ts_fault("ts", item.ts)
    if fault:
        return fault
    if item.published_ts is not None and (fault := _ts_fault("published_ts", item.published_ts)):
        return fault
    if item.embedding is None:
        return None
    if len(item.embedding) > MAX_COMPONENTS:
        return f"embedding: expected at most {MAX_COMPONENTS} numbers, got {len(item.embedding)}"
    faults = (_number_fault(f"embedding[{at}]", number) for at, number in enumerate(item.embedding))
    return next(filter(None, faults), None)
