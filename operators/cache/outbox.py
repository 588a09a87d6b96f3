"""What CACHE keeps of one bucket until Redis has taken it."""

from collections import deque
from collections.abc import Iterator

from riverrank.state.journal import Entries
from riverrank.state.messages import GONE, POPULAR, TRENDING, CacheWrite, decode_write

from .sender import Sender

MOST_ERASURES = 16  # of one key that wait, each with its receipt


class Outbox:
    """The writes of one bucket that are still to be done, in the instance and in state. Not empty is true.

    Of a key the latest slate, or list, is kept, until Redis took it or would have dropped it by now, and its last
    MOST_ERASURES erasures with their receipts; an erasure drops the slate before it. All of it is with a `Sender`,
    which says in `done` what Redis took.
    """

    def __init__(self, entries: Entries, sender: Sender, ttl_ms: int = 0) -> None:
        """As `entries` have it, which is what was not done before a failure. Redis keeps a slate for `ttl_ms`, 0 for
        ever.
        """
        self.done: deque[tuple[str, CacheWrite]] = deque()
        self._entries, self._sender, self._ttl_ms = entries, sender, ttl_ms
        self._waiting: dict[str, CacheWrite] = {}
        self._dated: dict[str, None] = {}  # entries that Redis would drop after a while, the oldest first
        self._erasures: dict[str, deque[str]] = {}  # by key, entries
        found = [(entry, decode_write(encoded)) for entry, encoded in dict(entries.items()).items()]
        for entry, write in sorted(found, key=lambda each: (each[1].made, each[1].epoch)):
            self._put(entry, write)

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, encoded: bytes) -> CacheWrite:
        """Take an encoded `CacheWrite`; returns it decoded. One that asks what waits is not kept."""
        write = decode_write(encoded)
        if write.asked is not None:
            return write
        slate = f"slate\0{write.key}"
        entry = slate if write.slate is not None else f"erase\0{write.key}\0{write.epoch:020d}"
        self._entries.put(entry, encoded)
        self._put(entry, write)
        if write.slate is None and slate in self._waiting:
            self._drop(slate)
        return write

    def waiting(self, key: str) -> list[CacheWrite]:
        """The writes of a key that are still to be done: erasures, then a slate."""
        entries = [*self._erasures.get(key, ()), f"slate\0{key}"]
        return [self._waiting[entry] for entry in entries if entry in self._waiting]

    def settled(self) -> Iterator[CacheWrite]:
        """What Redis took since the last call, which is then kept no more, but for slates in whose place a later one is
        by now.
        """
        while self.done:
            entry, write = self.done.popleft()
            if self._waiting.get(entry) is write:
                self._forget(entry)
                yield write

    def expire(self, now: int) -> int:
        """Drop what Redis would have dropped by `now`, epoch milliseconds, had it taken it when it was made; how many
        writes that were.
        """
        dropped = 0
        while self._dated and self._ttl_ms:
            entry = next(iter(self._dated))
            if self._waiting[entry].made + self._ttl_ms > now:
                break
            self._drop(entry)
            dropped += 1
        return dropped

    def _put(self, entry: str, write: CacheWrite) -> None:
        self._waiting[entry] = write
        self._sender.put(self, entry, write)
        if write.slate is None:
            erasures = self._erasures.setdefault(write.key, deque())
            if entry not in erasures:
                erasures.append(entry)
            if len(erasures) > MOST_ERASURES:
                self._drop(erasures[0])
        elif write.made and write.key not in (POPULAR, TRENDING, GONE):
            self._dated.pop(entry, None)
            self._dated[entry] = None

    def _drop(self, entry: str) -> None:
        """Neither keep nor write it."""
        self._sender.drop(self, entry, self._waiting[entry].key)
        self._forget(entry)

    def _forget(self, entry: str) -> None:
        write = self._waiting.pop(entry)
        self._entries.remove(entry)
        self._dated.pop(entry, None)
        if write.slate is None:
            erasures = self._erasures[write.key]
            erasures.remove(entry)
            if not erasures:
                del self._erasures[write.key]
