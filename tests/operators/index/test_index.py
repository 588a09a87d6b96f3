"""The index of items: each kernel does what its twin in plain Python does, and ranked lists stay exact as items come,
change and go.
"""

import math
import random
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from riverrank.operators.catalogue.tokens import COHORT, MAX_TOKENS
from riverrank.operators.index import lists
from riverrank.operators.index.apply_updates import _apply, _apply_vectors, _last_position
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ITEM, ItemIndex, decayed
from riverrank.operators.index.lists import REFRESH_EVENTS
from riverrank.operators.index.pool import Pool, copy, logits
from riverrank.operators.index.ranked_lists import (
    RankedList,
    by_feedbacks,
    count_by_token,
    count_popular,
    count_ranked,
    join,
    position_of,
)
from riverrank.operators.index.vocabulary import Vocabulary
from riverrank.operators.settings import Behaviour, CatalogueSettings, EmbeddingSettings, SignalSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import NEGATIVES, POPULARITY, POSITIVES, STATS, TRENDING, ItemTable, to_bfloat16
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import CatalogueUpdate, Feedback, Seen, SignalUpdate, VectorUpdate, decode_update, encode
from riverrank.state.records.incoming import Event, Item

ROWS = 12
KEYS = st.sampled_from([-math.inf, -2.0, 0.0, 0.5, 1.0, 7.0])  # few, so that there are ties
STEPS = st.lists(  # None: the row is removed
    st.tuples(st.integers(0, ROWS - 1), st.sampled_from([None, -math.inf, -2.0, 0.0, 0.5, 1.0, 7.0])),
    min_size=1,
    max_size=60,
)


def ranking(keys: dict[int, float]) -> list[int]:
    """The rows by key, highest first, of equals the lowest row."""
    return sorted(keys, key=lambda row: (-keys[row], row))


def check_prefix(ranked: RankedList, keys: dict[int, float]) -> None:
    """What is listed is the beginning of the ranking, all of it where nothing was left out, most of it otherwise."""
    n = ranked.n
    assert ranked.rows[:n].tolist() == ranking(keys)[:n]
    assert ranked.keys[:n].tolist() == [keys[row] for row in ranked.rows[:n].tolist()]
    listed = {row: key for row, key in enumerate(ranked.listed.tolist()) if not math.isnan(key)}
    assert listed == {row: keys[row] for row in ranked.rows[:n].tolist()}
    if not ranked.left_out:
        assert n == len(keys)
    elif not ranked.is_short:
        assert ranked.size - ranked.size // 16 <= n <= ranked.size


@given(st.sampled_from([1, 2, 3, 5, 20]), STEPS)
def test_a_ranked_list_is_the_beginning_of_the_sorted_rows(size, steps):
    ranked, keys = RankedList(size), dict[int, float]()
    ranked.rebuild(np.zeros(0, np.int64), np.zeros(0), 2)
    for row, key in steps:
        ranked.fit(ROWS)
        ranked.remove(row) if key is None else ranked.put(row, key)
        keys.pop(row, None)
        if key is not None:
            keys[row] = key
        check_prefix(ranked, keys)
        if ranked.is_short:
            rows = np.array(sorted(keys), np.int64)
            ranked.rebuild(rows, np.array([keys[row] for row in rows.tolist()]), ROWS)
            assert ranked.n == min(size, len(keys))
            check_prefix(ranked, keys)


@given(st.sampled_from([1, 2, 5, ROWS]), STEPS, STEPS)
def test_counted_rows_are_moved_to_where_sorting_puts_them(size, before, counted):
    keys = {row: key for row, key in before if key is not None}
    ranked, servable = RankedList(size), np.zeros(ROWS, bool)
    servable[list(keys)] = True
    rows = np.array(sorted(keys), np.int64)
    ranked.rebuild(rows, np.array([keys[row] for row in rows.tolist()]), ROWS)
    moved = [(row, key) for row, key in counted if key is not None]
    ranked.n = count_popular(
        np.array([row for row, _ in moved], np.int32),
        np.array([key for _, key in moved]),
        servable,
        ranked.rows,
        ranked.keys,
        ranked.listed,
        ranked.n,
        ranked.size,
        ranked.left_out,
    )
    keys |= {row: key for row, key in moved if servable[row]}
    check_prefix(ranked, keys)


