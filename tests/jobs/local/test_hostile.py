"""Whatever stands in a field of a record: nothing raises, nothing that is not finite is served or learned from, no
state grows without bound, and who sent nothing hears nothing of what can't be used.
"""

import json
import math
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.operators.tally import Tally
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item

NOW = 1_764_000_000_000
USER_BYTES = 200_000  # of one user's state, at most: 50 ids of 256 bytes, a profile, 8 impressions that wait
SLATE_BYTES = 100_000
FLOATS = st.floats() | st.sampled_from([1.79e308, -1.79e308, 1e39, 5e-324, 1e6, -1e6])
TEXTS = st.text(max_size=20) | st.builds(
    lambda unit, n: unit * n, st.characters(), st.sampled_from([257, 9_000, 250_000])
)
LEAVES = FLOATS | st.integers(-(1 << 70), 1 << 70) | TEXTS | st.booleans() | st.none()
VALUES = (
    LEAVES | st.lists(LEAVES, max_size=5) | st.dictionaries(st.text(max_size=9), LEAVES | st.lists(LEAVES), max_size=5)
)
EVENT = {
    "event_id": "wild",
    "type": "rate",
    "user_id": "wild",
    "item_id": "i3",
    "ts": NOW,
    "value": 4.0,
    "items": ["i1"],
}
ITEM = {"item_id": "i3", "ts": NOW + 1, "categories": ["c"], "attributes": {"price": 9.5}, "embedding": [0.5, 1.0]}
CANARY = "canary@shop"
FIELDS = [("events", name) for name in Event.__struct_fields__] + [("items", name) for name in Item.__struct_fields__]


class Shop:
    """A small shop whose users go on as they do, with records of others in between."""

    def __init__(self) -> None:
        self.slates: list[tuple[str, bytes]] = []
        self.letters: list[Any] = []
        outputs = {
            "slates": lambda key, value: self.slates.append((key, value)),
            "dead-letters": lambda key, value: self.letters.append(json.loads(value)),
            "predictions": lambda key, value: json.loads(value, parse_constant=_refuse),
        }
        self.pipeline = Pipeline(Behaviour(), outputs)
        self.offset = 0
        for k in range(12):
            item = {"item_id": f"i{k}", "ts": 1, "categories": [f"c{k % 3}"], "embedding": [k / 12, 1.0]}
            self.send("items", json.dumps(item).encode())
        self.go_on(0)

    def send(self, stream: str, raw: bytes) -> None:
        arrival = Arrival(0, self.offset, 0, raw)
        self.offset += 1
        (self.pipeline.item if stream == "items" else self.pipeline.event)(arrival)

    def go_on(self, first: int) -> None:
        for k in range(first, first + 8):
            kind = ("click", "request", "purchase", "impression")[k % 4]
            event = {"event_id": f"e{k}", "user_id": f"u{k % 2}", "type": kind, "ts": NOW + k, "item_id": f"i{k % 12}"}
            self.send("events", json.dumps(event | ({"items": ["i1", "i2"]} if kind == "impression" else {})).encode())


def _refuse(constant: str) -> None:
    raise AssertionError(f"{constant} was written")


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(FIELDS), VALUES, st.sampled_from(["click", "rate", "impression", "profile"])),
        max_size=4,
    )
)
def test_nothing_in_any_field_stops_or_spoils_anything(wild):
    shop = Shop()
    for number, ((stream, field), value, kind) in enumerate(wild):
        base = ITEM if stream == "items" else {**EVENT, "type": kind, "event_id": f"wild{number}"}
        shop.send(stream, json.dumps({**base, field: value}).encode("utf-8", "surrogatepass"))
    shop.go_on(8)
    shop.send("events", json.dumps({**EVENT, "event_id": "last", "ts": NOW + 99}).encode())
    for message in shop.pipeline.intake.close():
        shop.pipeline.hear(message)
    for _, raw in shop.slates:
        assert len(raw) < SLATE_BYTES
        slots = json.loads(raw, parse_constant=_refuse)["items"]
        assert slots and all(0 <= slot["score"] <= 1 and 0 < slot["propensity"] <= 1 for slot in slots)
        assert all(math.isfinite(reason.get("weight", 0.0)) for slot in slots for reason in slot["reasons"])
    states = [*shop.pipeline.users.values(), *shop.pipeline.intake.states.values()]
    assert max(map(len, states)) < USER_BYTES
    for model in shop.pipeline.lessons.ranker.models:
        assert np.isfinite(model.weights).all()
    table = shop.pipeline.index.table
    assert all(
        np.isfinite(getattr(table, name)).all() for name in table.columns if getattr(table, name).dtype.kind == "f"
    )


@settings(max_examples=80, deadline=None)
@given(st.sampled_from(FIELDS), VALUES)
def test_a_dead_letter_changes_nothing_for_anybody(field, value):
    plain, shop = Shop(), Shop()
    stream, name = field
    base = ITEM if stream == "items" else EVENT
    raw = json.dumps({**base, name: value}).encode("utf-8", "surrogatepass")
    shop.send(stream, raw)
    used = not shop.letters
    assert not (used and isinstance((decode_event if stream == "events" else decode_item)(raw), Reject))
    plain.offset += 1
    for each in (plain, shop):
        each.go_on(8)
    if not used:
        assert len(shop.letters) == 1 and shop.slates == plain.slates
        assert shop.pipeline.learners_digest() == plain.pipeline.learners_digest()


def test_what_is_logged_of_dead_letters_names_no_user() -> None:
    """A column that was taken for another may put the id of a user anywhere."""
    reasons = set()
    for stream, name in FIELDS:
        record, decode = (EVENT, decode_event) if stream == "events" else (ITEM, decode_item)
        for value in (CANARY, [CANARY], {CANARY: CANARY}, CANARY * 200, {CANARY: CANARY * 5_000}, [CANARY] * 5_000):
            raw = json.dumps(record | {name: value}).encode()
            for line in (raw, raw[:-9], json.dumps(value).encode()):
                found, tally = decode(line), Tally()
                if isinstance(found, Reject):
                    tally.refuse(stream, 7, found)
                    reasons.add(found.detail)
                    said = " ".join([*tally.told(), tally.fault or ""])
                    assert f"{stream} 7: " in said and CANARY[:6] not in said
    assert len(reasons) > 20 and any(CANARY[:6] in reason for reason in reasons), "the dead letter says it"
