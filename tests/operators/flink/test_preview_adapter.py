"""A preview as Flink drives it through SESSION and RECOMMEND: told on an output of its own, and nothing is written."""

import json

import pytest
from adapters import ALL, BEHAVIOUR, DAY, KEY, feedback, line, parsed, recommend, recommend_function, session
from harness import Harness
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.recommend import CacheRoute
from riverrank.operators.flink.session import SessionFunction
from riverrank.state import uids
from riverrank.state.messages import decode_feedback, decode_write

FIRST = (feedback("e1"), feedback("e2", item="i2", ts=2_000))
ASKED = feedback("p", "preview", "i3", 3_000)


def test_session_hands_it_to_recommend_alone_once_after_a_restore_too() -> None:
    harness = Harness(session())
    asked = line("p", "preview", ts=2_000)
    for key, value in parsed(line("e1"), asked, asked):
        harness.element(value, key)
    again = harness.restored(session())
    ((key, value),) = parsed(asked)
    again.element(value, key)
    assert [decode_feedback(value).event.event_id for _, value in harness.main] == ["e1", "p"] and again.main == []
    assert len(harness.sides["pairs"]) == len(harness.sides["sample"]) == 1
    assert not again.sides


def test_recommend_tells_the_slate_of_a_click_and_keeps_all_byte_for_byte() -> None:
    route = CacheRoute(4, 10_000, DAY)
    harness, without, clicked = recommend(cache=route), recommend(cache=route), recommend(cache=route)
    for each in FIRST:
        harness.element(each, "u")
        without.element(each, "u")
        clicked.element(each, "u")
    held = dict(harness.store.values[uids.LEARNER_VALUE])
    harness.element(ASKED, "u")
    assert harness.store.values[uids.LEARNER_VALUE] == held != {}
    clicked.element(feedback("p", "click", "i3", 3_000), "u")
    ((key, preview),) = harness.sides["previews-records"]
    assert (key, preview) == clicked.sides["slates-records"][-1] and json.loads(preview)["version"] == 3
    for each in (harness, without):
        each.element(feedback("e3", item="i4", ts=4_000), "u")
    assert harness.sides["slates-records"] == without.sides["slates-records"]
    assert harness.sides["predictions-lines"] == without.sides["predictions-lines"]
    assert harness.store.values == without.store.values
    written = [[decode_write(value).slate for _, value in each.main] for each in (harness, without)]
    assert written[0] == written[1] and len(written[0]) == 4  # and what tells that nothing is gone
    assert harness.store.timers == without.store.timers


def test_the_time_of_a_preview_releases_nothing_that_others_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    function = recommend_function()
    harness = Harness(function)
    harness.element(FIRST[0], "u")
    times: list[int] = []
    monkeypatch.setattr(function.index, "advance", lambda ctx, ts: times.append(ts))
    harness.element(feedback("p", "preview", "i3", 10**12), "u")
    harness.element(FIRST[1], "u")
    assert times == [2_000] and len(harness.sides["previews-records"]) == 1


def test_a_stranger_leaves_nothing_in_recommend() -> None:
    harness = recommend()
    harness.element(ASKED, "v")
    (record,) = harness.sides["previews-records"]
    assert json.loads(record[1])["version"] == 1
    assert not harness.store.values[uids.LEARNER_VALUE]


def test_where_previews_go_nowhere_nothing_is_told_of_them() -> None:
    nowhere = Outputs(records=ALL.records - {"previews"})
    first = Harness(SessionFunction(BEHAVIOUR, "events", nowhere, DAY, KEY))
    ((key, value),) = parsed(line("p", "preview"))
    first.element(value, key)
    second = recommend(nowhere)
    second.element(ASKED, "u")
    assert len(first.main) == 1 and not first.sides and not second.sides and not second.main
