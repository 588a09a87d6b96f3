"""Retrieval: each kernel does what its twin in plain Python does, reads and writes within its arrays, and is compiled
once; a source or a feature is added in one place; finding candidates costs no more in a large catalogue.
"""

import json
import math
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import numpy as np
import pytest
import test_index
import test_sources
from hypothesis import given
from hypothesis import strategies as st
from kernels import kernels_of, missing_twins
from riverrank.operators.candidates import features, merging, registry
from riverrank.operators.candidates.context import WARM, context_of, last_liked
from riverrank.operators.candidates.features import LEAST, SMALLEST_SHARE, STEPS
from riverrank.operators.candidates.reached import Reached, add, slot_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.candidates.selection import Allowed, is_allowed, key_of, order_of, select, sort
from riverrank.operators.candidates.source import Feature, Score, Source
from riverrank.operators.candidates.vectors import touched
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import Behaviour, SlateSettings, SourceSettings
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.item_tables import POPULARITY, POSITIVES
from riverrank.state.messages import Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event
from riverrank.state.runtime.environment import cache_dir
from shop_pipeline import PLAIN, Shop, ids

ROWS = 12
ROW = st.integers(0, ROWS - 1)
GIVEN = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0])  # few, so that there are ties; sums are exact
PAIRS = st.lists(st.tuples(ROW, GIVEN), max_size=15)


@given(st.lists(st.tuples(PAIRS, st.integers(0, 1)), max_size=5), st.integers(1, ROWS), st.booleans())
def test_reached_rows_stand_in_the_order_they_were_reached_with_the_sums_of_what_they_were_given(calls, few, again):
    reached = Reached(columns=2)
    reached.fit(few, 0)
    for _ in range(1 + again):  # nothing of the first time is there the second time
        twin: dict[int, list[float]] = {}
        for pairs, column in calls:
            reached.fit(ROWS if any(row >= few for row, _ in pairs) else few, 0)  # more rows while some are reached
            reached.add(
                np.array([row for row, _ in pairs], np.int32), np.array([g for _, g in pairs], np.float32), column
            )
            for row, share in pairs:
                twin.setdefault(row, [0.0, 0.0])[column] += share
        assert reached.rows[: reached.n].tolist() == list(twin)
        assert reached.scores[: reached.n].tolist() == list(twin.values())
        slots = {row: slot for row, slot in enumerate(reached.slot.tolist()) if slot >= 0}
        assert slots == {row: slot for slot, row in enumerate(twin)}
        reached.clear()
        assert reached.n == 0 and (reached.slot == -1).all()


@given(st.lists(ROW))
def test_a_reached_row_stands_where_it_was_first_reached(asked):
    slot, rows, n = np.full(ROWS, -1, np.int32), np.zeros(ROWS + 1, np.int32), 0  # the last place is free
    twin: dict[int, int] = {}
    for row in asked:
        position, n = slot_of(row, slot, rows, n)
        assert (position, n) == (twin.setdefault(row, len(twin)), len(twin))
    assert rows[:n].tolist() == list(twin)
    assert {row: place for row, place in enumerate(slot.tolist()) if place >= 0} == twin


# Of a table of 4, 8 or 16 places most of these begin at the same one, the last ones at its end.
HASH = st.sampled_from([0, 1, 16, 17, 32, 48, 64, 7, 15, 31, 2**31, 2**32 - 1, 2**32 - 2, 2**32 - 17])


@given(
    st.lists(HASH, min_size=ROWS, max_size=ROWS),
    st.lists(st.booleans(), min_size=ROWS, max_size=ROWS),
    st.lists(st.none() | st.lists(HASH, max_size=10), min_size=1, max_size=4),
)
def test_allowed_is_what_is_servable_and_not_seen_whatever_was_asked_before(marks, servable, seens):
    allowed = Allowed()
    for seen in seens:
        hashes = None if seen is None else np.array(seen, np.uint32)
        allowed.begin(np.array(servable), np.array(marks, np.uint32), hashes)
        found = [is_allowed(row, *allowed.arrays) for row in range(ROWS)]
        assert found == [servable[row] and marks[row] not in (seen or ()) for row in range(ROWS)]


