"""The pool of items with vectors: its kernels do what their twins in plain Python do, and it is as the table is."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from made_index import ROWS
from riverrank.operators.index.pool import Pool, copy, logits
from riverrank.operators.index.ranked_lists import RankedList
from riverrank.state.item_tables import ItemTable

VALUES = st.sampled_from([-2.0, -0.5, 0.0, 1.0, 3.0])  # of which sums are exact


@given(st.lists(st.lists(VALUES, min_size=3, max_size=3), max_size=6), st.lists(VALUES, min_size=3, max_size=3))
def test_logits_are_dot_products_and_biases(vectors, user):
    columns = np.array(vectors, np.float32).reshape(-1, 3).T.copy()
    biases = np.arange(len(vectors), dtype=np.float32)
    expected = [sum(a * b for a, b in zip(vector, user, strict=True)) + k for k, vector in enumerate(vectors)]
    assert logits(columns, biases, np.array(user, np.float32)).tolist() == expected
    assert biases.tolist() == list(range(len(vectors)))


@given(
    st.lists(st.integers(0, ROWS - 1), max_size=8),
    st.lists(st.integers(0, ROWS - 1), unique=True, max_size=6),
    st.sets(st.integers(0, ROWS - 2)),
)
def test_what_is_in_the_pool_is_copied_and_the_popular_ones_of_the_rest_are_counted(changed, pooled, popular):
    target = np.arange(3.0 * ROWS, dtype=np.float32).reshape(ROWS, 3)
    bias = -np.arange(ROWS, dtype=np.float32)
    column_of = np.full(ROWS - 2, -1, np.int32)  # two rows are newer than the pool
    pooled = [row for row in pooled if row < len(column_of)]
    column_of[pooled] = range(len(pooled))
    columns, biases = np.full((3, len(pooled)), 99, np.float32), np.full(len(pooled), 99, np.float32)
    listed = np.full(ROWS - 1, np.nan)  # one row is newer than the list
    listed[list(popular)] = 1.0
    outside = copy(np.array(changed, np.int32), target, bias, column_of, listed, columns, biases)
    assert outside == sum(row not in pooled and row in popular for row in changed)
    for column, row in enumerate(pooled):
        assert columns[:, column].tolist() == (target[row].tolist() if row in changed else [99] * 3)
        assert biases[column] == (bias[row] if row in changed else 99)


def test_the_pool_is_as_the_table_whatever_changes():
    table, rng = ItemTable(4, dimensions=3), np.random.default_rng(1)
    for k in range(40):
        table.row(f"i{k}")
    learned = np.arange(0, 40, 2)
    table.target[learned], table.bias[learned] = rng.random((20, 3), np.float32), rng.random(20, np.float32)
    pool, popular = Pool(table, 4096, 3), RankedList(4096)
    popular.rebuild(np.arange(401), np.arange(401.0), 401)
    assert pool.wants_refresh(0)
    pool.fill(np.arange(39, -1, -1, dtype=np.int32), 0)
    assert pool.rows.tolist() == learned[::-1].tolist() and not pool.wants_refresh(255) and pool.wants_refresh(256)
    for rows in ([2, 4, 6], [8], [3], [400]):
        for k in range(len(table), max(rows) + 1):
            table.row(f"i{k}")
        table.target[rows], table.bias[rows] = rng.random((len(rows), 3), np.float32), 5.0
        pool.update(np.array(rows, np.int32), popular)
        assert (pool.target == table.target[pool.rows].T).all() and (pool.bias == table.bias[pool.rows]).all()
    assert pool.wants_refresh(1)  # two of twenty are learned that were not
    pool.fill(np.arange(39, -1, -1, dtype=np.int32), 1)
    popular.rebuild(np.arange(0), np.arange(0.0), 401)
    pool.update(np.array([5, 400, 401], np.int32), popular)
    assert not pool.wants_refresh(2)  # these are not among the popular
    popular.rebuild(np.arange(401), np.arange(401.0), 401)
    pool.fill(np.arange(401, dtype=np.int32), 1)
    assert len(pool.rows) == 22 and not pool.wants_refresh(2)
    held = pool.target.copy()
    pool.forget()
    table.target[2] = 0
    pool.update(np.array([2], np.int32), popular)  # row 2 may be another item by now
    assert pool.wants_refresh(2) and (pool.target == held).all()


TWINS = {
    "pool.copy": test_what_is_in_the_pool_is_copied_and_the_popular_ones_of_the_rest_are_counted,
    "pool.logits": test_logits_are_dot_products_and_biases,
}
