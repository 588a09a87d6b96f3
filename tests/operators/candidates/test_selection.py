"""Who may be a candidate, and the best few: the kernels do what their twins in plain Python do."""

import numpy as np
from few_rows import GIVEN, ROW, ROWS
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.selection import (
    LEAST,
    OF_NOTHING,
    Allowed,
    best_allowed,
    is_allowed,
    key_of,
    order_of,
    select,
    sort,
)

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


@given(
    st.lists(st.tuples(ROW, GIVEN), unique_by=lambda pair: pair[0]),
    st.integers(1, 6),
    st.sets(ROW),
    st.sets(ROW),
    st.booleans(),
)
def test_the_best_allowed_are_those_with_the_highest_values_of_equals_the_first(pairs, most, unservable, seen, some):
    allowed, marks = Allowed(), np.arange(ROWS, dtype=np.uint32)
    allowed.begin(np.array([row not in unservable for row in range(ROWS)]), marks, marks[list(seen)])
    rows = np.array([*(row for row, _ in pairs), -1], np.int32)
    values = np.array([*(value for _, value in pairs), 9.0], np.float32)
    found = np.empty(most, np.int32)
    n = best_allowed(rows, values, key_of(0, 0) if some else LEAST, *allowed.arrays, found)
    may = [(row, value) for row, value in pairs if row not in unservable | seen and (value > 0 or not some)]
    assert found[:n].tolist() == [row for row, _ in sorted(may, key=lambda pair: -pair[1])][:most]


def test_the_key_of_nothing_is_below_those_of_all_values_above_nothing():
    least, most = (np.array([value], np.float32).view(np.int32)[0] for value in (1e-45, 3e38))
    assert key_of(0, 0) == OF_NOTHING < key_of(least, 4095) < key_of(most, 4095)
    assert key_of(0, 1) < OF_NOTHING


TWINS = {
    "selection.best_allowed": test_the_best_allowed_are_those_with_the_highest_values_of_equals_the_first,
    "selection.fill_table": test_allowed_is_what_is_servable_and_not_seen_whatever_was_asked_before,
    "selection.is_allowed": test_allowed_is_what_is_servable_and_not_seen_whatever_was_asked_before,
    "selection.key_of": test_the_higher_has_the_higher_key_of_equals_the_first,
    "selection.order_of": test_the_higher_has_the_higher_key_of_equals_the_first,
    "selection.select": test_the_best_few_are_those_of_sorting_and_nothing_is_lost,
    "selection.sort": test_the_best_few_are_those_of_sorting_and_nothing_is_lost,
}
