"""The operators as Flink drives them, without Java: what each keeps, emits and leaves behind, and after a restore."""

import json
import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from harness import EVENT_TIME, PROCESSING_TIME, Harness, Store
from riverrank.operators.cache.redis_cache import CacheAway, slate_key
from riverrank.operators.flink.arrivals import Arrival, Lines, kafka_record, wall_ms
from riverrank.operators.flink.cache import CacheFunction, SendReceipts
from riverrank.operators.flink.channels import END_OF_INPUT, LINE_ENCODING, Outputs
from riverrank.operators.flink.parse import ParseEvents, ParseItems
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.operators.flink.recommend import CacheRoute, RecommendFunction
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.settings import Behaviour, SignalSettings
from riverrank.operators.tally import Tally
from riverrank.state import outputs as registry
from riverrank.state import uids
from riverrank.state.messages import (
    GONE,
    GONE_ITEM,
    LAST,
    CacheWrite,
    CatalogueUpdate,
    Feedback,
    SignalUpdate,
    Weights,
    decode_feedback,
    decode_update,
    decode_write,
    encode,
)
from riverrank.state.records.incoming import Event, Item

ALL = Outputs(lines=frozenset({"slates", "predictions"}), records=frozenset({"slates", "dead-letters", "receipts"}))
DAY = 86_400_000
CATALOGUE = [Item(f"i{n}", 1, f"Title {n}", categories=(f"c{n % 3}",)) for n in range(12)]
BEHAVIOUR = Behaviour()


def line(
    event_id: str, kind: str = "click", item: str | None = "i1", user: str = "u", ts: int = 1_000, **more: Any
) -> str:
    record = {"event_id": event_id, "type": kind, "user_id": user, "ts": ts, **more}
    return json.dumps(record if item is None else {**record, "item_id": item})


def parsed(*lines: str) -> list[Any]:
    """Rows (key, arrival) as parse makes them."""
    parse = Harness(ParseEvents(Lines(), "events", ALL))
    for each in lines:
        parse.element(each)
    assert len(parse.main) == len(lines)
    return parse.main


def feedback(event_id: str, kind: str = "click", item: str | None = "i1", ts: int = 1_000, user: str = "u") -> bytes:
    event = Event(event_id, kind, user, ts, item)  # type: ignore[arg-type]
    return encode(Feedback(event, 1.0 if kind == "click" else 0.0, ()))


def session() -> SessionFunction:
    return SessionFunction(BEHAVIOUR, "events", ALL, DAY)


def recommend(outputs: Outputs = ALL, cache: CacheRoute | None = None, items: Iterable[Item] = CATALOGUE) -> Harness:
    return Harness(recommend_function(outputs, cache, items))


def recommend_function(
    outputs: Outputs = ALL, cache: CacheRoute | None = None, items: Iterable[Item] = CATALOGUE
) -> RecommendFunction:
    return RecommendFunction(BEHAVIOUR, lambda: items, outputs, DAY, cache)


# --- parse ---------------------------------------------------------------------------------------------------------


def test_an_event_travels_as_it_came_with_the_key_of_its_user() -> None:
    parse = Harness(ParseEvents(kafka_record, "clicks", ALL))
    raw = line("e", user="u-1").encode()
    parse.element((b"k", raw, 2, 17, 5))
    ((key, arrival),) = parse.main
    assert (key, msgspec.msgpack.decode(arrival, type=Arrival)) == ("u-1", Arrival(2, 17, 5, raw, b"k"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "bad_json"),
        (b"", "bad_json"),
        (b"{broken", "bad_json"),
        (b"[" * 200_000, "bad_field"),
        (b'{"event_id":"e"}', "bad_field"),
        (b'{"user_id":7}', "bad_field"),
        (b'{"user_id":"\xff"}', "bad_encoding"),
    ],
)
def test_an_event_without_a_key_is_a_dead_letter_of_parse(raw: bytes | None, reason: str) -> None:
    parse = Harness(ParseEvents(kafka_record, "clicks", ALL))
    parse.element((None, raw, 1, 9, 5))
    assert parse.main == []
    ((key, letter),) = parse.sides["dead-letters-records"]
    found = json.loads(letter)
    assert (key, found["topic"], found["partition"], found["offset"], found["ts"]) == ("", "clicks", 1, 9, 5)
    assert found["reason"] == reason


