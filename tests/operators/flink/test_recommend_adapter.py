"""RECOMMEND as Flink drives it, without Java: what it answers, keeps and tells the cache, and after a restore."""

import json
from zlib import crc32

import msgspec
import pytest
from adapters import ALL, BEHAVIOUR, CATALOGUE, DAY, feedback, recommend, recommend_function
from harness import EVENT_TIME, Harness
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.operators.flink.channels import END_OF_INPUT, LINE_ENCODING, Outputs
from riverrank.operators.flink.recommend import CacheRoute, RecommendFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.state import uids
from riverrank.state.messages import GONE, GONE_ITEM, CatalogueUpdate, decode_write, encode
from riverrank.state.records.incoming import Item


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
    assert json.loads(receipt)["erased"] == ["sessions", "learner", "slates"]
    assert [key for key, _ in harness.sides["slates-records"]] == ["u", "u"]
    assert harness.sides["slates-records"][1][1] is None and len(harness.sides["slates-lines"]) == 1


def test_where_slates_are_lines_of_a_file_there_is_no_tombstone_and_no_receipt_speaks_of_one() -> None:
    harness = recommend(outputs=Outputs(lines=frozenset({"slates", "receipts"})))
    for each in (feedback("e1"), feedback("gone", "erase", None, 5_000)):
        harness.element(each, "u")
    (receipt,) = harness.sides["receipts-lines"]
    assert json.loads(receipt)["erased"] == ["sessions", "learner"] and len(harness.sides["slates-lines"]) == 1


def test_with_a_cache_slates_and_receipts_go_to_the_bucket_of_their_key() -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000))
    harness.element(feedback("e1"), "u")
    harness.element(feedback("gone", "erase", None, 5_000), "u")
    _, (first, put), (second, erase) = harness.main
    assert first == second and 0 <= int(first) < 4
    assert decode_write(put).slate == harness.sides["slates-lines"][0].encode(LINE_ENCODING)
    assert decode_write(erase).slate is None and json.loads(decode_write(erase).receipt or b"")["event_id"] == "gone"
    assert "receipts-records" not in harness.sides


def test_a_deeper_slate_is_for_the_cache_alone() -> None:
    items = tuple(Item(f"d{k}", 1) for k in range(30))
    harness = Harness(recommend_function(items=items, cache=CacheRoute(4, 10_000, 60_000, depth=25)))
    harness.element(feedback("e1"), "u")
    _, (_, put) = harness.main
    told, cached = (json.loads(raw) for raw in (harness.sides["slates-lines"][0], decode_write(put).slate or b""))
    assert len(told["items"]) == 20 and len(cached["items"]) == 25
    assert cached["items"][:20] == told.pop("items") and told.items() <= cached.items()


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


def lists_of(harness: Harness) -> list[tuple[str, str]]:
    """The bucket and the key of each list of an item that was written."""
    writes = [(bucket, decode_write(value).key) for bucket, value in harness.main]
    return [(bucket, key) for bucket, key in writes if key.startswith(("similar:", "together:"))]


def test_lists_of_items_follow_the_slates_each_from_one_subtask(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.SUBTASKS", 2)
    keys: list[str] = []
    for subtask in range(2):
        monkeypatch.setattr("harness.SUBTASK", subtask)
        harness = recommend(cache=CacheRoute(4, 10_000, 60_000, lists=1.0))
        for number in range(20):
            harness.element(feedback(f"e{number}", "request", None, 2_000 + number), f"u{number}")
        (first, *_), found = harness.main[subtask == 0 :], lists_of(harness)
        assert decode_write(first[1]).key == "slate:u", "a page waits for that one"
        assert 0 < len(found) < len(CATALOGUE)
        assert all(int(bucket) == crc32(key.encode()) % 4 for bucket, key in found)
        keys += [key for _, key in found]
    assert sorted(keys) == sorted(f"similar:{item.item_id}" for item in CATALOGUE)


def test_at_the_end_of_the_input_lists_that_are_left_are_written_and_without_the_setting_none() -> None:
    for lists, wanted in ((0.01, len(CATALOGUE)), (0.0, 0)):
        harness = recommend(cache=CacheRoute(4, 10_000, 60_000, lists=lists))
        harness.element(feedback("e1", "request", None), "u")
        assert lists_of(harness) == []
        harness.end_of_input()
        assert len(lists_of(harness)) == wanted


def test_lists_are_written_anew_after_a_restore_as_redis_would_drop_them() -> None:
    harness = recommend(cache=CacheRoute(4, 10_000, 60_000, lists=100.0))
    harness.element(feedback("e1", "request", None), "u")
    harness.broadcast(encode(CatalogueUpdate(Item("autumn", 9, categories=("c1",)))))
    again = harness.restored(recommend_function(cache=CacheRoute(4, 10_000, 60_000, lists=100.0)))
    again.element(feedback("e2", "request", None, 2_000), "u")
    assert {key for _, key in lists_of(again)} == {key for _, key in lists_of(harness)} | {"similar:autumn"}
