"""What lives in the memory of an operator, beside what is kept in state, is bounded in bytes, not in number alone."""

import itertools
import tracemalloc
from types import SimpleNamespace

import hostile
import msgspec
import numpy as np
import pytest
from kept import SMALL, Kept
from learner_inputs import inputs_of, shop
from made_feedbacks import SMALL as SIGNALS_ALONE
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.catalogue import tokens, vectors
from riverrank.operators.index import event_time_buffer
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.models import river_learner
from riverrank.operators.models.learner import Learners
from riverrank.operators.recent import MOST, MOST_BYTES, Recent, Shown
from riverrank.operators.settings import CatalogueSettings, LearnerSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate, Feedback
from riverrank.state.records.incoming import Event, Item
from riverrank.state.table import FEW, RowsById


def test_what_is_decoded_of_users_takes_so_many_bytes_of_their_states():
    recent = Recent(most=1000, most_bytes=100)
    for k in range(50):
        recent.put(f"u{k}", bytes(30), k)
    assert [recent.pop(f"u{k}", bytes(30)) for k in range(46, 50)] == [None, 47, 48, 49]
    recent.put("u", bytes(101), 1)
    assert recent.pop("u", bytes(101)) is None
    for k in range(5):  # one user, again and again, takes no more than once
        recent.put("u", bytes(50), k)
        recent.put("v", bytes(50), k)
    assert recent.pop("v", bytes(50)) == recent.pop("u", bytes(50)) == 4
    recent.put("u", bytes(100), 5)
    assert recent.pop("u", bytes(100)) == 5


def test_usual_states_are_bounded_by_their_number_alone():
    usual = max(map(len, _after(hostile.one_user_of_a_catalogue, 600).pipeline.intake.states.values()))
    assert 500 < usual < MOST_BYTES / MOST / 5


def test_shown_lists_are_bounded_by_their_number_too():
    shown = Shown(most=100, lists=4)
    for k in range(9):
        shown.put(f"u{k}", "e", 0, SimpleNamespace(size=1))
    assert [k for k in range(9) if shown.get(f"u{k}", "e", 0) is not None] == [5, 6, 7, 8]
    assert len(shown._names) == 4


def test_a_list_of_one_item_that_was_shown_takes_3_kb_at_most_so_that_all_take_60_mb():
    kept, n = Kept(), 400
    records = hostile.short_impressions()
    kept.take(itertools.islice(records, 100))  # what is there once
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    shown = kept.pipeline.lessons.ranker.shown
    held = len(shown._lists)
    kept.take(itertools.islice(records, n))
    grown = tracemalloc.get_traced_memory()[0] - before
    shown._lists.clear()
    left = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert held == 100 and 500 < (grown - left) / (held + n) < 3_000


def _after(stream, n: int) -> Kept:
    kept = Kept()
    kept.take(itertools.islice(stream(), n))
    return kept


def test_rows_that_nobody_asks_for_are_not_noted_without_end():
    rows = RowsById((f"i{k}", k) for k in range(FEW))
    rows.find(["i1"])
    for k in range(20 * FEW):
        rows[f"j{k}"] = k
        del rows[f"j{k}"]
        assert len(rows._changed) <= 4 * FEW
    rows["new"] = 7
    assert rows.find(["i3", "new", "j5"]).tolist() == [3, 7, -1]


def test_an_index_that_nobody_keeps_records_for_notes_none_that_it_gave_up():
    behaviour = msgspec.structs.replace(SMALL, catalogue=CatalogueSettings(items=50))
    pipeline, entries = Pipeline(behaviour), DictEntries()
    buffer = EventTimeBuffer(behaviour, Journal(entries))
    for k in range(500):
        pipeline.lessons.item(Item(f"i{k}", 1))
        buffer.take(CatalogueUpdate(Item(f"i{k}", 1)))
    assert len(pipeline.index.items) == len(buffer.index.items) <= 50
    assert pipeline.index.forgotten is None and not buffer.index.forgotten
    assert sum(key.startswith("item:") for key in entries) == len(buffer.index.items)


def test_directions_of_long_words_and_long_contexts_are_found_without_being_kept():
    vectors._kept_direction.cache_clear()
    tokens._context_values.cache_clear()
    long, short = "w" * (vectors.LONGEST_KEPT + 1), "w" * vectors.LONGEST_KEPT
    assert not np.array_equal(vectors.direction(long), vectors.direction(short))
    assert vectors._kept_direction.cache_info().currsize == 1
    few = {f"n{k}": "x" for k in range(tokens.MOST_SAID)}
    many = {**few, "more": "x"}
    assert tokens.context_values(many) == tokens.context_values(few) != ()
    assert tokens._context_values.cache_info().currsize == 1


def test_updates_that_wait_take_so_many_bytes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(event_time_buffer, "MOST_WAITING_BYTES", 20_000)
    kept, signals = EventTimeBuffer(SIGNALS_ALONE, Journal(DictEntries())), Signals(SIGNALS_ALONE, 0)
    for k in range(100):
        for j in range(7):
            signals.learn(Feedback(Event(f"e{k}-{j}", "click", "u", k, hostile.long(f"i{k}-{j}")), 1.0, ()))
        kept.take(signals.updates()[0])
        waiting = sum(len(encoded) for _, encoded in kept._waiting)
        assert waiting == kept._waiting_bytes <= 20_000
    assert 5 <= len(kept._waiting) < 50 and kept.index.events == 7 * (100 - len(kept._waiting))
    kept.release(1000)
    assert kept._waiting_bytes == 0 and kept.index.events == 700


def test_a_pickled_learner_that_grows_too_large_begins_anew_and_says_so_once(monkeypatch, caplog):
    monkeypatch.setattr(river_learner, "MOST_BYTES", 30_000)
    inputs = inputs_of(shop())
    settings = LearnerSettings(model="neighbors.KNNClassifier", parameters={"n_neighbors": 3})
    learners, state, sizes = Learners(settings), LearnerState(), []
    for step in range(200):
        state = decode_learner(encode_learner(state))
        learner = learners.of(state)
        learner.learn(inputs, step % 20, step % 3 == 0, 1.0)
        state.examples += 1
        learner.store(state)
        sizes.append(len(state.model))
    assert max(sizes) > 20_000 and sizes.count(0) > 1 and max(sizes) <= 30_000
    assert sizes.count(0) > len(caplog.messages) == 1 and "begins anew: set learner.parameters" in caplog.text
