"""Coverage is the number of distinct rows on the last slates, whatever comes."""

from collections import deque

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators import coverage
from riverrank.operators.coverage import PLACES, Coverage


@given(st.lists(st.lists(st.integers(0, 2000), max_size=25, unique=True), max_size=30))
def test_what_was_on_the_last_slates_is_counted_once(slates) -> None:
    most = coverage.SLATES
    coverage.SLATES = 7
    try:
        counted, last = Coverage(), deque(maxlen=7)
        for rows in slates:
            counted.show(np.array(rows, np.int32))
            last.append(rows[:PLACES])
            assert counted.shown == len({row for slate in last for row in slate})
    finally:
        coverage.SLATES = most
