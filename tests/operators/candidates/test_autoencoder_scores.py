"""What the linear autoencoder's source says of candidates: its kernels do what their twins in plain Python do."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.sources import autoencoder
from riverrank.state.item_tables import to_bfloat16

ROWS = 8
ROW = st.integers(0, ROWS - 1)
PLACES = st.lists(ROW, max_size=6)
SAID = st.lists(st.lists(st.sampled_from([-1.5, 0.0, 0.25, 2.0]), min_size=5, max_size=5), min_size=5, max_size=5)
SLOTS = st.permutations([*range(5), -1, -1, -1])  # by row: five items are told of, three are not


@given(st.lists(ROW, max_size=9), SAID, SLOTS, PLACES)
def test_what_a_history_says_is_the_sum_of_what_its_items_say_the_newer_the_more(history, said, slots, rows):
    halves = np.array([[to_bfloat16(np.float32(value)) for value in row] for row in said], np.uint16)
    slot, told = np.array(slots, np.int32), np.full((2, 5), 9.0, np.float32)
    autoencoder.told(np.array(history, np.int32), 0.5, 0.25, slot, halves, told)
    for found, recency, least in ((told[0], 0.5, 0.0), (told[1], 0.25, autoencoder.LEAST_COUNTED)):
        counted = [(slots[row], recency**k) for k, row in enumerate(history) if slots[row] >= 0]
        expected = [sum(w * said[at][k] for at, w in counted if w > least) for k in range(5)]
        assert found == pytest.approx(expected, abs=1e-6)
    scores = np.full((len(rows), 5), 7.0, np.float32)
    autoencoder.put(np.array(rows, np.int32), slot, told, len(history), scores, 1)
    sums = [[max(0.0, float(told[which, slots[row]])) if slots[row] >= 0 else 0.0 for which in (0, 1)] for row in rows]
    assert scores.tolist() == [[7.0, *both, np.float32(1.0 / max(1, len(history))), 7.0] for both in sums]


@given(st.lists(ROW, max_size=9), SAID)
def test_rows_are_added_up_four_at_once_and_none_twice(held, said):
    halves = np.array([[to_bfloat16(np.float32(value)) for value in row] for row in said], np.uint16)
    held, sums = [row % 5 for row in held], np.full(5, 9.0, np.float32)
    padded, counted = np.array([*held, 4, 4, 4], np.int64), np.arange(1, len(held) + 4, dtype=np.float32)
    autoencoder.add_up(padded, counted, len(held), halves, sums)
    assert sums.tolist() == [sum(w * said[row][k] for w, row in enumerate(held, 1)) for k in range(5)]


TWINS = {
    "autoencoder.add_up": test_rows_are_added_up_four_at_once_and_none_twice,
    "autoencoder.put": test_what_a_history_says_is_the_sum_of_what_its_items_say_the_newer_the_more,
    "autoencoder.told": test_what_a_history_says_is_the_sum_of_what_its_items_say_the_newer_the_more,
}
