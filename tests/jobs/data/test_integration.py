"""What `docs/integrate.md` and the JSON Schemas say of records is what the records are."""

from pathlib import Path
from typing import Any

import msgspec
import pytest
from riverrank.jobs.data import integration
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Reason

DOCS = Path(integration.__file__).resolve().parents[2] / "docs"
NEEDED: dict[type, dict[str, Any]] = {
    Event: {"event_id": "e", "type": "rate", "user_id": "u", "ts": 1, "item_id": "i", "value": 1},
    Item: {"item_id": "i", "ts": 1},
}
DECODE: dict[type, Any] = {Event: decode_event, Item: decode_item}


def test_the_documents_are_made_of_the_records_as_they_are() -> None:
    for path, text in integration.files(DOCS).items():
        assert path.read_text("utf-8") == text, "python -m riverrank.jobs.data.integration docs"
    assert {path.name for path in (DOCS / integration.SCHEMAS).iterdir()} == {
        *("event.json", "item.json", "slate.json", "deadletter.json", "receipt.json", "export.json", "prediction.json"),
    }


def test_every_record_field_type_and_reason_is_on_the_page() -> None:
    page = (DOCS / integration.PAGE).read_text("utf-8")
    for record in integration.SHOWN:
        assert f"<!-- made of {record.__name__} -->" in page
        for name, *_, what in integration.fields_of(record):
            assert what, f"{record.__name__}.{name} has no meaning"
    assert all(f"| `{name}` |" in page for name in EVENT_TYPES)
    assert all(f"| `{reason}` |" in page for reason in msgspec.inspect.type_info(Reason).values)


def test_a_part_of_what_is_not_known_is_refused() -> None:
    with pytest.raises(KeyError, match="Evnt"):
        integration.filled("<!-- made of Evnt -->\n<!-- end -->")


def edges() -> list[tuple[type, str, Any, bool]]:
    """A record, one of its fields, a value at a bound that the schema names or beyond it, and whether it is within."""
    found: list[tuple[type, str, Any, bool]] = []
    for record in (Event, Item):
        for name, of in integration.schema_of(record)["properties"].items():
            is_many = any(kind.get("type") == "array" for kind in of.get("anyOf", [of]))
            one: Any = 0.5 if name == "embedding" else "x"
            for bound, step in (("minLength", -1), ("maxLength", 1), ("minItems", -1), ("maxItems", 1)):
                if bound in of:
                    found += [
                        (record, name, [one] * n if is_many else "x" * n, n == of[bound])
                        for n in (of[bound], of[bound] + step)
                    ]
            for bound, step in (("minimum", -1), ("maximum", 1)):
                if bound in of:
                    found += [(record, name, of[bound], True), (record, name, of[bound] + step, False)]
    return found


@pytest.mark.parametrize(("record", "field", "value", "fits"), edges())
def test_the_decoder_holds_the_bounds_that_the_schema_names(record: type, field: str, value: Any, fits: bool) -> None:
    fields = NEEDED[record] | {field: value}
    if field == "items":
        fields["type"] = "impression"
    decoded = DECODE[record](msgspec.json.encode(fields))
    if fits:
        assert isinstance(decoded, record)
    else:
        assert isinstance(decoded, Reject) and decoded.reason == "bad_field" and decoded.detail.startswith(field)


def test_there_are_bounds_to_hold() -> None:
    assert {field for _, field, _, _ in edges()} == {
        *("event_id", "user_id", "ts", "item_id", "value", "items", "slate_id", "embedding", "published_ts"),
    }


def test_what_the_schema_requires_is_required() -> None:
    for record, needed in NEEDED.items():
        required = integration.schema_of(record)["required"]
        for name in required:
            rest = {field: value for field, value in needed.items() if field != name}
            decoded = DECODE[record](msgspec.json.encode(rest))
            assert isinstance(decoded, Reject) and decoded.detail == f"{name}: a required field, none is there"
        assert isinstance(DECODE[record](msgspec.json.encode(needed)), record) and required
