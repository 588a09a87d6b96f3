"""Rows by item id: found, freed, grown and kept by blocks, as a plain dict would have them."""

import re
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.state.table import FREE, GONE, Column, RowsById, Table, look_up, put

COLUMNS = {"count": Column("<f4"), "marks": Column("<i4", (2,), -1, "some.setting")}
STEPS = st.lists(st.tuples(st.integers(0, 30), st.sampled_from(["put", "release", "dump"])), max_size=80)


@given(STEPS)
def test_a_table_is_a_dict_of_rows_which_its_blocks_bring_back(steps):
    table, meant, blocks = Table(COLUMNS, block_rows=4), {}, {}
    for number, (k, what) in enumerate(steps):
        name = f"i-{k}"
        if what == "put":
            row = table.row(name)
            table.count[row], table.marks[row, 1] = number, k
            table.touch(np.array([row]))
            meant[name] = (float(number), [-1, k])
        elif what == "release" and meant.pop(name, None):
            table.release(table.rows_of([name]))
        elif what == "dump":
            blocks |= table.dump()
    assert len(table.dump()) <= len(table) // 4 + 1
    table.changed[: -(-len(table) // 4)] = True
    loaded = Table(COLUMNS, block_rows=4)
    loaded.load({**blocks, **table.dump(), "other:00000000": b""})
    for each in (table, loaded):
        assert {name: (float(each.count[row]), each.marks[row].tolist()) for name, row in each.rows.items()} == meant
        assert len(each) <= each.capacity and len(each) == len(meant) + len(each.free)
        for row in (*each.free, *range(len(each), each.capacity)):
            assert (each.count[row], each.marks[row].tolist()) == (0.0, [-1, -1])
    assert loaded.rows == table.rows


@given(
    st.lists(st.tuples(st.sampled_from(["put", "del", "find"]), st.integers(0, 40)), max_size=120),
    st.sampled_from([0, 8, 1 << 20]),
)
def test_many_ids_are_found_at_once_as_one_by_one(steps, few):
    rows, meant = RowsById([("i-0", 7)]), {"i-0": 7}
    ids = [f"i-{k}" for k in range(41)]
    with mock.patch("riverrank.state.table.FEW", few):
        for row, (what, k) in enumerate((*steps, ("find", 0))):
            if what == "put":
                rows[ids[k]] = meant[ids[k]] = row
            elif what == "del" and meant.pop(ids[k], None) is not None:
                del rows[ids[k]]
            elif what == "find":
                found = rows.find(ids)
                assert (found.tolist(), found.dtype) == ([meant.get(each, -1) for each in ids], np.int32)
    assert rows.find([]).tolist() == [] and rows == meant


def test_ids_whose_hashes_belong_in_one_place_are_told_apart():
    places = np.full((8, 2), FREE, np.int64)
    marks = np.array([3, 11, -5, 3 + 8 * 2**40], np.int64)  # of remainder 3 all
    assert put(places, marks, np.arange(4)) == 4
    assert put(places, marks[1:2], np.array([GONE])) == 0
    found = np.empty(5, np.int32)
    look_up(places, np.append(marks, 19), found)
    assert found.tolist() == [0, -1, 2, 3, -1]


def test_a_row_is_begun_for_each_unknown_id_once():
    table = Table(COLUMNS, block_rows=4)
    table.row("b")
    assert table.rows_of_each(["a", "b", "c", "a"], table.row).tolist() == [1, 0, 2, 1]


def test_the_lowest_free_row_is_taken_first_whichever_was_freed_when():
    table, loaded, placed = (Table(COLUMNS, block_rows=4) for _ in range(3))
    for k in range(8):
        table.row(f"i-{k}")
    for rows in ([1, 5], [3], [0]):
        table.release(np.array(rows))
    table.row("again")
    placed.place(table.rows)
    loaded.load(table.dump())
    for each in (table, loaded, placed):
        assert [each.row(name) for name in "abcd"] == [1, 3, 5, 8] and each.row("again") == 0
        assert each.used().tolist() == list(range(9))
    assert list(table.rows.values()) != table.used().tolist()


def test_rows_of_unknown_ids_are_left_out():
    table = Table(COLUMNS, block_rows=4)
    assert [table.row(name) for name in "abc"] == [0, 1, 2]
    found = table.rows_of(iter(["c", "x", "a"]))
    assert (found.tolist(), found.dtype) == ([2, 0], np.int32)


@given(st.lists(st.integers(0, 39), max_size=9))
def test_what_is_touched_is_marked_by_block(rows):
    table = Table(COLUMNS, block_rows=4)
    for k in range(40):
        table.row(f"i-{k}")
    table.dump()
    assert not table.changed.any()
    table.touch(np.array(rows, np.int64))
    assert np.flatnonzero(table.changed).tolist() == sorted({row // 4 for row in rows})


def test_rows_double_as_they_grow():
    table, capacities = Table(COLUMNS, block_rows=4), set()
    for k in range(40):
        table.row(f"i-{k}")
        capacities.add(table.capacity)
    assert capacities == {4, 8, 16, 32, 64}


def test_a_column_that_blocks_lack_keeps_its_fill_and_a_shape_of_another_setting_is_refused():
    table = Table({"count": COLUMNS["count"]}, block_rows=4)
    table.count[table.row("a")] = 3
    blocks = table.dump()
    wider = Table(COLUMNS, block_rows=4)
    wider.load(blocks)
    assert (wider.count[0], wider.marks[0].tolist()) == (3.0, [-1, -1])
    wider.changed[0] = True
    blocks = wider.dump()
    for shape, setting, mend in (
        ((3,), "some.setting", r"set some.setting = 2, or start without"),
        ((3,), "", "start without"),
        ((), "", "start without"),
    ):
        message = rf"^state holds marks of shape \(2,\), expected {re.escape(str(shape))}: {mend} this savepoint$"
        with pytest.raises(ValueError, match=message):
            Table({"marks": Column("<i4", shape, -1, setting)}, block_rows=4).load(blocks)
    with pytest.raises(
        ValueError, match=r"^state holds count of shape \(\), expected \(2,\): set s as it was, or start"
    ):
        Table({"count": Column("<f4", (2,), 0, "s")}, block_rows=4).load(blocks)
