"""Who writes to Redis, in a thread of its own: whatever Redis does, whoever makes slates does not wait for it.

Redis being away costs one attempt at a time, further and further apart, and never a slate; only at the end of bounded
input, where no later attempt would follow, the wait has an end.
"""

import heapq
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Protocol

from riverrank.operators.metrics import Counts
from riverrank.state.messages import CacheWrite

from .redis_cache import CacheAway, without_user

FIRST_RETRY_MS = 100
LAST_RETRY_MS = 5_000
WRITES_AT_ONCE = 1_000
BYTES_AT_ONCE = 1 << 20
REFUSALS_AT_THE_END = 3  # attempts at a key that Redis refuses, once the input has ended
TOLD_EVERY_MS = 60_000  # of keys that Redis refuses, one line at most in that time
_LOOK_AGAIN = 0.05  # seconds, for what only the clock tells

_log = logging.getLogger(__name__)


class Writer(Protocol):
    """What is written to: `operators.cache.redis_cache.Cache`."""

    refused: dict[str, str]  # by key, why the last call of `write` left it unsettled

    def write(self, writes: list[CacheWrite]) -> set[str]: ...
    def close(self) -> None: ...


class Box(Protocol):
    """Whose writes they are: `operators.cache.outbox.Outbox`."""

    done: deque[tuple[str, CacheWrite]]  # entries and writes that Redis took


class UndeliveredError(RuntimeError):
    """Writes are left at the end of the input; the message says how many and why."""


class _Given(NamedTuple):
    box: Box
    write: CacheWrite


class _Refusal(NamedTuple):
    """How often in a row Redis refused a key, and why."""

    times: int
    reason: str


