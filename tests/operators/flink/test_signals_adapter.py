"""SIGNALS as Flink drives it, without Java: when it tells what it learned, and what is left after a restore."""

import json

from adapters import BEHAVIOUR, feedback, recommend_function
from harness import PROCESSING_TIME, Harness
from riverrank.operators.flink.recommend import CacheRoute
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.settings import Behaviour, SignalSettings
from riverrank.state import uids
from riverrank.state.messages import LAST, SignalUpdate, decode_update, decode_write


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