def test_blank_lines_are_counted_and_no_record() -> None:
    parse = Harness(ParseEvents(Lines(), "events", ALL))
    for each in (line("e1"), "", line("e2")):
        parse.element(each)
    assert [msgspec.msgpack.decode(value, type=Arrival).offset for _, value in parse.main] == [0, 2]


def test_items_become_updates_where_they_are_wanted_and_dead_letters_always() -> None:
    for updates, count in ((True, 1), (False, 0)):
        parse = Harness(ParseItems(Behaviour(), Lines(), "items", ALL, updates=updates))
        parse.element('{"item_id":"i","ts":3}')
        parse.element("broken")
        assert [decode_update(update) for update in parse.main] == [CatalogueUpdate(Item("i", 3))] * count
        assert len(parse.sides["dead-letters-records"]) == 1


# --- SESSION -------------------------------------------------------------------------------------------------------


def test_session_emits_feedback_by_user_and_by_shard_and_keeps_the_user() -> None:
    harness = Harness(session())
    for key, value in parsed(line("e1"), line("e2", item="i2", ts=2_000)):
        harness.element(value, key)
    assert [key for key, _ in harness.main] == ["u", "u"]
    second = decode_feedback(harness.main[1][1])
    assert [seen.item_id for seen in second.history] == ["i1"]
    assert harness.sides["pairs"] == [("0", value) for _, value in harness.main]
    assert harness.sides["sample"] == harness.sides["pairs"]
    assert list(harness.store.values[uids.SESSION_VALUE]) == ["u"]


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
        return SessionFunction(BEHAVIOUR, "clicks", counted, DAY)

    def tally(name: str) -> Tally:
        return msgspec.json.decode((tmp_path / f"{name}-0").read_bytes(), type=Tally)

    first = Harness(counting())
    for key, value in parsed(line("e1"), line("e1"), line("e2", item=None)):
        first.element(value, key)
    first.function.close()
    second = first.restored(counting())
    for key, value in parsed(line("e1"), line("e3")):
        second.element(value, key)
    second.function.close()
    fault = "item_id: a click needs one, none is there"
    assert tally("session") == Tally(2, 2, {"bad_field": 1}, f"clicks 2: {fault}")
    parse, items = ParseEvents(Lines(), "clicks", counted), ParseItems(Behaviour(), Lines(), "i", counted, updates=True)
    for function, name in ((parse, "events-parse"), (items, "items-parse")):
        harness = Harness(function)
        harness.element("broken")
        function.close()
        assert tally(name).dead == {"bad_json": 1} and " 0: not JSON" in tally(name).first
    quiet = Harness(session())
    quiet.function.close()
    assert len(list(tmp_path.iterdir())) == 3


def shown(name: str, ts: int) -> str:
    return json.dumps({"event_id": name, "type": "impression", "user_id": "u", "items": ["i1", "i2"], "ts": ts})


def closed(emitted: Any) -> list[tuple[str, tuple[int, ...]]]:
    return [(o.event_id, o.labels) for _, value in emitted for o in decode_feedback(value).outcomes]


def test_numpy_warns_of_nothing_in_the_thread_of_an_operator() -> None:
    said: list[dict[str, str]] = []

    def arrive() -> None:
        said.append(np.geterr())
        pickle.loads(pickle.dumps(session()))
        said.append(np.geterr())

    thread = threading.Thread(target=arrive)
    thread.start()
    thread.join()
    assert set(said[0].values()) != {"ignore"} == set(said[1].values())


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


def test_once_no_impression_waits_there_is_no_timer_for_the_end() -> None:
    harness = Harness(session())
    for key, value in parsed(shown("s1", 1_000), line("e1", ts=1_000_000)):
        harness.element(value, key)
    assert closed(harness.main) == [("s1", (0, 0))] and harness.timers(EVENT_TIME) == []


