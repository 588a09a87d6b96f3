"""Updates wait for the event time that they were learned at, and the index comes back from its journal as it was."""

import random

import msgspec
from made_feedbacks import SMALL, lists_of, made_stream
from riverrank.operators.index.event_time_buffer import MOST_WAITING, EventTimeBuffer
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import LAST, CatalogueUpdate, Feedback, decode_update
from riverrank.state.records.incoming import Event, Item


def test_items_come_back_in_their_rows_in_whatever_order_state_holds_them():
    """Of equals the lowest row comes first, so another order of rows would be another slate."""
    entries = DictEntries()
    kept = EventTimeBuffer(Behaviour(), Journal(entries, limit=3))
    signals = Signals(Behaviour(), 0)
    for k in range(12):
        kept.take(CatalogueUpdate(Item(f"i{k:x}", 1, categories=(f"c{k % 3}",))))
        signals.learn(Feedback(Event(f"e{k}", "click", f"u{k}", k, f"x{k // 4}"), 1.0, ()))
        if k % 4 == 0:  # at 8 what is in the log is compacted
            kept.take(decode_update(signals.flush()[0]))
            kept.release(k + 1)
    rows, newest, popular = kept.index.table.rows, kept.index.newest().tolist(), kept.index.popular().tolist()
    assert rows["x0"] == 1 and len(rows) == 15
    for seed in range(5):
        held = list(entries.items())
        random.Random(seed).shuffle(held)
        again = EventTimeBuffer(Behaviour(), Journal(DictEntries(held), limit=3)).index
        assert again.table.rows == rows
        assert (again.newest().tolist(), again.popular().tolist()) == (newest, popular)


def test_restored_index_is_the_same_index():
    entries = DictEntries()
    signals, kept = Signals(SMALL, 0), EventTimeBuffer(SMALL, Journal(entries, limit=20))
    kept.read_catalogue(Item(f"i{k}", k, categories=(f"c{k % 4}",), published_ts=k) for k in range(40))
    for feedback in made_stream(300):
        signals.learn(feedback)
        if signals.due():
            kept.take(decode_update(signals.flush()[0]))
            kept.release(feedback.event.ts - 50)  # the last few wait
    again, index = EventTimeBuffer(SMALL, Journal(entries, limit=20)).index, kept.index
    assert again.events > index.events > 0
    kept.release(10_000_000)
    assert lists_of(again.table) == lists_of(index.table) != {}
    assert again.events == index.events
    names = [index.table.ids[row] for row in index.popular()]
    assert names and [again.table.ids[row] for row in again.popular()] == names
    assert again.servable.sum() == index.servable.sum() > 0
    assert [again.token_names[t] for t in again.tokens[again.row("i7")] if t >= 0] == ["category=c3"]


def test_an_update_waits_for_a_feedback_that_is_newer_than_all_it_was_learned_from():
    kept, signals = EventTimeBuffer(SMALL, Journal(DictEntries())), Signals(SMALL, 0)
    for ts in (10, 20, 15):
        signals.learn(Feedback(Event(f"e{ts}", "click", "u", ts, "a"), 1.0, ()))
    kept.take(decode_update(signals.flush()[0]))
    for ts, known in ((15, 0), (20, 0), (21, 3)):
        kept.release(ts)
        assert kept.index.events == known


def test_what_is_told_at_the_end_waits_for_the_end_and_lets_others_pass():
    kept, signals = EventTimeBuffer(SMALL, Journal(DictEntries(), limit=50)), Signals(SMALL, 0)
    signals.learn(Feedback(Event("e", "click", "u", 5, "a"), 1.0, ()))
    (update,) = signals.updates()
    others = [msgspec.structs.replace(update, events=k + 2, ts=k) for k in range(2 * MOST_WAITING)]
    kept.take(msgspec.structs.replace(update, events=1000, ts=LAST + 3))
    for other in others:
        kept.take(other)
        kept.release(other.ts + 1)
        assert kept.index.events == other.events and kept.index.meta.ts == other.ts
    kept.release(2 * LAST)
    assert kept.index.events == 1000 and kept.index.meta.ts == others[-1].ts


def test_a_clock_that_is_wrong_does_not_hold_up_the_signals_for_ever():
    kept, signals = EventTimeBuffer(SMALL, Journal(DictEntries(), limit=50)), Signals(SMALL, 0)
    for k in range(MOST_WAITING + 10):
        ts = 10**12 if k == 0 else k
        signals.learn(Feedback(Event(f"e{k}", "click", "u", ts, "a"), 1.0, ()))
        kept.take(decode_update(signals.flush()[0]))
        kept.release(k + 1)
    assert kept.index.events == MOST_WAITING + 10


def test_where_no_feedback_comes_a_bounded_number_waits_and_the_log_is_made_short_at_times():
    journal, signals, compacted = Journal(DictEntries(), limit=100), Signals(SMALL, 0), []
    kept = EventTimeBuffer(SMALL, journal)
    compact = journal.compact
    journal.compact = lambda *written: (compact(*written), compacted.append(len(kept._waiting)))
    for k in range(1500):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{k % 50}"), 1.0, ()))
        kept.take(decode_update(signals.flush()[0]))
        assert journal.length < journal.limit
    assert 10 < len(compacted) <= 1500 / 50 and set(compacted) == {50} and kept.index.events == 1450
    assert EventTimeBuffer(SMALL, Journal(journal.entries)).index.events == 1500


def test_at_most_as_many_wait_as_there_is_room_for_in_half_a_log():
    kept, signals = EventTimeBuffer(SMALL, Journal(DictEntries())), Signals(SMALL, 0)
    for k in range(MOST_WAITING + 9):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, "a"), 1.0, ()))
        kept.take(decode_update(signals.flush()[0]))
    assert (len(kept._waiting), kept.index.events) == (MOST_WAITING, 9)