@given(st.lists(st.integers(-9, 9), max_size=40, unique=True), st.integers(1, 8), st.integers(0, 3))
def test_the_best_few_are_those_of_sorting_and_nothing_is_lost(held, most, beside):
    keys = np.array([*held, *[99] * beside], np.int64)  # what stands beside is left alone
    select(keys, len(held), most)
    assert sorted(keys.tolist()) == sorted([*held, *[99] * beside]) and (keys[len(held) :] == 99).all()
    best = np.zeros(most, np.int64)
    n = min(most, len(held))
    sort(keys, n, best)
    assert best[:n].tolist() == sorted(held, reverse=True)[:most] and not best[n:].any()


NUMBER = st.sampled_from([-3.5, -1.0, -1e-30, 0.0, 1e-30, 1.0, 3.5]) | st.floats(-1024, 1024, width=32)


@given(NUMBER, st.integers(0, 2**31 - 1), NUMBER, st.integers(0, 2**31 - 1))
def test_the_higher_has_the_higher_key_of_equals_the_first(value, order, other, other_order):
    values = np.array([value, other], np.float32) + np.float32(0.0)  # there is one zero
    keys = [key_of(bits, k) for bits, k in zip(values.view(np.int32), (order, other_order), strict=True)]
    assert (keys[0] > keys[1]) == ((-values[0], order) < (-values[1], other_order))
    assert [order_of(key) for key in keys] == [order, other_order]


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


SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, -1.0, 1e-12, 0.3, 1.0, 40.0])] * 2), max_size=6)


