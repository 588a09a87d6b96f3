"""What the decoder of records promises: a record or a reason, whatever the bytes, and nothing that stops the job."""

import json
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.state import messages as wire
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records import bounds, decoding
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Reason, to_json

IDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=64)
ITEM_IDS = IDS.filter(lambda name: not name.startswith("\0"))
TIMES = st.integers(0, bounds.MAX_TS)
FINITE = st.floats(allow_nan=False, allow_infinity=False)
BOUNDED = st.floats(-bounds.MAX_NUMBER, bounds.MAX_NUMBER)
LEAVES = (
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 63) - 1) | FINITE | st.text(st.characters(codec="utf-8"))
)
NESTED = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(IDS, inner, max_size=3), max_leaves=8
)
MAPPINGS = st.dictionaries(IDS, NESTED, max_size=4)
SMALL = MAPPINGS.filter(lambda mapping: len(to_json(mapping)) <= bounds.MAX_PROFILE_BYTES)
CLICK: dict[str, Any] = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": 1}


@st.composite
def events(draw: st.DrawFn) -> Event:
    """Any valid event."""
    type_ = draw(st.sampled_from(sorted(EVENT_TYPES)))
    needs, uses = EVENT_TYPES[type_].needs, EVENT_TYPES[type_].uses
    return Event(
        event_id=draw(IDS),
        type=type_,
        user_id=draw(IDS),
        ts=draw(TIMES),
        item_id=draw(ITEM_IDS) if "item_id" in needs else None,
        value=draw(BOUNDED if "value" in needs else st.none() | BOUNDED),
        items=tuple(draw(st.lists(ITEM_IDS, min_size=1, max_size=5))) if "items" in needs else None,
        slate_id=draw(st.none() | IDS),
        context=draw(st.none() | MAPPINGS.filter(lambda mapping: len(to_json(mapping)) <= bounds.MAX_CONTEXT_BYTES)),
        attributes=draw(st.none() | SMALL) if "attributes" in uses else None,
    )


@st.composite
def items(draw: st.DrawFn) -> Item:
    """Any valid item."""
    return Item(
        item_id=draw(ITEM_IDS),
        ts=draw(TIMES),
        title=draw(st.none() | st.text(st.characters(codec="utf-8"))),
        categories=tuple(draw(st.lists(IDS, max_size=3))),
        attributes=draw(MAPPINGS),
        embedding=draw(st.none() | st.lists(BOUNDED, max_size=4).map(tuple)),
        published_ts=draw(st.none() | TIMES),
        available=draw(st.booleans()),
        deleted=draw(st.booleans()),
    )


@given(events())
def test_every_valid_event_comes_back_from_its_json_and_travels_through_the_job(event: Event) -> None:
    decoded = decode_event(to_json(event))
    assert decoded == event
    assert msgspec.msgpack.Decoder(Event).decode(wire.encode(decoded)) == event


@given(items())
def test_every_valid_item_comes_back_from_its_json_and_travels_through_the_job(item: Item) -> None:
    decoded = decode_item(to_json(item))
    assert isinstance(decoded, Item)
    assert decoded == (Item(item.item_id, item.ts, deleted=True) if item.deleted else item)
    update = wire.CatalogueUpdate(decoded)
    assert wire.decode_update(wire.encode(update)) == update


