"""An event type is one entry of the registry: what is written down of it never changes, and all else follows."""

import json

import pytest
from riverrank.operators.session.session import reward_of
from riverrank.operators.settings import RewardSettings, reward_section
from riverrank.state.event_types import ANSWERED, EVENT_TYPES, INTERACTIONS, EventType, interaction
from riverrank.state.messages import Seen
from riverrank.state.records.decoding import Reject, decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.sessions import decode_session
from shop_pipeline import Shop


def test_codes_are_those_that_histories_hold():
    assert {name: entry.code for name, entry in EVENT_TYPES.items()} == {
        **{"view": 0, "click": 1, "like": 2, "dislike": 3, "cart": 4, "purchase": 5, "rate": 6},
        **{"impression": 7, "profile": 8, "request": 9, "erase": 10, "export": 11, "preview": 12},
    }
    assert all(name == entry.name for name, entry in EVENT_TYPES.items())


def test_the_contract_of_the_types():
    assert set(INTERACTIONS) == {"view", "click", "like", "dislike", "cart", "purchase", "rate"}
    assert set(ANSWERED) == {*INTERACTIONS, "request"}
    assert len(INTERACTIONS) == 7
    defaults = {"view": 0.3, "click": 1.0, "like": 1.0, "dislike": -1.0, "cart": 1.5, "purchase": 2.0}
    settings = RewardSettings()
    defaults |= {"rate_least": 0.0, "rate_most": 5.0, "rate_from": 4.0}
    assert {name: getattr(settings, name) for name in RewardSettings.__struct_fields__} == defaults


@pytest.mark.parametrize(
    ("type_", "value", "reward"),
    [("cart", None, 9.0), ("rate", 4.0, 1.0), ("rate", 3.9, -0.05), ("rate", 2.0, -0.5), ("rate", -3.0, -1.0)],
)
def test_a_reward_is_what_the_settings_say_or_that_of_the_rating(type_, value, reward):
    assert reward_of(Event("e", type_, "u", 1, "i", value), RewardSettings(cart=9.0)) == reward
    assert reward_of(Event("e", "request", "u", 1), RewardSettings()) == 0.0


@pytest.fixture
def share(monkeypatch: pytest.MonkeyPatch) -> EventType:
    entry = interaction("share", 200, "shared", reward=1.25)
    monkeypatch.setitem(EVENT_TYPES, "share", entry)
    return entry


def test_a_type_of_one_entry_is_accepted_and_asked_for_its_item(share):
    record = {"event_id": "e", "type": "share", "user_id": "u", "item_id": "i", "ts": 1}
    assert decode_event(json.dumps(record).encode()) == Event("e", "share", "u", 1, "i")
    del record["item_id"]
    assert decode_event(json.dumps(record).encode()) == Reject("bad_field", "item_id: a share needs one, none is there")
    other = decode_event(json.dumps(record | {"type": "dance"}).encode())
    assert isinstance(other, Reject) and 'preview, share, got "dance"' in other.detail


def test_a_type_of_one_entry_has_a_setting(share):
    assert reward_section()(share=3.0).share == 3.0
    assert reward_section()().share == 1.25


def test_a_type_of_one_entry_is_learned_from_and_is_a_reason(share):
    shop = Shop()
    shop.crowd()
    before = shop.send("u", "request")
    slate = shop.send("u", "share", "i8")
    (seen,) = decode_session(shop.sessions["u"]).history
    assert seen == Seen("i8", 1000 * shop.sent, 1.25, share.code)
    assert before is not None and slate is not None
    assert {cause.code for slot in before.items for cause in slot.reasons}.isdisjoint({"because_you_shared"})
    told = [
        (cause.item_id, slot.item_id)
        for slot in slate.items
        for cause in slot.reasons
        if cause.code == "because_you_shared"
    ]
    assert told and {item for item, _ in told} == {"i8"}
    assert slate.model.examples == 1
    again = shop.send("u", "request")
    assert again is not None and "because_you_shared" in {cause.code for slot in again.items for cause in slot.reasons}
