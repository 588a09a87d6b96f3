"""Rows of numbers by item id, in numpy arrays that grow, kept in state by blocks of rows.

What the columns mean is the business of the tables made of this.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from heapq import heappop, heappush
from itertools import repeat
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np
from numba import njit

from .codec import Fields, Layout, StateRefused

HASH, ROW = range(2)  # columns of the places
FREE, GONE = -2, -1  # rows of a place that is free, and of an id that is no longer there
FEW = 512  # rows whose dict the nearest caches hold, which is faster then
MANY = 8  # ids, from which on it pays to look all up at once


class Column(NamedTuple):
    """An array of the table: its type (little-endian), the shape of one row, what an unused row holds, and the setting
    that its shape comes from.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    fill: int = 0
    setting: str = ""


class Block(msgspec.Struct, array_like=True, tag=4):
    """Some rows of a table as they are kept in state, from row `first` on: layout 4. `ids` has "" for a free row,
    `shapes` is that of one row of each column, and `columns` are little-endian bytes.
    """

    first: int
    ids: tuple[str, ...]
    shapes: dict[str, tuple[int, ...]]
    columns: dict[str, bytes]


def _renamed(fields: Fields) -> Fields:
    """From layout 2, which called the `context` and `target` embeddings taken and next."""
    names = {"taken": "context", "next": "target"}
    first, ids, *by_column = fields
    return [first, ids, *({names.get(name, name): value for name, value in each.items()} for each in by_column)]


def _of_two_orders(fields: Fields) -> Fields:
    """From layout 3, in which each neighbour had a third weight, that nothing reads any more."""
    first, ids, shapes, columns = fields
    if shapes.get("weights", ())[1:] == [3]:
        width = shapes["weights"][0]
        weights = np.frombuffer(columns["weights"], "<f4").reshape(len(ids), width, 3)
        shapes, columns = {**shapes, "weights": (width, 2)}, {**columns, "weights": weights[:, :, :2].tobytes()}
    return [first, ids, shapes, columns]


BLOCK = Layout("table block", Block, {2: _renamed, 3: _of_two_orders})


class RowsById(dict[str, int]):
    """Rows by id, to be written by `rows[item_id] = row` and `del` alone.

    A dict looks up an id in 0.7 us where its entries are in no cache, and so it is with a hundred thousand items.
    `find` does it in 0.15 us: the ids go by 64 bits of Python's own hash in one array (linear probing). That two of a
    million items share these bits has a chance of 3 in 10**8.

    >>> rows = RowsById([("i-1", 0), ("i-2", 1)])
    >>> del rows["i-1"]
    >>> rows.find(["i-2", "i-1", "i-3"]).tolist()
    [1, -1, -1]
    """

    def __init__(self, rows: Iterable[tuple[str, int]] = ()) -> None:
        super().__init__(rows)
        self._places: np.ndarray | None = None  # int64 (2**k, 2), a quarter free at least; None until asked for
        self._used = 0  # places that are not free
        self._changed: list[str] = []  # ids whose rows the places do not tell yet

    def __setitem__(self, item_id: str, row: int) -> None:
        super().__setitem__(item_id, row)
        self._note(item_id)

    def __delitem__(self, item_id: str) -> None:
        super().__delitem__(item_id)
        self._note(item_id)

    def _note(self, item_id: str) -> None:
        """Note that the places do not tell of it; where that is more than there is room for, they are made anew."""
        if self._places is not None:
            self._changed.append(item_id)
            if 4 * len(self._changed) > 3 * len(self._places):
                self._places = None
                self._changed.clear()

    def find(self, ids: Sequence[str]) -> np.ndarray:
        """The rows of `ids`, int32 (n,), -1 where there is none."""
        if len(self) < FEW:
            self._places = None
            return np.fromiter(map(self.get, ids, repeat(GONE)), np.int32, len(ids))
        if self._places is None or 4 * (self._used + len(self._changed)) > 3 * len(self._places):
            self._places = np.full((1 << (2 * len(self) + 1).bit_length(), 2), FREE, np.int64)
            self._used = put(self._places, hashes_of(self), np.fromiter(self.values(), np.int64, len(self)))
            self._changed.clear()
        elif self._changed:
            rows = np.fromiter(map(self.get, self._changed, repeat(GONE)), np.int64, len(self._changed))
            self._used += put(self._places, hashes_of(self._changed), rows)
            self._changed.clear()
        found = np.empty(len(ids), np.int32)
        look_up(self._places, hashes_of(ids), found)
        return found