@given(st.binary(max_size=200) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_give_a_record_or_a_reason_with_a_detail(raw: bytes) -> None:
    for decoded in (decode_event(raw), decode_item(raw), decode_item(None, raw)):
        if isinstance(decoded, Reject):
            assert decoded.reason in get_args(Reason)
            assert decoded.detail


ANYTHING = LEAVES | st.integers() | st.floats() | st.lists(LEAVES, max_size=2) | st.just({"a": [1]})


@given(st.sampled_from(sorted(Event.__struct_fields__)), ANYTHING)
def test_a_field_of_any_value_gives_a_reason_that_names_it_or_an_event_that_travels(field: str, value: object) -> None:
    raw = json.dumps({**CLICK, field: value}).encode("utf-8", "surrogatepass")
    decoded = decode_event(raw)
    if isinstance(decoded, Event):
        assert msgspec.msgpack.Decoder(Event).decode(wire.encode(decoded)) == decoded
        assert decode_event(to_json(decoded)) == decoded
    elif decoded.reason == "bad_field":
        assert decoded.detail.split(":")[0].split("[")[0] in (field, "item_id", "value", "items")
    else:
        assert decoded.reason == "bad_json"  # NaN, Infinity, a surrogate on its own


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"type": "dance"}, "type: expected one of view, click, like,"),
        ({"type": 3}, "type: expected str, got int"),
        ({"ts": "now"}, "ts: expected int, got str"),
        ({"ts": -5}, "ts: expected epoch milliseconds from 0"),
        ({"ts": 1.5}, "ts: expected int, got float"),
        ({"ts": 10**400}, "ts: expected epoch milliseconds from 0 to 253402300799999, got an integer of 1329 bits"),
        ({"event_id": None}, "event_id: a required field, none is there"),
        ({"value": 1000001}, "value: expected a number from -1000000 to 1000000, got 1000001.0"),
        ({"value": -1.79e308}, "value: expected a number from -1000000 to 1000000, got -1.79e+308"),
        ({"value": 10**400}, "value: number out of range"),
        ({"slate_id": "u" * 321}, "slate_id: expected a string of at most 320 bytes, got 321 bytes"),
        ({"slate_id": "\u00fc" * 161}, "slate_id: expected a string of at most 320 bytes, got 322 bytes"),
        ({"context": {"n": "x" * 1018}}, "context: expected at most 1024 bytes as JSON, got 1026"),
        ({"context": {"n": [1e15] * 80}}, "context: expected at most 1024 bytes as JSON"),
        (
            {"type": "profile", "attributes": {"n": "x" * 8186}},
            "attributes: expected at most 8192 bytes as JSON, got 8194",
        ),
        ({"user_id": ""}, "user_id: expected a string of 1 to 256 bytes, got 0 bytes"),
        ({"user_id": "u" * 257}, "user_id: expected a string of 1 to 256 bytes, got 257 bytes"),
        ({"user_id": "\u00fc" * 129}, "user_id: expected a string of 1 to 256 bytes, got 258 bytes"),
        ({"item_id": None}, "item_id: a click needs one"),
        ({"type": "rate"}, "value: a rate needs one"),
        ({"type": "impression"}, "items: an impression needs at least one"),
        ({"type": "impression", "items": []}, "items: an impression needs at least one"),
        ({"type": "impression", "items": ["a", 3]}, "items[1]: expected str, got int"),
        ({"type": "impression", "items": ["a", ""]}, "items: expected a string of 1 to 256 bytes"),
        ({"type": "impression", "items": ["a"] * 1001}, "items: expected at most 1000 item ids, got 1001"),
        ({"value": True}, "value: expected float | null, got bool"),
        ({"context": []}, "context: expected object | null, got array"),
        ({"context": {"n": 1 << 63}}, "context: expected integers of at most 64 bits"),
        ({"attributes": {"n": [-(1 << 70)]}}, "attributes: expected integers of at most 64 bits"),
    ],
)
def test_a_bad_field_is_named_with_what_was_expected(change: dict[str, object], detail: str) -> None:
    decoded = decode_event(json.dumps({**CLICK, **change}).encode())
    assert isinstance(decoded, Reject)
    assert decoded.reason == "bad_field"
    assert decoded.detail.startswith(detail)


@pytest.mark.parametrize("field", ["event_id", "type", "user_id", "ts"])
def test_a_missing_field_is_named(field: str) -> None:
    raw = json.dumps({key: value for key, value in CLICK.items() if key != field}).encode()
    assert decode_event(raw) == Reject("bad_field", f"{field}: a required field, none is there")


@pytest.mark.parametrize("raw", [None, b"", b"{not json", b"{", b'{"ts":NaN}', b"\xef\xbb\xbf{}", b'{"a":"\\ud800"}'])
def test_what_is_no_json_is_said_to_be_none(raw: bytes | None) -> None:
    decoded = decode_event(raw)
    assert isinstance(decoded, Reject)
    assert decoded.reason == "bad_json"


def test_bytes_that_are_not_utf8_are_bad_encoding_even_inside_a_string() -> None:
    raw = json.dumps(CLICK).encode().replace(b'"u"', b'"\xff"')
    assert decode_event(raw) == Reject("bad_encoding", f"not UTF-8: invalid start byte at byte {raw.index(255)}")


def test_a_record_of_one_mebibyte_is_read_and_of_one_byte_more_is_too_large() -> None:
    padded = json.dumps({**CLICK, "pad": ""}).encode()
    largest = padded.replace(b'"pad": "', b'"pad": "' + b"p" * (bounds.MAX_RECORD_BYTES - len(padded)))
    assert len(largest) == bounds.MAX_RECORD_BYTES
    assert isinstance(decode_event(largest), Event)
    decoded = decode_event(largest + b" ")
    assert isinstance(decoded, Reject)
    assert decoded.reason == "too_large"


@pytest.mark.parametrize("depth", [80, 5_000, 100_000])
def test_nesting_without_end_is_a_reason(depth: int) -> None:
    nested = b"[" * depth + b"]" * depth
    raw = json.dumps({**CLICK, "context": {"a": 0}}).encode().replace(b'"a": 0', b'"a": ' + nested)
    decoded = decode_event(raw)
    assert isinstance(decoded, Reject)
    assert decoded.reason in ("bad_field", "bad_json")


