"""What all users taught about items: counts, and a bounded list of neighbours for each, in numpy arrays.

SIGNALS owns such a table and learns in it; the view of RANKER and RECOMMEND mirrors it from updates. Nothing here
knows what the numbers are good for.
"""

from collections.abc import Iterable

import msgspec
import numpy as np

POPULARITY, POSITIVES, NEGATIVES, RATING_SUM, RATINGS = range(5)
STATS = 5
BLOCK_ROWS = 256
LAYOUT = 1


class Block(msgspec.Struct, array_like=True):
    """BLOCK_ROWS rows of a table as they are kept in state, from row `first` on. Layout 1, MessagePack array:

    layout, first, width (places of a list), ids ("" for a free row), then little-endian arrays of n = len(ids) rows:
    stats float32 (n, 5), at float64 (n,), shard int16 (n,), neighbours int32 (n, width), weights float32 (n, width, 2).
    """

    layout: int
    first: int
    width: int
    ids: tuple[str, ...]
    stats: bytes
    at: bytes
    shard: bytes
    neighbours: bytes
    weights: bytes


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Block).decode


class ItemTable:
    """Rows by item id. `neighbours[row]` holds rows of this table (-1: free) with two weights each: the order-weighted
    co-visitation, and the plain count. `stats[row]` has the columns POPULARITY (decayed, as of event number `at[row]`
    of shard `shard[row]`), POSITIVES, NEGATIVES, RATING_SUM, RATINGS.

    >>> table = ItemTable(width=4)
    >>> table.row("i-1"), table.row("i-2"), table.row("i-1"), len(table)
    (0, 1, 0, 2)
    """

    def __init__(self, width: int, capacity: int = BLOCK_ROWS) -> None:
        self.width = width
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}
        self.free: list[int] = []
        self.changed: set[int] = set()  # numbers of blocks that state does not hold yet
        self._allocate(capacity)

    def _allocate(self, capacity: int) -> None:
        self.stats = np.zeros((capacity, STATS), np.float32)
        self.at = np.zeros(capacity, np.float64)
        self.shard = np.zeros(capacity, np.int16)
        self.neighbours = np.full((capacity, self.width), -1, np.int32)
        self.weights = np.zeros((capacity, self.width, 2), np.float32)

    def __len__(self) -> int:
        """Rows in use or freed: every row is below this."""
        return len(self.ids)

    @property
    def capacity(self) -> int:
        return len(self.at)

    def row(self, item_id: str) -> int:
        """The row of `item_id`, made where there is none."""
        row = self.rows.get(item_id)
        if row is not None:
            return row
        if self.free:
            row = self.free.pop()
            self.ids[row] = item_id
        else:
            row = len(self.ids)
            if row == self.capacity:
                self.grow(2 * row)
            self.ids.append(item_id)
        self.rows[item_id] = row
        self.changed.add(row // BLOCK_ROWS)
        return row

    def rows_of(self, item_ids: Iterable[str]) -> np.ndarray:
        """The rows of `item_ids`, int32; unknown ids are left out."""
        find = self.rows.get
        return np.array([row for item_id in item_ids if (row := find(item_id)) is not None], np.int32)

    def grow(self, capacity: int) -> None:
        """Make room for `capacity` rows."""
        for name in ("stats", "at", "shard", "neighbours", "weights"):
            old = getattr(self, name)
            new = np.full((capacity, *old.shape[1:]), -1 if name == "neighbours" else 0, old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def touch(self, rows: np.ndarray) -> None:
        """Note that `rows` changed."""
        self.changed.update((rows // BLOCK_ROWS).tolist())

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`: their ids, numbers and lists, and their places in others' lists."""
        for row in rows.tolist():
            del self.rows[self.ids[row]]
            self.ids[row] = ""
            self.free.append(row)
        self.stats[rows] = 0
        self.at[rows] = 0
        self.neighbours[rows] = -1
        self.weights[rows] = 0
        gone = np.isin(self.neighbours, rows)
        self.neighbours[gone] = -1
        self.weights[gone] = 0
        self.touch(rows)
        self.touch(np.flatnonzero(gone.any(axis=1)))

    def dump(self) -> dict[str, bytes]:
        """The blocks that changed since the last dump, by the key they are kept under."""
        blocks = {}
        for number in sorted(self.changed):
            first = number * BLOCK_ROWS
            part = slice(first, min(first + BLOCK_ROWS, len(self.ids)))
            arrays = (self.stats, self.at, self.shard, self.neighbours, self.weights)
            block = Block(LAYOUT, first, self.width, tuple(self.ids[part]), *(a[part].tobytes() for a in arrays))
            blocks[f"block:{number:08x}"] = _encode(block)
        self.changed.clear()
        return blocks

    def load(self, blocks: Iterable[bytes]) -> None:
        """Put dumped blocks back, in any order; raises ValueError on a layout or a width that is not this table's."""
        parts = sorted((_decode(block) for block in blocks), key=lambda block: block.first)
        for block in parts:
            if block.layout != LAYOUT:
                raise ValueError(f"item block of layout {block.layout}: this version reads {LAYOUT}")
            if block.width != self.width:
                raise ValueError(
                    f"state holds lists of {block.width} neighbours, the configuration says {self.width}: "
                    f"set signals.neighbours = {block.width}, or start without this savepoint"
                )
            n = len(block.ids)
            part = slice(block.first, block.first + n)
            if part.stop > self.capacity:
                self.grow(max(2 * self.capacity, part.stop))
            self.ids[part] = block.ids
            self.stats[part] = np.frombuffer(block.stats, "<f4").reshape(n, STATS)
            self.at[part] = np.frombuffer(block.at, "<f8")
            self.shard[part] = np.frombuffer(block.shard, "<i2")
            self.neighbours[part] = np.frombuffer(block.neighbours, "<i4").reshape(n, self.width)
            self.weights[part] = np.frombuffer(block.weights, "<f4").reshape(n, self.width, 2)
        self.rows = {item_id: row for row, item_id in enumerate(self.ids) if item_id}
        self.free = [row for row, item_id in enumerate(self.ids) if not item_id]
