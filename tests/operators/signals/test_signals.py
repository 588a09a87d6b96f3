"""SIGNALS and the index that mirrors it, without Flink."""

import random

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.catalogue.tokens import COHORT
from riverrank.operators.index.event_time_buffer import MOST_WAITING, EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, CatalogueSettings, SignalSettings
from riverrank.operators.signals.changes import FIRST_ENTRIES, Changes
from riverrank.operators.signals.neighbour_lists import count, learn, pair
from riverrank.operators.signals.signals import Signals, _is_repeated
from riverrank.operators.signals.steps import Steps
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import (
    AFTER,
    BEFORE,
    DECAYED,
    NEGATIVES,
    POPULARITY,
    POSITIVES,
    RATING_SUM,
    RATINGS,
    TOGETHER,
    ItemTable,
)
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import LAST, CatalogueUpdate, Feedback, Outcome, Seen, SignalUpdate, decode_update
from riverrank.state.records.incoming import Event, Item

SMALL = Behaviour(signals=SignalSettings(neighbours=8, items=200, flush_events=7))


def made_stream(n: int, items: int = 60, seed: int = 1) -> list[Feedback]:
    rng = random.Random(seed)
    feedbacks = []
    past: dict[int, list[Seen]] = {}
    for k in range(n):
        user = rng.randrange(10)
        item = f"i{(user % 3) * 20 + rng.randrange(20)}" if rng.random() < 0.8 else f"i{rng.randrange(items)}"
        history = past.setdefault(user, [])
        reward = 1.0 if rng.random() < 0.9 else -1.0
        event = Event(f"e{k}", "click" if reward > 0 else "dislike", f"u{user}", 1000 + k, item)
        feedbacks.append(Feedback(event, reward, tuple(history[-50:]), attributes={"band": str(user % 2)}))
        history.append(Seen(item, 1000 + k, reward))
    return feedbacks


def lists_of(table: ItemTable) -> dict[str, dict[str, tuple[float, ...]]]:
    """Each row's neighbours by name, with their weights."""
    found: dict[str, dict[str, tuple[float, ...]]] = {}
    for name, row in table.rows.items():
        held = [(position, n) for position, n in enumerate(table.neighbours[row].tolist()) if n >= 0]
        found[name] = {table.ids[n]: tuple(table.weights[row, position].tolist()) for position, n in held}
    return {name: neighbours for name, neighbours in found.items() if neighbours}


def test_items_taken_together_become_neighbours():
    signals = Signals(SMALL, 0)
    signals.learn(Feedback(Event("e", "click", "u", 1, "b"), 1.0, (Seen("x", 0, -1.0), Seen("a", 0, 1.0))))
    signals.settle()
    assert set(lists_of(signals.table)) == {"a", "b"}
    assert lists_of(signals.table)["a"] == {"b": (1.0, 0.0, 1.0)}


def test_lists_are_bounded_and_what_comes_often_stays():
    signals = Signals(SMALL, 0)
    for k in range(200):
        other = f"b{k}" if k % 4 else "often"
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, other), 1.0, (Seen("a", 0, 1.0),)))
    signals.settle()
    near = lists_of(signals.table)["a"]
    assert len(near) == 8
    assert max(near, key=near.__getitem__) == "often"
    after, before, together = near["often"]
    assert 1.0 < after < together == 50.0 and before == 0.0


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


def whole_and_restored(
    behaviour: Behaviour, stream: list[Feedback], *, flushed: bool = False
) -> tuple[Signals, Signals]:
    """What learned the stream at once, and what was restored after 550 feedbacks, until which both are `flushed`."""
    entries = DictEntries()
    whole, first = Signals(behaviour, 0), Signals.restore(behaviour, 0, Journal(entries, limit=100))
    for feedback in stream[:550]:
        for signals in (whole, first):
            signals.learn(feedback)
            signals.flush() if flushed and signals.due() else ()
    second = Signals.restore(behaviour, 0, Journal(DictEntries(entries), limit=100))
    for feedback in stream[550:]:
        whole.learn(feedback)
        second.learn(feedback)
    whole.settle()
    second.settle()
    return whole, second


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
    assert lists_of(signals.table)["a"] == {"b4": (0.0, 0.0, 1.0)} | {f"b{k}": (1.0, 0.0, 1.0) for k in (1, 2, 3)}


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
    assert logged[:20] == list(range(1, 21)) and 30 < max(logged) < 300
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


