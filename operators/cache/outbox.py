"""What CACHE keeps of one bucket until Redis has taken it, and when it tries.

Redis being away costs one attempt at a time, further and further apart, and never a slate; only at the end of bounded
input, where no later attempt would follow, the wait has an end.
"""

import logging
import time
from collections.abc import Callable, Container, Iterable, Iterator
from typing import NamedTuple, NoReturn, Protocol

from riverrank.state.journal import Entries
from riverrank.state.messages import CacheWrite, decode_write

from .redis_cache import CacheAway

FIRST_RETRY_MS = 100
LAST_RETRY_MS = 5_000
WRITES_AT_ONCE = 1_000
REFUSALS_AT_THE_END = 3  # attempts at a key that Redis refuses, once the input has ended

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """What is written to: `operators.cache.redis_cache.Cache`."""

    refused: dict[str, str]  # by key, why the last call of `write` left it unsettled

    def write(self, writes: list[CacheWrite]) -> set[str]: ...


class UndeliveredError(RuntimeError):
    """Writes are left at the end of the input; the message says how many and why."""


class Outbox:
    """The writes of one bucket that are still to be done, in the instance and in state. Not empty is true.

    Of a key the latest slate is kept, and every erasure with its receipt; an erasure drops the slates before it and
    goes ahead of those after it. What is added is in state once it is saved: what Redis takes at once need never be.
    """

    def __init__(self, entries: Entries) -> None:
        self._entries = entries
        saved = dict(entries.items())
        self._waiting = {entry: decode_write(encoded) for entry, encoded in saved.items()}
        self._saved = set(saved)
        self._unsaved: dict[str, bytes] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    def keys(self) -> set[str]:
        """The keys that are waited for."""
        return {write.key for write in self._waiting.values()}

    def add(self, encoded: bytes) -> None:
        """Take an encoded `CacheWrite`; the caller must `save` it, or have it settled, before it takes another key."""
        write = decode_write(encoded)
        slate = f"slate\0{write.key}"
        entry = slate if write.slate is not None else f"erase\0{write.key}\0{write.epoch:020d}"
        if write.slate is None and slate in self._waiting:
            self.settle(slate)
        self._waiting[entry] = write
        self._unsaved[entry] = encoded

    def save(self) -> None:
        """Put into state what was added and still waits."""
        for entry, encoded in self._unsaved.items():
            self._entries.put(entry, encoded)
        self._saved |= self._unsaved.keys()
        self._unsaved.clear()

    def batch(self, without: Container[str] = ()) -> list[tuple[str, CacheWrite]]:
        """What may be written at once: of each key one write only, its first; none of the keys in `without`."""
        chosen: dict[str, tuple[str, CacheWrite]] = {}
        for entry in sorted(self._waiting):  # erasures before slates, by epoch
            write = self._waiting[entry]
            if write.key not in without:
                chosen.setdefault(write.key, (entry, write))
            if len(chosen) >= WRITES_AT_ONCE:
                break
        return list(chosen.values())

    def settle(self, entry: str) -> None:
        """Forget an entry that is done."""
        del self._waiting[entry]
        self._unsaved.pop(entry, None)
        if entry in self._saved:
            self._saved.discard(entry)
            self._entries.remove(entry)


class Refusal(NamedTuple):
    """A key that Redis refuses: how often it did in a row, and from when on it may be tried again."""

    times: int
    again_at: float


class Sender:
    """Empties outboxes, with one back-off for all of them: if Redis is away for one bucket it is for each.

    A key that Redis refuses, for a reason of its own, has a back-off of its own and holds up nothing else.
    """

    def __init__(
        self,
        cache: Writer,
        drain_ms: int,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """`drain_ms`: how long all outboxes together may take at the end; `clock` and `sleep` are in seconds."""
        self._cache, self._drain_ms = cache, drain_ms
        self._clock, self._sleep = clock, sleep
        self._away: CacheAway | None = None
        self._retry_ms = FIRST_RETRY_MS
        self._retry_at = 0.0
        self._refusals: dict[str, Refusal] = {}
        self._drained_by: float | None = None

    def wait_ms(self, outbox: Outbox) -> int:
        """How long there is nothing of `outbox` to try, 0 or more."""
        at = self._retry_at
        if self._refusals and outbox:
            at = max(at, min(self._refusals.get(key, _NEVER_REFUSED).again_at for key in outbox.keys()))  # noqa: SIM118
        return max(0, round((at - self._clock()) * 1000))

    def flush(self, outbox: Outbox) -> Iterator[CacheWrite]:
        """Try once what it is not too early for; yields what is settled."""
        now = self._clock()
        if outbox and self._retry_at <= now:
            held_back = {key for key, refusal in self._refusals.items() if refusal.again_at > now}
            yield from self._try(outbox, held_back)

    def drain(self, outbox: Outbox, others: Iterable[Outbox] = ()) -> Iterator[CacheWrite]:
        """Try until the outbox is empty; yields what is settled.

        Raises:
            UndeliveredError: the time for it, which all outboxes share, is up, or Redis refuses what is left. What
                the `others` hold is written first, as far as Redis takes it: nothing would try it afterwards.
        """
        if self._drained_by is None:
            self._drained_by = self._clock() + self._drain_ms / 1000
        attempts = 0
        while outbox:
            before = len(outbox)
            yield from self._try(outbox)
            if len(outbox) < before:
                continue
            attempts = 0 if self._away else attempts + 1
            left = self._drained_by - self._clock()
            if left <= 0 or attempts >= REFUSALS_AT_THE_END:
                self._give_up(outbox, others)
            self._sleep(min(FIRST_RETRY_MS / 1000, left))

    def _give_up(self, outbox: Outbox, others: Iterable[Outbox]) -> NoReturn:
        if self._away is not None:
            raise UndeliveredError(f"{len(outbox)} writes to Redis are left at the end of the input: {self._away}")
        key = min(outbox.keys())
        message = f"{len(outbox)} writes to Redis are left at the end of the input, which refuses {key}: "
        message += self._cache.refused.get(key, "it does not say why")
        for other in others:
            if other is not outbox and other:
                try:
                    self._cache.write([write for _, write in other.batch()])
                except CacheAway as away:
                    _log.warning("%s", away)
                    break
        raise UndeliveredError(message)

    def _try(self, outbox: Outbox, without: Container[str] = ()) -> Iterator[CacheWrite]:
        batch = outbox.batch(without)
        if not batch:
            return
        try:
            settled: Iterable[str] = self._cache.write([write for _, write in batch])
        except CacheAway as away:
            if self._away is None:
                _log.warning("%s; slates are kept until it is back", away)
            self._away, settled = away, away.settled
            self._retry_at = self._clock() + self._retry_ms / 1000
            self._retry_ms = min(self._retry_ms * 2, LAST_RETRY_MS)
        else:
            if self._away is not None:
                _log.warning("Redis is back")
            self._away, self._retry_ms, self._retry_at = None, FIRST_RETRY_MS, 0.0
        settled = frozenset(settled)
        for entry, write in batch:
            if write.key in settled:
                self._refusals.pop(write.key, None)
                outbox.settle(entry)
                yield write
            elif self._away is None:
                self._refuse(write.key)

    def _refuse(self, key: str) -> None:
        times = self._refusals.get(key, _NEVER_REFUSED).times + 1
        wait_ms = min(FIRST_RETRY_MS * 2 ** min(times - 1, 16), LAST_RETRY_MS)
        self._refusals[key] = Refusal(times, self._clock() + wait_ms / 1000)


_NEVER_REFUSED = Refusal(0, 0.0)
