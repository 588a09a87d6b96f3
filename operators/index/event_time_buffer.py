"""An index with the state it is kept in, which takes updates as they come and applies them when their time has come.

The signals run ahead: their operator is quicker than RECOMMEND, and when a job works off a backlog what they tell may
come from events that RECOMMEND has yet to answer. So an update waits until a feedback is newer than all that it was
learned from.
"""

from collections import deque
from collections.abc import Iterable

from riverrank.operators.settings import Behaviour
from riverrank.state.journal import Journal
from riverrank.state.messages import LAST, CatalogueUpdate, Learned, Update, decode_update, encode
from riverrank.state.records.incoming import Item

from .item_index import ITEM, WEIGHTS, ItemIndex

MOST_WAITING = 256  # updates; then the oldest is applied, whatever its time: one clock that is wrong must not stop all
MOST_WAITING_BYTES = 128 << 20  # of them, as they are encoded; likewise


class EventTimeBuffer:
    """`index`, and what state must hold so that it comes back."""

    def __init__(self, behaviour: Behaviour, journal: Journal) -> None:
        """Restored from the journal. What waited when it was written waits no more: up to MOST_WAITING updates are
        ahead of their time, once.
        """
        base, log = journal.load(beside=(ITEM, WEIGHTS))
        self.index = ItemIndex.restore(behaviour, base)
        journal.put(self.index.noted())  # and with it what all to come is made with
        for record in log:
            self.index.apply(decode_update(record))
        self._journal = journal
        self._most = min(MOST_WAITING, journal.limit // 2)  # a log of what waits alone is half of `limit` at most
        self._waiting: deque[tuple[Learned, bytes]] = deque()  # with how each is encoded
        self._waiting_bytes = 0
        self._last: list[tuple[Learned, bytes]] = []  # what is told at the end of the input, likewise

    def take(self, update: Update, encoded: bytes | None = None) -> None:
        """Keep an update, which came as `encoded`, if it did. What was learned is applied by `release`, or where more
        than MOST_WAITING or their bytes would wait; items and weights are applied at once.
        """
        if isinstance(update, Learned):
            encoded = encoded or encode(update)
            if update.ts >= LAST:
                self._last.append((update, encoded))
            else:
                self._waiting.append((update, encoded))
                self._waiting_bytes += len(encoded)
            while len(self._waiting) > self._most or self._waiting_bytes > MOST_WAITING_BYTES:
                self._apply_oldest()
            self._drop_forgotten()
            if self._journal.append(encoded):
                self._compact()
            return
        entries, changed = self._journal.entries, self.index.apply(update)
        self._drop_forgotten()  # before its own record is put: it may be one that was given up
        if changed:
            if isinstance(update, CatalogueUpdate):
                item_id = update.item.item_id
                entries.put(ITEM + item_id, encode(CatalogueUpdate(update.item, self.index.row(item_id))))
            else:
                entries.put(f"{WEIGHTS}{update.shard}", encoded or encode(update))

    def read_catalogue(self, items: Iterable[Item]) -> None:
        """Take all items, as the catalogue stands."""
        for item in items:
            self.take(CatalogueUpdate(item))

    def release(self, ts: int) -> None:
        """Apply what was learned from events before `ts`, in the order it came: up to the first that was learned from
        a later one. From LAST on, all there is.
        """
        while self._waiting and self._waiting[0][0].ts < ts:
            self._apply_oldest()
        if ts >= LAST:
            for update, _ in self._last:
                self.index.apply(update)
            self._last.clear()

    def _apply_oldest(self) -> None:
        update, encoded = self._waiting.popleft()
        self._waiting_bytes -= len(encoded)
        self.index.apply(update)

    def _drop_forgotten(self) -> None:
        while self.index.forgotten:
            self._journal.entries.remove(ITEM + self.index.forgotten.pop())

    def _compact(self) -> None:
        """Write what was applied, and begin the log with what waits."""
        waiting = (encoded for _, encoded in (*self._waiting, *self._last))
        self._journal.compact(self.index.dump(), waiting)
