"""Session neighbours: what users took lately who took what this user took lately.

A session is what one user took last; SIGNALS sends it as pairs of a user's key and an item. Of all users the most
recent sessions are kept; of a user no more is known here than the hash of their id, and that until they are erased.
"""

from collections.abc import Iterable, Mapping

import numpy as np
from numba import njit
from riverrank.operators.settings import MOST_WINDOW
from riverrank.state.hashing import session_key
from riverrank.state.item_tables import SESSION_ITEMS, SessionTable

RECENT = 32  # sessions kept of each item: those that took it last
NEAREST = 32  # sessions that are a user's neighbours
SESSION_RECENCY = 0.8  # weight of an interaction of the user's beside the next newer one
NEARNESS, ANYWHERE = 0.9, 0.3  # weight of an item beside the next nearer one to what is shared; weight of the farthest
SHRINKAGE = 0.1  # similarity to the user that is added to that of all neighbours
MIN_RELATIVE_SCORE = 0.03  # share of the most that any neighbour gives; what gets less from one gets nothing from it
SIEVE = 1024  # remainders that rows are sieved by
MOST_GIVEN = NEAREST * SESSION_ITEMS  # rows that neighbours can give, each as often as it is given
_RECENCIES = (SESSION_RECENCY ** np.arange(MOST_WINDOW)).astype(np.float32)
_POSITIONS = np.arange(SESSION_ITEMS)
_NEARNESS = ANYWHERE + (1 - ANYWHERE) * NEARNESS ** np.abs(_POSITIONS[:, None] - _POSITIONS).astype(np.float32)


