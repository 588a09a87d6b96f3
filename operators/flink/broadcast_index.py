"""The index that RANKER and RECOMMEND each keep in a subtask: when it is restored, when the catalogue is read,
and how it gets into broadcast state.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.journal import Journal
from riverrank.state.messages import Update, decode_update
from riverrank.state.records.incoming import Item

from .shipped import refusals_told

Catalogue = Callable[[], Iterable[Item]]


class BroadcastIndex:
    """The one index of a subtask, over broadcast state, restored from it at the first element of either side.

    Then the catalogue is read as it stands: no slate is made without it, after a restore neither. The user's side may
    only read broadcast state, so what it would write waits in memory for the first element of the broadcast side; a
    checkpoint before that lacks it, and the catalogue is read again.
    """

    def __init__(self, behaviour: Behaviour, descriptor: Any, catalogue: Catalogue) -> None:
        """`descriptor` is of the broadcast state."""
        self._behaviour, self._descriptor = behaviour, descriptor
        self._catalogue = catalogue
        self._kept: EventTimeBuffer | None = None
        self._entries: BroadcastEntries | None = None

    def read(self, ctx: Any) -> ItemIndex:
        """The index, for either side."""
        if self._kept is None:
            self._entries = BroadcastEntries(ctx.get_broadcast_state(self._descriptor))
            with refusals_told():
                self._kept = EventTimeBuffer(self._behaviour, Journal(self._entries))
            self._kept.read_catalogue(self._catalogue())
        return self._kept.index

    def advance(self, ctx: Any, ts: int) -> None:
        """Apply what waits for the event time `ts`."""
        self.read(ctx)
        assert self._kept is not None
        self._kept.release(ts)

    def take(self, encoded: bytes, ctx: Any) -> Update:
        """Keep an encoded update in broadcast state; returns it decoded."""
        self.read(ctx)
        assert self._kept is not None and self._entries is not None
        if not self._entries.writable:
            self._entries.make_writable(ctx.get_broadcast_state(self._descriptor))
        update: Update = decode_update(encoded)
        self._kept.take(update, encoded)
        return update


class BroadcastEntries:
    """`state.journal.Entries` over broadcast state. While it can only be read, what is written waits in memory."""

    def __init__(self, readable: Any) -> None:
        self._readable = readable
        self._writable: Any = None
        self._waiting: dict[str, bytes | None] = {}  # None: to be removed

    def make_writable(self, state: Any) -> None:
        """Write what waits to `state`, and everything to come."""
        self._writable = state
        waiting, self._waiting = self._waiting, {}
        for key, value in waiting.items():
            if value is None:
                state.remove(key)
            else:
                state.put(key, value)

    @property
    def writable(self) -> bool:
        return self._writable is not None

    def put(self, key: str, value: bytes) -> None:
        if self._writable is None:
            self._waiting[key] = value
        else:
            self._writable.put(key, value)

    def remove(self, key: str) -> None:
        if self._writable is None:
            self._waiting[key] = None
        else:
            self._writable.remove(key)

    def items(self) -> Iterator[tuple[str, bytes]]:
        entries = dict(self._readable.items()) | self._waiting
        return iter([(key, value) for key, value in entries.items() if value is not None])