class Table:
    """Rows by item id; each column is an array of `capacity` rows, an attribute of its name.

    >>> table = Table({"count": Column("<f4")}, block_rows=4)
    >>> table.row("i-1"), table.row("i-2"), table.row("i-1"), len(table)
    (0, 1, 0, 2)
    """

    def __init__(self, columns: Mapping[str, Column], block_rows: int, prefix: str = "block") -> None:
        self.columns = dict(columns)
        self.block_rows = block_rows
        self.prefix = prefix
        self.ids: list[str] = []
        self.rows = RowsById()
        self.free: list[int] = []  # a heap: the lowest is taken first, so that rows follow from which are free
        self.changed = np.zeros(1, np.bool_)  # by number of a block, whether state does not hold it yet
        for name, column in self.columns.items():
            setattr(self, name, np.full((block_rows, *column.shape), column.fill, column.dtype))
        self.capacity = block_rows

    def __len__(self) -> int:
        """Rows in use or freed: every row is below this."""
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """The row of `item_id`, made where there is none."""
        row = self.rows.get(item_id)
        if row is not None:
            return row
        if self.free:
            row = heappop(self.free)
            self.ids[row] = item_id
        else:
            row = len(self.ids)
            if row == self.capacity:
                self.grow(2 * row)
            self.ids.append(item_id)
        self.rows[item_id] = row
        self.changed[row // self.block_rows] = True
        return row

    def rows_of(self, item_ids: Iterable[str]) -> np.ndarray:
        """The rows of `item_ids`, int32; unknown ids are left out."""
        ids = tuple(item_ids)
        if len(ids) < MANY:
            get = self.rows.get
            return np.array([row for item_id in ids if (row := get(item_id)) is not None], np.int32)
        found = self.rows.find(ids)
        return found[found >= 0]

    def rows_of_each(self, item_ids: Sequence[str], begin: Callable[[str], int]) -> np.ndarray:
        """The row of each of `item_ids`, int32 (n,): that which `begin` gives where there is none."""
        found = self.rows.find(item_ids)
        if found.min(initial=0) < 0:
            for k in np.flatnonzero(found < 0).tolist():
                found[k] = begin(item_ids[k])
        return found

    def used(self) -> np.ndarray:
        """The rows in use, ascending, whatever order they began in: int64."""
        return np.sort(np.fromiter(self.rows.values(), np.int64, len(self.rows)))

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows."""
        for name, column in self.columns.items():
            old = getattr(self, name)
            new = np.zeros((capacity, *column.shape), column.dtype)
            new[: len(old)] = old
            if column.fill:
                new[len(old) :] = column.fill
            setattr(self, name, new)
        self.capacity = capacity
        held, self.changed = self.changed, np.zeros(-(-capacity // self.block_rows), np.bool_)
        self.changed[: len(held)] = held

    def touch(self, rows: np.ndarray) -> None:
        """Note that `rows` changed."""
        mark_blocks(rows, self.block_rows, self.changed)

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`: their ids and their numbers."""
        for row in rows.tolist():
            del self.rows[self.ids[row]]
            self.ids[row] = ""
            heappush(self.free, row)
        for name, column in self.columns.items():
            getattr(self, name)[rows] = column.fill
        self.touch(rows)

    def dump(self) -> dict[str, bytes]:
        """The blocks that changed since the last dump, by the key they are kept under."""
        blocks = {}
        shapes = {name: column.shape for name, column in self.columns.items()}
        for number in np.flatnonzero(self.changed).tolist():
            first = number * self.block_rows
            part = slice(first, min(first + self.block_rows, len(self.ids)))
            columns = {name: getattr(self, name)[part].tobytes() for name in self.columns}
            block = Block(first, tuple(self.ids[part]), shapes, columns)
            blocks[f"{self.prefix}:{number:08x}"] = BLOCK.encode(block)
        self.changed[:] = False
        return blocks

    def place(self, rows: Mapping[str, int]) -> None:
        """Give each id the row that it had, where it has none yet; a row that another id has by now is not given."""
        self.ids += [""] * (max(rows.values(), default=-1) + 1 - len(self.ids))
        if len(self.ids) > self.capacity:
            self.grow(max(2 * self.capacity, len(self.ids)))
        for item_id, row in rows.items():
            if item_id not in self.rows and not self.ids[row]:
                self.ids[row] = item_id
                self.rows[item_id] = row
                self.changed[row // self.block_rows] = True
        self.free = [row for row, item_id in enumerate(self.ids) if not item_id]

    def load(self, blocks: Mapping[str, bytes]) -> None:
        """Put back the dumped blocks among `blocks`, in any order; a column that a block lacks keeps its fill.

        Raises ValueError on a layout or on a shape that is not this table's.
        """
        for key in sorted((key for key in blocks if key.startswith(f"{self.prefix}:")), reverse=True):
            block = BLOCK.decode(blocks[key])
            n = len(block.ids)
            part = slice(block.first, block.first + n)
            if part.stop > len(self.ids):  # the last block comes first, so that there is room for all
                self.ids += [""] * (part.stop - len(self.ids))
                if part.stop > self.capacity:
                    self.grow(max(2 * self.capacity, part.stop))
            self.ids[part] = block.ids
            for name, column in self.columns.items():
                if name in block.columns:
                    _check(name, block.shapes[name], column)
                    values = np.frombuffer(block.columns[name], column.dtype)
                    getattr(self, name)[part] = values.reshape(n, *column.shape)
        self.rows = RowsById((item_id, row) for row, item_id in enumerate(self.ids) if item_id)
        self.free = [row for row, item_id in enumerate(self.ids) if not item_id]


def hashes_of(ids: Iterable[str]) -> np.ndarray:
    """Python's hashes of `ids`, which differ from process to process: int64 (n,)."""
    return np.fromiter(map(hash, ids), np.int64)


@njit(cache=True)
def place_of(places, mark):  # type: ignore[no-untyped-def]
    """The place of the hash `mark`, or the free one where it belongs."""
    mask = len(places) - 1
    place = mark & mask
    while places[place, ROW] != FREE and places[place, HASH] != mark:
        place = (place + 1) & mask
    return place


@njit(cache=True)
def put(places, marks, rows):  # type: ignore[no-untyped-def]
    """Let `rows`, int64 (n,), be those of the hashes `marks`, int64 (n,); how many more places are used then."""
    more = 0
    for k in range(len(marks)):
        place = place_of(places, marks[k])
        more += places[place, ROW] == FREE
        places[place, HASH] = marks[k]
        places[place, ROW] = rows[k]
    return more


@njit(cache=True)
def look_up(places, marks, found):  # type: ignore[no-untyped-def]
    """Write the rows of the hashes `marks`, int64 (n,), to `found`, int32 (n,), -1 where there is none."""
    for k in range(len(marks)):
        found[k] = max(places[place_of(places, marks[k]), ROW], GONE)


@njit(cache=True)
def mark_blocks(rows, block_rows, changed):  # type: ignore[no-untyped-def]
    """Set the blocks of `rows`, int (n,), in `changed`, bool by number of a block."""
    for row in rows:
        changed[row // block_rows] = True


def refuse(where: str, what: str, held: str, expected: str, setting: str = "", value: object = None) -> NoReturn:
    """Say that what is kept is not what is expected, and the mend: the `setting`, if it comes from one, as it was.

    >>> refuse("state", "lists", "of 8", "of 4", "signals.neighbours", 8)  # doctest: +ELLIPSIS
    Traceback (most recent call last):
    riverrank.state.codec.StateRefused: state holds lists of 8, expected of 4: set signals.neighbours = 8, or start ...
    """
    was = f"set {setting} = {value}, or " if value is not None else f"set {setting} as it was, or " if setting else ""
    raise StateRefused(f"{where} holds {what} {held}, expected {expected}: {was}start without this savepoint")


def _check(name: str, held: tuple[int, ...], column: Column) -> None:
    if held != column.shape:
        value = held[0] if column.setting and held else None
        refuse("state", name, f"of shape {held}", str(column.shape), column.setting, value)
