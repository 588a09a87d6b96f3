"""The lists of the index are what they would be made anew as items come, change and go, and so are their keys."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from made_index import ranking
from riverrank.operators.catalogue.tokens import COHORT
from riverrank.operators.index import lists
from riverrank.operators.index.item_index import ITEM, ItemIndex
from riverrank.operators.index.lists import REFRESH_EVENTS
from riverrank.operators.settings import Behaviour, CatalogueSettings, SignalSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import POPULARITY, TRENDING
from riverrank.state.messages import CatalogueUpdate, Feedback, Seen, VectorUpdate, decode_update, encode
from riverrank.state.records.incoming import Event, Item


class World:
    """An index that random events and records of the catalogue come to; some events are about rows of no item."""

    def __init__(self, seed: int, shards: int = 1, items: int = 70) -> None:
        self.rng = random.Random(seed)
        self.behaviour = Behaviour(
            signals=SignalSettings(shards=shards, half_life_events=60, trend_half_life_events=10),
            catalogue=CatalogueSettings(items=items, new_items=12),
        )
        self.index = ItemIndex(self.behaviour)
        self.signals = [Signals(self.behaviour, shard) for shard in range(shards)]
        self.records: dict[str, bytes] = {}  # of the catalogue, as state keeps them
        self.ts = 0

    def step(self) -> None:
        self.ts += 1
        rng, item_id = self.rng, f"i{int(90 * self.rng.random() ** 2)}"
        draw = rng.random()
        if draw < 0.6:
            self.feedback(item_id, rng.choice(["click", "click", "dislike"]))
        elif draw < 0.65:
            d = self.behaviour.embedding.dimensions
            vector = np.full(d, 0x3F80, "<u2").tobytes()  # ones
            one = np.zeros(1, "<i4").tobytes()
            self.index.apply(VectorUpdate(0, (item_id,), one, vector, one, vector, np.ones(1, "<f4").tobytes(), 1))
        else:
            self.item(item_id)

    def feedback(self, item_id: str, type_: str) -> None:
        history = (Seen(f"i{self.rng.randrange(90)}", 1, 1.0),)
        reward = 1.0 if type_ == "click" else -1.0
        feedback = Feedback(
            Event(f"e{self.ts}", type_, f"u{self.rng.randrange(5)}", self.ts, item_id),
            reward,
            history,
            (),
            {"band": "a"},
        )
        for signals in self.signals:
            signals.learn(feedback)
            if signals.due():
                self.index.apply(decode_update(signals.flush()[0]))

    def item(self, item_id: str) -> None:
        rng = self.rng
        categories = tuple(rng.sample("abcd", rng.randrange(3)))
        published = rng.choice([None, rng.randrange(100)])
        update = CatalogueUpdate(
            Item(
                item_id,
                self.ts,
                categories=categories,
                published_ts=published,
                available=rng.random() < 0.8,
                deleted=rng.random() < 0.1,
            )
        )
        assert self.index.apply(update)
        self.records[ITEM + item_id] = encode(update)

    def servable(self) -> list[int]:
        """The rows that may be served; never one that is free or a cohort."""
        index = self.index
        return [row for item_id, row in index.table.rows.items() if index.servable[row] and item_id[0] != COHORT]

    def ranking(self, which: int, rows: Sequence[int]) -> list[int]:
        """`rows` by popularity or trend, from scratch."""
        keys = self.index.keys_of(np.array(rows, np.int64), which).tolist()
        return ranking(dict(zip(rows, keys, strict=True)))

    def with_token(self, token: int) -> list[int]:
        return [row for row in self.servable() if token in self.index.tokens[row]]


@pytest.fixture
def short_lists(monkeypatch):
    """Lists so short that most of some sixty items are left out."""
    monkeypatch.setattr(lists, "POPULAR", 24)
    monkeypatch.setattr(lists, "TRENDS", 16)
    monkeypatch.setattr(lists, "BEST", 4)
    return 24, 16, 4


@pytest.mark.parametrize("seed", range(4))
def test_ranked_lists_are_what_they_would_be_made_anew(seed, short_lists):
    popular, trends, best = short_lists
    world, seen = World(seed), set()
    for _ in range(700):
        world.step()
        index, rows = world.index, world.servable()
        for found, size, expected in (
            (index.popular(), popular, world.ranking(POPULARITY, rows)),
            (index.trending(), trends, world.ranking(TRENDING, rows)),
        ):
            assert found.tolist() == expected[: len(found)]
            assert len(found) >= min(len(rows), size - size // 16)
        newest = ranking({row: index.born[row] for row in rows if index.known[row]})
        listed = index.newest().tolist()
        assert len(listed) >= min(len(newest), 12)
        newest = newest[: len(listed)]
        assert listed == sorted(newest, key=lambda row: (index.table.stats[row, 2:4].sum(), newest.index(row)))
        for token in range(len(index.token_names)):
            assert index.best_of(token).tolist() == world.ranking(POPULARITY, world.with_token(token))[:best]
            for _ in range(2):  # the first may make the lists
                each = index.best_of_each(np.array([token, token], np.int32))
                assert each.tolist() == 2 * index.best_of(token).tolist()
            seen.add((token, len(index.best_of(token))))
    assert index.releases > 3 and index.lists.popular.left_out and len(seen) >= 4 * 4
    decayed = index.popularity(np.array(world.ranking(POPULARITY, rows)))
    assert (np.diff(decayed) <= 1e-6 * decayed[:-1]).all() and decayed[0] > 3 * decayed[len(decayed) // 2] > 0


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_what_is_read_depends_on_the_updates_and_not_on_earlier_reading(seed, shards, short_lists):
    """RANKER and RECOMMEND read their indexes at times of their own, and must find the same in them."""

    def read(world: World) -> list[list[float]]:
        index = world.index
        pool = index.pool()
        tokens = np.arange(len(index.token_names), dtype=np.int32)
        lists = [index.popular(), index.trending(), index.newest(), pool.rows, index.best_of_each(tokens)]
        return [found.tolist() for found in (*lists, *pool.target, pool.bias)]

    often, seldom = World(seed, shards), World(seed, shards)
    draw, compared = random.Random(seed), 0
    for _ in range(900):
        often.step()
        seldom.step()
        if draw.random() < 0.7:
            read(often)
        if draw.random() < 0.03:
            assert read(often) == read(seldom)
            compared += 1
    assert compared > 10 and len(seldom.index.pool().rows) > 5


def test_ranked_lists_of_several_shards_lag_by_a_few_events_at_most(short_lists):
    """Items of another shard decay by another clock, so what is known of their order is up to REFRESH_EVENTS old."""
    world = World(7, shards=2, items=2000)
    made_again = 0
    for _ in range(1500):
        world.step()
        index, rows = world.index, world.servable()
        before = index.lists._made_at
        for found, column, half_life in ((index.popular(), 0, 60), (index.trending(), 1, 10)):
            values = index.decayed(found)[:, column]
            rest = index.decayed(np.array(sorted(set(rows) - set(found.tolist())), np.int64))[:, column]
            lag = index.events - index.lists._made_at
            assert lag < REFRESH_EVENTS
            tolerance = 2.0 ** (lag / half_life) * 1.0001
            assert (values[1:] <= values[:-1] * tolerance).all()
            assert not len(found) or rest.max(initial=0.0) <= values[-1] * tolerance
        if index.lists._made_at != before:
            made_again += 1
            assert index.popular().tolist() == world.ranking(POPULARITY, rows)[:24]
            assert index.trending().tolist() == world.ranking(TRENDING, rows)[:16]
            for token in range(len(index.token_names)):
                assert index.best_of(token).tolist() == world.ranking(POPULARITY, world.with_token(token))[:4]
    assert made_again > 10 and len(index.token_names) == 4


def test_lists_by_token_of_several_shards_are_made_again_though_no_other_list_is_asked_for(short_lists):
    world = World(8, shards=2, items=2000)
    for _ in range(300):
        world.step()
        world.index.best_of(0) if world.index.token_names else None
    world.index.lists._made_at -= REFRESH_EVENTS
    assert world.index.best_of(0).tolist() == world.ranking(POPULARITY, world.with_token(0))[:4]


def test_a_tokens_list_stays_as_it_was_read_while_others_are_asked_for(monkeypatch):
    """Only so many tokens have lists; the next begins them again, while what was read before is still in use."""
    monkeypatch.setattr(lists, "MAX_SLOTS", 2)
    index = ItemIndex(Behaviour())
    for k in range(12):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 4}",))))
    for _ in range(2):
        assert [rows.tolist() for rows in [index.best_of(k) for k in range(4)]] == [[k, k + 4, k + 8] for k in range(4)]


def test_what_is_restored_ranks_as_what_was_dumped():
    world = World(5, items=2000)
    for _ in range(400):
        world.step()
    index = world.index
    again = ItemIndex.restore(world.behaviour, index.dump() | world.records)
    assert len(index.popular()) > 40 and len(index.newest()) == 12 and len(index.token_names) == 4
    for name in ("popular", "trending", "newest"):
        assert getattr(again, name)().tolist() == getattr(index, name)().tolist()
    for token, name in enumerate(index.token_names):
        assert again.best_of(again.token_numbers[name]).tolist() == index.best_of(token).tolist()


@pytest.mark.parametrize("shards", [1, 3])
def test_keys_by_popularity_and_by_trend_are_those_of_each(shards):
    world = World(3, shards=shards, items=2000)
    for _ in range(200):
        world.step()
    index = world.index
    index.table.stats[:3, POPULARITY] = 0.0
    rows = np.arange(len(index.table), dtype=np.int32)
    with np.errstate(divide="ignore"):
        expected = np.log(index.table.stats[rows, :2].astype(np.float64))
    ages = index.table.at[rows] - index.lists.clock[index.table.shard[rows]]
    expected -= ages[:, None] * index._log_decay
    assert index.both_keys_of(rows).tolist() == expected.T.tolist()
    assert [index.keys_of(rows, which).tolist() for which in (POPULARITY, TRENDING)] == expected.T.tolist()


TWINS = {
    "item_index.as_of_start": test_keys_by_popularity_and_by_trend_are_those_of_each,
    "item_index.gather_decayed": test_keys_by_popularity_and_by_trend_are_those_of_each,
}
