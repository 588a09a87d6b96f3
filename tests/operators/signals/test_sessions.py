"""Session neighbours: what is kept of sessions, and what those near a user's give."""

import random
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kept_sessions import check
from riverrank.operators.signals.sessions import (
    ANYWHERE,
    MIN_RELATIVE_SCORE,
    MOST_GIVEN,
    NEAREST,
    NEARNESS,
    RECENT,
    SESSION_RECENCY,
    SHRINKAGE,
    SIEVE,
    Sessions,
    neighbours_of,
)
from riverrank.state.item_tables import SESSION_ITEMS

ITEMS = 300 + SIEVE
FAR = {row: row - 15 + SIEVE for row in range(15, 30)}  # rows that are as those below 15 by remainder
Pairs = list[tuple[int, int]]


def pairs_of(n: int, users: int, seed: int = 1, items: int = ITEMS) -> Pairs:
    rng = random.Random(seed)
    return [(rng.randrange(users), int(items * rng.random() ** 2)) for _ in range(n)]


def sessions_of(pairs: Pairs, most: int = 1000) -> Sessions:
    sessions = Sessions(most, ITEMS)
    sessions.take(*zip(*pairs, strict=True))
    return sessions


def slot(sessions: Sessions, key: int) -> int:
    return sessions.table.rows.get(f"{key:08x}", -1)


def given_by_row(sessions: Sessions, rows: Sequence[int], likes: Sequence[float], own: int = -1) -> np.ndarray:
    """The scores by row; nothing but what is said to be reached has one."""
    scores = np.zeros(ITEMS, np.float32)
    given, shares = np.empty(MOST_GIVEN, np.int32), np.empty(MOST_GIVEN, np.float32)
    history = np.array(rows, np.int32), np.array(likes, np.float32)
    n = neighbours_of(*sessions.arrays, *history, own, given, shares)
    np.add.at(scores, given[:n], shares[:n])
    assert set(given[:n].tolist()) == set(np.flatnonzero(scores).tolist())
    assert not sessions._weight.any()
    return scores


def plainly(pairs: Pairs, rows: Sequence[int], likes: Sequence[float], own: int) -> np.ndarray:
    """The same from all pairs, one session after another, without an index or a bound on sessions of an item."""
    held: dict[int, list[int]] = {}
    for key, row in pairs:
        items = held.setdefault(key, [])
        if row in items:
            items.remove(row)
        items.insert(0, row)
        del items[SESSION_ITEMS:]
    weight = {row: SESSION_RECENCY**k / like**0.5 for k, (row, like) in enumerate(zip(rows, likes, strict=True))}
    similar = {k: sum(weight.get(row, 0.0) for row in items) for k, items in held.items() if k != own}
    nearest = sorted((k for k in similar if similar[k] > 0), key=lambda k: -similar[k])[:NEAREST]  # of equals the first
    total = sum(similar[k] / len(held[k]) ** 0.5 for k in nearest) + SHRINKAGE
    given = []
    for k in nearest:
        for p, row in enumerate(held[k]):
            if row in weight:  # what is shared tells nothing
                continue
            near = [ANYWHERE + (1 - ANYWHERE) * NEARNESS ** abs(p - q) if q != p else 0.0 for q in range(len(held[k]))]
            shares = sum(weight.get(other, 0.0) * n for other, n in zip(held[k], near, strict=True))
            given.append((row, shares / len(held[k]) ** 0.5))
    most = max((share for _, share in given), default=0.0)
    scores = np.zeros(ITEMS)
    for row, share in given:
        scores[row] += share / total * (share > MIN_RELATIVE_SCORE * most)
    return scores


@pytest.mark.parametrize(("users", "n"), [(30, 200), (30, 3000), (80, 3000)])
def test_scores_are_those_of_going_through_all_sessions(users, n):
    pairs = pairs_of(n, users)
    sessions = sessions_of(pairs)
    rng = random.Random(2)
    checked = 0
    for user in range(20):
        rows = rng.sample(range(10, 60), 35)  # none that more than RECENT sessions took
        likes = [1 + 99 * rng.random() for _ in rows]
        expected = plainly(pairs, rows, likes, user)
        assert given_by_row(sessions, rows, likes, slot(sessions, user)) == pytest.approx(expected, abs=1e-5)
        checked += np.count_nonzero(expected)
    assert checked > 100