@given(SCORES, st.integers(0, 6))
def test_the_best_of_each_score_is_of_what_is_proposed(scores, proposed):
    found, again = np.full((2, 2), 9.0)
    features.best_of(np.array(scores, np.float32).reshape(-1, 2), min(proposed, len(scores)), found)
    expected = [max([LEAST, *(row[column] for row in scores[:proposed])]) for column in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    held, relative = np.array(scores, np.float32).reshape(-1, 2), np.array([False, True])
    both, shaped = np.zeros((2, len(scores), 6))
    features.shape_found(held, min(proposed, len(scores)), relative, again, both)
    features.shape(held, found, relative, shaped)
    assert again.tolist() == found.tolist() and both.tolist() == shaped.tolist()


@given(st.lists(st.tuples(st.integers(-1, 5), st.sampled_from([-1.0, 0.0, 0.5]), ROW), max_size=12), st.integers(1, 4))
def test_the_last_liked_are_distinct_newest_first_with_the_newest_kind(entries, most):
    rows, rewards, kinds = (
        np.array([entry[k] for entry in entries], kind) for k, kind in enumerate((np.int32, np.float64, np.uint8))
    )
    twin: dict[int, int] = {}
    every: list[int] = []
    refused: set[int] = set()
    for row, reward, kind in reversed(entries):
        if row >= 0 and reward > 0 and row not in refused:
            twin.setdefault(row, kind)
            every.append(row)
        if reward < 0:
            refused.add(row)
    found = np.empty(most, np.int32), np.empty(most, np.uint8)
    all_liked = np.empty(len(rows), np.int32)
    n, m = last_liked(rows, rewards, kinds, *found, all_liked)
    assert all_liked[:m].tolist() == every
    assert [part[:n].tolist() for part in found] == [list(twin)[:most], list(twin.values())[:most]]


@given(SCORES, st.tuples(st.sampled_from([LEAST, 0.5, 7.0]), st.sampled_from([1.0, 40.0])), st.booleans())
def test_shapes_are_the_root_the_share_and_its_logarithm(scores, best, relative):
    held = np.array(scores, np.float32).reshape(-1, 2)
    found = np.full((len(scores), 7), 99.0)
    features.shape(held, np.array(best), np.array([relative, not relative]), found)
    expected = []
    for row in held.astype(float).tolist():
        shapes: list[float] = []
        for score, most, is_share in zip(row, best, (relative, not relative), strict=True):
            share = min(max(score, 0.0) / most, 1.0)
            log = math.log1p(share / SMALLEST_SHARE) / math.log1p(1 / SMALLEST_SHARE)
            shapes += [math.sqrt(share if is_share else max(score, 0.0)), share, log]
        expected.append([*shapes, 99.0])  # what follows is none of its business
    assert np.ravel(found) == pytest.approx(np.ravel(expected), rel=1e-12, abs=1e-4)
    assert found[:, [0, 1, 3, 4]].ravel() == pytest.approx(np.array(expected).reshape(-1, 7)[:, [0, 1, 3, 4]].ravel())


def test_the_table_of_logarithms_is_near_the_logarithm_everywhere():
    shares = np.concatenate([np.linspace(0, 1, 30_001), np.arange(STEPS + 1) / STEPS])
    found = np.array([features.logarithm(share) for share in shares.tolist()])
    assert np.abs(found - np.log1p(shares / SMALLEST_SHARE) / np.log1p(1 / SMALLEST_SHARE)).max() < 1e-4
    assert (np.diff(found[:30_001]) > 0).all() and (found[0], found[30_000]) == (0.0, 1.0)


@given(st.lists(st.integers(-9, 9), max_size=50))
def test_a_vector_is_touched_in_each_line_and_at_its_end(numbers):
    assert touched(np.array(numbers, np.float32)) == sum(numbers[::16]) + sum(numbers[-1:])


TWINS = {
    "context.last_liked": test_the_last_liked_are_distinct_newest_first_with_the_newest_kind,
    "features.best_of": test_the_best_of_each_score_is_of_what_is_proposed,
    "features.logarithm": test_the_table_of_logarithms_is_near_the_logarithm_everywhere,
    "features.shape_found": test_the_best_of_each_score_is_of_what_is_proposed,
    "features.shape": test_shapes_are_the_root_the_share_and_its_logarithm,
    "merging.fill_up": test_where_candidates_are_too_few_the_first_allowed_that_are_none_yet_are_taken,
    "merging.gather": test_gathered_scores_stand_in_their_columns_and_nothing_is_reached_then,
    "merging.merge": test_merged_are_the_best_of_each_proposal_once_and_what_must_be_among_them,
    "merging.take": test_a_row_is_taken_where_there_is_room_and_noted_where_it_is,
    "merging.take_first": test_of_a_list_the_first_that_are_allowed_are_taken,
    "reached.add": test_reached_rows_stand_in_the_order_they_were_reached_with_the_sums_of_what_they_were_given,
    "reached.forget": test_reached_rows_stand_in_the_order_they_were_reached_with_the_sums_of_what_they_were_given,
    "reached.slot_of": test_a_reached_row_stands_where_it_was_first_reached,
    "selection.fill_table": test_allowed_is_what_is_servable_and_not_seen_whatever_was_asked_before,
    "selection.is_allowed": test_allowed_is_what_is_servable_and_not_seen_whatever_was_asked_before,
    "selection.key_of": test_the_higher_has_the_higher_key_of_equals_the_first,
    "selection.order_of": test_the_higher_has_the_higher_key_of_equals_the_first,
    "selection.select": test_the_best_few_are_those_of_sorting_and_nothing_is_lost,
    "selection.sort": test_the_best_few_are_those_of_sorting_and_nothing_is_lost,
    "vectors.touched": test_a_vector_is_touched_in_each_line_and_at_its_end,
}


def test_every_kernel_has_a_twin():
    assert missing_twins("candidates", TWINS, globals()) == set()


# Compiled as they are meant to be.

ROOT = Path(__file__).parents[3]
RETRIEVAL = ("candidates", "candidates/sources", "index")


def python(*arguments: str, **environment: str) -> str:
    """What a Python process that compiles kernels writes."""
    compiling = {name: value for name, value in os.environ.items() if name != "NUMBA_DISABLE_JIT"}
    done = subprocess.run(
        [sys.executable, *arguments],
        env=compiling | environment,
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=280,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_kernel_is_compiled_for_one_set_of_types():
    """Arrays that may not be written to, columns of others and int64 for int32 are other types, and a kernel that is
    asked with them is compiled once more: seconds, in the middle of a job. What only other kernels ask is compiled with
    them.
    """
    answer = json.loads(python("tests/kernels.py", "300", "all-kinds", "rules", "thompson", "bounds"))
    if answer["misses"]:
        answer = json.loads(python("tests/kernels.py", "300", "all-kinds", "rules", "thompson", "bounds"))
    types = {name: of for name, of in answer["signatures"].items() if name.startswith(("candidates.", "index."))}
    expected = {f"{folder.replace('/', '.')}.{name}" for folder in RETRIEVAL for name in kernels_of(folder)}
    assert answer["slates"] > 800 and answer["misses"] == 0
    assert types.keys() == expected
    assert {name: of for name, of in types.items() if len(of) > 1} == {}
    asked = {name for name, of in types.items() if of}
    assert {"candidates.merging.merge", "candidates.selection.fill_table", "index.ranked_lists.count_ranked"} <= asked
    assert len(asked) > 25


@pytest.mark.skipif("NUMBA_BOUNDSCHECK" not in os.environ, reason="asked by the test that follows")
def test_an_access_out_of_bounds_is_an_error():
    rows, slot, scores = np.zeros(2, np.int32), np.full(9, -1, np.int32), np.zeros((1, 1), np.float32)
    with pytest.raises(IndexError):
        add(np.array([1, 2, 3], np.int32), np.ones(3, np.float32), 0, slot, rows, scores, 0)


def test_kernels_read_and_write_within_their_arrays():
    """Compiled code does not look: what it writes beside an array is another's memory. Compiled to look, and kept
    apart, are the kernels that read or write where data says.
    """
    looking = {
        "candidates/test_candidates.py": (TWINS, ("merging", "reached", "selection")),
        "index/test_index.py": (test_index.TWINS, ("apply_updates", "pool", "ranked_lists", "vocabulary")),
        "candidates/test_sources.py": (
            test_sources.TWINS,
            ("cohort", "content.wish", "cosine", "covisit.reach", "covisit.str"),
        ),
    }
    asked = {"candidates/test_candidates.py::test_an_access_out_of_bounds_is_an_error"}
    for file, (twins, kernels) in looking.items():
        asked |= {f"{file}::{test.__name__}" for name, test in twins.items() if name.startswith(kernels)}
    checked = {"NUMBA_BOUNDSCHECK": "1", "RIVERRANK_CACHE": str(cache_dir() / "checked")}
    written = python(
        "-m", "pytest", "-p", "no:cacheprovider", *(f"tests/operators/{test}" for test in sorted(asked)), **checked
    )
    assert len(asked) > 15 and "skipped" not in written and "100%" in written


# One place for a source, and for a feature.


class Toy(Source):
    """Two items, whoever asks; only this test knows of it."""

    name = "toy"
    meaning = "what lies on top"
    reason = "on_top"
    quota = 0.05
    scores = (Score("toy", prior=9.0),)
    ranks = describes = True

    def __init__(self):
        self.features = (Feature("evenness", _fill_evenness, prior=0.25),)

    def rank(self, query):
        return query.index.table.rows_of(["i57", "i58"])

    def describe(self, query, rows, proposed, scores, column):
        scores[np.isin(rows, self.rank(query)), column] = 1.0


def _fill_evenness(query, rows, features, column):
    features[:, column] = rows % 2


class ReachingToy(Toy):
    """The same by what it reaches."""

    ranks = describes = False
    reaches = True

    def reach(self, query, column):
        query.reached.add(self.rank(query), np.ones(2, np.float32), column)


TOYS = pytest.mark.parametrize("toy", [Toy(), ReachingToy()], ids=["ranks", "reaches"])


@TOYS
def test_a_source_of_one_line_in_the_registry_proposes_and_describes_candidates(toy, monkeypatch):
    before = Retriever(PLAIN, Shop().index).features
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, toy))
    retriever = Retriever(PLAIN, Shop().index)
    space, index = retriever.features, retriever.index
    added = [name for name in space.names if name not in before.names]
    assert added == ["toy:root", "toy:share", "toy:log", "evenness"]
    assert [space.sources[space.source_of[space.names.index(name)]] for name in added] == ["toy"] * 4
    assert [space.prior[WARM][space.names.index(name)] for name in added] == [9.0, 0.0, 0.0, 0.25]
    assert space.reasons[space.sources.index("toy")] == "on_top"
    found = retriever.find(context_of(index, [Seen("i1", 1, 1.0)], {}), None)
    proposed = found.rows[found.proposed >> space.sources.index("toy") & 1 > 0]
    assert proposed.tolist() == index.table.rows_of(["i57", "i58"]).tolist()
    assert (found.features[:, space.names.index("toy:root")] == np.isin(found.rows, proposed)).all()
    assert (found.features[:, space.names.index("evenness")] == found.rows % 2).all()


