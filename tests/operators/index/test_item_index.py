"""The index of items: what it holds of each, what it serves, and who makes room where it is full."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_feedbacks import SMALL
from made_index import ROWS, small_index
from riverrank.operators.index.item_index import ItemIndex, decayed
from riverrank.operators.settings import Behaviour, CatalogueSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import POPULARITY, STATS, TRENDING
from riverrank.state.messages import CatalogueUpdate, Feedback, Seen, SignalUpdate, decode_update
from riverrank.state.records.incoming import Event, Item


@given(
    st.lists(st.integers(0, ROWS - 1), max_size=8, unique=True),
    st.lists(st.tuples(st.sampled_from([0.0, 0.5, 3.0, 1000.0]), st.integers(0, 50)), min_size=ROWS, max_size=ROWS),
    st.sampled_from([POPULARITY, TRENDING]),
)
def test_decayed_is_what_is_left_of_the_stats(rows, held, which):
    stats, at = np.zeros((ROWS, 6), np.float32), np.array([at for _, at in held], np.float64)
    stats[:, which] = [value for value, _ in held]
    shard, clock = (np.arange(ROWS) % 2).astype(np.int16), np.array([50.0, 80.0])
    scores = np.zeros((len(rows), 3), np.float32)
    decayed(np.array(rows, np.int32), stats, which, at, shard, clock, math.log(0.9), scores, 1)
    expected = [held[row][0] * 0.9 ** ((50.0, 80.0)[row % 2] - held[row][1]) for row in rows]
    assert scores[:, 1].tolist() == pytest.approx(expected, rel=1e-5) and not scores[:, [0, 2]].any()


def hold(index: ItemIndex, *numbers: int, ts: int = 1) -> None:
    for number in numbers:
        index.apply(CatalogueUpdate(Item(f"i{number}", ts, title=f"word{number}", categories=(f"c{number}",))))


def met(index: ItemIndex, signals: Signals, *item_ids: str) -> None:
    """Somebody took each of these."""
    for item_id in item_ids:
        signals.learn(Feedback(Event(item_id, "click", "u", 1, item_id), 1.0, ()))
    for update in signals.flush():
        index.apply(decode_update(update))


def test_a_full_index_makes_room_for_what_is_new_alone():
    index = small_index(64)
    signals = Signals(index.behaviour, 0)
    hold(index, *range(60))
    met(index, signals, "x0", "x1", "x2", "x3")
    assert len(index.table.rows) == 64
    hold(index, *range(60), ts=2)  # what is there already needs no room
    met(index, signals, "x0", "i5")
    assert len(index.table.rows) == 64 and index.releases == 0
    hold(index, 60)
    assert index.releases == 1 and "x0" in index.table.rows and len(index.table.rows) == 63  # 64 // 32 went, one came
    assert all(f"i{number}" in index.table.rows for number in range(61))


def test_where_the_catalogue_holds_all_the_least_popular_make_room():
    index = small_index(64)
    signals = Signals(index.behaviour, 0)
    hold(index, *range(64))
    met(index, signals, *(f"i{number}" for number in range(64) if number != 9))
    hold(index, 64, 65)
    assert len(index.table.rows) == 64 and "i9" not in index.table.rows and "i65" in index.table.rows
    assert "i9" in index.forgotten


@pytest.mark.parametrize("limit", [1, 8, 64])
def test_no_update_leaves_more_items_than_there_is_room_for(limit):
    """Though it tells of more than that, or of what made room for it; nor does a restore with less room."""
    index, signals, most, kept = small_index(limit), Signals(Behaviour(), 0), 0, {}
    for k in range(60):
        for n in range(8):  # so many are told of at once, with their neighbours
            history = tuple(Seen(f"i{(7 * k + 5 * n + m) % 90}", 1, 1.0) for m in range(1, 20))
            signals.learn(Feedback(Event(f"e{k}-{n}", "click", "u", 1, f"i{(7 * k + 5 * n) % 90}"), 1.0, history))
        for update in signals.flush():
            index.apply(decode_update(update))
            most = max(most, len(index.table.rows))
        hold(index, *range(k, k + 3), ts=k)
        most = max(most, len(index.table.rows))
        kept |= index.dump()
    assert most == limit and set(index.popular().tolist()) <= set(index.table.used().tolist())
    assert len(ItemIndex.restore(small_index(max(1, limit // 2)).behaviour, kept).table.rows) <= max(1, limit // 2)


def test_a_row_that_is_used_again_says_nothing_of_who_had_it():
    index = small_index(64)
    signals = Signals(index.behaviour, 0)
    hold(index, *range(64))
    row = index.table.rows["i0"]
    assert index.content[row].any()
    met(index, signals, *(f"i{number}" for number in range(1, 64)), "stranger")
    assert index.table.rows["stranger"] == row
    assert not index.content[row].any() and (index.tokens[row] == -1).all()


def test_what_an_update_counts_is_kept_though_it_tells_of_no_list():
    index, empty, kept = ItemIndex(Behaviour()), b"", {}
    for number in (1, 2):
        stats = number * np.arange(1, STATS + 1, dtype="<f4")
        update = SignalUpdate(0, ("i",), bytes(4), stats.tobytes(), *[empty] * 4, number, 1, (0.0, 0.0))
        index.apply(update)
        kept |= index.dump()
    again = ItemIndex.restore(Behaviour(), kept)
    assert again.table.stats[again.row("i")].tolist() == stats.tolist()


TWINS = {
    "item_index.decayed": test_decayed_is_what_is_left_of_the_stats,
}


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