class Sender:
    """Writes what outboxes give it, many keys in a round trip, each key's writes one after another: erasures by epoch,
    then the slate. One back-off for all, since a Redis that is away for one is for each; a key that Redis refuses, for
    a reason of its own, has a back-off of its own and holds up nothing else.

    Erasures go before all slates. `attempt` is what the thread does, from `start` on; all else is for one other thread.
    """

    def __init__(
        self,
        cache: Writer,
        flush_ms: int,
        drain_ms: int,
        secret: bytes = b"",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`flush_ms`: the least time between two round trips, in which writes gather; `drain_ms`: how long all outboxes
        together wait at the end for a Redis that is away; `secret` makes the pseudonyms by which users are told of;
        `clock` is in seconds.
        """
        self._cache, self._flush_ms, self._drain_ms, self._clock = cache, flush_ms, drain_ms, clock
        self._secret = secret
        self._changed = threading.Condition()  # and the lock of all below
        self._given: dict[str, dict[tuple[str, int], _Given]] = {}  # by key, and by entry and outbox
        # Keys that may be tried, in the order to try them in: those with an erasure go first.
        self._erasing: dict[str, None] = {}
        self._ready: dict[str, None] = {}
        self._refused: dict[str, _Refusal] = {}  # by key
        self._later: list[tuple[float, str]] = []  # when a key may be tried again, a heap
        self._flying: set[str] = set()  # keys that are being written
        self._since: dict[str, float] = {}  # when a key came that has waited since, the oldest first
        self._attempts = self._written = self._refusals = 0
        self._away: CacheAway | None = None
        self._retry_ms, self._next_at = FIRST_RETRY_MS, 0.0
        self._told_at, self._untold = -TOLD_EVERY_MS / 1000, 0
        self._drained_by: float | None = None
        self._fault: BaseException | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, box: Box, entry: str, write: CacheWrite) -> None:
        """Write this, in place of what `entry` was before; `box.done` has both once Redis took it."""
        with self._changed:
            self._given.setdefault(write.key, {})[entry, id(box)] = _Given(box, write)
            self._since.setdefault(write.key, self._clock())
            if write.key not in self._refused and write.key not in self._flying:
                if not (self._ready or self._erasing):  # else who writes knows of something to do
                    self._changed.notify_all()
                self._queue(write.key)

    def drop(self, box: Box, entry: str, key: str) -> None:
        """Do not write that any more, unless it is on its way."""
        with self._changed:
            entries = self._given.get(key, {})
            entries.pop((entry, id(box)), None)
            if not entries and key in self._given and key not in self._flying:
                self._ready.pop(key, None)
                self._erasing.pop(key, None)
                self._forget(key)

    def attempt(self) -> float | None:
        """Try once what it is not too early for; the seconds until there is something to try, None for not before
        something is put.
        """
        with self._changed:
            batch = self._batch()
        away: CacheAway | None = None
        settled: set[str] = set()
        if batch:
            try:
                settled = self._cache.write([given.write for _, given in batch])
            except CacheAway as error:
                away, settled = error, set(error.settled)
        with self._changed:
            if batch:
                self._note(away, bool(settled))
                self._land(batch, settled)
                self._changed.notify_all()
            return self._wait()

    def drain(self, box: Box) -> None:
        """Wait until Redis took all that `box` gave.

        Raises:
            UndeliveredError: Redis is away, and the time for that, which all outboxes share, is up; or it refuses what
                is left. What others gave is written first, as far as Redis takes it: nothing would try it afterwards.
            RuntimeError: as `check`.
        """
        if self._drained_by is None:
            self._drained_by = self._clock() + self._drain_ms / 1000
            self._try_anew()
        self.start()
        before = self._attempts
        while True:
            self.check()
            with self._changed:
                if not self._has(box):
                    return
                is_away = self._away is not None and self._attempts > before
                if (is_away and self._clock() >= self._drained_by) or self._only_refused():
                    raise UndeliveredError(self._undelivered(box))
                self._changed.wait(_LOOK_AGAIN)

    @property
    def is_idle(self) -> bool:
        """Whether nothing waits."""
        return not self._given

    def count(self, counts: Counts) -> None:
        """Say what was written since the last call, and what waits."""
        with self._changed:
            counts.add("cache_written", n=self._written)
            counts.add("cache_refused", n=self._refusals)
            self._written = self._refusals = 0
            oldest = next(iter(self._since.values()), self._clock())
            counts.set("cache_waiting", len(self._given))
            counts.set("cache_age_ms", round(1000 * (self._clock() - oldest)))
            counts.set("cache_away", int(self._away is not None))

    def close(self) -> None:
        """End the thread, and close the connection; what was not written is still given."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        self._cache.close()

    def check(self) -> None:
        """Raises RuntimeError where a fault ended the thread, which is its cause."""
        if self._fault is not None:
            raise RuntimeError(f"the thread that writes to Redis ended: {self._fault!r}") from self._fault

    def start(self) -> None:
        """Start the thread, unless it is there: not before whatever forks."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="riverrank-cache", daemon=True)
            self._thread.start()

    def _run(self) -> None:
        try:
            while not self._closed:
                self.attempt()
                with self._changed:
                    wait = self._wait()
                    if not self._closed and wait != 0.0:
                        self._changed.wait(wait)
        except BaseException as error:  # told by `check`
            with self._changed:
                self._fault = error
                self._changed.notify_all()

    def _batch(self) -> list[tuple[tuple[str, int], _Given]]:
        """What may be written now: of each key one write, its first."""
        now = self._clock()
        while self._later and self._later[0][0] <= now:
            _, key = heapq.heappop(self._later)
            if key in self._given:
                self._queue(key)
        batch: list[tuple[tuple[str, int], _Given]] = []
        size = 0
        if self._next_at > now:
            return batch
        while (waiting := self._erasing or self._ready) and len(batch) < WRITES_AT_ONCE and size < BYTES_AT_ONCE:
            key = next(iter(waiting))
            del waiting[key]
            entries = self._given[key]
            if not entries:  # what there was was dropped
                self._forget(key)
                continue
            entry = min(entries, key=lambda each: _order(entries[each].write))
            batch.append((entry, entries[entry]))
            size += len(entries[entry].write.slate or b"")
            self._flying.add(key)
        if not (self._ready or self._erasing):  # else there is more than one round trip takes
            self._next_at = now + self._flush_ms / 1000
        return batch

    def _note(self, away: CacheAway | None, took_some: bool) -> None:
        """That Redis is away, or back. Where a part of it took something, that part is not kept waiting longer."""
        self._attempts += 1
        if away is not None:
            if self._away is None:
                _log.warning("%s; slates are kept until it is back", away)
            self._next_at = self._clock() + self._retry_ms / 1000
            self._retry_ms = FIRST_RETRY_MS if self._drained_by or took_some else min(self._retry_ms * 2, LAST_RETRY_MS)
        else:
            if self._away is not None:
                _log.warning("Redis is back")
            self._retry_ms = FIRST_RETRY_MS
        self._away = away

    def _land(self, batch: list[tuple[tuple[str, int], _Given]], settled: set[str]) -> None:
        """Give up what was taken, and say so; see to it that the rest is tried again."""
        for entry, given in batch:
            key = given.write.key
            self._flying.discard(key)
            entries = self._given[key]
            if key in settled:
                self._refused.pop(key, None)
                if entries.get(entry) is given:
                    del entries[entry]
                given.box.done.append((entry[0], given.write))
                self._since.pop(key)
                self._since[key] = self._clock()  # of what came meanwhile, if anything did
                self._written += 1
            elif self._away is None and entries:
                self._refuse(key)
                continue
            if entries:
                self._queue(key)
            else:
                self._forget(key)

    def _queue(self, key: str) -> None:
        """Have the key tried, before others if it has an erasure."""
        if any(given.write.slate is None for given in self._given[key].values()):
            self._ready.pop(key, None)
            self._erasing[key] = None
        else:
            self._ready[key] = None

    def _forget(self, key: str) -> None:
        del self._given[key]
        del self._since[key]
        self._refused.pop(key, None)

    def _refuse(self, key: str) -> None:
        """Try the key later; say so, but not of each and each time."""
        times = self._refused[key].times + 1 if key in self._refused else 1
        reason = self._cache.refused.get(key, "it does not say why")
        self._refused[key] = _Refusal(times, reason)
        self._refusals += 1
        now, wait_ms = self._clock(), min(FIRST_RETRY_MS * 2 ** min(times - 1, 16), LAST_RETRY_MS)
        heapq.heappush(self._later, (now + wait_ms / 1000, key))
        self._untold += times == 1
        if self._untold and now - self._told_at >= TOLD_EVERY_MS / 1000:
            others = f", and {self._untold - 1} other keys" if self._untold > 1 else ""
            named = without_user(key, self._secret)
            _log.warning("Redis refuses %s: %s%s; they are tried again", named, reason, others)
            self._told_at, self._untold = now, 0

    def _try_anew(self) -> None:
        """Try what is left at once, as if for the first time."""
        with self._changed:
            self._next_at, self._retry_ms = 0.0, FIRST_RETRY_MS
            self._later = []
            self._refused = {}
            for key in self._given:
                if key not in self._flying:
                    self._queue(key)
            self._changed.notify_all()

    def _wait(self) -> float | None:
        """Seconds until there is something to try; None where nothing waits."""
        now = self._clock()
        if self._ready or self._erasing:
            return max(0.0, self._next_at - now)
        return max(0.0, self._next_at - now, self._later[0][0] - now) if self._later else None

    def _has(self, box: Box) -> bool:
        return any(given.box is box for entries in self._given.values() for given in entries.values())

    def _only_refused(self) -> bool:
        """Whether nothing is left but keys that were refused so often that it is enough."""
        return (
            self._away is None
            and not self._flying
            and all(key in self._refused and self._refused[key].times >= REFUSALS_AT_THE_END for key in self._given)
        )

    def _undelivered(self, box: Box) -> str:
        keys = sorted(key for key, entries in self._given.items() if any(e.box is box for e in entries.values()))
        message = f"{len(keys)} writes to Redis are left at the end of the input"
        if self._away is not None:
            return f"{message}: {self._away}"
        refused = self._refused.get(keys[0])
        if refused is None:
            return message
        return f"{message}, which refuses {without_user(keys[0], self._secret)}: {refused.reason}"


def _order(write: CacheWrite) -> tuple[int, bool, int]:
    """In which order the writes of a key go: by epoch, of which an erasure is the first, whoever gave them."""
    return write.epoch, write.slate is not None, write.version