def test_a_feature_of_one_line_in_its_source_has_a_column_and_learns_a_weight(monkeypatch):
    source = next(source for source in registry.SOURCES if source.name == "popular")
    toy = Feature("evenness", _fill_evenness, prior=0.25)
    monkeypatch.setattr(source, "features", (*source.features, toy))
    shop = Shop()
    ranker, index = Ranker(PLAIN, shop.index), shop.index
    column = ranker.retriever.features.names.index("evenness")
    assert ranker.retriever.features.sources[ranker.retriever.features.source_of[column]] == "popular"
    assert RankerWeights.of({}, ranker.retriever.features).weights[:, column].tolist() == [0.25, 0.25]
    history: tuple[Seen, ...] = ()
    for k in range(60):  # one who takes what has an odd row
        item = f"i{(2 * k * k + 1) % 60}"
        assert index.row(item) % 2
        ranker.learn(Feedback(Event(f"e{k}", "click", f"u{k % 3}", k, item), 1.0, history))
        history = (*history[-5:], Seen(item, 1, 1.0))
    weights = next(decode_update(update) for update in ranker.flush())
    learned = RankerWeights.of({0: weights}, ranker.retriever.features).weights
    assert learned[WARM, column] > 0.3 and weights.names[column] == "evenness"


@TOYS
def test_a_source_of_one_line_in_the_registry_is_on_slates(toy, monkeypatch):
    monkeypatch.setattr(registry, "SOURCES", (*registry.SOURCES, toy))
    shop = Shop()
    shop.crowd(events=3)
    for slate in (shop.send("cold", "request"), shop.send("warm", "click", "i2")):
        assert set(ids(slate)[:2]) == {"i57", "i58"} and len(slate.items) == 20
        for slot in slate.items[:2]:
            assert "toy" in slot.sources and slot.reasons[0].code == "on_top" and slot.reasons[0].weight > 2.0
        assert all("toy" not in slot.sources for slot in slate.items[2:])