@given(st.sampled_from([1, 3, ROWS]), st.booleans(), STEPS)
def test_counted_rows_are_moved_in_both_lists_and_where_tokens_are_asked_for_in_theirs(size, has_tokens, counted):
    counted = [(row, key) for row, key in counted if key is not None]
    rows = np.array([row for row, _ in counted], np.int32)
    keys = np.array([[key for _, key in counted], [-2.0 * key for _, key in counted]])
    tokens, slots = token_array([[row % 2] for row in range(ROWS)]), np.array([0, -1], np.int32)
    servable = np.arange(ROWS) % 3 > 0
    of_token = [(np.zeros((1, 3), np.int32), np.zeros((1, 3)), np.zeros(1, np.int32)) for _ in range(2)]
    both, each = ([RankedList(size), RankedList(size + 1)] for _ in range(2))
    for ranked in (*both, *each):
        ranked.fit(ROWS)
    found = count_ranked(
        rows, keys, servable, *both[0].arrays(), *both[1].arrays(), has_tokens, tokens, slots, *of_token[0]
    )
    expected = tuple(count_popular(rows, keys[k], servable, *each[k].arrays()) for k in range(2))
    if has_tokens:
        count_by_token(rows, keys[0], servable, tokens, slots, *of_token[1])
    assert found == expected
    for k, n in enumerate(expected):
        assert both[k].rows[:n].tolist() == each[k].rows[:n].tolist()
        assert both[k].keys[:n].tolist() == each[k].keys[:n].tolist()
    assert [part.tolist() for part in of_token[0]] == [part.tolist() for part in of_token[1]]


@given(st.lists(st.tuples(KEYS, st.integers(0, ROWS)), unique_by=lambda pair: pair[1]), KEYS, st.integers(0, ROWS))
def test_a_position_is_how_many_stand_before(pairs, key, row):
    pairs.sort(key=lambda pair: (-pair[0], pair[1]))
    rows, keys = np.array([row for _, row in pairs], np.int32), np.array([key for key, _ in pairs])
    expected = sum((-k, r) < (-key, row) for k, r in pairs)
    assert position_of(rows, keys, len(pairs), row, key) == expected


TOKENS = 5
ITEM_TOKENS = st.lists(st.lists(st.integers(0, TOKENS - 1), max_size=3, unique=True), min_size=ROWS, max_size=ROWS)


def token_array(tokens: Sequence[Sequence[int]]) -> np.ndarray:
    array = np.full((len(tokens), MAX_TOKENS), -1, np.int32)
    for row, held in enumerate(tokens):
        array[row, : len(held)] = held
    return array


@given(ITEM_TOKENS, st.integers(1, 4), STEPS, st.sets(st.integers(0, TOKENS - 1)), st.sets(st.integers(0, ROWS - 1)))
def test_lists_by_token_are_the_beginning_of_the_sorted_rows_or_to_be_made_again(
    tokens, size, counted, asked, unservable
):
    servable = np.ones(ROWS, bool)
    servable[list(unservable)] = False
    keys = {row: float(row % 3) for row in range(ROWS) if servable[row]}
    slots = np.full(TOKENS + 2, -1, np.int32)
    rows, listed = np.zeros((len(asked) + 1, size + 1), np.int32), np.zeros((len(asked) + 1, size + 1))
    counts = np.full(len(asked) + 1, -1, np.int32)
    for slot, token in enumerate(sorted(asked)):
        slots[token] = slot
        best = ranking({row: key for row, key in keys.items() if token in tokens[row]})[:size]
        rows[slot, : len(best)], counts[slot] = best, len(best)
        listed[slot, : len(best)] = [keys[row] for row in best]
    for row, key in counted:
        if key is None:
            continue
        count_by_token(
            np.array([row], np.int32), np.array([key]), servable, token_array(tokens), slots, rows, listed, counts
        )
        if servable[row]:
            keys[row] = key
    for slot, token in enumerate(sorted(asked)):
        expected = ranking({row: key for row, key in keys.items() if token in tokens[row]})
        n = int(counts[slot])
        if n < 0:  # only where there are rows beside the list, one of which may be better than what fell
            assert len(expected) >= size
            continue
        assert rows[slot, :n].tolist() == expected[:size]
        assert listed[slot, :n].tolist() == [keys[row] for row in expected[:size]]
    assert counts[-1] == -1


