"""The local pipeline: what it keeps of users, what it writes, and how it gets to Redis."""

import random
from pathlib import Path

import msgspec
import pytest
import redis
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.cache import LocalCache
from riverrank.jobs.local.pipeline import Pipeline, learners_digest
from riverrank.jobs.local.writing import opened
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.messages import CacheWrite
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json
from shop_pipeline import ALONE, Shop

TYPES = ("click", "view", "like", "dislike", "purchase", "request", "impression", "rate")


def life(user: str, events: int = 40) -> list[Event]:
    """What a user does, always the same."""
    draw, found = random.Random(user), []
    for number in range(events):
        kind = draw.choice(TYPES)
        shown = tuple(f"i{draw.randrange(30)}" for _ in range(3)) if kind == "impression" else None
        item = None if kind in ("impression", "request") else f"i{draw.randrange(30)}"
        value = float(draw.randrange(1, 6)) if kind == "rate" else None
        found.append(Event(f"{user}-{number}", kind, user, 400_000 * (1 + number), item, value, shown))
    return found


def learned(settings: dict, events: list[Event]) -> Pipeline:
    pipeline = Pipeline(parse(settings).behaviour)
    for number in range(30):
        pipeline.lessons.item(Item(f"i{number}", 1, categories=(f"c{number % 4}",)))
    for event in events:
        pipeline.take(event, Arrival(0, 0, 0, None))
    return pipeline


def test_learners_that_hear_nothing_of_others_are_the_same_whatever_the_others_do() -> None:
    lives = [life(f"u{number}") for number in range(5)]
    one_by_one = [event for each in lives for event in each]
    in_turn = [event for events in zip(*lives, strict=True) for event in events]
    alone = learned(ALONE, one_by_one)
    assert len(alone.users) == 5
    assert alone.learners_digest() == learned(ALONE, in_turn).learners_digest()
    assert learned({}, one_by_one).learners_digest() != learned({}, in_turn).learners_digest()


def test_the_digest_of_learners_knows_every_byte_and_whose_it_is() -> None:
    users = {"u": b"12", "v": b"3"}
    others = ({"u": b"12"}, {"u": b"12", "w": b"3"}, {"u": b"12", "v": b"4"}, {"u": b"1", "v": b"23"}, {})
    assert len({learners_digest(each) for each in (users, *others)}) == 6


def test_what_cannot_be_used_is_counted_and_the_first_of_it_told() -> None:
    pipeline = Pipeline(parse({}).behaviour)
    click = Event("e", "click", "u", 10_000_000, "i")
    later, late = Event("later", "click", "u", 10_000_001, "i"), Event("late", "click", "u", 1, "i")
    for number, line in enumerate((b"broken", to_json(click), to_json(click), to_json(later), to_json(late))):
        pipeline.event(Arrival(0, number, 0, line))
    pipeline.item(Arrival(0, 0, 0, b"{}"))
    assert (pipeline.slates, pipeline.tally.redelivered) == (2, 1)
    assert pipeline.tally.dead == {"bad_json": 1, "late": 1, "bad_field": 1}
    assert pipeline.tally.first.startswith("events 0: not JSON")


def test_nothing_is_made_of_an_output_that_goes_nowhere() -> None:
    shop = Shop()
    shop.send("u", "click", "i1")
    assert len(shop.predictions) == 1
    quiet = Pipeline(parse({}).behaviour)
    answer = quiet.take(Event("e", "click", "u", 1, "i"), Arrival(0, 0, 0, None))
    assert answer is not None and answer.slate and answer.predictions == ()


def test_slates_and_erasures_reach_redis_and_the_receipt_comes_after(valkey) -> None:
    receipts: list[tuple[str, bytes]] = []
    config = parse({"redis": {"url": valkey.url}})
    cache = LocalCache(config, {"receipts": lambda key, value: receipts.append((key, value))})
    pipeline = Pipeline(config.behaviour, {}, cache, config.cache.popular_every)
    for number, kind in enumerate(("click", "click", "erase")):
        for user in ("u", "v"):
            if kind == "erase" and user == "v":
                continue
            item = None if kind == "erase" else "i"
            pipeline.take(Event(f"{user}{number}", kind, user, 1000 + number, item), Arrival(0, 0, 0, None))
    assert receipts == []
    cache.finish()
    with redis.Redis.from_url(valkey.url) as client:
        assert client.hget("rr:slate:v", "version") == b"2"
        assert not client.exists("rr:slate:u")
    assert [key for key, _ in receipts] == ["u"]
    assert msgspec.json.decode(receipts[0][1])["erased"] == ["sessions", "learner", "cache"]


def test_an_erased_users_slates_get_a_tombstone_and_the_receipt_says_so_where_they_go_to_a_topic() -> None:
    for told in (True, False):
        written: dict[str, list[tuple[str, bytes | None]]] = {"slates": [], "receipts": []}
        outputs = {name: (lambda key, value, to=to: to.append((key, value))) for name, to in written.items()}
        pipeline = Pipeline(parse({}).behaviour, outputs, told=told)
        for number, kind in enumerate(("click", "erase", "click")):
            item = None if kind == "erase" else "i"
            pipeline.take(Event(f"e{number}", kind, "u", 1000 + number, item), Arrival(0, 0, 0, None))
        assert [(key, value is None) for key, value in written["slates"]] == [("u", False), ("u", True), ("u", False)]
        ((key, receipt),) = written["receipts"]
        assert (key, msgspec.json.decode(receipt or b"")["erased"]) == (
            "u", ["sessions", "learner", *(["slates"] if told else [])],
        )  # fmt: skip
        assert pipeline.slates == 2


def test_a_file_holds_no_tombstone(tmp_path: Path) -> None:
    with opened(parse({}, {"files.slates": str(tmp_path / "s.jsonl")})) as writes:
        writes["slates"]("u", b"{}")
        writes["slates"]("u", None)
    assert (tmp_path / "s.jsonl").read_bytes() == b"{}\n"


def test_a_redis_that_stays_away_is_a_failure_once_the_time_for_it_is_up(free_port: int) -> None:
    config = parse({"redis": {"url": f"redis://127.0.0.1:{free_port}/0"}, "cache": {"drain": "300ms"}})
    cache = LocalCache(config, {})
    for version in range(1, 700):  # more than one attempt is made meanwhile, and none of them holds anything up
        cache.put(CacheWrite(f"slate:u{version % 3}", 0, version, b"{}"))
    with pytest.raises(Failure, match="3 writes to Redis are left at the end of the input"):
        cache.finish()