# Where a source is off.

OFF = [("popular",), tuple(source.name for source in registry.SOURCES if source.name != "text")]


@pytest.mark.parametrize("off", OFF, ids=["popular", "all but one that proposes nothing"])
def test_a_slate_is_filled_up_and_no_slot_says_a_source_that_is_off(off):
    shop = Shop(msgspec.structs.replace(PLAIN, sources=SourceSettings(off=off)), items=200)
    shop.crowd(events=3)
    taken = [slot.item_id for slot in shop.send("warm", "request").items[:5]]
    for item in taken:
        shop.send("warm", "purchase", item)
    for user in ("cold", "warm"):
        slate = shop.send(user, "request")
        assert len(set(ids(slate))) == 20 and (user == "cold" or not {*ids(slate)} & {*taken})
        said = {name for slot in slate.items for name in slot.sources}
        assert said and not said & {*off} and all(slot.sources and slot.reasons for slot in slate.items)
        if off is OFF[1]:
            first = [shop.index.table.ids[row] for row in shop.index.popular().tolist()]
            filled = [item for item in first if user == "cold" or item not in taken][:20]
            assert said == {"filler"} and {*ids(slate)} == {*filled}


def test_what_fills_a_slate_up_says_popular_where_that_is_on():
    shop = Shop(PLAIN, items=200)
    retriever = Retriever(msgspec.structs.replace(PLAIN, slate=SlateSettings(size=200, candidates=10)), shop.index)
    found = retriever.find(context_of(shop.index, [], {}), None)
    bit = 1 << retriever.source_names.index("popular")
    assert len(found.rows) == 200 and (found.proposed[10:] == bit).all() and found.proposed[:10].all()
    assert [*dict.fromkeys([*found.rows[:10].tolist(), *shop.index.popular().tolist()])] == found.rows.tolist()


