"""Lists of items for pages that show one, or nobody's: what is like an item, what is taken together with it, and what
trends. Nothing of a user is on them, and nothing is learned by them.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.metrics import Counts
from riverrank.state.item_tables import POSITIVES
from riverrank.state.item_tables import TRENDING as TREND
from riverrank.state.messages import TRENDING, CacheWrite
from riverrank.state.records.outgoing import ItemList, ListedItem, to_json

from .alike import CANDIDATES, LEAST_ALIKE, best, likeness, near_by, taken_together
from .refresh import Refresh
from .turns import NONE, Turns

SIMILAR, TOGETHER = "similar", "together"
AT_THE_END = 4096  # lists at the end of a bounded input, at most


def list_key(name: str, item_id: str) -> str:
    """The `CacheWrite.key` of a list of that name of an item; in Redis the prefix stands before it.

    >>> list_key(SIMILAR, "i-3")
    'similar:i-3'
    """
    return f"{name}:{item_id}"


class ItemLists:
    """Makes lists of `index.behaviour.slate.size` items of `index` at most: of items `per_answer` lists for each
    answer, on average, of those alone that changed since they were last made, round robin; of what trends one in
    `every` milliseconds (see Refresh). 0 lists: none at all.

    Their version is one more than the events that the signals have learned from, so it grows over restarts too. What
    was taught by users of an item that fewer than `cohorts.users` positive feedbacks are of is on no list.

    >>> from riverrank.operators.settings import Behaviour
    >>> from riverrank.state.messages import CatalogueUpdate
    >>> from riverrank.state.records.incoming import Item
    >>> index = ItemIndex(Behaviour())
    >>> lists = ItemLists(index, 1.0, ttl_ms=0, every=10_000, clock=lambda: 0)
    >>> [index.apply(CatalogueUpdate(Item(name, 1, categories=("tents",)))) for name in ("i-1", "i-2")]
    [True, True]
    >>> [(write.key, write.slate) for write in lists.after_answer()]  # doctest: +ELLIPSIS
    [('similar:i-1', b'{"key":"similar","item_id":"i-1",...,"items":[{"item_id":"i-2","rank":1,"score":1.0}]}')]
    """

    def __init__(
        self,
        index: ItemIndex,
        per_answer: float,
        ttl_ms: int,
        every: int,
        clock: Callable[[], int],
        subtask: tuple[int, int] = (0, 1),
        counts: Counts | None = None,
    ) -> None:
        """`ttl_ms`: how long a list is cached, 0 for ever. `clock` is the wall clock in epoch milliseconds. `subtask`:
        which of how many that share the items this one is. `counts` takes how many were made.
        """
        self.index, self.per_answer, self.clock = index, per_answer, clock
        self.size, self.least = index.behaviour.slate.size, np.float32(index.behaviour.cohorts.users)
        self.counts = Counts() if counts is None else counts
        self.trends = Refresh(every)
        self._turns = {name: Turns(ttl_ms, *subtask) for name in (SIMILAR, TOGETHER)}
        self._names = (SIMILAR, TOGETHER)  # whose turn is first now stands first
        self._room = 0.0  # for lists, by the answers since there was room for one
        self._releases = index.releases
        width = max(CANDIDATES, index.table.width)  # all neighbours of a row have room
        self._rows, self._values = np.zeros(width, np.int32), np.zeros(width, np.float32)
        self._found, self._scores = np.zeros(self.size, np.int32), np.zeros(self.size)
        self._stamps, self._stamp = np.zeros(0, np.int64), 0
        if per_answer:
            index.changed.follow()

    def after_answer(self) -> Sequence[CacheWrite]:
        """What to write once an event was answered: mostly nothing."""
        self._room += self.per_answer
        if self._room < 1.0:
            return ()
        turns, self._room = int(self._room), self._room % 1.0
        return [write for write in (self._next() for _ in range(turns)) if write is not None]

    def after_update(self, ts: int, *, last: bool = False) -> Iterator[CacheWrite]:
        """What to write once something was learned, at event time `ts`: what trends, where it is time for that; and
        the `last` time AT_THE_END lists more, of those that changed.
        """
        if not self.per_answer:
            return
        if (trending := self._trending(ts, last=last)) is not None:
            yield trending
        if last:
            for _ in range(AT_THE_END):
                if (write := self._next()) is not None:
                    yield write

    def _next(self) -> CacheWrite | None:
        """The next list that is to be written; None where what changed last made no list another."""
        index, changed, now, version = self.index, self.index.changed, self.clock(), self.index.events + 1
        self._fit()
        for name in self._names:
            noted = changed.likeness if name == SIMILAR else changed.neighbours
            turns = self._turns[name]
            row = turns.next(noted, index.servable, index.hash, version, now)
            if row == NONE:
                continue
            self._names = (TOGETHER, SIMILAR) if name == SIMILAR else (SIMILAR, TOGETHER)
            n = self._similar(row) if name == SIMILAR else self._together(row)
            if not turns.is_news(row, self._found[:n].tobytes(), version, now):
                return None
            return self._write(name, index.table.ids[row], version, index.meta.ts, now, n)
        return None

    def _fit(self) -> None:
        """Keep up with the index: its rows, and whether they may be other items now."""
        index = self.index
        for turns in self._turns.values():
            turns.fit(index.table.capacity)
            if self._releases != index.releases:
                turns.forget()
        if self._releases != index.releases:
            self._releases = index.releases
            index.changed.follow()  # all of them
        if len(self._stamps) < index.table.capacity:
            self._stamps = np.append(self._stamps, np.zeros(index.table.capacity - len(self._stamps), np.int64))

    def _similar(self, row: int) -> int:
        """Find what is like `row`; how many there are."""
        index, table, words = self.index, self.index.table, self.index.vocabulary
        self._stamp += 1
        n = near_by(
            row, index.tokens, words.sizes, words.heads, words.after, table.neighbours, index.popular(),
            self._stamps, self._stamp, self._rows,
        )  # fmt: skip
        likeness(row, self._rows, n, index.content, table.target, table.stats, self.least, self._values)
        return int(best(self._rows, self._values, n, LEAST_ALIKE, index.servable, self._found, self._scores))

    def _together(self, row: int) -> int:
        """Find what is taken together with `row`; how many there are."""
        table, width = self.index.table, self.index.table.width
        rows, values = self._rows[:width], self._values[:width]
        n = taken_together(row, table.neighbours, table.weights, table.stats, self.least, rows, values)
        return int(best(rows, values, n, 0.0, self.index.servable, self._found, self._scores))

    def _trending(self, ts: int, *, last: bool) -> CacheWrite | None:
        """What trends, its score the share of the trend of its first; None where it is too early."""
        index, events = self.index, self.index.events
        if not self.trends.is_due(ts, events, last=last):
            return None
        rows = index.trending()
        is_told = index.servable[rows] & (index.table.stats[rows, POSITIVES] >= self.least)
        rows = rows[is_told][: self.size]
        trends = index.decayed(rows)[:, TREND]
        rows, trends = rows[trends > 0.0], trends[trends > 0.0]
        if not len(rows):
            return None
        self.trends.done(ts, events)
        self._found[: len(rows)], self._scores[: len(rows)] = rows, trends / trends[0]
        return self._write(TRENDING, None, events + 1, ts, 0, len(rows))

    def _write(self, name: str, item_id: str | None, version: int, ts: int, made: int, n: int) -> CacheWrite:
        """The write of the first `n` that were found."""
        ids = map(self.index.table.ids.__getitem__, self._found[:n].tolist())
        items = tuple(map(ListedItem, ids, range(1, n + 1), self._scores[:n].round(5).tolist()))
        self.counts.add("lists", name)
        key = name if item_id is None else list_key(name, item_id)
        list_ = ItemList(key=name, item_id=item_id, version=version, ts=ts, items=items)
        return CacheWrite(key, 0, version, to_json(list_), made=made)