def test_newest_record_of_an_item_wins_whatever_the_order():
    index = ItemIndex(SMALL)
    index.apply(CatalogueUpdate(Item("i", 5, deleted=True)))
    index.apply(CatalogueUpdate(Item("i", 3, title="older")))
    assert not index.servable[index.row("i")]
    index.apply(CatalogueUpdate(Item("i", 6)))
    assert index.servable[index.row("i")]
    index.apply(CatalogueUpdate(Item("i", 7, available=False)))
    assert not index.servable[index.row("i")]


def test_unknown_items_are_served_unless_the_catalogue_is_strict():
    update = Signals(SMALL, 0)
    update.learn(Feedback(Event("e", "click", "u", 1, "stranger"), 1.0, (), attributes={"band": "x"}))
    (raw,) = update.flush()
    for strict in (False, True):
        index = ItemIndex(Behaviour(signals=SMALL.signals, catalogue=CatalogueSettings(strict=strict)))
        index.apply(decode_update(raw))
        assert bool(index.servable[index.row("stranger")]) is not strict


def test_a_list_of_another_width_is_refused_with_the_mend():
    table = ItemTable(width=8)
    table.row("i")
    blocks = table.dump()
    with pytest.raises(ValueError, match=r"signals\.neighbours = 8"):
        ItemTable(width=4).load(blocks)
    assert table.stats[:, POPULARITY].sum() == 0


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


def test_index_is_bounded_and_keeps_its_catalogue():
    behaviour = Behaviour(signals=SMALL.signals, catalogue=CatalogueSettings(items=120))
    index, signals = ItemIndex(behaviour), Signals(Behaviour(signals=SMALL.signals), 0)
    for k in range(50):
        index.apply(CatalogueUpdate(Item(f"kept{k}", 1)))
    for k in range(400):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"passing{k}"), 1.0, ()))
        index.apply(decode_update(signals.flush()[0]))
        index.apply(CatalogueUpdate(Item(f"gone{k}", 1)))
        index.apply(CatalogueUpdate(Item(f"gone{k}", 2, deleted=True)))
    assert len(index.table.rows) <= 120 and len(index.items) <= 120
    assert all(index.servable[index.row(f"kept{k}")] for k in range(50))
    assert "passing399" in {index.table.ids[row] for row in index.popular()}
    assert not any(name.startswith("gone") for name in (index.table.ids[row] for row in index.popular()))


# The kernels beside plain Python.

ROWS, WIDTH = 12, 4
FORGETTING = np.float32(0.5)


@st.composite
def tables(draw: st.DrawFn) -> ItemTable:
    """A table of ROWS rows with lists of distinct neighbours, of which some positions are free."""
    table = ItemTable(WIDTH)
    numbers = np.random.default_rng(draw(st.integers(0, 10**6)))
    for row in range(ROWS):
        table.row(f"i{row}")
        held = numbers.random(WIDTH) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        table.neighbours[row] = np.where(held, numbers.permutation(ROWS)[:WIDTH], -1)
        table.weights[row] = np.where(held[:, None], numbers.integers(1, 9, (WIDTH, 3)) / 4, 0.0)
        table.stats[row], table.at[row] = numbers.integers(0, 9, 6), numbers.integers(0, 5)
    table.changed[:] = False
    return table


def arrays_of(changes: Changes) -> tuple[object, ...]:
    """The arguments with which every kernel ends."""
    return changes.entry_of, changes.rows, changes.counted, changes.renewals, changes.cells, changes.n


def changes_of(table: ItemTable) -> Changes:
    changes = Changes(table)
    changes.fit(ROWS)
    return changes