class Sessions:
    """The `most` most recent sessions, and by item which of them took it.

    Vector multiplication session kNN (Ludewig & Jannach, Evaluation of session-based recommendation algorithms, 2018)
    over an index that is bounded as in Kersbergen et al., Serenade, 2022. Items are rows of the index.

    >>> sessions = Sessions(most=100, capacity=8)
    >>> sessions.take([7, 7, 9], [4, 5, 4])  # one user took 4 and 5, another 4 alone
    >>> sessions.table.items[sessions.table.rows["00000007"], :3].tolist()
    [5, 4, -1]
    """

    def __init__(self, most: int, capacity: int) -> None:
        """`capacity` in rows."""
        self.most = most
        self.table = SessionTable()
        self.clock = 0  # pairs that were taken
        self.recent = np.zeros((0, RECENT), np.int32)  # by row, slots of the table counted from 1; 0 is none
        self._next = np.zeros(0, np.int32)  # by row, the position of `recent` that is written next
        self._weight = np.zeros(0, np.float32)  # by row, 0 between calls
        self._similarity = np.zeros(0)  # by slot, 0 between calls
        self.fit(capacity)

    def fit(self, capacity: int) -> None:
        """Make room for `capacity` rows."""
        if more := capacity - len(self.recent):
            self.recent = np.pad(self.recent, ((0, more), (0, 0)))
            self._next = np.pad(self._next, (0, more))
            self._weight = np.zeros(capacity, np.float32)

    def slot(self, user_id: str) -> int:
        """The slot of the user's session, -1 where none is held."""
        return self.table.rows.get(_name(session_key(user_id)), -1)

    def take(self, keys: Iterable[int], rows: Iterable[int]) -> None:
        """Take pairs in their order: the user of the key took the row, or is erased where it is -1. A row is put in
        front of the session; where there is no room for one more, the oldest session ends.
        """
        table = self.table
        pairs: list[tuple[int, int]] = []  # slots and rows
        for key, row in zip(keys, rows, strict=True):
            name = _name(key)
            slot = table.rows.get(name)
            if row >= 0:
                if slot is None:
                    if len(table.rows) >= self.most:
                        self._put(pairs)
                        self._end(int(table.at[: len(table)].argmin()))
                    slot = table.row(name)
                pairs.append((slot, row))
            elif slot is not None:
                self._put(pairs)
                self._end(slot)
        self._put(pairs)

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`: other items will have them."""
        released = np.zeros(len(self.recent) + 1, np.bool_)  # the last is that of row -1
        released[rows] = True
        gone = released[self.table.items]
        self.table.items[gone] = -1
        self.table.touch(np.flatnonzero(gone.any(axis=1)))
        self.recent[rows] = 0
        self._next[rows] = 0

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The first arguments of `neighbours_of`."""
        if len(self._similarity) != self.table.capacity:
            self._similarity = np.zeros(self.table.capacity)
        return self.recent, self.table.items, self._weight, self._similarity

    def dump(self) -> dict[str, bytes]:
        """What changed since the last dump, by the key it is kept under."""
        return self.table.dump()

    def load(self, base: Mapping[str, bytes]) -> None:
        """Put back what was dumped. Of an item that more than RECENT sessions took, those that ended last are found."""
        table = self.table
        table.load(base)
        slots = sorted(table.rows.values(), key=table.at.__getitem__)
        for slot in slots:
            _list_all(table.items[slot], self.recent, self._next, slot)
            self.clock = int(table.at[slot]) + 1
        for slot in slots[: -self.most]:  # the configuration says fewer now
            self._end(slot)

    def _put(self, pairs: list[tuple[int, int]]) -> None:
        """Put each row in front of the session of its slot, and empty `pairs`."""
        if pairs:
            table = self.table
            self.clock = _put_all(
                table.items, self.recent, self._next, np.array(pairs, np.int64), table.at, self.clock,
                table.block_rows, table.changed,
            )  # fmt: skip
            pairs.clear()

    def _end(self, slot: int) -> None:
        _unlist_all(self.table.items[slot], self.recent, slot)
        self.table.release(np.array([slot]))


def _name(key: int) -> str:
    return f"{key:08x}"


@njit(cache=True)
def neighbours_of(recent, items, weight, similarity, rows, likes, own, given, scores):  # type: ignore[no-untyped-def]
    """What those took who share most with `rows`, int32 (h,), newest first, that `likes`, float32 (h,), users took.

    Written to `given`, int32 (MOST_GIVEN,), and `scores`, float32 (MOST_GIVEN,); returns how many are. `own` is the
    slot of the user's own session, which says nothing new, -1 for none. `recent` int32 (rows, RECENT) and `items` int32
    (slots, SESSION_ITEMS) are those of `Sessions`.

    A row weighs less the older and the more liked it is. Each of the NEAREST gives the weights of what it shares to
    what else it took, the more the nearer that stands (Garg et al., Sequence and time aware neighborhood for
    session-based recommendations, 2019), by the root of its length, as a share of the sum. `weight` float32 by row and
    `similarity` float64 by slot are 0 before and after. Costs 8 us for a history of 20.
    """
    sieve = np.zeros(SIEVE, np.bool_)
    for k in range(len(rows)):
        weight[rows[k]] = _RECENCIES[k] / np.sqrt(likes[k])
        sieve[rows[k] % SIEVE] = True
    slots, similarities = _nearest(recent, weight, similarity, rows, own)
    shares = np.zeros((len(slots), items.shape[1]), np.float32)
    shared = np.empty(items.shape[1], np.int64)
    ends = np.empty(len(slots), np.int64)
    total, most = SHRINKAGE, np.float32(0)
    for k in range(len(slots)):
        root, highest, ends[k] = _share(items[slots[k]], weight, sieve, shares[k], shared)
        total += similarities[k] / root
        most = max(most, highest)
    least = np.float32(MIN_RELATIVE_SCORE) * most
    scale = np.float32(1 / total)
    n = 0
    for k in range(len(slots)):
        for position in range(ends[k]):
            if n < len(given):
                given[n] = items[slots[k], position]
                scores[n] = shares[k, position] * scale
                n += shares[k, position] > least
    for row in rows:
        weight[row] = 0
    return n


@njit(cache=True)
def _share(items, weight, sieve, shares, shared):  # type: ignore[no-untyped-def]
    """Write what one session gives to each of its items to `shares`, which are zeros; the root of its length, the
    most that it gives, and how many places are used, free ones between included. `shared` int64 is scratch, as long.
    `sieve` bool (SIEVE,) is true where a row with a weight belongs, by remainder: it stays near to the processor.
    """
    end = len(items)
    while end > 0 and items[end - 1] < 0:
        end -= 1
    length = maybe = m = 0
    for position in range(end):
        row = items[position]
        is_held = row >= 0
        length += is_held
        shared[maybe] = position
        maybe += is_held & sieve[row % SIEVE]
    for k in range(maybe):
        shared[m] = shared[k]
        m += weight[items[shared[k]]] > 0
    root = np.sqrt(length)
    for position in shared[:m]:
        amount = weight[items[position]] / np.float32(root)
        nearness = _NEARNESS[position]
        for other in range(end):
            shares[other] += amount * nearness[other]
    for position in shared[:m]:
        shares[position] = 0  # what is shared says nothing new
    most = np.float32(0)
    for position in range(end):
        if items[position] < 0:
            shares[position] = 0
        elif shares[position] > most:
            most = shares[position]
    return root, most, end


@njit(cache=True)
def _nearest(recent, weight, similarity, rows, own):  # type: ignore[no-untyped-def]
    """The NEAREST slots that share most with `rows`, ascending, of equals the first; and how much they share."""
    touched = np.empty(recent.shape[1] * len(rows) + 1, np.int32)
    m = 0
    for row in rows:
        amount = weight[row]
        for number in recent[row]:
            slot = number - 1
            is_other = (number > 0) & (slot != own)
            touched[m] = slot
            m += is_other & (similarity[slot] == 0)
            similarity[slot] += amount if is_other else np.float32(0)
    n = min(m, NEAREST)
    heap = touched[:n].copy()  # the farthest of the nearest so far is its root
    for start in range(n // 2 - 1, -1, -1):
        _sift(heap, start, heap[start], similarity)
    for slot in touched[n:m]:
        if _is_farther(similarity, heap[0], slot):
            _sift(heap, 0, slot, similarity)
    heap.sort()
    similarities = similarity[heap]
    for slot in touched[:m]:
        similarity[slot] = 0
    return heap, similarities


@njit(cache=True)
def _is_farther(similarity, slot, other):  # type: ignore[no-untyped-def]
    """Whether `slot` is less similar than `other`; of equals the later is."""
    return similarity[slot] < similarity[other] or (similarity[slot] == similarity[other] and slot > other)


@njit(cache=True)
def _sift(heap, parent, slot, similarity):  # type: ignore[no-untyped-def]
    """Put `slot` at `parent` of the heap or below, under none that is less far."""
    while 2 * parent + 1 < len(heap):
        child = 2 * parent + 1
        if child + 1 < len(heap) and _is_farther(similarity, heap[child + 1], heap[child]):
            child += 1
        if not _is_farther(similarity, heap[child], slot):
            break
        heap[parent] = heap[child]
        parent = child
    heap[parent] = slot


@njit(cache=True)
def _put_all(items, recent, following, pairs, at, clock, block_rows, changed):  # type: ignore[no-untyped-def]
    """`_put_first` of each of `pairs`, int64 (n, 2), slots and rows, at `clock` in `at`; the clock after that."""
    for k in range(len(pairs)):
        slot = pairs[k, 0]
        _put_first(items, recent, following, slot, pairs[k, 1])
        at[slot] = clock
        clock += 1
        changed[slot // block_rows] = True
    return clock


@njit(cache=True)
def _put_first(items, recent, following, slot, row):  # type: ignore[no-untyped-def]
    """Put `row` in front of the items of `slot`: those before its old position, else before the first free one or the
    last, move up.
    """
    held = items[slot]
    position, free = -1, -1
    for k in range(len(held) - 1, -1, -1):
        if held[k] == row:
            position = k
        elif held[k] < 0:
            free = k
    if position < 0:
        position = free if free >= 0 else len(held) - 1
        if held[position] >= 0:
            _unlist(recent, held[position], slot)
    for k in range(position, 0, -1):
        held[k] = held[k - 1]
    held[0] = row
    _list(recent, following, row, slot)


@njit(cache=True)
def _list_all(items, recent, following, slot):  # type: ignore[no-untyped-def]
    """Note for each of `items` that the session of `slot` took it."""
    for row in items:
        if row >= 0:
            _list(recent, following, row, slot)


@njit(cache=True)
def _unlist_all(items, recent, slot):  # type: ignore[no-untyped-def]
    """Forget that the session of `slot` took `items`."""
    for row in items:
        if row >= 0:
            _unlist(recent, row, slot)


@njit(cache=True)
def _list(recent, following, row, slot):  # type: ignore[no-untyped-def]
    """Note that the session of `slot` took `row`, in place of what was noted RECENT ago; what is noted stays."""
    for number in recent[row]:
        if number == slot + 1:
            return
    recent[row, following[row]] = slot + 1
    following[row] = (following[row] + 1) % recent.shape[1]


@njit(cache=True)
def _unlist(recent, row, slot):  # type: ignore[no-untyped-def]
    """Forget that the session of `slot` took `row`."""
    for k in range(recent.shape[1]):
        if recent[row, k] == slot + 1:
            recent[row, k] = 0
