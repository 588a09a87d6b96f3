"""Which rows may be served to a user, and the best few of many rows."""

import numpy as np
from numba import njit

EMPTY = -1
FEW = 256  # seen items, for which a table may be so sparse that its first place tells nearly always
LEAST = np.iinfo(np.int64).min  # below every key
OF_NOTHING = 0x7FFFFFFF  # the key of a 0 that stands first: those of all values above 0 are higher
SPARSE, DENSE = 8, 2  # places of a table for one that was seen, at least


class Allowed:
    """What may be served: what the index calls servable, less the items whose hash the user has seen.

    The hashes are in `table` int64, of a power of two, by linear probing, EMPTY where it is free.
    """

    def __init__(self) -> None:
        self.servable = np.zeros(0, bool)
        self.marks = np.zeros(0, np.uint32)
        self.table = np.full(16, EMPTY, np.int64)
        self.mask = 0  # of the part of the table that is in use, 0 where nothing was seen

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
        """The arguments of `is_allowed` that follow the row."""
        return self.servable, self.marks, self.table, self.mask

    def begin(self, servable: np.ndarray, marks: np.ndarray, seen: np.ndarray | None) -> int:
        """Allow the rows that are `servable`, bool, and whose hash in `marks`, uint32, is not in `seen`, uint32; how
        many distinct ones those are.
        """
        self.servable, self.marks = servable, marks
        if seen is None or not len(seen):
            self.mask, self.table[0] = 0, EMPTY
            return 0
        if seen.flags.writeable:  # numba compiles for arrays that may be written to and for others: here one of them
            seen = seen.view()
            seen.flags.writeable = False
        size = 1 << ((SPARSE if len(seen) < FEW else DENSE) * len(seen)).bit_length()
        if len(self.table) < size:
            self.table = np.full(size, EMPTY, np.int64)
        self.mask = size - 1
        return int(fill_table(self.table, self.mask, seen))


@njit(cache=True)
def fill_table(table, mask, seen):  # type: ignore[no-untyped-def]
    """Put the hashes `seen`, uint32, into the first `mask` + 1 places of `table`; how many are distinct. About 3 ns
    each.
    """
    table[: mask + 1] = EMPTY
    distinct = 0
    for k in range(len(seen)):
        mark = np.int64(seen[k])
        place = mark & mask
        while table[place] != EMPTY and table[place] != mark:
            place = (place + 1) & mask
        distinct += table[place] == EMPTY
        table[place] = mark
    return distinct


@njit(cache=True)
def is_allowed(row, servable, marks, table, mask):  # type: ignore[no-untyped-def]
    """Whether `row` may be served. The first place that is looked at tells nearly always: 2 ns then."""
    mark = np.int64(marks[row])
    place = mark & mask
    if table[place] == EMPTY:
        return servable[row]
    if not servable[row]:
        return False
    while table[place] != EMPTY:
        if table[place] == mark:
            return False
        place = (place + 1) & mask
    return True


@njit(cache=True)
def key_of(bits, order):  # type: ignore[no-untyped-def]
    """A number, int64, that is the higher the higher the value, and of equal values the lower `order`, int below 2^31;
    `bits` int32 are those of the value as float32.
    """
    return (np.int64(bits ^ ((bits >> 31) & 0x7FFFFFFF)) << 32) + (0x7FFFFFFF - order)


@njit(cache=True)
def order_of(key):  # type: ignore[no-untyped-def]
    """The order that is in a `key_of`."""
    return 0x7FFFFFFF - (key & 0x7FFFFFFF)


@njit(cache=True)
def select(keys, n, most):  # type: ignore[no-untyped-def]
    """Let the `most` highest of the first `n` keys, int64, distinct, stand before the others, in any order.

    Hoare's selection. Where a key goes is no branch, which a CPU would guess wrong every other time: 2 ns a key.
    """
    low = 0
    high = n
    while low < most < high:
        middle = (low + high) // 2
        first = keys[low]
        pivot = max(min(first, keys[middle]), min(max(first, keys[middle]), keys[high - 1]))
        if pivot == keys[middle]:
            keys[middle] = first
        elif pivot == keys[high - 1]:
            keys[high - 1] = first
        end = low + 1
        for k in range(low + 1, high):
            key = keys[k]
            keys[k] = keys[end]
            keys[end] = key
            end += key > pivot
        end -= 1
        keys[low] = keys[end]
        keys[end] = pivot
        if end < most:
            low = end + 1
        else:
            high = end


@njit(cache=True)
def sort(keys, n, best):  # type: ignore[no-untyped-def]
    """Write the first `n` of `keys`, int64, distinct, to `best`, int64, highest first: each stands after those higher.
    About 0.2 us for 40.
    """
    for k in range(n):
        higher = 0
        for other in range(n):
            higher += keys[other] > keys[k]
        best[higher] = keys[k]


@njit(cache=True)
def best_allowed(rows, values, above, servable, marks, table, mask, found):  # type: ignore[no-untyped-def]
    """Write those of `rows`, int32 (n,), -1 for none, that may be served and have the highest `values`, float32 (n,),
    with a key above `above`, to `found`, int32, as many as there is room for, best first; how many they are. About 6 us
    for 4,096 rows.
    """
    most = len(found)
    bits = values.view(np.int32)
    keys = np.empty(4 * most, np.int64)
    best = np.empty(most, np.int64)
    least = np.int64(above)
    n = 0
    for k in range(len(rows)):
        key = key_of(bits[k], k)
        if key > least and rows[k] >= 0 and is_allowed(rows[k], servable, marks, table, mask):
            keys[n] = key
            n += 1
            if n == len(keys):
                n = most
                select(keys, len(keys), most)
                least = keys[:most].min()
    most = min(n, most)
    select(keys, n, most)
    sort(keys, most, best)
    for k in range(most):
        found[k] = rows[order_of(best[k])]
    return most
