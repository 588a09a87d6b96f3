"""Rows of numbers by item id, in numpy arrays that grow, kept in state by blocks of rows.

What the columns mean is the business of the tables made of this.
"""

from collections.abc import Iterable, Mapping
from heapq import heappop, heappush
from typing import NamedTuple, NoReturn

import msgspec
import numpy as np
from numba import njit

from .codec import Fields, Layout


class Column(NamedTuple):
    """An array of the table: its type (little-endian), the shape of one row, what an unused row holds, and the setting
    that its shape comes from.
    """

    dtype: str
    shape: tuple[int, ...] = ()
    fill: int = 0
    setting: str = ""


class Block(msgspec.Struct, array_like=True, tag=3):
    """Some rows of a table as they are kept in state, from row `first` on: layout 3. `ids` has "" for a free row,
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


BLOCK = Layout("table block", Block, {2: _renamed})


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
        self.rows: dict[str, int] = {}
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
        rows = [row for row in map(self.rows.get, item_ids) if row is not None]
        return np.fromiter(rows, np.int32, len(rows))

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
        self.rows = {item_id: row for row, item_id in enumerate(self.ids) if item_id}
        self.free = [row for row, item_id in enumerate(self.ids) if not item_id]


@njit(cache=True)
def mark_blocks(rows, block_rows, changed):  # type: ignore[no-untyped-def]
    """Set the blocks of `rows`, int (n,), in `changed`, bool by number of a block."""
    for row in rows:
        changed[row // block_rows] = True


def refuse(where: str, what: str, held: str, expected: str, setting: str = "", value: object = None) -> NoReturn:
    """Say that what is kept is not what is expected, and the mend: the `setting`, if it comes from one, as it was.

    >>> refuse("state", "lists", "of 8", "of 4", "signals.neighbours", 8)
    Traceback (most recent call last):
    ValueError: state holds lists of 8, expected of 4: set signals.neighbours = 8, or start without this savepoint
    """
    was = f"set {setting} = {value}, or " if value is not None else f"set {setting} as it was, or " if setting else ""
    raise ValueError(f"{where} holds {what} {held}, expected {expected}: {was}start without this savepoint")


def _check(name: str, held: tuple[int, ...], column: Column) -> None:
    if held != column.shape:
        value = held[0] if column.setting and held else None
        refuse("state", name, f"of shape {held}", str(column.shape), column.setting, value)