def put_plainly(table: ItemTable, row: int, others: dict[int, float], order: int, cells: set[tuple[int, int]]) -> None:
    """Forget a little, add to the neighbours that are held, and let the others challenge the weakest of the rest."""
    neighbours, weights = table.neighbours[row].tolist(), table.weights[row].astype(float)
    weights[:, :TOGETHER] *= float(FORGETTING)
    known = [neighbours.index(other) for other in others if other in neighbours]
    for other, amount in others.items():
        if other in neighbours and neighbours.index(other) in known:
            position = neighbours.index(other)
            weights[position, order] += amount
            weights[position, TOGETHER] += 1
            cells.add((row, position))
    strength = [sum(weights[k, :TOGETHER]) if neighbours[k] >= 0 else -1.0 for k in range(WIDTH)]
    weakest = [k for k in np.argsort(strength, kind="stable").tolist() if k not in known]
    new = [other for other in others if other not in table.neighbours[row].tolist()]
    for other, position in zip(new, weakest, strict=False):
        left = max(strength[position], 0.0) - others[other]
        if left > 0:
            weights[position, :TOGETHER] *= left / strength[position]
        else:
            neighbours[position], weights[position] = other, 0.0
            weights[position, order], weights[position, TOGETHER] = -left, 1.0
        cells.add((row, position))
    table.neighbours[row], table.weights[row] = neighbours, weights


@given(tables(), st.permutations(range(ROWS)), st.integers(0, 6), st.integers(0, 3), st.data())
def test_pairs_are_added_as_plain_python_adds_them(table, rows, taken, members, data):
    row, past = rows[0], np.array(rows[1 : 1 + taken + members], np.int32)
    own = np.array(data.draw(st.lists(st.booleans(), min_size=len(past) + 1, max_size=len(past) + 1)))
    amounts = (np.float32(0.5) ** np.arange(taken)).astype(np.float32)
    expected, changes = ItemTable(WIDTH), changes_of(table)
    expected.neighbours[:], expected.weights[:] = table.neighbours, table.weights
    cells: set[tuple[int, int]] = set()
    for k, of in enumerate(past.tolist()):
        if own[k]:
            put_plainly(expected, of, {row: float(amounts[k]) if k < taken else 1.0}, AFTER, cells)
    if taken and own[-1]:
        before = dict(zip(past[:taken].tolist(), amounts.tolist(), strict=True))
        put_plainly(expected, row, before, BEFORE, cells)
    changes.n = pair(table.neighbours, table.weights, FORGETTING, row, past, own, amounts, taken, *arrays_of(changes))
    assert table.neighbours.tolist() == expected.neighbours.tolist()
    assert table.weights == pytest.approx(expected.weights, rel=1e-5)
    found = {(int(changes.rows[e]), int(p)) for e, p in np.argwhere(changes.cells[: changes.n])}
    assert found == cells
    renewed = [int(of) for of in past[own[:-1]]] + [row] * bool(taken and own[-1])
    assert sorted(changes.rows[: changes.n].tolist()) == sorted(renewed)
    assert (changes.renewals[: changes.n] == 1).all()


@given(
    tables(),
    st.lists(st.integers(0, ROWS - 1), max_size=6),
    st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    st.booleans(),
    st.integers(5, 50),
)
def test_interactions_are_counted_as_plain_python_counts_them(table, rows, reward, rated, now):
    decay = np.array([0.5, 0.9])
    stats, at = table.stats.astype(float), table.at.copy()
    for row in rows:
        stats[row, DECAYED] = stats[row, DECAYED] * decay ** (now - at[row]) + max(0.0, reward)
        stats[row, POSITIVES if reward > 0 else NEGATIVES] += 1
        if rated:
            stats[row, RATING_SUM] += 3.5
            stats[row, RATINGS] += 1
        at[row] = now
    changes = changes_of(table)
    for row in rows:
        changes.n = count(table.stats, table.at, decay, row, reward, 3.5, rated, now, *arrays_of(changes))
    assert table.stats == pytest.approx(stats, rel=1e-5)
    assert table.at.tolist() == at.tolist()
    assert changes.rows[: changes.n].tolist() == list(dict.fromkeys(rows))
    assert changes.counted[: changes.n].all() and not changes.renewals[: changes.n].any()


