"""What CACHE keeps of one bucket until Redis has taken it, and when it tries.

Redis being away costs one attempt at a time, further and further apart, and never a slate; only at the end of bounded
input, where nobody would try again, the wait has an end.
"""

import logging
import time
from collections.abc import Iterable, Iterator
from typing import Protocol

from riverrank.state.journal import Entries
from riverrank.state.messages import CacheWrite, decode_write

from .redis_cache import CacheAway

FIRST_RETRY_MS = 100
LAST_RETRY_MS = 5_000
WRITES_AT_ONCE = 1_000

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """What is written to: `operators.cache.redis_cache.Cache`."""

    def write(self, writes: list[CacheWrite]) -> set[str]: ...


class Outbox:
    """The writes of one bucket that are still to be done, in the instance and in state. Not empty is true.

    Of a key the latest slate is kept, and every erasure with its receipt; an erasure drops the slates before it and
    goes ahead of those after it.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        self._waiting = dict(entries.items())

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, encoded: bytes) -> None:
        """Take an encoded `CacheWrite`."""
        write = decode_write(encoded)
        slate = f"slate\0{write.key}"
        entry = slate if write.slate is not None else f"erase\0{write.key}\0{write.epoch:020d}"
        if write.slate is None and slate in self._waiting:
            self.settle(slate)
        self._waiting[entry] = encoded
        self._entries.put(entry, encoded)

    def batch(self) -> list[tuple[str, CacheWrite]]:
        """What may be written at once: of each key one write only, its first."""
        chosen: dict[str, tuple[str, CacheWrite]] = {}
        for entry in sorted(self._waiting):  # erasures before slates, by epoch
            write = decode_write(self._waiting[entry])
            chosen.setdefault(write.key, (entry, write))
            if len(chosen) >= WRITES_AT_ONCE:
                break
        return list(chosen.values())

    def settle(self, entry: str) -> None:
        """Forget an entry that is done."""
        del self._waiting[entry]
        self._entries.remove(entry)


class Sender:
    """Empties outboxes, with one back-off for all of them: if Redis is away for one bucket it is for each."""

    def __init__(self, cache: Writer, drain_ms: int) -> None:
        self._cache, self._drain_ms = cache, drain_ms
        self._away: CacheAway | None = None
        self._retry_ms = FIRST_RETRY_MS
        self._retry_at = 0.0
        self._drained_by: float | None = None

    def wait_ms(self) -> int:
        """How long there is nothing to try, 0 or more."""
        return max(0, round((self._retry_at - time.monotonic()) * 1000))

    def flush(self, outbox: Outbox) -> Iterator[CacheWrite]:
        """Try once, unless it is too early for it; yields what is settled."""
        if outbox and not self.wait_ms():
            yield from self._try(outbox)

    def drain(self, outbox: Outbox) -> Iterator[CacheWrite]:
        """Try until the outbox is empty; yields what is settled.

        Raises:
            RuntimeError: the time for it, which all outboxes share, is up.
        """
        if self._drained_by is None:
            self._drained_by = time.monotonic() + self._drain_ms / 1000
        while outbox:
            before = len(outbox)
            yield from self._try(outbox)
            if len(outbox) < before:
                continue
            left = self._drained_by - time.monotonic()
            if left <= 0:
                why = str(self._away) if self._away else "it refuses them"
                raise RuntimeError(f"{len(outbox)} writes to Redis are left at the end of the input: {why}")
            time.sleep(min(FIRST_RETRY_MS / 1000, left))

    def _try(self, outbox: Outbox) -> Iterator[CacheWrite]:
        batch = outbox.batch()
        try:
            settled: Iterable[str] = self._cache.write([write for _, write in batch])
        except CacheAway as away:
            if self._away is None:
                _log.warning("%s; slates are kept until it is back", away)
            self._away, settled = away, away.settled
            self._retry_at = time.monotonic() + self._retry_ms / 1000
            self._retry_ms = min(self._retry_ms * 2, LAST_RETRY_MS)
        else:
            if self._away is not None:
                _log.warning("Redis is back")
            self._away, self._retry_ms, self._retry_at = None, FIRST_RETRY_MS, 0.0
        settled = frozenset(settled)
        for entry, write in batch:
            if write.key in settled:
                outbox.settle(entry)
                yield write
