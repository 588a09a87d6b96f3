"""The ranked lists of an index: the most popular rows, what trends, the newest, and the most popular of a token."""

from typing import Any, Protocol

import numpy as np
from riverrank.operators.settings import Behaviour
from riverrank.state.item_tables import POPULARITY, TRENDING, ItemTable

from .ranked_lists import RankedList, by_feedbacks, count_ranked, join
from .vocabulary import Vocabulary

POPULAR = 4096  # rows kept in order of popularity
TRENDS = 400  # rows kept in order of trend
BEST = 60  # rows kept of each token that is asked for
MAX_SLOTS = 4096  # tokens with a list; one more, and all lists begin again
REFRESH_EVENTS = 64  # after which lists are made again where several shards' clocks decay them


class Indexed(Protocol):
    """What lists are made of: `item_index.ItemIndex`."""

    behaviour: Behaviour
    table: ItemTable
    vocabulary: Vocabulary
    meta: Any
    clock: np.ndarray
    servable: np.ndarray
    known: np.ndarray
    born: np.ndarray
    tokens: np.ndarray

    @property
    def events(self) -> int: ...
    def keys_of(self, rows: np.ndarray, which: int) -> np.ndarray: ...
    def both_keys_of(self, rows: np.ndarray) -> np.ndarray: ...


class Lists:
    """Lists over `index`, which says what changed."""

    def __init__(self, index: Indexed) -> None:
        self.index = index
        self.popular = RankedList(POPULAR)
        self.trending = RankedList(TRENDS)
        self.newest = RankedList(index.behaviour.catalogue.new_items)
        self._least_known: np.ndarray | None = None
        self._order = np.zeros(0, np.int64)  # of the newest when they were last sorted
        self.clock = np.zeros(1)  # by shard, the number of feedbacks as of which keys are; 0 where there is one shard
        self._stale = True  # whether the lists are to be made before they are read
        self._settled = False  # whether something was learned since they had to be made
        self._made_at = 0
        self._rows = np.zeros((64, BEST + 1), np.int32)
        self._keys = np.zeros((64, BEST + 1))
        self._counts = np.full(64, -1, np.int32)
        self._tokens: list[int] = []  # by slot

    def forget(self) -> None:
        """Make all lists again before they are next read."""
        self._stale, self._settled = True, False
        self._least_known = None
        self._drop_slots()

    def count(self, rows: np.ndarray) -> None:
        """The popularity or the number of feedbacks of `rows`, int (m,), changed."""
        self._least_known = None
        if self._stale or not len(rows):
            return
        index, popular, trending = self.index, self.popular, self.trending
        popular.fit(index.table.capacity)
        trending.fit(index.table.capacity)
        popular.n, trending.n = count_ranked(
            rows, index.both_keys_of(rows), index.servable, *popular.arrays(), *trending.arrays(),
            bool(self._tokens), index.tokens, index.vocabulary.slots, self._rows, self._keys, self._counts,
        )  # fmt: skip

    def change(self, row: int, tokens: np.ndarray) -> None:
        """What the catalogue says of `row` changed; `tokens` are those it had or has."""
        index = self.index
        for slot in index.vocabulary.slots[tokens[tokens >= 0]].tolist():
            if slot >= 0:
                self._counts[slot] = -1
        self._least_known = None
        self._stale |= not self._settled  # or they would depend on whether somebody read them before
        if self._stale:
            return
        one = np.array([row])
        for ranked, key in (
            (self.popular, index.keys_of(one, POPULARITY)[0]),
            (self.trending, index.keys_of(one, TRENDING)[0]),
            (self.newest, index.born[row]),
        ):
            ranked.fit(index.table.capacity)
            ranked.remove(row)
            if index.servable[row] and (ranked is not self.newest or index.known[row]):
                ranked.put(row, key)
        if self._is_short():
            self._stale, self._settled = True, False

    def make_ready(self) -> None:
        """To be called before a list is read."""
        if self._stale:
            self._make()

    def settle(self) -> None:
        """Make the lists again where they have to be: before and after what was learned is counted."""
        several = len(self.index.meta.events) > 1
        is_old = several and self.index.events - self._made_at >= REFRESH_EVENTS
        if self._stale or is_old or self._is_short():
            self._make()
        self._settled = True

    def _is_short(self) -> bool:
        return self.popular.is_short or self.trending.is_short or self.newest.is_short

    def _make(self) -> None:
        index = self.index
        if len(index.meta.events) > 1:
            self.clock = index.clock.copy()
            self._drop_slots()
        else:
            self.clock = np.zeros_like(index.clock)
        n, capacity = len(index.table), index.table.capacity
        rows = np.flatnonzero(index.servable[:n])
        self.popular.rebuild(rows, index.keys_of(rows, POPULARITY), capacity)
        self.trending.rebuild(rows, index.keys_of(rows, TRENDING), capacity)
        rows = rows[index.known[rows]]
        self.newest.rebuild(rows, index.born[rows], capacity)
        self._stale, self._made_at, self._least_known = False, index.events, None

    def least_known(self) -> np.ndarray:
        """The newest rows, those with the fewest feedbacks first: int32."""
        if self._least_known is None:
            newest, n = self.newest, self.newest.n
            if len(self._order) != n:
                self._order = np.arange(n)
            self._least_known = by_feedbacks(newest.rows, self.index.table.stats, self._order)
        return self._least_known

    def best_of_each(self, tokens: np.ndarray) -> np.ndarray:
        """`best_of` each of `tokens`, int32, one after another: int32."""
        rows = np.empty(len(tokens) * self._rows.shape[1], np.int32)
        n = join(tokens, self.index.vocabulary.slots, self._rows, self._counts, rows)
        if n < 0:  # some list is to be made first
            return np.concatenate([self.best_of(token) for token in tokens.tolist()])
        return rows[:n]

    def best_of(self, token: int) -> np.ndarray:
        """The BEST most popular servable rows that have `token`: int32."""
        vocabulary = self.index.vocabulary
        slot = int(vocabulary.slots[token])
        if slot < 0:
            slot = self._new_slot(token)
        if self._counts[slot] < 0:
            rows = vocabulary.rows_of(token)
            rows = rows[self.index.servable[rows]]
            keys = self.index.keys_of(rows, POPULARITY)
            order = np.argsort(-keys, kind="stable")[:BEST]
            self._rows[slot, : len(order)], self._keys[slot, : len(order)] = rows[order], keys[order]
            self._counts[slot] = len(order)
        return self._rows[slot, : self._counts[slot]]

    def _new_slot(self, token: int) -> int:
        if len(self._tokens) == MAX_SLOTS:
            self._drop_slots()
        slot = len(self._tokens)
        if slot == len(self._counts):
            self._rows = np.concatenate([self._rows, np.zeros_like(self._rows)])
            self._keys = np.concatenate([self._keys, np.zeros_like(self._keys)])
            self._counts = np.append(self._counts, np.full(slot, -1, np.int32))
        self._tokens.append(token)
        self.index.vocabulary.slots[token] = slot
        return slot

    def _drop_slots(self) -> None:
        self.index.vocabulary.slots[self._tokens] = -1
        self._tokens.clear()
        self._rows = np.zeros_like(self._rows)  # another array, as whoever asked for a list before may still read it
        self._counts[:] = -1