def test_an_erasure_leaves_its_mark_alone() -> None:
    harness = Harness(session())
    for key, value in parsed(line("e1", item="secret"), line("gone", "erase", None, ts=5_000)):
        harness.element(value, key)
    (left,) = harness.store.values[uids.SESSION_VALUE].values()
    assert b"secret" not in left and b"gone" not in left


# --- SIGNALS and RANKER --------------------------------------------------------------------------------------------


def test_signals_tell_once_enough_was_learned_and_else_when_the_timer_fires() -> None:
    flush, every = BEHAVIOUR.signals.flush_events, BEHAVIOUR.signals.flush_every
    harness = Harness(SignalsFunction(BEHAVIOUR))
    for number in range(flush):
        harness.element(feedback(f"e{number}", item=f"i{number}"), "0")
    (update,) = map(decode_update, harness.main)
    assert isinstance(update, SignalUpdate) and update.events == flush
    harness.element(feedback("one more"), "0")
    assert len(harness.main) == 1
    harness.advance(every - 1)
    assert len(harness.main) == 1
    harness.advance(1)
    assert [decode_update(update).events for update in harness.main] == [flush, flush + 1]
    assert harness.advance(10 * every) == 0, "a timer is left"


def test_what_is_left_is_told_at_the_end_of_the_input_for_no_event_that_is_on_its_way() -> None:
    harness = Harness(SignalsFunction(BEHAVIOUR))
    harness.element(feedback("e1"), "0")
    harness.end_of_input()
    (update,) = map(decode_update, harness.main)
    assert isinstance(update, SignalUpdate) and (update.events, update.ts, update.ids) == (1, LAST + 1_000, ("i1",))
    function = recommend_function(cache=CacheRoute(4, 86_400_000, 60_000))
    answers = Harness(function)
    answers.element(feedback("e0"), "u")
    answers.broadcast(harness.main[0])
    answers.element(feedback("e2", "request", None, 9_000_000), "v")
    assert function.index.read(None).events == 0
    before = len(answers.main)
    answers.end_of_input()
    (write,) = [decode_write(value) for _, value in answers.main[before:]]
    slate = json.loads(write.slate or b"")
    assert (write.key, slate["items"][0]["item_id"]) == ("popular", "i1") and slate["ts"] == 1_000


def test_the_end_of_the_input_is_heard_by_no_key_of_an_erased_user() -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    harness.element(feedback("e1"), "u")
    assert harness.timers(EVENT_TIME) == [(END_OF_INPUT, "u")]
    again = harness.restored(recommend_function(cache=CacheRoute(4, 10_000, 60_000)))
    again.element(feedback("e2", user="v"), "v")
    again.element(feedback("gone", "erase", None, 5_000), "u")
    assert again.timers(EVENT_TIME) == [(END_OF_INPUT, "v")]
    again.element(feedback("gone-too", "erase", None, 5_000, user="v"), "v")
    assert again.timers(EVENT_TIME) == []
    again.element(feedback("e3", user="w"), "w")
    assert again.timers(EVENT_TIME) == [(END_OF_INPUT, "w")]


def test_signals_are_restored_from_their_journal_and_a_timer_of_before_tells_what_was_not_told() -> None:
    harness = Harness(SignalsFunction(BEHAVIOUR))
    harness.element(feedback("e1"), "0")
    again = harness.restored(SignalsFunction(BEHAVIOUR))
    again.advance(BEHAVIOUR.signals.flush_every)
    (update,) = map(decode_update, again.main)
    assert isinstance(update, SignalUpdate) and (update.events, update.ids) == (1, ("i1",))


def test_each_shard_has_a_journal_of_its_own() -> None:
    harness = Harness(SignalsFunction(Behaviour(signals=SignalSettings(shards=2))))
    harness.element(feedback("e1"), "0")
    harness.element(feedback("e2"), "1")
    assert sorted(harness.store.maps[uids.SIGNALS_JOURNAL]) == ["0", "1"]
    assert {key for _, key in harness.timers(PROCESSING_TIME)} == {"0", "1"}