@given(st.lists(st.tuples(st.integers(0, ROWS - 1), st.lists(st.integers(0, TOKENS - 1), max_size=4, unique=True))))
def test_the_vocabulary_knows_the_rows_of_each_token(steps):
    vocabulary, rows, held = Vocabulary(), [set[int]() for _ in range(TOKENS)], dict[int, list[int]]()
    numbers = [vocabulary.number(f"category={k}") for k in range(TOKENS)]
    vocabulary.fit(2)
    for row, tokens in steps:
        vocabulary.fit(ROWS)
        vocabulary.unlink(row, token_array([held.get(row, [])])[0])
        vocabulary.link(row, token_array([tokens])[0])
        held[row] = tokens
        for token in range(TOKENS):
            rows[token].discard(row)
            if token in tokens:
                rows[token].add(row)
        assert [vocabulary.rows_of(k).tolist() for k in numbers] == [sorted(rows[k]) for k in numbers]
        assert vocabulary.sizes[:TOKENS].tolist() == [len(rows[k]) for k in numbers]


def test_a_vocabulary_of_many_tokens_knows_each_by_number_hash_and_value():
    vocabulary = Vocabulary()
    names = [f"brand={k}" for k in range(2500)]  # more than there is room for at first
    assert [vocabulary.number(name) for name in names] == list(range(2500))
    assert [vocabulary.number(name) for name in names] == list(range(2500))
    assert vocabulary.hashes[:2500].tolist() == [hash32(name) for name in names]
    assert vocabulary.by_value["2400"] == [2400] and (vocabulary.slots == -1).all() and (vocabulary.heads == -1).all()


def test_tokens_that_no_item_has_are_given_up():
    """Items one after another with a token of their own each, then one that changes its own again and again."""
    index, brands, checked = small_index(100), [f"brand=b{k}" for k in range(7)], -1
    for k in range(6000):
        item_id = f"i{k}" if k < 3000 else "i2999"
        index.apply(CatalogueUpdate(Item(item_id, k, attributes={"brand": f"b{k % 7}", "sku": str(k)})))
        index.best_of(index.token_numbers[f"sku={k}"]), index.best_of(index.token_numbers[brands[k % 7]])
        if checked != index.vocabulary.releases or k % 100 == 0 or k > 5990:
            checked = index.vocabulary.releases
            held = {name: [] for name in index.token_names}
            for row in sorted(index.table.rows.values()):
                for number in index.tokens[row][index.tokens[row] >= 0].tolist():
                    held[index.token_names[number]].append(row)
            for number, (name, rows) in enumerate(held.items()):
                assert index.token_numbers[name] == number and number in index.tokens_of_value[name.split("=")[1]]
                assert index.token_hashes[number] == hash32(name) and index.token_sizes[number] == len(rows)
                assert index.vocabulary.rows_of(number).tolist() == rows
                assert sorted(index.best_of(number).tolist()) == rows or len(rows) > lists.BEST
            assert {name for name, rows in held.items() if rows} > {f"sku={k}"}
    vocabulary = index.vocabulary
    assert len(index.table.rows) == 100 and len(vocabulary.names) == len(vocabulary.numbers) <= 1024
    assert len(vocabulary.by_value) <= 1024 and len(vocabulary.hashes) == 1024 and 5 < vocabulary.releases < 10
    assert sum(map(len, vocabulary.by_value.values())) == len(vocabulary.names)


