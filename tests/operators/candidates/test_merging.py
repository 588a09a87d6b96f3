"""Proposals become candidates: the kernels merge them as their twins in plain Python do."""

import numpy as np
from few_rows import GIVEN, ROW, ROWS
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates import merging
from riverrank.operators.candidates.selection import Allowed

BIT = st.sampled_from([0, 3, 31])  # several proposals may be one source's
PROPOSAL = st.one_of(
    st.tuples(st.integers(0, 1), st.integers(1, 4), BIT, st.just(())),
    st.tuples(st.just(-1), st.integers(1, 4), BIT, st.lists(ROW, max_size=8)),
)


def merged(proposals, reached, scores, allowed, limit, fill, least, always):
    """The twin of `merge`: by row, in order, the bits of who proposed it."""
    found: dict[int, int] = {}
    for column, quota, bit, ranked in proposals:
        if column >= 0:
            by_score = sorted(range(len(reached)), key=lambda k: -scores[k][column])
            ranked = [reached[k] for k in by_score if scores[k][column] > 0]  # noqa: PLW2901
        for row in [row for row in ranked if allowed[row]][:quota]:
            if row in found or len(found) < limit:
                found[row] = found.get(row, 0) | 1 << bit
    for row in fill:
        if allowed[row] and len(found) < least:
            found.setdefault(row, 1 << FILL_BIT)
    return found | {row: 0 for row in always if row not in found}


FILL_BIT, LISTS = 9, 6


@given(
    st.lists(PROPOSAL, min_size=1, max_size=5),
    st.permutations(range(LISTS)),
    st.dictionaries(ROW, st.tuples(GIVEN, GIVEN)),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
    st.none() | st.sets(ROW, max_size=6),
    st.integers(1, ROWS),
    st.lists(ROW, unique=True, max_size=8),
    st.integers(0, ROWS),
    st.lists(ROW, unique=True, max_size=4),
)
def test_merged_are_the_best_of_each_proposal_once_and_what_must_be_among_them(
    proposals, places, reached, servable, seen, limit, fill, least, always
):
    lists = [np.arange(ROWS, dtype=np.int32) for _ in range(LISTS)]  # those of no proposal are never looked at
    for place, (*_, ranked) in zip(places, proposals, strict=False):
        lists[place] = np.array(ranked, np.int32)
    columns = [p[0] if p[0] >= 0 else -1 - place for place, p in zip(places, proposals, strict=False)]
    marks = np.arange(ROWS, dtype=np.uint32) * 16
    allowed = Allowed()
    allowed.begin(np.array(servable), marks, None if seen is None else marks[list(seen)])
    marked = np.full(ROWS, -1, np.int32)
    slot, room = np.full(ROWS, -1, np.int32), max(limit, least) + len(always)
    slot[list(reached)] = range(len(reached))
    given_ = np.array([*reached.values(), (0, 0)], np.float32)  # the last place is free
    rows, proposed, scores = np.empty(room, np.int32), np.zeros(room, np.uint32), np.full((room, 3), 9, np.float32)
    n = merging.merge(
        np.array(columns),
        np.array([quota for _, quota, *_ in proposals]),
        np.array([1 << bit for _, _, bit, _ in proposals], np.uint32),
        tuple(lists),  # always as many: it is compiled once
        *allowed.arrays,
        marked,
        limit,
        *(np.array(fill, np.int32), np.uint32(1 << FILL_BIT), least),
        np.array(always, np.int32),
        *(rows, proposed, scores, np.array([2, 0], np.int32)),
        *(slot, np.array([*reached, 99], np.int32), given_, len(reached)),
    )
    rows, proposed = rows[:n], proposed[:n]
    may = [servable[row] and row not in (seen or ()) for row in range(ROWS)]
    expected = merged(proposals, list(reached), list(reached.values()), may, limit, fill, least, always)
    assert dict(zip(rows.tolist(), proposed.tolist(), strict=True)) == expected
    assert rows.tolist() == list(expected)
    assert scores[:n].tolist() == [[reached.get(row, (0, 0))[1], 0, reached.get(row, (0, 0))[0]] for row in expected]
    assert (marked == -1).all() and (slot == -1).all() and not given_.any()