def test_ranker_reads_the_catalogue_learns_and_tells_its_weights() -> None:
    harness = Harness(RankerFunction(BEHAVIOUR, lambda: CATALOGUE))
    harness.broadcast(encode(CatalogueUpdate(Item("later", 2, "Later"))))
    for number in range(6):
        harness.element(feedback(f"e{number}", item=f"i{number}", ts=1_000 + number), "0")
    harness.advance(BEHAVIOUR.ranker.flush_every)
    told = [decode_update(update) for update in harness.main]
    assert any(isinstance(update, Weights) for update in told)
    assert "item:later" in harness.store.broadcast[uids.RANKER_VIEW]
    assert harness.advance(10 * BEHAVIOUR.ranker.flush_every) == 0
    again = harness.restored(RankerFunction(BEHAVIOUR, lambda: ()))
    again.element(feedback("e7", item="i7", ts=2_000), "0")
    again.advance(BEHAVIOUR.ranker.flush_every)
    newest = [u for u in map(decode_update, again.main) if isinstance(u, Weights)][-1]
    before = [u for u in told if isinstance(u, Weights)][-1]
    assert newest.version >= before.version > 0


# --- RECOMMEND -----------------------------------------------------------------------------------------------------


def test_recommend_answers_to_each_wanted_output_and_keeps_the_learner() -> None:
    harness = recommend()
    harness.element(feedback("e1"), "u")
    (written,) = harness.sides["slates-lines"]
    assert harness.sides["slates-records"] == [("u", written.encode())]
    slate = json.loads(written)
    assert (slate["version"], slate["trigger"], slate["model"]["examples"]) == (1, "e1", 1)
    assert [json.loads(each)["event_id"] for each in harness.sides["predictions-lines"]] == ["e1"]
    assert set(harness.sides) == {"slates-lines", "slates-records", "predictions-lines"}
    again = harness.restored(recommend_function())
    again.element(feedback("e2", "request", None, 2_000), "u")
    assert json.loads(again.sides["slates-lines"][0])["version"] == 2


def test_items_are_on_the_slate_whether_broadcast_before_or_after_the_first_feedback() -> None:
    late = encode(CatalogueUpdate(Item("autumn", 9, "Leaves")))
    for before in (True, False):
        harness = recommend(items=[Item("early", 1)])
        if before:
            harness.broadcast(late)
        harness.element(feedback("e1", "request", None), "u")
        if not before:
            assert "autumn" not in harness.sides["slates-lines"][0]
            assert harness.store.broadcast[uids.RECOMMEND_VIEW] == {}, "the user's side may only read"
            harness.broadcast(late)
        harness.element(feedback("e2", "request", None, 2_000), "u")
        items = {slot["item_id"] for slot in json.loads(harness.sides["slates-lines"][-1])["items"]}
        assert items == {"early", "autumn"}
        assert {"item:early", "item:autumn"} <= harness.store.broadcast[uids.RECOMMEND_VIEW].keys()


def test_index_is_restored_from_broadcast_state_without_its_catalogue() -> None:
    harness = recommend()
    harness.broadcast(encode(CatalogueUpdate(Item("autumn", 9))))
    again = harness.restored(recommend_function(items=()))
    again.element(feedback("e1", "request", None), "u")
    items = {slot["item_id"] for slot in json.loads(again.sides["slates-lines"][0])["items"]}
    assert items == {*(item.item_id for item in CATALOGUE), "autumn"}


def test_an_erasure_clears_the_learner_and_proves_it_where_nothing_is_cached() -> None:
    harness = recommend()
    harness.element(feedback("e1"), "u")
    assert list(harness.store.values[uids.LEARNER_VALUE]) == ["u"]
    harness.element(feedback("gone", "erase", None, 5_000), "u")
    assert harness.store.values[uids.LEARNER_VALUE] == {}
    ((key, receipt),) = harness.sides["receipts-records"]
    assert (key, json.loads(receipt)["event_id"]) == ("u", "gone")


def test_with_a_cache_slates_and_receipts_go_to_the_bucket_of_their_key() -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    harness.element(feedback("e1"), "u")
    harness.element(feedback("gone", "erase", None, 5_000), "u")
    _, (first, put), (second, erase) = harness.main
    assert first == second and 0 <= int(first) < 4
    assert decode_write(put).slate == harness.sides["slates-lines"][0].encode(LINE_ENCODING)
    assert decode_write(erase).slate is None and json.loads(decode_write(erase).receipt or b"")["event_id"] == "gone"
    assert "receipts-records" not in harness.sides


