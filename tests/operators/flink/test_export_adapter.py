"""An export as Flink drives it through SESSION, RECOMMEND and CACHE: each tells what it keeps, and goes on with it."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from adapters import ALL, BEHAVIOUR, CATALOGUE, DAY, KEY, feedback, line, parsed, recommend, recommend_function, session
from fake_redis import Redis
from harness import Harness
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.flink.cache import CacheFunction
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.recommend import CacheRoute
from riverrank.operators.flink.session import SessionFunction
from riverrank.state import uids
from riverrank.state.messages import CacheWrite, decode_write, encode
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import Collector

ASKED = Event("x", "export", "u", 90_000)


def told(harness: Harness) -> list[dict[str, Any]]:
    return [json.loads(value) for _, value in harness.sides["exports-records"]]


def asked(ts: int = ASKED.ts) -> bytes:
    return feedback("x", "export", None, ts)


def test_session_tells_what_it_held_before_once_after_a_restore_too_and_hands_the_event_on() -> None:
    harness = Harness(session())
    for key, value in parsed(line("e1"), line("x", "export", None, ts=2_000), line("x", "export", None, ts=2_000)):
        harness.element(value, key)
    again = harness.restored(session())
    ((key, value),) = parsed(line("x", "export", None, ts=2_000))
    again.element(value, key)
    (piece,) = told(harness)
    assert ([row["item_id"] for row in piece["kept"]["history"]], piece["next"]) == (["i1"], "learner")
    assert len(piece["kept"]["event_ids"]) == 1
    assert len(harness.main) == 2 and again.main == [] and told(again) == []
    assert len(harness.sides["pairs"]) == len(harness.sides["sample"]) == 1
    assert harness.sides["exports-records"][0][0] == "u"


def test_recommend_tells_what_it_holds_answers_nothing_and_keeps_it_byte_for_byte() -> None:
    harness = recommend()
    for each in (feedback("e1"), feedback("e2", item="i2", ts=2_000)):
        harness.element(each, "u")
    held = dict(harness.store.values[uids.LEARNER_VALUE])
    slates = len(harness.sides["slates-records"])
    harness.element(asked(), "u")
    (piece,) = told(harness)
    assert (piece["part"], piece["next"], piece["kept"]["last_version"]) == ("learner", None, 2)
    assert harness.store.values[uids.LEARNER_VALUE] == held != {}
    assert len(harness.sides["slates-records"]) == slates == 2
    harness.element(feedback("e3", item="i3", ts=3_000), "u")
    without = recommend()
    for each in (feedback("e1"), feedback("e2", item="i2", ts=2_000), feedback("e3", item="i3", ts=3_000)):
        without.element(each, "u")
    assert harness.sides["slates-records"] == without.sides["slates-records"]


def test_the_time_of_an_export_releases_nothing_that_others_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    function = recommend_function()
    harness = Harness(function)
    harness.element(feedback("e1"), "u")
    times: list[int] = []
    monkeypatch.setattr(function.index, "advance", lambda ctx, ts: times.append(ts))
    harness.element(asked(10**12), "u")
    harness.element(feedback("e2", ts=3_000), "u")
    assert times == [3_000] and len(told(harness)) == 1


def test_a_stranger_leaves_nothing_in_recommend() -> None:
    harness = recommend()
    harness.element(asked(), "u")
    assert [piece["kept"] for piece in told(harness)] == [{}]
    assert not harness.store.values[uids.LEARNER_VALUE]


@pytest.fixture
def cache() -> Iterator[Callable[[], Harness]]:
    """CACHE over a Redis that is away."""
    made: list[Harness] = []
    away = Redis()
    away.away = True

    def make() -> Harness:
        made.append(Harness(CacheFunction(lambda: away, 20, 1_000, KEY, DAY, ALL)))  # type: ignore[arg-type, return-value]
        return made[-1]

    yield make
    for harness in made:
        harness.function.close()


def test_cache_is_asked_in_its_turn_and_tells_what_waits_for_redis(cache: Callable[[], Harness]) -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, DAY))
    harness.element(feedback("gone", "erase", None, 5_000), "u")
    harness.element(feedback("e1", ts=6_000), "u")
    harness.element(asked(), "u")
    *_, (bucket, ask) = harness.main
    write = decode_write(ask)
    assert (write.key, write.asked, told(harness)[0]["next"]) == (slate_key("u"), ASKED, "cache")
    outbox = cache()
    for each, value in harness.main:
        outbox.element(value, each)
    assert {each for each, value in harness.main if decode_write(value).key == slate_key("u")} == {bucket}
    (piece,) = told(outbox)
    kept = piece["kept"]
    assert kept["slate"]["version"] == 1 and kept["slate_items"][0]["rank"] == 1
    assert [row["receipt"]["event_id"] for row in kept["erasures"]] == ["gone"]
    assert not any(b"export" in value for value in outbox.store.maps[uids.CACHE_OUTBOX][bucket].values())
    collector = Collector(ASKED)
    for _, value in (*harness.sides["exports-records"], *outbox.sides["exports-records"]):
        collector.take(value)
    assert collector.whole() is None  # SESSION's part is not among them
    before = len(outbox.store.timers)
    outbox.element(encode(CacheWrite(slate_key("v"), 0, 0, None, asked=Event("y", "export", "v", 1))), bucket)
    assert told(outbox)[1]["kept"] == {} and len(outbox.store.timers) == before


def test_where_exports_go_nowhere_nothing_is_made_of_them() -> None:
    nowhere = Outputs(records=frozenset({"slates"}))
    first = Harness(SessionFunction(BEHAVIOUR, "events", nowhere, DAY, KEY))
    ((key, value),) = parsed(line("x", "export", None))
    first.element(value, key)
    second = recommend(nowhere, CacheRoute(4, 10_000, DAY), CATALOGUE)
    second.element(asked(), "u")
    assert len(first.main) == 1 and not first.sides and not second.sides
    assert not [write for _, write in second.main if decode_write(write).asked]