def test_many_values_side_by_side_are_no_nesting() -> None:
    attributes = {"cells": [[n] for n in range(500)]}
    decoded = decode_event(json.dumps({**CLICK, "type": "profile", "attributes": attributes}).encode())
    assert isinstance(decoded, Event)
    assert decoded.attributes == attributes


def test_unknown_fields_are_ignored() -> None:
    decoded = decode_event(json.dumps({**CLICK, "later": [1]}).encode())
    assert decoded == Event(event_id="e", type="click", user_id="u", item_id="i", ts=1)


def test_a_detail_stays_short_whatever_the_record_holds() -> None:
    decoded = decode_event(json.dumps({**CLICK, "type": "x" * 100_000}).encode())
    assert isinstance(decoded, Reject)
    assert 20 < len(decoded.detail) < 300


@pytest.mark.parametrize(
    ("key", "reason"), [(None, "bad_field"), (b"", "bad_field"), (b"\xff", "bad_encoding"), (b"k" * 257, "bad_field")]
)
def test_a_tombstone_without_a_usable_key_is_a_reason(key: bytes | None, reason: str) -> None:
    decoded = decode_item(None, key)
    assert isinstance(decoded, Reject)
    assert decoded.reason == reason


@pytest.mark.parametrize(
    ("key", "item_id"),
    [(b"i 3", "i 3"), (b'"i-3"', "i-3"), (b'"\\u00fc"', "\u00fc"), (b'{"item_id":"i-3","x":1}', "i-3"), (b"17", "17")],
)
def test_a_tombstone_deletes_the_item_that_its_key_names_as_text_or_as_json(key: bytes, item_id: str) -> None:
    assert decode_item(None, key, 5) == Item(item_id=item_id, ts=5, deleted=True)


@pytest.mark.parametrize("key", [b'"i-3', b'{"id":"i-3"}', b'{"item_id":3}', b"{" * 5000, b'""', b'{"item_id":""}'])
def test_a_key_that_begins_as_json_and_names_no_item_is_a_reason(key: bytes) -> None:
    decoded = decode_item(None, key, 5)
    assert isinstance(decoded, Reject)
    assert decoded.reason == "bad_field"
    assert decoded.detail.startswith("key: ")


def test_a_tombstone_deletes_the_item_of_its_key_even_without_a_time() -> None:
    assert decode_item(None, b"i-3", -1) == Item(item_id="i-3", ts=0, deleted=True)


@pytest.mark.parametrize(
    ("change", "detail"),
    [
        ({"embedding": [1, None]}, "embedding[1]: expected float, got null"),
        ({"embedding": [0, 1e39]}, "embedding[1]: expected a number from -1000000 to 1000000, got 1e+39"),
        ({"embedding": [0] * 4097}, "embedding: expected at most 4096 numbers, got 4097"),
        ({"categories": ["a", None]}, "categories[1]: expected str, got null"),
        ({"published_ts": -1}, "published_ts: expected epoch milliseconds from 0"),
        ({"categories": "drama"}, "categories: expected array, got str"),
        ({"available": 1}, "available: expected bool, got int"),
        ({"attributes": {"n": 1 << 64}}, "attributes: expected integers of at most 64 bits"),
        ({"item_id": 7}, "item_id: expected str, got int"),
    ],
)
def test_a_bad_field_of_an_item_is_named(change: dict[str, object], detail: str) -> None:
    decoded = decode_item(json.dumps({"item_id": "i", "ts": 1, **change}).encode())
    assert isinstance(decoded, Reject)
    assert decoded.reason == "bad_field"
    assert decoded.detail.startswith(detail)


LATE = Reject("late", "ts: 1 is older")


def test_a_dead_letter_keeps_the_record_as_it_was() -> None:
    letter = decoding.dead_letter(b'{"a":1}', LATE, "events", 2, 17, 5)
    assert json.loads(to_json(letter)) == {
        "topic": "events",
        "partition": 2,
        "offset": 17,
        "reason": "late",
        "detail": "ts: 1 is older",
        "raw": '{"a":1}',
        "ts": 5,
    }


def test_no_item_is_named_as_cohorts_are():
    record = {"event_id": "\0e", "type": "click", "user_id": "\0u", "item_id": "i", "ts": 1}
    assert isinstance(decode_event(to_json(record)), Event)
    fault = decode_event(to_json(record | {"item_id": "\0age=old"}))
    assert isinstance(fault, Reject) and fault.detail.startswith("item_id: expected an id that does not begin")
    shown = {"event_id": "e", "type": "impression", "user_id": "u", "items": ["i", "\0"], "ts": 1}
    assert isinstance(decode_event(to_json(shown)), Reject)
    assert isinstance(decode_item(to_json({"item_id": "\0", "ts": 1})), Reject)


