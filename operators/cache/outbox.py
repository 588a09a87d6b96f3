"""What CACHE keeps of one bucket until Redis has taken it."""

from collections import deque
from collections.abc import Iterator

from riverrank.state.journal import Entries
from riverrank.state.messages import CacheWrite, decode_write

from .sender import Sender


class Outbox:
    """The writes of one bucket that are still to be done, in the instance and in state. Not empty is true.

    Of a key the latest slate is kept, and every erasure with its receipt; an erasure drops the slate before it. All of
    it is with a `Sender`, which says in `done` what Redis took.
    """

    def __init__(self, entries: Entries, sender: Sender) -> None:
        """As `entries` have it, which is what was not done before a failure."""
        self.done: deque[tuple[str, CacheWrite]] = deque()
        self._entries, self._sender = entries, sender
        self._waiting = {entry: decode_write(encoded) for entry, encoded in dict(entries.items()).items()}
        for entry, write in self._waiting.items():
            sender.put(self, entry, write)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, encoded: bytes) -> None:
        """Take an encoded `CacheWrite`."""
        write = decode_write(encoded)
        slate = f"slate\0{write.key}"
        entry = slate if write.slate is not None else f"erase\0{write.key}\0{write.epoch:020d}"
        if write.slate is None and slate in self._waiting:
            self._forget(slate)
            self._sender.drop(self, slate, write.key)
        self._waiting[entry] = write
        self._entries.put(entry, encoded)
        self._sender.put(self, entry, write)

    def settled(self) -> Iterator[CacheWrite]:
        """What Redis took since the last call, which is then kept no more, but for slates in whose place a later one is
        by now.
        """
        while self.done:
            entry, write = self.done.popleft()
            if self._waiting.get(entry) is write:
                self._forget(entry)
                yield write

    def _forget(self, entry: str) -> None:
        del self._waiting[entry]
        self._entries.remove(entry)
