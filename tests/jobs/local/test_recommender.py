"""The recommender for notebooks: its slates are those of replay, and looking at one leaves no trace."""

import json
from pathlib import Path

import msgspec
import pytest
from riverrank.jobs.config import schema
from riverrank.jobs.errors import UsageError
from riverrank.jobs.local import replay
from riverrank.jobs.local.recommender import Recommender
from riverrank.operators.settings import Behaviour, SlateSettings
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import DeadLetter, Receipt, Slate, to_json
from shop_events import CATALOGUE, stream

EVENTS = stream(120, seed=3, users=8)


def test_its_slates_are_those_of_replay_byte_for_byte(tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.jsonl" for name in ("events", "items", "slates", "predictions")}
    for name, lines in (("events", EVENTS), ("items", CATALOGUE)):
        paths[name].write_text("".join(line + "\n" for line in lines), "utf-8")
    config = schema.load(None, {f"files.{name}": str(path) for name, path in paths.items()})
    replay.run(config)
    shop, predictions = Recommender(config), []
    assert shop.items(map(json.loads, CATALOGUE)) == []
    slates = []
    for line in EVENTS:
        answer = shop.event(json.loads(line))
        predictions += shop.predictions
        slates += [answer] if isinstance(answer, Slate) else []
    predictions += shop.finish()
    assert [to_json(slate) for slate in slates] == paths["slates"].read_bytes().splitlines() != []
    assert [to_json(each) for each in predictions] == paths["predictions"].read_bytes().splitlines() != []


def test_looking_at_a_slate_leaves_no_trace() -> None:
    shop, other = Recommender(), Recommender()
    for each in (shop, other):
        each.items(CATALOGUE)
    for line in EVENTS:
        assert shop.event(line) == other.event(line)
        for user in ("u1", "u7", "nobody"):
            shop.slate(user)
    assert shop.pipeline.learners_digest() == other.pipeline.learners_digest()
    assert shop.pipeline.users.keys() == other.pipeline.users.keys()


def test_whoever_has_no_slate_sees_the_popular_one_and_nobody_what_is_gone() -> None:
    shop = Recommender(Behaviour(slate=SlateSettings(hide=())))
    assert shop.slate("u") is None
    shop.items([Item(f"i{k}", 1) for k in range(5)])
    answers = shop.events(Event(f"e{k}", "click", "u", 10 + k, f"i{min(k, 2)}") for k in range(20))
    own, popular = shop.slate("u"), shop.slate("stranger")
    assert own == answers[-1] and popular is not None and popular.user_id == "popular"
    assert popular.items[0].item_id == "i2" and len(popular.items) == 5
    shop.items([Item("i2", 2, deleted=True), Item("i3", 2, available=False)])
    for user in ("u", "stranger"):
        seen = shop.slate(user)
        assert seen is not None and {slot.item_id for slot in seen.items} == {"i0", "i1", "i4"}


def test_an_erasure_has_its_receipt_and_leaves_the_popular_slate() -> None:
    shop = Recommender()
    shop.items([Item("i", 1)])
    assert isinstance(shop.event(Event("e1", "click", "u", 1, "i")), Slate)
    receipt = shop.event(Event("e2", "erase", "u", 2))
    assert isinstance(receipt, Receipt) and receipt.erased == ("sessions", "learner", "cache")
    seen = shop.slate("u")
    assert seen is not None and seen.user_id == "popular"


@pytest.mark.parametrize(
    ("record", "reason", "says"),
    [
        ({"event_id": "e", "type": "click", "user_id": "u", "ts": 1}, "bad_field", "item_id"),
        ("{", "bad_json", ""),
        (b"\xff", "bad_encoding", ""),
        ({"event_id": "e", "type": "request", "user_id": "\ud800", "ts": 1}, "bad_encoding", ""),
        ("\ud800", "bad_encoding", ""),
        ({"event_id": "e", "type": "request", "user_id": "u", "ts": 10**14}, "ahead", ""),
    ],
)
def test_what_cannot_be_used_is_a_dead_letter_as_in_the_job(record: object, reason: str, says: str) -> None:
    shop = Recommender()
    letter = shop.event(record)  # type: ignore[arg-type]
    assert isinstance(letter, DeadLetter) and letter.reason == reason and says in letter.detail
    assert letter.offset == 0 and shop.pipeline.users == {}


def test_what_is_not_answered_or_came_before_is_none() -> None:
    shop = Recommender()
    profile = {"event_id": "p", "type": "profile", "user_id": "u", "ts": 1, "attributes": {"band": "x"}}
    click = {"event_id": "e", "type": "click", "user_id": "u", "ts": 2, "item_id": "i"}
    assert [shop.event(profile), shop.event(click) is not None, shop.event(click)] == [None, True, None]


def test_settings_may_be_a_mapping_and_records_are_several() -> None:
    shop = Recommender({"slate": {"size": 2}})
    shop.items([{"item_id": f"i{n}", "ts": 1} for n in range(5)])
    slate = shop.event({"event_id": "e", "type": "request", "user_id": "u", "ts": 2})
    assert isinstance(slate, Slate) and len(slate.items) == 2
    with pytest.raises(UsageError, match="slate"):
        Recommender({"slate": {"sise": 2}})
    for one in ({"item_id": "i", "ts": 1}, Item("i", 1), b"{}", "{}"):
        with pytest.raises(TypeError, match="give \\[record\\]"):
            shop.items(one)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="give \\[record\\]"):
            shop.events(one)  # type: ignore[arg-type]


def test_what_is_no_json_is_an_error_of_the_caller() -> None:
    with pytest.raises(TypeError):
        Recommender().event({"event_id": object()})
    assert msgspec.json.decode(to_json(Item("i", 1)), type=Item) == Item("i", 1)