@pytest.mark.parametrize("unit", [b"x", b"\xff", b'"', b"\x00", "\u20ac".encode()])
@pytest.mark.parametrize("size", [0, 100_000, 400_000, bounds.MAX_RECORD_BYTES, 2 * bounds.MAX_RECORD_BYTES])
def test_a_dead_letter_of_any_record_fits_what_a_broker_takes(unit: bytes, size: int) -> None:
    raw = unit * (size // len(unit))
    letter = decoding.dead_letter(raw, LATE, "events", 0, 0, 0)
    assert len(to_json(letter)) < decoding.MAX_LETTER_BYTES + 1000
    assert letter.raw[:100] == raw[:300].decode("utf-8", "replace")[:100]
    if size > bounds.MAX_RECORD_BYTES:
        assert len(letter.raw) <= decoding.RAW_KEPT_BYTES
    elif unit == b"x" and size < decoding.MAX_LETTER_BYTES:
        assert letter.raw == raw.decode()


def test_a_dead_letter_of_no_value_is_empty() -> None:
    assert decoding.dead_letter(None, LATE, "events", 0, 0, 0).raw == ""


@given(st.floats())
def test_a_value_out_of_bounds_is_never_accepted(value: float) -> None:
    decoded = decode_event(json.dumps({**CLICK, "value": value}).encode())
    assert isinstance(decoded, Event) == (abs(value) <= bounds.MAX_NUMBER)


def test_what_fits_exactly_is_accepted() -> None:
    profile = {**CLICK, "type": "profile", "attributes": {"n": "x" * 8184}, "context": {"n": "x" * 1016}}
    decoded = decode_event(json.dumps({**profile, "slate_id": "s" * 320, "value": -1e6}).encode())
    assert isinstance(decoded, Event)
    assert decoded.attributes == profile["attributes"]
    item = decode_item(json.dumps({"item_id": "i", "ts": 1, "embedding": [1e6] * 4096}).encode())
    assert isinstance(item, Item)


@pytest.mark.parametrize("field", sorted(set(Event.__struct_fields__) - {"event_id", "type", "user_id", "ts"}))
def test_null_in_an_optional_field_of_an_event_is_as_if_it_were_absent(field: str) -> None:
    for type_ in EVENT_TYPES:
        record = {**CLICK, "type": type_, "value": 4, "items": ["i"]}
        without = {name: value for name, value in record.items() if name != field}
        assert decode_event(to_json(without | {field: None})) == decode_event(to_json(without))


@pytest.mark.parametrize("field", sorted(set(Item.__struct_fields__) - {"item_id", "ts"}))
def test_null_in_an_optional_field_of_an_item_is_as_if_it_were_absent(field: str) -> None:
    decoded = decode_item(to_json({"item_id": "i", "ts": 1, "title": "null", field: None}))
    assert isinstance(decoded, Item)
    assert decoded == decode_item(to_json({"item_id": "i", "ts": 1} | ({"title": "null"} if field != "title" else {})))


def test_what_a_type_has_no_use_for_does_not_travel() -> None:
    big = {"attributes": {"n": "x" * 100_000}, "items": ["j"] * 5000}
    decoded = decode_event(to_json(CLICK | big))
    assert decoded == decode_event(to_json(CLICK))


@pytest.mark.parametrize(
    "other",
    [
        '"published_ts":-1',
        '"categories":"x"',
        '"attributes":{"a":1' + "0" * 30 + "}",
        '"embedding":[1e9]',
        '"title":null',
    ],
)
def test_an_item_goes_whatever_else_its_record_says(other: str) -> None:
    head = '{"item_id":"i","ts":5,'
    gone = Item(item_id="i", ts=5, deleted=True)
    assert decode_item(f'{head}"deleted":true,{other}}}'.encode()) == gone
    stays = decode_item(f'{head}"deleted":false,{other}}}'.encode())
    assert isinstance(stays, Reject) == ("null" not in other)
    assert isinstance(decode_item(b'{"item_id":"","ts":5,"deleted":true}'), Reject)


@pytest.mark.parametrize("value", ["1e400", "[" * 40 + "]" * 40, "1" * 400, '"\\\\ud83d\\\\ude00"'])
def test_a_null_changes_nothing_of_how_other_fields_are_read(value: str) -> None:
    """Of a field that is not known, only that it is JSON matters, with a null elsewhere or without."""
    head = '{"event_id":"e","type":"click","user_id":"u","item_id":"i","ts":1'
    for field in ("z", "value", "slate_id"):
        plain, with_null = f'{head},"{field}":{value}}}'.encode(), f'{head},"{field}":{value}, "x" : null }}'.encode()
        assert decode_event(with_null) == decode_event(plain)
    assert isinstance(decode_event(f'{head},"z":{value},"slate_id":null}}'.encode()), Event)