def told(harness: Harness) -> list[tuple[str, bytes | None]]:
    """The writes that say of items whether they are gone."""
    writes = [decode_write(value) for _, value in harness.main]
    return [(write.key, write.slate) for write in writes if write.key == GONE or write.key.startswith(GONE_ITEM)]


def test_the_cache_is_told_of_items_that_go_and_come_back_once_each() -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    for record in (
        Item("i1", 10, deleted=True),
        Item("i1", 10, deleted=True),  # again
        Item("i2", 11, available=False),
        Item("i2", 9),  # older
        Item("new", 12),
        Item("i1", 13),
    ):
        harness.broadcast(encode(CatalogueUpdate(record)))
    assert told(harness) == [(GONE, b"0"), ("gone:i1", b"1"), ("gone:i2", b"1"), ("gone:i1", b"0")]


def test_items_that_a_rule_excludes_are_not_told_to_be_gone() -> None:
    rules = msgspec.structs.replace(BEHAVIOUR.rules, exclude=("category=horror",))
    behaviour = msgspec.structs.replace(BEHAVIOUR, rules=rules)
    items = (Item("i1", wall_ms(), categories=("horror",)),)
    harness = Harness(RecommendFunction(behaviour, lambda: items, ALL, DAY, CacheRoute(4, 10_000, 60_000)))
    harness.element(feedback("e1"), "u")
    assert told(harness) == [(GONE, b"0")]


def test_one_subtask_alone_tells_of_items_that_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.SUBTASK", 1)
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    harness.broadcast(encode(CatalogueUpdate(Item("i1", 10, deleted=True))))
    harness.element(feedback("e1"), "u")
    assert told(harness) == [] and harness.main


def test_what_went_while_no_job_ran_is_told_at_first_as_long_as_slates_are_cached() -> None:
    now = wall_ms()
    items = (Item("lately", now - 1_000, deleted=True), Item("long-ago", now - 61_000, deleted=True), Item("here", now))
    harness = Harness(recommend_function(items=items, cache=CacheRoute(4, 10_000, 60_000)))
    harness.element(feedback("e1"), "u")
    harness.element(feedback("e2"), "u")
    assert told(harness) == [(GONE, b"0"), ("gone:lately", b"1")]