VALUES = st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0])  # of which sums are exact


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=6), st.lists(VALUES, min_size=3, max_size=3))
def test_logits_are_dot_products_and_biases(vectors, user):
    columns = np.array(vectors, np.float32).reshape(-1, 3).T.copy()
    biases = np.arange(len(vectors), dtype=np.float32)
    expected = [sum(a * b for a, b in zip(vector, user, strict=True)) + k for k, vector in enumerate(vectors)]
    assert logits(columns, biases, np.array(user, np.float32)).tolist() == expected
    assert biases.tolist() == list(range(len(vectors)))


@given(
    st.lists(st.integers(0, ROWS - 1), max_size=8),
    st.lists(st.integers(0, ROWS - 1), unique=True, max_size=6),
    st.sets(st.integers(0, ROWS - 2)),
)
def test_what_is_in_the_pool_is_copied_and_the_popular_ones_of_the_rest_are_counted(changed, pooled, popular):
    target = np.arange(3.0 * ROWS, dtype=np.float32).reshape(ROWS, 3)
    bias = -np.arange(ROWS, dtype=np.float32)
    column_of = np.full(ROWS - 2, -1, np.int32)  # two rows are newer than the pool
    pooled = [row for row in pooled if row < len(column_of)]
    column_of[pooled] = range(len(pooled))
    columns, biases = np.full((3, len(pooled)), 99, np.float32), np.full(len(pooled), 99, np.float32)
    listed = np.full(ROWS - 1, np.nan)  # one row is newer than the list
    listed[list(popular)] = 1.0
    outside = copy(np.array(changed, np.int32), target, bias, column_of, listed, columns, biases)
    assert outside == sum(row not in pooled and row in popular for row in changed)
    for column, row in enumerate(pooled):
        assert columns[:, column].tolist() == (target[row].tolist() if row in changed else [99] * 3)
        assert biases[column] == (bias[row] if row in changed else 99)


def test_the_pool_is_as_the_table_whatever_changes():
    table, rng = ItemTable(4, dimensions=3), np.random.default_rng(1)
    for k in range(40):
        table.row(f"i{k}")
    learned = np.arange(0, 40, 2)
    table.target[learned], table.bias[learned] = rng.random((20, 3), np.float32), rng.random(20, np.float32)
    pool, popular = Pool(table, 4096, 3), RankedList(4096)
    popular.rebuild(np.arange(401), np.arange(401.0), 401)
    assert pool.wants_refresh(0)
    pool.fill(np.arange(39, -1, -1, dtype=np.int32), 0)
    assert pool.rows.tolist() == learned[::-1].tolist() and not pool.wants_refresh(255) and pool.wants_refresh(256)
    for rows in ([2, 4, 6], [8], [3], [400]):
        for k in range(len(table), max(rows) + 1):
            table.row(f"i{k}")
        table.target[rows], table.bias[rows] = rng.random((len(rows), 3), np.float32), 5.0
        pool.update(np.array(rows, np.int32), popular)
        assert (pool.target == table.target[pool.rows].T).all() and (pool.bias == table.bias[pool.rows]).all()
    assert pool.wants_refresh(1)  # two of twenty are learned that were not
    pool.fill(np.arange(39, -1, -1, dtype=np.int32), 1)
    popular.rebuild(np.arange(0), np.arange(0.0), 401)
    pool.update(np.array([5, 400, 401], np.int32), popular)
    assert not pool.wants_refresh(2)  # these are not among the popular
    popular.rebuild(np.arange(401), np.arange(401.0), 401)
    pool.fill(np.arange(401, dtype=np.int32), 1)
    assert len(pool.rows) == 22 and not pool.wants_refresh(2)
    held = pool.target.copy()
    pool.forget()
    table.target[2] = 0
    pool.update(np.array([2], np.int32), popular)  # row 2 may be another item by now
    assert pool.wants_refresh(2) and (pool.target == held).all()


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