@given(st.integers(0, 10**6), st.integers(1, 60), st.integers(0, 12), st.integers(-1, 3))
def test_neighbours_give_what_plain_python_gives_with_ties_by_slot(seed, users, length, own):
    """Powers of two as likes and few items: many sessions are equally near, to the last bit. Some rows have a remainder
    by SIEVE that others have.
    """
    rng = random.Random(seed)
    pairs = [(key, rng.randrange(30)) for key in range(users)] + pairs_of(80, users, seed, 30)
    pairs = [(key, FAR.get(row, row)) for key, row in pairs]
    sessions = Sessions(1000, ITEMS)
    for row in {row for _, row in pairs}:  # so that RECENT is no bound
        pairs = [pair for k, pair in enumerate(pairs) if pair[1] != row or [r for _, r in pairs[:k]].count(row) < 20]
    sessions.take(*zip(*pairs, strict=True))
    rows = [FAR.get(row, row) for row in rng.sample(range(30), length)]
    likes = [1.0] * length
    keys = list(dict.fromkeys(key for key, _ in pairs))
    expected = plainly(pairs, rows, likes, keys[own] if 0 <= own < len(keys) else -1)
    assert given_by_row(sessions, rows, likes, own if own < len(keys) else -1) == pytest.approx(expected, abs=1e-5)


@given(st.integers(0, 10**6), st.integers(1, 6), st.lists(st.integers(0, 9), max_size=80))
def test_sessions_hold_what_plain_lists_hold(seed, most, actions):
    """Users take rows, are erased (action 0), and rows are released (action 1)."""
    rng, sessions = random.Random(seed), Sessions(most, ITEMS)
    held: dict[int, list[int]] = {}  # by key, that which took last at the end
    for action in actions:
        key, row = rng.randrange(8), rng.randrange(70)
        if action == 1:
            sessions.release(np.array([row]))
            held = {k: [-1 if item == row else item for item in items] for k, items in held.items()}
            continue
        sessions.take([key], [row if action else -1])
        items = held.pop(key, [])
        if action:
            if len(held) == most:
                held.pop(next(iter(held)))
            free = items.index(-1) if -1 in items else len(items)
            position = items.index(row) if row in items else free
            held[key] = ([row, *items[:position], *items[position + 1 :]])[:SESSION_ITEMS]
    assert {int(name, 16) for name in sessions.table.rows} == set(held)
    for key, items in held.items():
        found = sessions.table.items[slot(sessions, key)].tolist()
        assert found == items + [-1] * (SESSION_ITEMS - len(items))
    check(sessions)


def test_the_longest_sessions_give_no_more_than_there_is_room_for():
    sessions = sessions_of([(key, 1) for key in range(40)] + [(key, 2 + k) for k in range(60) for key in range(40)])
    given, scores = np.empty(MOST_GIVEN, np.int32), np.empty(MOST_GIVEN, np.float32)
    sessions.recent[61, :NEAREST] = np.arange(1, NEAREST + 1)
    n = neighbours_of(*sessions.arrays, np.array([61], np.int32), np.ones(1, np.float32), -1, given, scores)
    assert n == NEAREST * (SESSION_ITEMS - 1) <= MOST_GIVEN
    assert set(given[:n].tolist()) == set(range(12, 61))


def test_sessions_are_bounded_and_the_one_that_ended_first_goes_first():
    sessions = Sessions(10, ITEMS)
    for k in range(200):
        sessions.take([k, 1000], [k, k])  # 1000 stays active
    assert {int(key, 16) for key in sessions.table.rows} == {1000, *range(191, 200)}
    assert sessions.table.items[slot(sessions, 1000)].tolist() == list(range(199, 199 - SESSION_ITEMS, -1))
    check(sessions)
    assert len(sessions.table) == 10


def test_an_item_that_all_take_is_found_by_the_last_sessions_that_took_it():
    sessions = sessions_of([(key, 5) for key in range(3 * RECENT)] + [(key, 10 + key) for key in range(3 * RECENT)])
    scores = given_by_row(sessions, [5], [1.0])
    assert np.flatnonzero(scores).tolist() == [*range(10 + 2 * RECENT, 10 + 3 * RECENT)]
    check(sessions)


