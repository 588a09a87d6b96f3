"""Ranked lists: each kernel does what its twin in plain Python does, with ties and with rows that are left out."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_index import ROWS, TOKENS, ranking, token_array
from riverrank.operators.index.ranked_lists import (
    RankedList,
    by_feedbacks,
    count_by_token,
    count_popular,
    count_ranked,
    join,
    position_of,
)
from riverrank.state.item_tables import NEGATIVES, POSITIVES, STATS

KEYS = st.sampled_from([-math.inf, -2.0, 0.0, 0.5, 1.0, 7.0])  # few, so that there are ties
STEPS = st.lists(  # None: the row is removed
    st.tuples(st.integers(0, ROWS - 1), st.sampled_from([None, -math.inf, -2.0, 0.0, 0.5, 1.0, 7.0])),
    min_size=1,
    max_size=60,
)


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


ITEM_TOKENS = st.lists(st.lists(st.integers(0, TOKENS - 1), max_size=3, unique=True), min_size=ROWS, max_size=ROWS)


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


TWINS = {
    "ranked_lists.position_of": test_a_position_is_how_many_stand_before,
    "ranked_lists.take_out": test_a_ranked_list_is_the_beginning_of_the_sorted_rows,
    "ranked_lists.move": test_a_ranked_list_is_the_beginning_of_the_sorted_rows,
    "ranked_lists.count_ranked": test_counted_rows_are_moved_in_both_lists_and_where_tokens_are_asked_for_in_theirs,
    "ranked_lists.count_popular": test_counted_rows_are_moved_to_where_sorting_puts_them,
    "ranked_lists.count_by_token": test_lists_by_token_are_the_beginning_of_the_sorted_rows_or_to_be_made_again,
    "ranked_lists.by_feedbacks": test_rows_stand_by_their_feedbacks_whatever_order_they_were_in,
    "ranked_lists.join": test_lists_are_joined_where_each_is_there,
}
