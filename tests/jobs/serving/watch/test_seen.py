"""What is counted of what followers see: exactly, once, in any order, bounded; and nothing of who was erased."""

import json
import random

import pytest
from riverrank.jobs.serving.watch.minutes import MINUTE_MS, MINUTES, WAITS, Minute, Minutes, waits_of
from riverrank.jobs.serving.watch.seen import (
    MOST_DEAD_LETTERS,
    MOST_EVENTS,
    MOST_SLATES,
    POPULAR_ARM,
    UNKNOWN_ARM,
    Seen,
)
from riverrank.state.records.outgoing import Cause, DeadLetter, ModelInfo, Slate, Slot, to_json

NOW = 1_764_000_000_000


def slate(user: str, version: int, items: str, trigger: str = "none", arm: str = "a", ts: int = NOW) -> bytes:
    slots = tuple(Slot(item, rank, 0.5, 1.0, ("new",), (Cause("new"),)) for rank, item in enumerate(items, 1))
    made = Slate(f"{user}:{version}", user, version, ts, trigger, "warm", arm, ModelInfo(0, 0), slots)
    return to_json(made)


def event(event_id: str, kind: str = "click", user: str = "u", **more: object) -> bytes:
    given = {"item_id": "x"} if kind == "click" else {}
    return json.dumps({"event_id": event_id, "type": kind, "user_id": user, "ts": NOW, **given, **more}).encode()


def minute(seen: Seen) -> Minute:
    (only,) = seen.minutes(NOW, NOW)
    return only


@pytest.mark.parametrize("event_first", [True, False])
@pytest.mark.parametrize(("before", "hits"), [("xy", 1), ("yz", 0)])
def test_an_interaction_is_judged_by_the_slate_before_its_answer_in_either_order(
    event_first: bool, before: str, hits: int
) -> None:
    seen = Seen()
    seen.slate(slate("u", 1, before), None, NOW)
    steps = [lambda: seen.event(event("e"), NOW), lambda: seen.slate(slate("u", 2, "pq", "e"), None, NOW)]
    for step in steps if event_first else reversed(steps):
        step()
    counts = minute(seen).arms["a"]
    assert (counts.judged, counts.hits, counts.hit_rate) == (1, hits, float(hits))


def test_what_comes_again_is_counted_once() -> None:
    seen = Seen()
    for _ in range(3):
        seen.slate(slate("u", 1, "xy"), None, NOW)
        seen.event(event("i", "impression", items=["x", "y"], slate_id="u:1"), NOW)
        seen.event(event("e", slate_id="u:1"), NOW)
        seen.slate(slate("u", 2, "xy", "e"), None, NOW)
    counts = minute(seen).arms["a"]
    assert (counts.shown, counts.clicked, counts.judged, counts.hits) == (1, 1, 1, 1)
    user = seen.user("u")
    assert user is not None
    assert [each.version for each in user.slates] == [1, 2]
    assert [each.event_id for each in user.events] == ["i", "e"]
    assert minute(seen).events == {"impression": 1, "click": 1}


def test_what_comes_again_is_counted_once_whoever_it_is_of_and_whatever_came_meanwhile() -> None:
    seen = Seen(most_users=2)
    for _ in range(2):
        for number in range(2 * MOST_EVENTS):
            seen.event(event(f"e-{number}", user=f"u-{number % 5}"), NOW)
        for kind in ("preview", "export", "erase"):
            seen.event(event(kind, kind, item_id="x" if kind == "preview" else None), NOW)
        for offset in range(2 * MOST_DEAD_LETTERS):
            seen.dead_letter(to_json(DeadLetter("events", 0, offset, "bad_json", "none", "{", NOW)))
    assert minute(seen).events == {"click": 2 * MOST_EVENTS, "preview": 1, "export": 1, "erase": 1}
    assert seen.dead_letters()[0] == {"bad_json": 2 * MOST_DEAD_LETTERS}
    seen.event(event("e-0", user="another"), NOW)
    seen.dead_letter(to_json(DeadLetter("events", 1, 0, "bad_json", "none", "{", NOW)))
    assert minute(seen).events["click"] == 2 * MOST_EVENTS + 1
    assert seen.dead_letters()[0] == {"bad_json": 2 * MOST_DEAD_LETTERS + 1}


def test_who_is_only_asked_about_is_no_user_that_was_seen() -> None:
    seen = Seen()
    seen.event(event("p", "preview", "nobody", item_id="x"), NOW)
    seen.event(event("x", "export", "nobody"), NOW)
    assert seen.user("nobody") is None and minute(seen).events == {"preview": 1, "export": 1}
    seen.event(event("e"), NOW)
    seen.event(event("q", "preview", item_id="x"), NOW)
    user = seen.user("u")
    assert user is not None and [each.event_id for each in user.events] == ["e"]


