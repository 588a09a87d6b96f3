"""SIGNALS and the index that mirrors it, without Flink."""

import random

import numpy as np
import pytest
from riverrank.operators.index.event_time_buffer import MOST_WAITING, EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, CatalogueSettings, SignalSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import NEGATIVES, POPULARITY, POSITIVES, ItemTable
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import CatalogueUpdate, Feedback, Outcome, Seen, decode_update
from riverrank.state.records import Event, Item

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
        held = [(place, n) for place, n in enumerate(table.neighbours[row].tolist()) if n >= 0]
        found[name] = {table.ids[n]: tuple(table.weights[row, place].tolist()) for place, n in held}
    return {name: neighbours for name, neighbours in found.items() if neighbours}


def test_items_taken_together_become_neighbours():
    signals = Signals(SMALL, 0)
    signals.learn(Feedback(Event("e", "click", "u", 1, "b"), 1.0, (Seen("x", 0, -1.0), Seen("a", 0, 1.0))))
    assert set(lists_of(signals.table)) == {"a", "b"}
    assert lists_of(signals.table)["a"] == {"b": (1.0, 0.0, 1.0)}


def test_lists_are_bounded_and_what_comes_often_stays():
    signals = Signals(SMALL, 0)
    for k in range(200):
        other = f"b{k}" if k % 4 else "often"
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, other), 1.0, (Seen("a", 0, 1.0),)))
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


def test_shown_and_passed_over_counts_against_an_item():
    signals = Signals(SMALL, 0)
    outcome = Outcome("s", 1, ("a", "b"), (0, 1))
    signals.learn(Feedback(Event("e", "request", "u", 1), 0.0, (), (outcome,)))
    assert signals.table.stats[signals.table.row("a")][NEGATIVES] == 1
    assert signals.table.stats[signals.table.row("a")][POSITIVES] == 0


def test_table_is_bounded_and_the_least_popular_go_first():
    behaviour = Behaviour(signals=SignalSettings(neighbours=8, items=64))
    signals = Signals(behaviour, 0)
    for k in range(400):
        signals.learn(Feedback(Event(f"a{k}", "click", "u", k, "star"), 1.0, ()))
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{k}"), 1.0, (Seen("star", 0, 1.0),)))
    assert len(signals.table.rows) <= 64
    assert "star" in signals.table.rows
    held = lists_of(signals.table)
    assert held and all(name in signals.table.rows for near in held.values() for name in near)


def test_view_mirrors_the_signals_from_updates_alone():
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
    stream = made_stream(900)
    whole = Signals(SMALL, 0)
    entries = DictEntries()
    first = Signals.restore(SMALL, 0, Journal(entries, limit=100))
    for feedback in stream[:550]:
        whole.learn(feedback)
        first.learn(feedback)
    second = Signals.restore(SMALL, 0, Journal(DictEntries(entries), limit=100))
    for feedback in stream[550:]:
        whole.learn(feedback)
        second.learn(feedback)
    assert lists_of(second.table) == lists_of(whole.table)
    assert second.counts.events == whole.counts.events == 900
    assert second.table.stats[: len(second.table)].tolist() == whole.table.stats[: len(whole.table)].tolist()


def test_shards_share_the_work_without_overlap():
    behaviour = Behaviour(signals=SignalSettings(neighbours=8, shards=3))
    alone = Signals(SMALL, 0)
    shards = [Signals(behaviour, shard) for shard in range(3)]
    for feedback in made_stream(200, items=30):
        alone.learn(feedback)
        for shard in shards:
            shard.learn(feedback)
    merged: dict[str, dict[str, tuple[float, ...]]] = {}
    for shard in shards:
        lists = lists_of(shard.table)
        assert lists and not merged.keys() & lists.keys()
        merged |= lists
    assert merged == lists_of(alone.table)


def test_restored_view_is_the_same_view():
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


def test_a_clock_that_is_wrong_does_not_hold_up_the_signals_for_ever():
    kept, signals = EventTimeBuffer(SMALL, Journal(DictEntries(), limit=50)), Signals(SMALL, 0)
    for k in range(MOST_WAITING + 10):
        ts = 10**12 if k == 0 else k
        signals.learn(Feedback(Event(f"e{k}", "click", "u", ts, "a"), 1.0, ()))
        kept.take(decode_update(signals.flush()[0]))
        kept.release(k + 1)
    assert kept.index.events == MOST_WAITING + 10


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


def test_what_was_not_told_before_a_failure_is_told_after_the_restore():
    """The index misses the last update; the restored signals tell it what changed, without forgetting twice."""
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


def test_a_view_is_bounded_and_keeps_its_catalogue():
    behaviour = Behaviour(signals=SMALL.signals, catalogue=CatalogueSettings(items=120))
    index, signals = ItemIndex(behaviour), Signals(Behaviour(signals=SMALL.signals), 0)
    for k in range(50):
        index.apply(CatalogueUpdate(Item(f"kept{k}", 1)))
    for k in range(400):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"passing{k}"), 1.0, ()))
        index.apply(decode_update(signals.flush()[0]))
        index.apply(CatalogueUpdate(Item(f"gone{k}", 1)))
        index.apply(CatalogueUpdate(Item(f"gone{k}", 2, deleted=True)))
    assert len(index.table.rows) <= 120 and len(index.items) <= 120 and len(index.row_of_hash) <= 120
    assert all(index.servable[index.row(f"kept{k}")] for k in range(50))
    assert "passing399" in {index.table.ids[row] for row in index.popular()}
    assert not any(name.startswith("gone") for name in (index.table.ids[row] for row in index.popular()))
