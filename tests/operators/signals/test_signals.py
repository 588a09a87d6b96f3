"""SIGNALS and the index that mirrors it, without Flink."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_feedbacks import SMALL, lists_of, made_stream, whole_and_restored
from riverrank.operators.catalogue.tokens import COHORT
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, SignalSettings
from riverrank.operators.signals.changes import FIRST_ENTRIES
from riverrank.operators.signals.signals import Signals, _is_repeated
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import NEGATIVES, ORDERS, POSITIVES
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Outcome, Seen, SignalUpdate, decode_update
from riverrank.state.records.incoming import Event


def test_items_taken_together_become_neighbours():
    signals = Signals(SMALL, 0)
    signals.learn(Feedback(Event("e", "click", "u", 1, "b"), 1.0, (Seen("x", 0, -1.0), Seen("a", 0, 1.0))))
    signals.settle()
    assert set(lists_of(signals.table)) == {"a", "b"}
    assert lists_of(signals.table)["a"] == {"b": (1.0, 0.0)}


def test_lists_are_bounded_and_what_comes_often_stays():
    signals = Signals(SMALL, 0)
    for k in range(200):
        other = f"b{k}" if k % 4 else "often"
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, other), 1.0, (Seen("a", 0, 1.0),)))
    signals.settle()
    near = lists_of(signals.table)["a"]
    assert len(near) == 8
    assert max(near, key=near.__getitem__) == "often"
    after, before = near["often"]
    assert 1.0 < after < 50.0 and before == 0.0


def test_popularity_halves_after_its_half_life_in_events():
    behaviour = Behaviour(signals=SignalSettings(half_life_events=10))
    signals, index = Signals(behaviour, 0), ItemIndex(behaviour)
    signals.learn(Feedback(Event("e", "click", "u", 1, "a"), 1.0, ()))
    for k in range(10):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", 1, "b"), 1.0, ()))
    index.apply(decode_update(signals.flush()[0]))
    rows = np.array([index.row("a"), index.row("b")])
    assert index.popularity(rows)[0] == pytest.approx(0.5, rel=1e-5)
    assert index.popular().tolist() == [index.row("b"), index.row("a")]


def test_one_user_counts_once_for_each_thing_they_do_with_an_item():
    signals, index = Signals(Behaviour(), 0), ItemIndex(Behaviour())
    history: list[Seen] = []
    for k in range(1500):
        kind, reward = ("purchase", 2.0) if k == 700 else ("click", 1.0)
        event = Event(f"e{k}", kind, "bot", k, "a")
        signals.learn(Feedback(event, reward, tuple(history[-50:])))
        history.append(Seen("a", k, reward, EVENT_TYPES[kind].code))
    for k in range(4):
        signals.learn(Feedback(Event(f"u{k}", "click", f"u{k}", 2000 + k, "b"), 1.0, ()))
    for update in signals.updates():
        index.apply(update)
    rows = np.array([index.row("a"), index.row("b")])
    assert index.popularity(rows) == pytest.approx([3.0, 4.0], rel=0.1)
    assert index.table.stats[rows, POSITIVES].tolist() == [2.0, 4.0]


def test_shown_and_not_taken_counts_against_an_item():
    signals = Signals(SMALL, 0)
    outcome = Outcome("s", 1, ("a", "b"), (0, 1))
    signals.learn(Feedback(Event("e", "request", "u", 1), 0.0, (), (outcome,)))
    signals.settle()
    assert signals.table.stats[signals.table.row("a")][NEGATIVES] == 1
    assert signals.table.stats[signals.table.row("a")][POSITIVES] == 0


def test_table_is_bounded_and_the_least_popular_go_first():
    behaviour = Behaviour(signals=SignalSettings(neighbours=8, items=64))
    signals = Signals(behaviour, 0)
    for k in range(400):
        signals.learn(Feedback(Event(f"a{k}", "click", "u", k, "star"), 1.0, ()))
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{k}"), 1.0, (Seen("star", 0, 1.0),)))
    signals.settle()
    assert len(signals.table.rows) <= 64
    assert "star" in signals.table.rows
    held = lists_of(signals.table)
    assert held and all(name in signals.table.rows for near in held.values() for name in near)


def test_index_mirrors_the_signals_from_updates_alone():
    signals, index = Signals(SMALL, 0), ItemIndex(SMALL)
    for feedback in made_stream(600):
        signals.learn(feedback)
        if signals.due():
            index.apply(decode_update(signals.flush()[0]))
    for rest in signals.flush():
        index.apply(decode_update(rest))
    ours, theirs = lists_of(signals.table), lists_of(index.table)
    assert ours.keys() == theirs.keys() and len(ours) > 50
    for name, near in ours.items():
        assert near.keys() == theirs[name].keys()
        assert np.array(list(near.values())) == pytest.approx(np.array([theirs[name][k] for k in near]), rel=1e-4)


def test_restored_signals_go_on_as_if_nothing_had_happened():
    whole, second = whole_and_restored(SMALL, made_stream(900))
    assert lists_of(second.table) == lists_of(whole.table)
    assert second.counts.events == whole.counts.events == 900
    assert second.table.stats[: len(second.table)].tolist() == whole.table.stats[: len(whole.table)].tolist()


def test_a_dump_holds_all_that_was_learned():
    entries = DictEntries()
    signals = Signals(SMALL, 0, Journal(entries, limit=14))
    compared = 0
    for feedback in made_stream(300):
        signals.learn(feedback)
        if signals.due():
            signals.flush()
            if not any(key.startswith("log:") for key in entries):
                again = Signals.restore(SMALL, 0, Journal(DictEntries(entries)))
                assert lists_of(again.table) == lists_of(signals.table) != {}
                assert (again.table.stats == signals.table.stats).all() and (again.table.at == signals.table.at).all()
                compared += 1
    assert compared > 10


def test_popularity_decays_once_however_often_it_is_sent():
    behaviour = Behaviour(signals=SignalSettings(half_life_events=10, shards=2))
    signals, index = [Signals(behaviour, shard) for shard in range(2)], ItemIndex(behaviour)
    expected = dict.fromkeys((f"i{k}" for k in range(6)), 0.0)
    for k in range(60):
        item = f"i{k * k % 6}"
        for shard in signals:
            shard.learn(Feedback(Event(f"e{k}", "click", "u", 1, item), 1.0, ()))
            for update in shard.flush() if k % 4 == 3 else ():
                index.apply(decode_update(update))
        expected = {name: 0.5**0.1 * value + (name == item) for name, value in expected.items()}
    for name, value in expected.items():
        row = index.row(name)
        assert (row >= 0) == (value > 0)
        if row >= 0:
            assert index.popularity(np.array([row]))[0] == pytest.approx(value, rel=1e-4)
            assert index.table.shard[row] == hash32(name) % 2
    assert len({hash32(name) % 2 for name, value in expected.items() if value}) == 2


def test_a_newcomer_takes_the_position_of_the_weakest_once_nothing_of_it_is_left():
    behaviour = Behaviour(signals=SignalSettings(neighbours=4, forgetting=1.0))
    signals = Signals(behaviour, 0)
    for k in range(4):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"b{k}"), 1.0, (Seen("a", 0, 1.0),)))
    signals.settle()
    assert set(lists_of(signals.table)["a"]) == {"b0", "b1", "b2", "b3"}
    signals.learn(Feedback(Event("e4", "click", "u", 4, "b4"), 1.0, (Seen("a", 0, 1.0),)))
    signals.settle()
    assert lists_of(signals.table)["a"] == {"b4": (0.0, 0.0)} | {f"b{k}": (1.0, 0.0) for k in (1, 2, 3)}


def test_log_grows_with_what_a_dump_would_rewrite():
    """With many items a log of 30 records touches nearly every block: the dump waits until it is worth it."""
    behaviour, entries = Behaviour(signals=SignalSettings(neighbours=60)), DictEntries()
    signals = Signals(behaviour, 0, Journal(entries, limit=30))
    logged = []
    for k in range(300):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{97 * k % 5000}"), 1.0, ()))
        for j in range(20):
            signals.table.row(f"filler{20 * k + j}")
        signals.flush()
        logged.append(sum(key.startswith("log:") for key in entries))
    assert logged[:20] == list(range(1, 21)) and 25 < max(logged) < 300
    again = Signals.restore(behaviour, 0, Journal(DictEntries(entries), limit=30))
    assert again.counts.events == 300
    assert again.table.stats[again.table.row("i0")].tolist() == signals.table.stats[signals.table.row("i0")].tolist()


def test_shards_share_the_work_without_overlap_and_hear_of_all_that_concerns_them():
    behaviour = Behaviour(signals=SignalSettings(neighbours=8, shards=4))
    alone, session = Signals(SMALL, 0), Session(behaviour)
    shards = [Signals(behaviour, shard) for shard in range(4)]
    cold = [
        Feedback(Event(f"c{k}", "click", f"cold{k}", 2000 + k, f"i{k % 30}"), 1.0, (), attributes={"band": str(k % 5)})
        for k in range(100)
    ]
    heard = 0
    for feedback in (*made_stream(200, items=30), *cold):
        alone.learn(feedback)
        routes = session.routes(feedback)
        heard += len(routes)
        for shard in routes:
            shards[shard].learn(feedback)
    assert heard < 300 * 4
    merged: dict[str, dict[str, tuple[float, ...]]] = {}
    alone.settle()
    for signals in shards:
        signals.settle()
        lists = lists_of(signals.table)
        assert lists and not merged.keys() & lists.keys()
        merged |= lists
    assert merged == lists_of(alone.table) and sum(name.startswith(COHORT) for name in merged) == 5


def test_what_was_not_sent_before_a_failure_is_sent_after_the_restore():
    """The index misses the last update; the restored signals send it what changed, without forgetting twice."""
    entries = DictEntries()
    first, index = Signals.restore(SMALL, 0, Journal(entries, limit=50)), ItemIndex(SMALL)
    stream = made_stream(200)
    for number, feedback in enumerate(stream):
        first.learn(feedback)
        if first.due() and number < 190:
            index.apply(decode_update(first.flush()[0]))
    second = Signals.restore(SMALL, 0, Journal(DictEntries(entries), limit=50))
    index.apply(decode_update(second.flush()[0]))
    ours, theirs = lists_of(second.table), lists_of(index.table)
    assert ours.keys() == theirs.keys() != set()
    for name, near in ours.items():
        assert near.keys() == theirs[name].keys()
        assert np.array(list(near.values())) == pytest.approx(np.array([theirs[name][k] for k in near]), rel=1e-4)


def test_a_block_leaves_the_same_as_one_at_a_time_whether_rows_are_released_or_not():
    for items in (60, 200):
        at_once, single = (Signals(Behaviour(signals=SignalSettings(neighbours=8, items=items)), 0) for _ in range(2))
        for feedback in made_stream(300):
            at_once.learn(feedback)
            single.learn(feedback)
            single.settle()
        at_once.settle()
        assert at_once.table.rows == single.table.rows
        for name in at_once.table.columns:
            assert getattr(at_once.table, name).tolist() == getattr(single.table, name).tolist()
        assert at_once.flush() == single.flush()


def unpacked(update: SignalUpdate) -> tuple[dict[str, list[float]], dict[str, int], dict[tuple[str, int], tuple]]:
    """By name: stats of what was counted, how often lists were renewed, and what stands in cells that changed."""
    ids = update.ids
    counted = [ids[k] for k in np.frombuffer(update.counted, "<i4")]
    lists = np.frombuffer(update.lists, "<i4").reshape(-1, 2)
    owners = [ids[k] for k, (_, number) in enumerate(lists.tolist()) for _ in range(number)]
    positions = np.frombuffer(update.positions, "<u2").tolist()
    neighbours = [ids[k] for k in np.frombuffer(update.neighbours, "<i4")]
    weights = map(tuple, np.frombuffer(update.weights, "<f4").reshape(-1, ORDERS).tolist())
    cells = list(zip(zip(owners, positions, strict=True), zip(neighbours, weights, strict=True), strict=True))
    assert len(dict(cells)) == len(cells)  # each travels once
    stats = np.frombuffer(update.stats, "<f4").reshape(-1, 6).tolist()
    renewals = {ids[k]: n for k, (n, _) in enumerate(lists.tolist()) if n}
    return dict(zip(counted, stats, strict=True)), renewals, dict(cells)


@given(st.integers(0, 1000), st.integers(1, 12), st.sampled_from([40, 200]))
def test_update_holds_what_changed_as_it_stands_and_each_cell_once(seed, number, items):
    signals = Signals(Behaviour(signals=SignalSettings(neighbours=6, items=items)), 0)
    stream = made_stream(60 + number, seed=seed)
    for feedback in stream[:60]:
        signals.learn(feedback)
    signals.flush()
    table = signals.table
    before = {name: (table.neighbours[row].tolist(), table.weights[row].copy()) for name, row in table.rows.items()}
    for feedback in stream[60:]:
        signals.learn(feedback)
    (raw,) = signals.flush()
    stats, renewals, cells = unpacked(decode_update(raw))
    fresh = {feedback.event.item_id for feedback in stream[60:] if not _is_repeated(feedback)}
    assert set(stats) == fresh if items == 200 else set(stats) <= fresh
    for name, numbers in stats.items():
        assert numbers == table.stats[table.rows[name]].tolist()
    for (name, position), (neighbour, weights) in cells.items():
        assert neighbour == table.ids[table.neighbours[table.rows[name], position]]
        assert weights == tuple(table.weights[table.rows[name], position].tolist())
    for name, row in table.rows.items():
        if items == 200 and name in before:  # no row was released: what is not sent has but forgotten
            kept = before[name][1].copy()
            kept *= 0.995 ** renewals.get(name, 0)
            for position in range(6):
                if (name, position) not in cells:
                    assert table.neighbours[row, position] == before[name][0][position]
                    assert table.weights[row, position] == pytest.approx(kept[position], rel=1e-5)
    assert not signals._changes.entry_of.any() and not signals._changes._local.any()


def test_an_update_has_room_for_more_items_after_one_of_more_users():
    signals = Signals(Behaviour(), 0)
    for user in range(3000):
        signals.learn(Feedback(Event(f"a{user}", "click", f"u{user}", user, "i"), 1.0, ()))
    assert len(decode_update(signals.flush()[0]).taken) == 4 * 3000
    for item in range(FIRST_ENTRIES + 20):
        signals.learn(Feedback(Event(f"b{item}", "click", "u", 3000 + item, f"i{item}"), 1.0, ()))
    update = decode_update(signals.flush()[0])
    assert len(set(update.ids)) >= FIRST_ENTRIES + 20 and len(update.counted) == 4 * (FIRST_ENTRIES + 20)


def test_once_a_user_is_erased_no_entry_names_them_and_what_was_learned_stays():
    """A journal keeps feedbacks as they came: at an erasure what they say of items takes their place."""
    entries = DictEntries()
    signals = Signals(SMALL, 0, Journal(entries))
    for k, feedback in enumerate(made_stream(20)):
        signals.learn(feedback)
        signals.learn(Feedback(Event(f"c{k}", "click", "canary", 1000 + k, f"i{k % 5}"), 1.0, ()))
        if signals.due():
            signals.flush()
    assert any(b"canary" in value for value in entries.values())
    signals.learn(Feedback(Event("gone", "erase", "canary", 5000), 0.0, ()))
    half_way = Signals.restore(SMALL, 0, Journal(restored := DictEntries(entries)))
    for each, kept in ((signals, entries), (half_way, restored)):
        (update,) = map(decode_update, each.flush())
        assert np.frombuffer(update.taken, "<i4")[-1] == -1
        assert kept and not any(b"canary" in value for value in kept.values())
    again = Signals.restore(SMALL, 0, Journal(DictEntries(entries)))
    assert lists_of(again.table) == lists_of(signals.table) != {}
    assert again.counts.events == signals.counts.events == 40