CELL = st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([0.0, 0.5, 2.0]))  # position, item, weight


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(CELL, max_size=3)), max_size=6),
    st.lists(st.integers(0, 5), max_size=6, unique=True),
    st.sets(st.integers(0, 5)),
)
def test_an_update_is_written_to_the_rows_of_its_items(renewed, counted, whole):
    table, twin = ItemTable(3), ItemTable(3)
    for held in (table, twin):
        held.neighbours[:8], held.weights[:8] = np.arange(24).reshape(8, 3) % 8, 1.0
    rows = np.array([7, 3, 0, 5, 1, 2], np.int32)
    stats = np.arange(6.0 * len(counted), dtype=np.float32)
    cells = [cell for _, held in renewed for cell in held]
    stats, counts, positions, items, amounts = (
        np.frombuffer(np.array(part, kind).tobytes(), kind)  # not to be written to, as those of an update
        for part, kind in (
            (stats, "<f4"),
            ([(n, len(held)) for n, held in renewed], "<i4"),
            ([position for position, _, _ in cells], "<u2"),
            ([item for _, item, _ in cells], "<i4"),
            ([(weight, 2 * weight, 1.0) for *_, weight in cells], "<f4"),
        )
    )
    changed, blocks = np.frombuffer(np.array(counted, "<i4").tobytes(), "<i4"), np.zeros(len(table.stats), np.bool_)
    begun = np.array([k for k in sorted(whole) if k < len(renewed)], "<i4")
    _apply(
        *(table.stats, table.at, table.shard, table.neighbours, table.weights, rows, changed),
        *(stats, 77.0, 1, begun, counts, positions, items, amounts, 0.5, 1, blocks),
    )
    for k, item in enumerate(counted):
        row = rows[item]
        twin.stats[row], twin.at[row], twin.shard[row] = stats[6 * k : 6 * k + 6], 77.0, 1
    for item, (renewals, held) in enumerate(renewed):
        row = rows[item]
        twin.weights[row, :, :2] *= 0.5**renewals
        if item in whole:
            twin.neighbours[row], twin.weights[row] = -1, 0.0
        for position, other, weight in held:
            twin.neighbours[row, position] = rows[other]
            twin.weights[row, position] = [weight, 2 * weight, 1.0]
    for name in ("stats", "at", "shard", "neighbours", "weights"):
        assert getattr(table, name).tolist() == getattr(twin, name).tolist()


@given(st.lists(st.integers(0, ROWS - 1), unique=True), st.integers(0, 10**6), st.integers(1, 5))
def test_vectors_are_written_to_the_rows_of_their_items(rows, seed, d):
    draws, of = np.random.default_rng(seed), np.array(rows, np.int32)
    context, target, bias = (
        draws.random((ROWS, d), np.float32),
        draws.random((ROWS, d), np.float32),
        np.zeros(ROWS, "f"),
    )
    twins = context.copy(), target.copy(), bias.copy()
    told = [np.flatnonzero(draws.random(len(rows)) < 0.5).astype("<i4") for _ in range(2)]
    vectors = [draws.integers(-8, 8, (len(items), d)).astype("<f4") for items in told]  # which two bytes hold
    biases, blocks = draws.random(len(told[1]), np.float32), np.zeros(ROWS, np.bool_)
    flat = [np.array([to_bfloat16(number) for number in each.ravel()], "<u2").tobytes() for each in vectors]
    moved = _apply_vectors(
        *(context, target, bias, of, np.frombuffer(told[0].tobytes(), "<i4"), np.frombuffer(flat[0], "<u2")),
        *(np.frombuffer(told[1].tobytes(), "<i4"), np.frombuffer(flat[1], "<u2")),
        *(np.frombuffer(biases.tobytes(), "<f4"), 1, blocks),
    )
    twins[0][of[told[0]]], twins[1][of[told[1]]], twins[2][of[told[1]]] = *vectors, biases
    for found, twin in zip((context, target, bias), twins, strict=True):
        assert found.tolist() == twin.tolist()
    assert moved.tolist() == of[told[1]].tolist() and np.flatnonzero(blocks).tolist() == sorted(rows)


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


