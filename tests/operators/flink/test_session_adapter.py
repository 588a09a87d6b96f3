"""SESSION as Flink drives it, without Java: what it keeps, emits and leaves behind, and after a restore."""

import json
from pathlib import Path
from typing import Any

import pytest
from adapters import BEHAVIOUR, DAY, KEY, line, parsed, session
from harness import EVENT_TIME, Harness
from riverrank.operators.flink.arrivals import Lines
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.parse import ParseEvents, ParseItems
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.settings import Behaviour
from riverrank.operators.tally import Tally, read_tally
from riverrank.state import uids
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import decode_feedback

OF_U = pseudonym("u", KEY)


def test_session_emits_feedback_by_user_and_by_shard_and_keeps_the_user() -> None:
    harness = Harness(session())
    for key, value in parsed(line("e1"), line("e2", item="i2", ts=2_000)):
        harness.element(value, key)
    assert [key for key, _ in harness.main] == [OF_U, OF_U]
    second = decode_feedback(harness.main[1][1])
    assert [seen.item_id for seen in second.history] == ["i1"]
    assert harness.sides["pairs"] == [("0", value) for _, value in harness.main]
    assert harness.sides["sample"] == harness.sides["pairs"]
    assert list(harness.store.values[uids.SESSION_VALUE]) == [OF_U]


def test_session_makes_dead_letters_of_what_has_a_key_and_is_no_event_and_keeps_nothing_of_it() -> None:
    harness = Harness(session())
    for key, value in parsed(
        '{"user_id":"u"}', line("e", item=None), '{"user_id":"u","event_id":"e","ts":-1,"type":"x"}'
    ):
        harness.element(value, key)
    letters = [json.loads(value) for _, value in harness.sides["dead-letters-records"]]
    assert [(letter["reason"], letter["offset"]) for letter in letters] == [("bad_field", n) for n in range(3)]
    assert harness.main == [] and not harness.store.values[uids.SESSION_VALUE]


def test_redelivery_after_a_restore_is_not_answered_and_a_late_event_is_a_dead_letter() -> None:
    harness = Harness(session())
    times = {"e1": 9 * 3_600_000, "e2": 9 * 3_600_000, "old": 1}
    first, second, redelivered, late = parsed(*(line(name, ts=times[name]) for name in ("e1", "e2", "e1", "old")))
    for key, value in (first, second):
        harness.element(value, key)
    again = harness.restored(session())
    for key, value in (redelivered, late):
        again.element(value, key)
    assert again.main == []
    assert [json.loads(value)["reason"] for _, value in again.sides["dead-letters-records"]] == ["late"]


def test_what_became_of_records_is_counted_and_goes_on_after_a_failure(tmp_path: Path) -> None:
    counted = Outputs(tallies=str(tmp_path))

    def counting() -> SessionFunction:
        return SessionFunction(BEHAVIOUR, "clicks", counted, DAY, KEY)

    def tally(name: str) -> Tally:
        return read_tally(tmp_path / f"{name}-0")

    first = Harness(counting())
    for key, value in parsed(line("e1"), line("e1"), line("e2", item=None)):
        first.element(value, key)
    second = first.restored(counting())
    for key, value in parsed(line("e1"), line("e3")):
        second.element(value, key)
    fault = "item_id: a click needs one, none is there"
    assert tally("session") == Tally(2, 2, {"bad_field": 1}, f"clicks 2: {fault}")
    parse, items = (
        ParseEvents(Lines(), "clicks", counted, KEY),
        ParseItems(Behaviour(), Lines(), "i", counted, updates=True),
    )
    for function, name in ((parse, "events-parse"), (items, "items-parse")):
        harness = Harness(function)
        harness.element("broken")
        assert tally(name).dead == {"bad_json": 1} and " 0: not JSON" in tally(name).first
    Harness(session())
    assert len(list(tmp_path.iterdir())) == 3


def shown(name: str, ts: int) -> str:
    return json.dumps({"event_id": name, "type": "impression", "user_id": "u", "items": ["i1", "i2"], "ts": ts})


def closed(emitted: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(o.event_id, o.labels) for _, value in emitted for o in decode_feedback(value).outcomes]


def test_the_impressions_of_a_user_who_does_not_come_back_are_closed_by_the_wall_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    harness = Harness(session(), now=1_000_000)
    monkeypatch.setattr("riverrank.operators.flink.arrivals.time.time_ns", lambda: harness.now * 1_000_000)
    monkeypatch.setattr("riverrank.operators.flink.arrivals._latest", lambda behaviour: 1 << 60)
    for key, value in parsed(shown("s1", 1_000), line("e1", ts=1_500)):
        harness.element(value, key)
    assert closed(harness.main) == [] and len(harness.timers(EVENT_TIME)) == 1
    assert harness.advance(599_000) == 0
    assert harness.advance(11_000) == 1
    assert closed(harness.main) == [("s1", (1, 0))]
    assert harness.store.timers == set()
    harness.advance(10_000_000)
    assert closed(harness.main) == [("s1", (1, 0))]


def test_impressions_that_wait_at_the_end_of_the_input_are_closed_after_a_restore_too() -> None:
    harness = Harness(session())
    for key, value in parsed(shown("s1", 1_000), line("e1", ts=1_500), shown("s2", 2_000)):
        harness.element(value, key)
    again = harness.restored(session())
    again.end_of_input()
    assert closed(again.main) == [("s1", (1, 0)), ("s2", (0, 0))]
    assert harness.timers(EVENT_TIME) == []


def test_what_is_learned_when_time_is_over_goes_to_the_user_by_the_key_of_every_other_feedback() -> None:
    harness = Harness(session())
    for key, value in parsed(shown("s1", 1_000), line("e1", ts=1_500)):
        harness.element(value, key)
    harness.end_of_input()
    assert [key for key, _ in harness.main] == [OF_U] * 3
    assert decode_feedback(harness.main[2][1]).event.user_id == "u"


def test_once_no_impression_waits_there_is_no_timer_for_the_end() -> None:
    harness = Harness(session())
    for key, value in parsed(shown("s1", 1_000), line("e1", ts=1_000_000)):
        harness.element(value, key)
    assert closed(harness.main) == [("s1", (0, 0))] and harness.timers(EVENT_TIME) == []


def test_an_erasure_leaves_its_mark_alone() -> None:
    harness = Harness(session())
    said = {"attributes": {"canary": "a-secret"}}
    for key, value in parsed(
        line("e0", "profile", None, "canary", **said),
        line("e1", "impression", None, "canary", 2_000, items=["another-secret"]),
        line("gone", "erase", None, "canary", 5_000),
    ):
        harness.element(value, key)
    ((key, left),) = harness.store.values[uids.SESSION_VALUE].items()
    assert key == pseudonym("canary", KEY)
    for gone in (b"canary", b"secret", b"gone"):
        assert gone not in left and gone.decode() not in repr(harness.store.timers)
