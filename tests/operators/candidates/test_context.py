"""What retrieval reads before it looks: the last that a user liked, and vectors that are brought from memory."""

import numpy as np
from few_rows import ROW
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.context import last_liked
from riverrank.operators.candidates.vectors import touched


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


@given(st.lists(st.integers(-9, 9), max_size=50))
def test_a_vector_is_touched_in_each_line_and_at_its_end(numbers):
    assert touched(np.array(numbers, np.float32)) == sum(numbers[::16]) + sum(numbers[-1:])


TWINS = {
    "context.last_liked": test_the_last_liked_are_distinct_newest_first_with_the_newest_kind,
    "vectors.touched": test_a_vector_is_touched_in_each_line_and_at_its_end,
}