COUNT = st.sampled_from([0.0, 1.0, 2.0, 7.0])


@given(st.lists(st.tuples(COUNT, COUNT), min_size=1, max_size=9), st.randoms(use_true_random=False))
def test_rows_stand_by_their_feedbacks_whatever_order_they_were_in(counts, rng):
    stats = np.zeros((len(counts), STATS), np.float32)
    stats[:, POSITIVES], stats[:, NEGATIVES] = np.array(counts, np.float32).T
    rows = np.array(rng.sample(range(len(counts)), len(counts)), np.int32)
    order = np.array(rng.sample(range(len(counts)), len(counts)))
    expected = sorted(range(len(counts)), key=lambda k: sum(counts[rows[k]]))
    assert by_feedbacks(rows, stats, order).tolist() == rows[expected].tolist()
    assert order.tolist() == expected


@given(st.lists(st.lists(st.integers(0, 9), max_size=3) | st.none(), min_size=3, max_size=3), st.data())
def test_lists_are_joined_where_each_is_there(lists, data):
    """Three tokens have a list, where it is not None, and the fourth has none."""
    rows, counts = np.full((3, 3), 99, np.int32), np.full(3, -1, np.int32)
    for slot, held in enumerate(lists):
        if held is not None:
            rows[slot, : len(held)], counts[slot] = held, len(held)
    tokens = data.draw(st.lists(st.integers(0, 3), max_size=5))
    found = np.empty(3 * len(tokens), np.int32)
    n = join(np.array(tokens, np.int32), np.array([0, 1, 2, -1], np.int32), rows, counts, found)
    asked = [None if token == 3 else lists[token] for token in tokens]
    if None in asked:
        assert n == -1
    else:
        assert found[:n].tolist() == [row for held in asked for row in held]


def learned(neighbours: int, dimensions: int) -> tuple[SignalUpdate, VectorUpdate]:
    """What SIGNALS and RANKER say of an item that twelve others were taken after."""
    signals = Signals(Behaviour(signals=SignalSettings(neighbours=neighbours)), 0)
    for k in range(12):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"b{k}"), 1.0, (Seen("a", 0, 1.0),)))
    (update,) = signals.updates()
    one = np.zeros(1, "<i4").tobytes()
    vector = np.full(dimensions, 0x3F80, "<u2").tobytes()
    return update, VectorUpdate(0, ("a",), one, vector, one, vector, np.ones(1, "<f4").tobytes(), 1)


NARROW = Behaviour(signals=SignalSettings(neighbours=4), embedding=EmbeddingSettings(dimensions=16))
OF_LISTS = "an update holds positions in a list up to 11, expected below 4: set signals.neighbours as it was, or start"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (learned(60, 16)[0], OF_LISTS),
        (learned(4, 8)[1], "an update holds embeddings of 8 numbers, expected 16: set embedding.dimensions as it was"),
        (
            learned(4, 32)[1],
            "an update holds embeddings of 32 numbers, expected 16: set embedding.dimensions as it was",
        ),
    ],
)
def test_a_log_of_another_width_is_refused_with_the_mend(update, message):
    entries = DictEntries()
    Journal(entries).append(encode(update))
    with pytest.raises(ValueError, match=f"^{message}"):
        EventTimeBuffer(NARROW, Journal(entries))
    index = ItemIndex(NARROW)
    with pytest.raises(ValueError, match=message):
        index.apply(update)
    assert not index.table.rows and (index.table.neighbours == -1).all()  # nothing was written