def test_recommend_takes_its_core_at_its_first_record(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr("riverrank.operators.flink.shipped.share_core", lambda: taken.append("on arrival"))
    monkeypatch.setattr("riverrank.operators.flink.recommend.share_core", lambda: taken.append("at a record"))
    harness = recommend()
    harness.function.__setstate__(harness.function.__getstate__())
    assert taken == []
    harness.element(feedback("e1"), "u")
    harness.element(feedback("e2"), "u")
    assert taken == ["at a record"]
    signals = SignalsFunction(BEHAVIOUR)
    signals.__setstate__(signals.__getstate__())
    assert taken == ["at a record", "on arrival"]


def test_others_leave_recommends_core_once_java_has_compiled_what_a_feedback_needs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answered, cleared = 0, []
    monkeypatch.setattr("riverrank.operators.flink.recommend.clear_core", lambda: cleared.append(answered))
    monkeypatch.setattr("riverrank.operators.flink.recommend.CLEAR_EVERY", 3)
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    for answered in range(1, 8):
        harness.element(feedback(f"e{answered}"), f"u{answered % 2}")
    assert cleared == [3, 6]  # again, for threads that are new


def test_threads_that_write_checkpoints_are_told_to_step_back_where_records_are_answered_and_where_they_are_learned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    names: list[str] = []
    monkeypatch.setattr("riverrank.operators.flink.shipped.step_back", names.append)
    monkeypatch.setattr("riverrank.operators.flink.shipped.LOOK_EVERY", 2)
    answering, learning = recommend(), Harness(session())
    for number in range(5):
        answering.element(feedback(f"e{number}"), "u")
    assert names == ["AsyncOperations"] * 2
    for key, value in parsed(*(line(f"e{number}") for number in range(4))):
        learning.element(value, key)
    assert names == ["AsyncOperations"] * 4


def test_a_signal_update_refreshes_the_popular_slate() -> None:
    signals = Harness(SignalsFunction(BEHAVIOUR))
    every = BEHAVIOUR.signals.flush_events
    for number in range(2 * every):
        signals.element(feedback(f"e{number}", item="i3", ts=1_000 + 10_000 * number), "0")
    first, second = signals.main
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    harness.broadcast(first)
    harness.element(feedback("later", ts=1_000 + 10_000 * every), "u")  # releases what was learned before it
    harness.broadcast(second)
    popular = [write for write in map(decode_write, (value for _, value in harness.main)) if write.key == "popular"]
    assert popular and json.loads(popular[-1].slate or b"")["items"][0]["item_id"] == "i3"


# --- CACHE ---------------------------------------------------------------------------------------------------------


class Redis:
    """Takes writes, unless it is away or refuses a key."""

    def __init__(self) -> None:
        self.held: dict[str, bytes | None] = {}
        self.calls: list[list[str]] = []
        self.away = False
        self.refuses: set[str] = set()
        self.refused: dict[str, str] = {}

    def write(self, writes: list[CacheWrite]) -> set[str]:
        self.calls.append([write.key for write in writes])
        if self.away:
            raise CacheAway("Redis at nowhere is away")
        self.refused = {write.key: "ResponseError: no" for write in writes if write.key in self.refuses}
        taken = [write for write in writes if write.key not in self.refused]
        self.held |= {write.key: write.slate for write in taken}
        return {write.key for write in taken}

    def close(self) -> None: ...


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def cache(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Harness]:
    """CACHE over that Redis, with one clock for it all, which sleeping moves."""

    def made(store: Store | None = None, drain_ms: int = 10_000) -> Harness:
        harness = Harness(CacheFunction(lambda: redis, 20, drain_ms), store)  # type: ignore[arg-type, return-value]
        sender = harness.function.sender
        monkeypatch.setattr(sender, "_clock", lambda: harness.now / 1000)
        monkeypatch.setattr(
            sender, "_sleep", lambda seconds: setattr(harness, "now", harness.now + round(1000 * seconds))
        )
        return harness

    return made


def write(user: str, version: int = 1, slate: bytes | None = b"{}", receipt: bytes | None = None) -> bytes:
    return encode(CacheWrite(slate_key(user), 0, version, slate, receipt))


def outbox(harness: Harness) -> dict[str, list[str]]:
    """By bucket, the keys that are in state."""
    maps = harness.store.maps[uids.CACHE_OUTBOX]
    return {
        bucket: [decode_write(each).key for each in entries.values()] for bucket, entries in maps.items() if entries
    }


def test_first_write_goes_out_at_once_and_is_never_in_state(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness = cache()
    harness.element(write("u"), "0")
    assert redis.held == {"slate:u": b"{}"}
    assert outbox(harness) == {} and harness.timers(PROCESSING_TIME) == []


def test_under_load_writes_of_a_bucket_go_together_the_newest_of_each_key(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness = cache()
    for version in range(1, 6):
        harness.element(write("u", version, b"%d" % version), "0")
        harness.element(write("v", version), "0")
    assert redis.calls == [["slate:u"]]
    assert outbox(harness) == {"0": ["slate:v", "slate:u"]}
    assert harness.advance(20) == 1
    assert redis.calls[1:] == [["slate:u", "slate:v"]] and redis.held["slate:u"] == b"5"
    assert outbox(harness) == {} and harness.advance(1_000) == 0


def test_redis_away_costs_fewer_and_fewer_attempts_and_loses_nothing(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), True
    for number in range(50):
        harness.element(write(f"u{number}"), str(number % 4))
    assert len(redis.calls) == 1
    harness.advance(60_000)
    assert 10 < len(redis.calls) < 40, "100 ms, doubled up to 5 s"
    assert sum(map(len, outbox(harness).values())) == 50
    redis.away = False
    harness.advance(5_000)
    assert len(redis.held) == 50 and outbox(harness) == {} and harness.advance(60_000) == 0


def test_after_a_crash_the_timer_of_before_writes_what_was_in_state(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), True
    harness.element(write("u"), "0")
    redis.away = False
    again = cache(harness.store)
    again.advance(100)
    assert redis.held == {"slate:u": b"{}"} and outbox(again) == {} and again.advance(60_000) == 0


def test_end_of_input_writes_what_waits_and_sends_the_receipts_on(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness = cache()
    harness.element(write("u"), "0")
    harness.element(write("u", 0, None, b'{"event_id":"gone"}'), "0")
    harness.element(write("v"), "1")
    assert harness.timers(EVENT_TIME) == [(END_OF_INPUT, "0"), (END_OF_INPUT, "1")]
    assert harness.main == []
    harness.end_of_input()
    assert redis.held == {"slate:u": None, "slate:v": b"{}"} and outbox(harness) == {}
    sent = Harness(SendReceipts(ALL))
    for row in harness.main:
        sent.element(row)
    assert sent.sides == {"receipts-records": [("u", b'{"event_id":"gone"}')]}


def test_redis_that_stays_away_at_the_end_fails_the_job_when_the_time_is_up(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(drain_ms=3_000), True
    harness.element(write("u"), "0")
    began = harness.now
    with pytest.raises(
        RuntimeError, match="1 writes to Redis are left at the end of the input: Redis at nowhere is away"
    ):
        harness.end_of_input()
    assert 2_900 <= harness.now - began <= 3_200
    assert outbox(harness) == {"0": ["slate:u"]}


def test_a_refused_key_holds_up_nothing_and_is_tried_less_and_less(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness, redis.refuses = cache(), {"slate:bad"}
    harness.element(write("bad"), "0")
    for number in range(20):
        harness.element(write(f"u{number}"), "0")
        harness.advance(30)
    assert len(redis.held) == 20
    tried = [keys for keys in redis.calls if "slate:bad" in keys]
    assert 2 <= len(tried) <= 5
    harness.advance(60_000)
    assert len([keys for keys in redis.calls if "slate:bad" in keys]) < 25
    redis.refuses = set()
    harness.advance(5_000)
    assert "slate:bad" in redis.held and outbox(harness) == {} and harness.advance(60_000) == 0


def test_a_refused_key_ends_a_bounded_job_after_three_tries_and_all_else_is_written(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.refuses = cache(), {"slate:bad"}
    for user, bucket in (("bad", "0"), ("u", "0"), ("v", "1"), ("v", "1")):
        harness.element(write(user), bucket)
    before = len(redis.calls)
    with pytest.raises(RuntimeError, match="input, which refuses slate:bad: ResponseError: no"):
        harness.end_of_input()
    assert sum("slate:bad" in keys for keys in redis.calls[before:]) <= 4
    assert redis.held == {"slate:u": b"{}", "slate:v": b"{}"}


# --- outputs -------------------------------------------------------------------------------------------------------


def test_an_output_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = registry.Output("versions", "versions", "", registry.Origin.ANSWER, lambda answer: [b"%d" % answer.version])
    monkeypatch.setitem(registry.OUTPUTS, "versions", toy)
    harness = recommend(Outputs(lines=frozenset({"versions"}), records=frozenset({"versions"})))
    harness.element(feedback("e1"), "u")
    assert harness.sides == {"versions-lines": ["1"], "versions-records": [("u", b"1")]}


TOY = """
from riverrank.state.outputs import OUTPUTS, Origin, Output
OUTPUTS["toys"] = Output("toys", "toys", "toys", Origin.ANSWER, lambda answer: [])
from riverrank.jobs.config.schema import FLAGS, parse
from riverrank.jobs.flink import sinks
for table in ({"files": {"toys": "t.jsonl"}}, {"kafka": {"bootstrap": "h:1"}}):
    wanted = sinks.outputs(parse(table))
    print("toys" in wanted.lines, "toys" in wanted.records, "--toys" in FLAGS)
"""


def test_the_topology_wants_an_output_as_soon_as_it_has_an_entry() -> None:
    done = subprocess.run([sys.executable, "-c", TOY], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["True False True", "False True True"]
