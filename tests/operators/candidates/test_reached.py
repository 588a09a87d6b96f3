"""Reached rows: the kernels add up what rows are given as plain Python does."""

import numpy as np
from few_rows import GIVEN, ROW, ROWS
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.reached import Reached, slot_of

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


TWINS = {
    "reached.add": test_reached_rows_stand_in_the_order_they_were_reached_with_the_sums_of_what_they_were_given,
    "reached.forget": test_reached_rows_stand_in_the_order_they_were_reached_with_the_sums_of_what_they_were_given,
    "reached.slot_of": test_a_reached_row_stands_where_it_was_first_reached,
}