@given(
    tables(), tables(), st.lists(st.tuples(st.permutations(range(ROWS)), st.integers(0, 6), st.booleans()), max_size=5)
)
def test_a_block_is_learned_step_by_step(table, other, interactions):
    decay, amounts = np.array([0.5, 0.9]), (np.float32(0.5) ** np.arange(6)).astype(np.float32)
    for name in table.columns:
        getattr(other, name)[:] = getattr(table, name)
    changes, others = changes_of(table), changes_of(other)
    steps = Steps(np.ones(ROWS, np.bool_), amounts)
    for k, (rows, taken, owned) in enumerate(interactions):
        cohorts = rows[1 + taken : 1 + taken + k % 3]
        row, past = rows[0], np.array(rows[1 : 1 + taken] + cohorts, np.int32)
        own = np.array([True] * len(past) + [owned])
        mine = amounts if owned else amounts[1:] if taken == 5 else amounts[:taken]
        parts = (own, mine) if not owned else (None, None)
        names = [f"i{of}" for of in rows[: 1 + taken]]
        steps.pair(names[0], names[1:], [f"i{of}" for of in cohorts], owned, *parts, 2.0, 3.5, owned, 60 + k)
        if owned:
            others.n = count(other.stats, other.at, decay, row, 2.0, 3.5, True, 60 + k, *arrays_of(others))
        other.at[cohorts] = 60 + k
        others.n = pair(other.neighbours, other.weights, FORGETTING, row, past, own, mine, taken, *arrays_of(others))
    if interactions:
        rows = np.array([table.rows[name] for name in steps.names], np.int32)
        columns = (table.stats, table.at, decay, table.neighbours, table.weights, FORGETTING)
        changes.n = learn(*columns, rows, *steps.arrays(), *arrays_of(changes))
    for name in table.columns:
        assert getattr(table, name).tolist() == getattr(other, name).tolist()
    for name in ("rows", "counted", "renewals", "cells"):
        assert getattr(changes, name)[: changes.n].tolist() == getattr(others, name)[: others.n].tolist()


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
    weights = map(tuple, np.frombuffer(update.weights, "<f4").reshape(-1, 3).tolist())
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
            kept[:, :TOGETHER] *= 0.995 ** renewals.get(name, 0)
            for position in range(6):
                if (name, position) not in cells:
                    assert table.neighbours[row, position] == before[name][0][position]
                    assert table.weights[row, position] == pytest.approx(kept[position], rel=1e-5)
    assert not signals._changes.entry_of.any() and not signals._changes._local.any()


@given(tables(), st.sets(st.integers(0, ROWS - 1), min_size=1))
def test_released_rows_are_in_no_list(table, gone):
    rows = np.array(sorted(gone))
    held = np.isin(table.neighbours, rows) | np.isin(np.arange(len(table.neighbours)), rows)[:, None]
    expected = np.where(held, -1, table.neighbours), np.where(held[:, :, None], 0, table.weights)
    table.release(rows)
    assert table.neighbours.tolist() == expected[0].tolist()
    assert table.weights.tolist() == expected[1].tolist()
    assert np.flatnonzero(table.changed).tolist() == [0]


def test_an_update_has_room_for_more_items_after_one_of_more_users():
    signals = Signals(Behaviour(), 0)
    for user in range(3000):
        signals.learn(Feedback(Event(f"a{user}", "click", f"u{user}", user, "i"), 1.0, ()))
    assert len(decode_update(signals.flush()[0]).taken) == 4 * 3000
    for item in range(FIRST_ENTRIES + 20):
        signals.learn(Feedback(Event(f"b{item}", "click", "u", 3000 + item, f"i{item}"), 1.0, ()))
    update = decode_update(signals.flush()[0])
    assert len(set(update.ids)) >= FIRST_ENTRIES + 20 and len(update.counted) == 4 * (FIRST_ENTRIES + 20)