# As large as it may be.

EVENTS, HISTORY = 40, 20


def large_index(items: int) -> tuple[ItemIndex, list[list[Seen]]]:
    """An index of as many made items, with full lists, and histories of users. Each thousand items is a world of its
    own, so that as many are reached, however many thousands there are.
    """
    index, rng = ItemIndex(Behaviour()), np.random.default_rng(1)
    table = index.table
    table.grow(1 << items.bit_length())
    index._fit()
    tokens = [index.vocabulary.number(f"category=c{k}") for k in range(50)]
    for k in range(items):
        row = index._row(f"i{k}")
        index.tokens[row, 0] = tokens[k % 50]
        index.vocabulary.link(row, index.tokens[row])
    table.stats[:items, [POPULARITY, POSITIVES]] = (1 + 100 * rng.random(items) ** 3)[:, None]
    thousand = np.arange(items)[:, None] // 1000 * 1000
    table.neighbours[:items] = thousand + 1000 * rng.random((items, table.width)) ** 2
    table.weights[:items] = rng.random((items, table.width, 3), np.float32)
    for array in (index.content, index.text, table.context, table.target):
        array[:items] = rng.standard_normal((items, array.shape[1]), np.float32) / array.shape[1] ** 0.5
    users = rng.integers(items // 1000, size=(EVENTS, 1)) * 1000 + 1000 * rng.random((EVENTS, HISTORY)) ** 2
    return index, [[Seen(f"i{k}", 1, 1.0) for k in user] for user in users.astype(int).tolist()]


def test_an_event_costs_no_more_in_a_large_catalogue():
    """From 1,000 to 100,000 items, to learn from a click and answer it costs at most 1.5 times as much: what is read
    lies farther apart, and the embedding looks among 4,096 instead of 1,000.
    """
    sides = []
    for items in (1_000, 100_000):
        index, histories = large_index(items)
        recommend = Recommend(index.behaviour, index, predict=False)
        feedbacks = [
            Feedback(Event(f"e{user}", "click", f"u{user}", 1, history[-1].item_id), 1.0, history[:-1])
            for user, history in enumerate(histories)
        ]
        sides.append((recommend, [(each, recommend.answer(each, None).state) for each in feedbacks]))
    least = [math.inf, math.inf]  # seconds of the processor, on a machine that does other things as well
    for _ in range(100):
        for number, (recommend, asked) in enumerate(sides):
            started = time.thread_time()
            for feedback, state in asked:
                assert recommend.answer(feedback, state).slate is not None
            least[number] = min(least[number], (time.thread_time() - started) / EVENTS)
        if least[1] < 1.5 * least[0]:
            break
    else:
        pytest.fail(f"{least[0] * 1e6:.0f} us with 1,000 items, {least[1] * 1e6:.0f} us with 100,000")
    print(f"{least[0] * 1e6:.0f} us with 1,000 items, {least[1] * 1e6:.0f} us with 100,000")