def test_of_an_item_taken_again_the_session_says_that_it_is_the_newest():
    sessions = sessions_of([(1, 4), (1, 5), (1, 6), (1, 4), (1, 4)])
    assert sessions.table.items[slot(sessions, 1)].tolist()[:4] == [4, 6, 5, -1]
    check(sessions)


def test_the_users_own_session_gives_nothing():
    sessions = sessions_of([(1, 4), (1, 5)])
    assert not given_by_row(sessions, [4], [1.0], slot(sessions, 1)).any()
    assert np.flatnonzero(given_by_row(sessions, [4], [1.0])).tolist() == [5]


def test_a_user_without_a_session_has_neighbours_all_the_same():
    sessions = sessions_of([(1, 4), (2, 4), (2, 5)])
    assert np.flatnonzero(given_by_row(sessions, [4], [1.0], slot(sessions, 99))).tolist() == [5]


def test_without_neighbours_nothing_is_given():
    assert not given_by_row(Sessions(10, ITEMS), [4], [1.0]).any()
    assert not given_by_row(sessions_of([(1, 5)]), [4], [1.0]).any()
    assert not given_by_row(sessions_of([(1, 5)]), [], []).any()


def test_released_rows_are_in_no_session_and_their_positions_are_used_again():
    pairs = pairs_of(2000, 30)
    sessions = sessions_of(pairs)
    kept = sessions.dump()
    gone = np.arange(0, ITEMS, 3)
    sessions.release(gone)
    check(sessions)
    again = Sessions(1000, ITEMS)
    again.load(kept | sessions.dump())
    assert again.table.items.tolist() == sessions.table.items.tolist()
    assert not np.isin(sessions.table.items, gone).any() and not sessions.recent[gone].any()
    assert not given_by_row(sessions, gone.tolist(), [1.0] * len(gone)).any()
    holes = np.count_nonzero(sessions.table.items[slot(sessions, 3)] < 0)
    assert 0 < holes < SESSION_ITEMS
    sessions.take([3] * 2, [0, 6])
    assert sessions.table.items[slot(sessions, 3)].tolist()[:2] == [6, 0]
    assert np.count_nonzero(sessions.table.items[slot(sessions, 3)] < 0) == holes - 2
    check(sessions)


def test_dumped_sessions_come_back_and_fewer_where_the_configuration_says_fewer():
    pairs = pairs_of(3000, 40)
    sessions = sessions_of(pairs[:1500])
    kept = sessions.dump()
    sessions.take(*zip(*pairs[1500:], strict=True))
    kept |= sessions.dump()
    assert sessions.dump() == {}
    again = Sessions(1000, ITEMS)
    again.load(kept)
    check(again)
    rows, likes = list(range(60, 75)), [float(k) for k in range(1, 16)]
    assert given_by_row(again, rows, likes, 3).tolist() == given_by_row(sessions, rows, likes, 3).tolist()
    fewer = Sessions(7, ITEMS)
    fewer.load(kept)
    check(fewer)
    last = list(dict.fromkeys(key for key, _ in reversed(pairs)))[:7]
    assert {int(key, 16) for key in fewer.table.rows} == set(last)
    fewer.take([5000, 5001], [1, 1])
    assert {int(key, 16) for key in fewer.table.rows} == {5000, 5001, *last[:5]}


def test_pairs_that_are_sent_twice_after_a_restore_change_nothing():
    pairs = pairs_of(2000, 30)
    once, twice = sessions_of(pairs), sessions_of(pairs)
    twice.take(*zip(*pairs[-40:], strict=True))
    assert twice.table.rows == once.table.rows
    assert twice.table.items.tolist() == once.table.items.tolist()
    held = list(once.table.rows.values())
    assert sorted(held, key=twice.table.at.__getitem__) == sorted(held, key=once.table.at.__getitem__)
    for row in range(ITEMS):  # who took it last, in whatever positions they stand
        assert {*twice.recent[row].tolist()} - {0} == {*once.recent[row].tolist()} - {0}
        given = [given_by_row(sessions, [row], [1.0]).tolist() for sessions in (once, twice)]
        assert given[0] == pytest.approx(given[1], abs=1e-6)
    check(twice)
