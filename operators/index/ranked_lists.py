"""Rows in order of a key, kept up to date as keys change: the most popular, what trends, the newest, the best by token.

A popularity decays by the same factor for every item of a shard, so decay changes no order: the key is the logarithm of
the popularity as of event 0, and moves only when the item is counted.
"""

import numpy as np
from numba import njit
from riverrank.state.item_tables import NEGATIVES, POSITIVES

ABSENT = np.nan  # the key of a row that is not listed


class RankedList:
    """The rows with the highest keys, `size` at most: `rows[:n]` int32, `keys[:n]` float64, of equal keys the lowest
    row first. No row that is left out stands before one that is listed; so a row that falls below all that are listed
    is left out, and the list has a gap, since some other may belong there.

    >>> ranked = RankedList(size=2)
    >>> ranked.rebuild(np.array([4, 5, 6]), np.array([1.0, 3.0, 2.0]), capacity=8)
    >>> ranked.put(4, 9.0)
    >>> ranked.rows[: ranked.n].tolist()
    [4, 5]
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.rows = np.zeros(size + 1, np.int32)
        self.keys = np.zeros(size + 1)
        self.listed = np.zeros(0)  # by row, the key under which it is listed, ABSENT where it isn't
        self.n = 0
        self.left_out = False  # whether there may be rows beside the list, which a gap would have to be filled from

    def rebuild(self, rows: np.ndarray, keys: np.ndarray, capacity: int) -> None:
        """List the best of `rows`, int (m,), ascending, with `keys`, float64 (m,)."""
        order = np.argsort(-keys, kind="stable")[: self.size]
        self.n, self.left_out = len(order), len(rows) > len(order)
        self.rows[: self.n], self.keys[: self.n] = rows[order], keys[order]
        self.listed = np.full(capacity, ABSENT)
        self.listed[self.rows[: self.n]] = self.keys[: self.n]

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        if len(self.listed) < capacity:
            self.listed = np.append(self.listed, np.full(capacity - len(self.listed), ABSENT))

    @property
    def is_short(self) -> bool:
        """Whether so many rows left the list, a sixteenth of its size, that it is to be rebuilt."""
        return self.left_out and self.n < self.size - self.size // 16

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, int, int, bool]:
        """What kernels take of a list."""
        return self.rows, self.keys, self.listed, self.n, self.size, self.left_out

    def put(self, row: int, key: float) -> None:
        """List `row` under `key`, or under another than before."""
        self.n = move(self.rows, self.keys, self.listed, self.n, self.size, self.left_out, row, key)
        self.left_out |= self.n == self.size

    def remove(self, row: int) -> None:
        """Take `row` off the list."""
        if row < len(self.listed) and self.listed[row] == self.listed[row]:
            self.n = take_out(self.rows, self.keys, self.listed, self.n, row)


@njit(cache=True)
def position_of(rows, keys, n, row, key):  # type: ignore[no-untyped-def]
    """Where `row` stands, or belongs, under `key`: by key, highest first, then by row."""
    low = 0
    high = n
    while low < high:
        middle = (low + high) // 2
        if keys[middle] > key or (keys[middle] == key and rows[middle] < row):
            low = middle + 1
        else:
            high = middle
    return low


@njit(cache=True)
def take_out(rows, keys, listed, n, row):  # type: ignore[no-untyped-def]
    """Take `row` off the list; how many are listed then."""
    position = position_of(rows, keys, n, row, listed[row])
    for k in range(position, n - 1):
        rows[k] = rows[k + 1]
        keys[k] = keys[k + 1]
    listed[row] = ABSENT
    return n - 1


@njit(cache=True)
def move(rows, keys, listed, n, size, left_out, row, key):  # type: ignore[no-untyped-def]
    """List `row` under `key`, and where there is no room drop the last; how many are listed then. About 0.1 us: only
    what stands between its old position and its new one moves.

    Where rows are `left_out`, one that would be the last is left out too: another may belong before it.
    """
    is_listed = listed[row] == listed[row]
    if is_listed and listed[row] == key:
        return n
    position = position_of(rows, keys, n, row, key)
    if is_listed:
        old = position_of(rows, keys, n, row, listed[row])
        if position > old:
            position -= 1  # it stood before its new position itself
        if left_out and position == n - 1:
            return take_out(rows, keys, listed, n, row)
        for k in range(old, position):
            rows[k] = rows[k + 1]
            keys[k] = keys[k + 1]
    else:
        if position >= size or (left_out and position == n):
            return n
        old = n
        n += 1
    for k in range(old, position, -1):
        rows[k] = rows[k - 1]
        keys[k] = keys[k - 1]
    rows[position] = row
    keys[position] = key
    listed[row] = key
    if n > size:
        n -= 1
        listed[rows[n]] = ABSENT
    return n


@njit(cache=True)
def count_ranked(  # type: ignore[no-untyped-def]
    counted, keys, servable,
    rows, listed_keys, listed, n, size, left_out, rows2, listed_keys2, listed2, n2, size2, left_out2,
    has_tokens, tokens, slot_of, token_rows, token_keys, counts,
):  # fmt: skip
    """List `counted`, int (m,), under `keys`, float64 (2, m): in one list by the first, which orders the lists of
    tokens too, and in another by the second. How many each of the two has then.
    """
    n = count_popular(counted, keys[0], servable, rows, listed_keys, listed, n, size, left_out)
    n2 = count_popular(counted, keys[1], servable, rows2, listed_keys2, listed2, n2, size2, left_out2)
    if has_tokens:
        count_by_token(counted, keys[0], servable, tokens, slot_of, token_rows, token_keys, counts)
    return n, n2


@njit(cache=True)
def count_popular(counted, keys, servable, rows, listed_keys, listed, n, size, left_out):  # type: ignore[no-untyped-def]
    """List the servable of `counted`, int (m,), under their new `keys`, float64 (m,); how many are listed then."""
    for k in range(len(counted)):
        if servable[counted[k]]:
            n = move(rows, listed_keys, listed, n, size, left_out, counted[k], keys[k])
    return n


@njit(cache=True)
def count_by_token(counted, keys, servable, tokens, slot_of, rows, listed_keys, counts):  # type: ignore[no-untyped-def]
    """The same in the lists of the items' tokens: `rows` int32 and `listed_keys` float64 (slots, size + 1), `counts`
    int32 (slots,), -1 for a list that is to be rebuilt; `slot_of` int32 by token, -1 for a token without a list.
    """
    size = rows.shape[1] - 1
    for k in range(len(counted)):
        row = counted[k]
        if not servable[row]:
            continue
        for t in range(tokens.shape[1]):
            token = tokens[row, t]
            slot = slot_of[token] if token >= 0 else -1
            if slot < 0 or counts[slot] < 0:
                continue
            n = counts[slot]
            was_full = n == size
            for j in range(n):
                if rows[slot, j] == row:
                    for i in range(j, n - 1):
                        rows[slot, i] = rows[slot, i + 1]
                        listed_keys[slot, i] = listed_keys[slot, i + 1]
                    n -= 1
                    break
            position = position_of(rows[slot], listed_keys[slot], n, row, keys[k])
            if was_full and position == n < size:  # it fell to the end, where a row that is not listed may belong
                n = -1
            elif position < size:
                for i in range(n, position, -1):
                    rows[slot, i] = rows[slot, i - 1]
                    listed_keys[slot, i] = listed_keys[slot, i - 1]
                rows[slot, position] = row
                listed_keys[slot, position] = keys[k]
                n = min(n + 1, size)
            counts[slot] = n


@njit(cache=True)
def by_feedbacks(rows, stats, order):  # type: ignore[no-untyped-def]
    """The first of `rows`, int32, as many as `order`, int64 (n,), has: those with the fewest feedbacks first, of equals
    the first: int32 (n,). `order` is any order of their positions, and theirs afterwards: about 1 us for 200, where it
    was theirs a few feedbacks before.
    """
    counts = np.empty(len(order), np.float32)
    found = np.empty(len(order), np.int32)
    for k in range(len(order)):
        counts[k] = stats[rows[k], POSITIVES] + stats[rows[k], NEGATIVES]
    for k in range(1, len(order)):
        position = order[k]
        hole = k
        while hole > 0:
            before = order[hole - 1]
            if counts[before] < counts[position] or (counts[before] == counts[position] and before < position):
                break
            order[hole] = before
            hole -= 1
        order[hole] = position
    for k in range(len(order)):
        found[k] = rows[order[k]]
    return found


@njit(cache=True)
def join(tokens, slot_of, rows, counts, found):  # type: ignore[no-untyped-def]
    """How many rows the lists of `tokens`, int32 (t,), hold, -1 where one has no list or an old one. These rows are
    written to `found`, int32, list after list. The lists are as in `count_by_token`.
    """
    n = 0
    for token in tokens:
        slot = slot_of[token]
        if slot < 0 or counts[slot] < 0:
            return -1
        for k in range(counts[slot]):
            found[n + k] = rows[slot, k]
        n += counts[slot]
    return n
