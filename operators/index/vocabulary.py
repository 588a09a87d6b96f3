"""The tokens of all items: their numbers, names and hashes, and which rows have each."""

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import MAX_TOKENS
from riverrank.state.hashing import hash32

NONE = -1


class Vocabulary:
    """`names[number]` of each token; `hashes` uint32 and `sizes` int32, how many rows have it, by number.

    The rows of a token are a chain: `heads[number]` is the first link, `after[link]` the next, NONE at the end; link
    `row * MAX_TOKENS + t` stands for the t-th token of a row.

    There are a third more tokens than rows have, at most, and 1,024 at least: see `make_room`. A number is good until
    `releases` grows; whoever keeps something by number begins again then.

    >>> vocabulary, tokens = Vocabulary(), np.full((2, MAX_TOKENS), -1, np.int32)
    >>> vocabulary.fit(2)
    >>> tokens[1, 0] = vocabulary.number("brand=Fox")
    >>> vocabulary.link(1, tokens[1])
    >>> vocabulary.rows_of(0).tolist(), vocabulary.names
    ([1], ['brand=Fox'])
    """

    def __init__(self) -> None:
        self.names: list[str] = []
        self.numbers: dict[str, int] = {}
        self.releases = 0  # how often tokens were given up, and those that stay got other numbers
        self.by_value: dict[str, list[int]] = {}
        self.hashes = np.zeros(1024, np.uint32)
        self.sizes = np.zeros(1024, np.int32)
        self.heads = np.full(1024, NONE, np.int32)
        self.slots = np.full(1024, NONE, np.int32)  # of the token's list of best rows, for `lists`
        self.after = np.zeros(0, np.int32)
        self.before = np.zeros(0, np.int32)

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        more = capacity * MAX_TOKENS - len(self.after)
        if more > 0:
            self.after = np.append(self.after, np.full(more, NONE, np.int32))
            self.before = np.append(self.before, np.full(more, NONE, np.int32))

    def make_room(self, tokens: np.ndarray) -> None:
        """Make room for the tokens of one more row. Where the arrays are full, give up the tokens that no row has, if
        these are a quarter: those that stay move up, in `tokens`, int32, of all rows, too, and none has a slot.
        """
        n = len(self.names)
        if n + MAX_TOKENS <= len(self.hashes):
            return
        kept = np.flatnonzero(self.sizes[:n])
        if n - len(kept) < n // 4:
            self._grow()
            return
        moved = np.full(n + 1, NONE, np.int32)  # by number, that from now on; the last is that of NONE
        moved[kept] = np.arange(len(kept))
        tokens[:] = moved[tokens]
        names = [self.names[number] for number in kept.tolist()]
        self.names.clear()
        self.numbers.clear()
        self.by_value.clear()
        for array, fill in ((self.hashes, 0), (self.sizes, 0), (self.heads, NONE)):
            array[: len(kept)] = array[kept]
            array[len(kept) :] = fill
        self.slots[:] = NONE
        for name in names:
            self._name(name)
        self.releases += 1

    def number(self, name: str) -> int:
        """The number of a token, a new one where it has none."""
        number = self.numbers.get(name)
        if number is None:
            if len(self.names) == len(self.hashes):
                self._grow()
            number = self._name(name)
            self.hashes[number] = hash32(name)
        return number

    def _name(self, name: str) -> int:
        """Give the token of `name` the next number."""
        number = self.numbers[name] = len(self.names)
        self.names.append(name)
        self.by_value.setdefault(name.partition("=")[2], []).append(number)
        return number

    def _grow(self) -> None:
        more = len(self.hashes)
        self.hashes = np.append(self.hashes, np.zeros(more, np.uint32))
        self.sizes = np.append(self.sizes, np.zeros(more, np.int32))
        self.heads = np.append(self.heads, np.full(more, NONE, np.int32))
        self.slots = np.append(self.slots, np.full(more, NONE, np.int32))

    def link(self, row: int, tokens: np.ndarray) -> None:
        """Note that `row` has `tokens`, int32 (MAX_TOKENS,), NONE for no token."""
        link(row, tokens, self.heads, self.after, self.before, self.sizes)

    def unlink(self, row: int, tokens: np.ndarray) -> None:
        """Note that `row` has `tokens` no more."""
        unlink(row, tokens, self.heads, self.after, self.before, self.sizes)

    def rows_of(self, number: int) -> np.ndarray:
        """The rows that have a token, ascending: int32."""
        return np.sort(chain(self.heads[number], self.after, self.sizes[number]))


@njit(cache=True)
def link(row, tokens, heads, after, before, sizes):  # type: ignore[no-untyped-def]
    """Put the links of `row` at the heads of its tokens' chains."""
    for t in range(len(tokens)):
        token = tokens[t]
        if token >= 0:
            own = row * len(tokens) + t
            first = heads[token]
            after[own] = first
            before[own] = NONE
            if first != NONE:
                before[first] = own
            heads[token] = own
            sizes[token] += 1


@njit(cache=True)
def unlink(row, tokens, heads, after, before, sizes):  # type: ignore[no-untyped-def]
    """Take the links of `row` out of its tokens' chains."""
    for t in range(len(tokens)):
        token = tokens[t]
        if token >= 0:
            own = row * len(tokens) + t
            if before[own] != NONE:
                after[before[own]] = after[own]
            else:
                heads[token] = after[own]
            if after[own] != NONE:
                before[after[own]] = before[own]
            sizes[token] -= 1


@njit(cache=True)
def chain(head, after, size):  # type: ignore[no-untyped-def]
    """The rows of a chain: int32 (size,)."""
    rows = np.empty(size, np.int32)
    link_ = head
    for k in range(size):
        rows[k] = link_ // MAX_TOKENS
        link_ = after[link_]
    return rows