@given(st.lists(ROW, max_size=8), st.integers(1, 4), st.lists(st.booleans(), min_size=ROWS, max_size=ROWS))
def test_of_a_list_the_first_that_are_allowed_are_taken(ranked, quota, servable):
    allowed = Allowed()
    allowed.begin(np.array(servable), np.arange(ROWS, dtype=np.uint32), None)
    rows, proposed, marked = np.empty(ROWS, np.int32), np.zeros(ROWS, np.uint32), np.full(ROWS, -1, np.int32)
    n = merging.take_first(np.array(ranked, np.int32), quota, np.uint32(4), *allowed.arrays, rows, proposed, 0, marked)
    expected = [*dict.fromkeys([row for row in ranked if servable[row]][:quota])]
    assert rows[:n].tolist() == expected and proposed[:n].tolist() == [4] * len(expected)


@given(
    st.lists(ROW, unique=True),
    st.lists(ROW, unique=True, max_size=4),
    st.integers(0, ROWS),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
)
def test_where_candidates_are_too_few_the_first_allowed_that_are_none_yet_are_taken(ranked, held, least, servable):
    allowed = Allowed()
    allowed.begin(np.array(servable), np.arange(ROWS, dtype=np.uint32), None)
    rows, proposed, marked = np.empty(ROWS, np.int32), np.zeros(ROWS, np.uint32), np.full(ROWS, -1, np.int32)
    rows[: len(held)], proposed[: len(held)], marked[held] = held, 2, range(len(held))
    n = merging.fill_up(
        np.array(ranked, np.int32), np.uint32(4), least, *allowed.arrays, rows, proposed, len(held), marked
    )
    wanted = max(0, least - len(held))
    expected = [row for row in ranked if servable[row] and row not in held][:wanted]
    assert rows[:n].tolist() == [*held, *expected]
    assert proposed[:n].tolist() == [2] * len(held) + [4] * len(expected)
    assert {row: k for row, k in enumerate(marked.tolist()) if k >= 0} == {row: k for k, row in enumerate(rows[:n])}


@given(st.lists(st.tuples(ROW, st.integers(0, 3))), st.integers(0, 6))
def test_a_row_is_taken_where_there_is_room_and_noted_where_it_is(takes, room):
    rows, proposed, marked = np.empty(room, np.int32), np.zeros(room, np.uint32), np.full(ROWS, -1, np.int32)
    twin: dict[int, int] = {}
    n = 0
    for row, number in takes:
        n = merging.take(row, np.uint32(1 << number), rows, proposed, n, marked)
        if row in twin or len(twin) < room:
            twin[row] = twin.get(row, 0) | 1 << number
    assert rows[:n].tolist() == list(twin) and proposed[:n].tolist() == list(twin.values())
    assert {row: k for row, k in enumerate(marked.tolist()) if k >= 0} == {row: k for k, row in enumerate(twin)}


@given(st.dictionaries(ROW, st.tuples(GIVEN, GIVEN)), st.lists(ROW, unique=True), st.permutations(range(4)))
def test_gathered_scores_stand_in_their_columns_and_nothing_is_reached_then(reached, rows, columns):
    slot = np.full(ROWS, -1, np.int32)
    slot[list(reached)] = range(len(reached))
    scores, found = np.array(list(reached.values()), np.float32).reshape(-1, 2), np.full((len(rows), 4), 9, np.float32)
    reached_rows = np.array(list(reached), np.int32)
    score_of = np.array(columns[:2], np.int32)
    merging.gather(np.array(rows, np.int32), found, score_of, slot, reached_rows, scores, len(reached))
    expected = np.zeros((len(rows), 4), np.float32)
    for k, row in enumerate(rows):
        expected[k, columns[:2]] = reached.get(row, (0.0, 0.0))
    assert found.tolist() == expected.tolist() and (slot == -1).all() and not scores.any()


TWINS = {
    "merging.fill_up": test_where_candidates_are_too_few_the_first_allowed_that_are_none_yet_are_taken,
    "merging.gather": test_gathered_scores_stand_in_their_columns_and_nothing_is_reached_then,
    "merging.merge": test_merged_are_the_best_of_each_proposal_once_and_what_must_be_among_them,
    "merging.take": test_a_row_is_taken_where_there_is_room_and_noted_where_it_is,
    "merging.take_first": test_of_a_list_the_first_that_are_allowed_are_taken,
}