def test_lists_are_counted_by_the_arm_of_their_slate_and_only_where_they_name_one() -> None:
    seen = Seen()
    seen.event(event("1", "impression", user="new", items=["x"], slate_id="new:1"), NOW)
    seen.event(event("2", "impression", items=["x"], slate_id="popular:7"), NOW)
    seen.event(event("3", slate_id="popular:7"), NOW)
    seen.event(event("4"), NOW)
    seen.event(event("5", "impression", items=["x"]), NOW)
    counts = minute(seen).arms
    assert {name: (arm.shown, arm.clicked) for name, arm in counts.items()} == {
        UNKNOWN_ARM: (1, 0),
        POPULAR_ARM: (1, 1),
    }
    assert minute(seen).events == {"impression": 3, "click": 2}


def test_an_erasure_takes_its_user_out_and_versions_may_begin_anew() -> None:
    seen = Seen()
    seen.slate(slate("u", 9, "xy"), None, NOW)
    seen.event(event("gone", "erase"), NOW)
    assert seen.user("u") is None
    seen.slate(slate("u", 1, "xy"), None, NOW)
    seen.slate(None, b"u", NOW)
    assert seen.user("u") is None
    seen.slate(slate("v", 9, "xy"), None, NOW)
    seen.slate(slate("v", 1, "pq", ts=NOW + 1), None, NOW)
    user = seen.user("v")
    assert user is not None and [each.version for each in user.slates] == [1]
    assert seen.user_ids(10) == ["v"]


def test_what_is_held_is_bounded_whatever_comes() -> None:
    seen = Seen(most_users=10)
    for number in range(1_000):
        user = f"u-{number % 37}"
        seen.event(event(f"e-{number}", user=user), NOW)
        seen.slate(slate(user, number + 1, "xyz", f"e-{number}", arm=f"arm {number}", ts=NOW + number), None, NOW)
    assert len(seen.user_ids(99)) == 10
    for number in range(200):
        seen.event(event(f"more-{number}", user="one"), NOW)
        seen.slate(slate("one", number + 1, "x" * 1_500, ts=NOW + number), None, NOW)
    user = seen.user("one")
    assert user is not None
    assert (len(user.events), len(user.slates)) == (MOST_EVENTS, MOST_SLATES)
    assert user.slates[-1].raw == b""
    assert len(minute(seen).arms) <= 13


@pytest.mark.parametrize("raw", [None, b"", b"{", b"[]", b"\xff", b'{"user_id":1}', b"[" * 100_000])
def test_no_record_breaks_it(raw: bytes | None) -> None:
    seen = Seen()
    seen.event(raw, NOW)
    seen.dead_letter(raw)
    seen.slate(raw, b"\xff", NOW)
    assert seen.user_ids(5) == []
    assert seen.unreadable == (1 if raw is None else 2)


def test_records_that_are_nested_too_deeply_in_a_field_nobody_knows_are_unreadable_and_no_more() -> None:
    seen = Seen()
    nested = b',"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}"
    letter = to_json(DeadLetter("events", 0, 7, "bad_json", "none", "{", NOW))
    for raw, take in (
        (event("e"), lambda raw: seen.event(raw, NOW)),
        (slate("u", 1, "xy"), lambda raw: seen.slate(raw, None, NOW)),
        (letter, seen.dead_letter),
    ):
        take(raw.removesuffix(b"}") + nested)
    assert (seen.unreadable, seen.user_ids(5), seen.dead_letters()) == (2, [], ({}, []))


def test_minutes_are_kept_in_a_ring_and_what_is_older_is_not_counted() -> None:
    minutes = Minutes()
    for number in range(MINUTES + 5):
        minutes.at(NOW + number * MINUTE_MS).slates += 1
    minutes.at(NOW).slates += 7
    last = NOW + (MINUTES + 4) * MINUTE_MS
    held = minutes.between(0, last)
    assert [each.slates for each in held] == [1] * MINUTES
    assert held[-1].start_ms == last - last % MINUTE_MS


def test_quantiles_of_many_waits_are_those_of_a_sample() -> None:
    minute, draw = Minute(0), random.Random(1)
    for wait in range(20_000):
        minute.add_wait(wait, draw)
    assert len(minute.waits_ms) == WAITS
    waits = waits_of([minute])
    assert waits is not None and waits.count == 20_000
    assert waits.p50_ms == pytest.approx(10_000, rel=0.1)
    assert waits.p99_ms == pytest.approx(19_800, rel=0.02)
    assert waits_of([Minute(0)]) is None