@pytest.mark.parametrize("name", ["stats", "lists", "positions", "neighbours", "weights", "context", "target", "bias"])
def test_an_update_whose_arrays_do_not_fit_each_other_is_refused(name):
    update = next(update for update in learned(4, 16) if hasattr(update, name))
    index, array = ItemIndex(NARROW), getattr(update, name)
    for other in (array[:-4], array + array[-4:], b""):
        with pytest.raises(ValueError, match=r"an update holds .* start without this savepoint"):
            index.apply(msgspec.structs.replace(update, **{name: other}))
    assert not index.table.rows and index.apply(update)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=6),
    st.lists(st.integers(0, 65535), max_size=12),
)
def test_the_last_position_is_the_highest_where_there_are_as_many_as_cells(pairs, positions):
    lists = np.array(pairs, "<i4").reshape(-1)
    expected = max(positions, default=0) if sum(n for _, n in pairs) == len(positions) else -1
    assert _last_position(lists, np.array(positions, "<u2")) == expected


TWINS = {
    "apply_updates._last_position": test_the_last_position_is_the_highest_where_there_are_as_many_as_cells,
    "apply_updates._apply_vectors": test_vectors_are_written_to_the_rows_of_their_items,
    "apply_updates._apply": test_an_update_is_written_to_the_rows_of_its_items,
    "item_index.as_of_start": test_keys_by_popularity_and_by_trend_are_those_of_each,
    "item_index.gather_decayed": test_keys_by_popularity_and_by_trend_are_those_of_each,
    "item_index.decayed": test_decayed_is_what_is_left_of_the_stats,
    "pool.copy": test_what_is_in_the_pool_is_copied_and_the_popular_ones_of_the_rest_are_counted,
    "pool.logits": test_logits_are_dot_products_and_biases,
    "ranked_lists.position_of": test_a_position_is_how_many_stand_before,
    "ranked_lists.take_out": test_a_ranked_list_is_the_beginning_of_the_sorted_rows,
    "ranked_lists.move": test_a_ranked_list_is_the_beginning_of_the_sorted_rows,
    "ranked_lists.count_ranked": test_counted_rows_are_moved_in_both_lists_and_where_tokens_are_asked_for_in_theirs,
    "ranked_lists.count_popular": test_counted_rows_are_moved_to_where_sorting_puts_them,
    "ranked_lists.count_by_token": test_lists_by_token_are_the_beginning_of_the_sorted_rows_or_to_be_made_again,
    "ranked_lists.by_feedbacks": test_rows_stand_by_their_feedbacks_whatever_order_they_were_in,
    "ranked_lists.join": test_lists_are_joined_where_each_is_there,
    "vocabulary.link": test_the_vocabulary_knows_the_rows_of_each_token,
    "vocabulary.unlink": test_the_vocabulary_knows_the_rows_of_each_token,
    "vocabulary.chain": test_the_vocabulary_knows_the_rows_of_each_token,
}


def small_index(limit: int) -> ItemIndex:
    return ItemIndex(Behaviour(catalogue=CatalogueSettings(items=limit)))


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


def test_a_row_that_is_used_again_says_nothing_of_who_had_it():
    index = small_index(64)
    signals = Signals(index.behaviour, 0)
    hold(index, *range(64))
    row = index.table.rows["i0"]
    assert index.content[row].any() and index.text[row].any()
    met(index, signals, *(f"i{number}" for number in range(1, 64)), "stranger")
    assert index.table.rows["stranger"] == row
    assert not index.content[row].any() and not index.text[row].any() and (index.tokens[row] == -1).all()


def test_every_kernel_has_a_twin():
    assert missing_twins("index", TWINS, globals()) == set()


def test_what_an_update_counts_is_kept_though_it_tells_of_no_list():
    index, empty, kept = ItemIndex(Behaviour()), b"", {}
    for number in (1, 2):
        stats = number * np.arange(1, STATS + 1, dtype="<f4")
        update = SignalUpdate(0, ("i",), bytes(4), stats.tobytes(), *[empty] * 4, number, 1, (0.0, 0.0))
        index.apply(update)
        kept |= index.dump()
    again = ItemIndex.restore(Behaviour(), kept)
    assert again.table.stats[again.row("i")].tolist() == stats.tolist()
