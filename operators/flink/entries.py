"""Flink's states as what a journal is kept in (`state.journal.Entries`). PyFlink itself is not needed here."""

from collections.abc import Iterator
from typing import Any


class MapEntries:
    """`state.journal.Entries` over a keyed MapState; it holds the entries of whatever key is current."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def put(self, key: str, value: bytes) -> None:
        self._state.put(key, value)

    def remove(self, key: str) -> None:
        self._state.remove(key)

    def items(self) -> Iterator[tuple[str, bytes]]:
        return iter(list(self._state.items()))


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
