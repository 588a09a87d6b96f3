"""Coverage is the number of distinct rows on the last slates, whatever comes."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.coverage import COUNTED_EVERY, PLACES, SLATES, Coverage


@given(st.lists(st.lists(st.integers(0, 2000), max_size=25, unique=True), max_size=30))
def test_what_was_on_the_last_slates_is_counted_once(slates) -> None:
    coverage, times = Coverage(), COUNTED_EVERY + SLATES // 20
    last: list[list[int]] = []
    for rows in slates:
        for _ in range(times):
            coverage.show(np.array(rows, np.int32))
        last = [*last, *times * [rows[:PLACES]]][-SLATES:]
        assert coverage.distinct() == len({row for slate in last for row in slate})


def test_it_is_counted_anew_every_so_many_slates() -> None:
    coverage = Coverage()
    assert coverage.distinct() == 0
    told = []
    for row in range(COUNTED_EVERY + 1):
        coverage.show(np.array([row], np.int32))
        told.append(coverage.distinct())
    assert told == [1] * COUNTED_EVERY + [COUNTED_EVERY + 1]
