"""What tests of sources share: made lists of neighbours, and what a kernel that goes by them gives."""

import numpy as np
import pytest
from hypothesis import strategies as st
from riverrank.operators.candidates.reached import Reached
from riverrank.state.item_tables import STATS

ROWS, WIDTH = 8, 4
ROW = st.integers(0, ROWS - 1)
WEIGHT = st.sampled_from([0.0, 0.25, 1.0, 3.0])
CELL = st.tuples(st.integers(-1, ROWS - 1), WEIGHT, WEIGHT)  # a neighbour, -1 for a free place, and its weights
LISTS = st.lists(
    st.lists(CELL, min_size=WIDTH, max_size=WIDTH, unique_by=lambda cell: cell[0] if cell[0] >= 0 else object()),
    min_size=ROWS,
    max_size=ROWS,
)
HISTORY = st.lists(ROW, unique=True, max_size=5)
COUNTS = st.lists(st.sampled_from([0.0, 1.0, 4.0, 100.0]), min_size=ROWS, max_size=ROWS)


def tables(lists):
    """Neighbours and weights as ItemTable has them; a free place has no weight."""
    neighbours = np.array([[cell[0] for cell in row] for row in lists], np.int32)
    weights = np.array([[cell[1:] for cell in row] for row in lists], np.float32)
    weights[neighbours < 0] = 0
    return neighbours, weights


def stats_of(column, counts):
    stats = np.zeros((ROWS, STATS), np.float32)
    stats[:, column] = counts
    return stats


def reach(kernel, columns, *arguments):
    """What a kernel that reaches rows gives them, by row, in columns 1 and following of a wider array, where row 0 was
    reached before.
    """
    reached = Reached(columns + 2)
    reached.fit(ROWS, ROWS + 1)
    reached.add(np.zeros(1, np.int32), np.full(1, 5.0, np.float32), 0)
    n = kernel(*arguments, 1, reached.slot, reached.rows, reached.scores, reached.n)
    found = dict(zip(reached.rows[:n].tolist(), reached.scores[:n].tolist(), strict=True))
    assert len(found) == n and [reached.slot[row] for row in found] == list(range(n))
    assert all((given[0], given[-1]) == (5.0 if row == 0 else 0.0, 0.0) for row, given in found.items())
    found = {row: given[1:-1] for row, given in found.items()}
    if not any(found[0]):
        del found[0]
    return found


def same(found, expected):
    """The same rows with the same numbers; of those that get nothing it does not matter whether they are reached."""
    assert found.keys() <= expected.keys()
    assert np.ravel([found.get(row, np.zeros_like(given)) for row, given in expected.items()]) == pytest.approx(
        np.ravel(list(expected.values())), rel=1e-5, abs=1e-7
    )
