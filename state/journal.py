"""Write-behind over a mapping of strings to bytes: base entries, and a log of what came since.

PyFlink has no hook before a snapshot, so what lives in an instance must be in state after every record. Writing all
that a record touched would be dear; a journal writes the record itself, and every so often the changed entries.
"""

from collections.abc import Iterable, Mapping
from typing import Protocol

LOG = "log:"
NOISED = "noised"  # the key that marks what `operators.privacy` keeps
# How much is let come to a log before it is made short: these bytes, or where that is more the base's divided by SHARE.
# A snapshot writes base and log; a compaction writes nearly all of the base anew.
LEAST_BYTES = 1 << 17
SHARE = 2


class Entries(Protocol):
    """What a journal is kept in: keyed or broadcast state of Flink behind an adapter, or a dict."""

    def put(self, key: str, value: bytes) -> None: ...
    def remove(self, key: str) -> None: ...
    def items(self) -> Iterable[tuple[str, bytes]]: ...


class DictEntries(dict[str, bytes]):
    """Entries in memory."""

    def put(self, key: str, value: bytes) -> None:
        self[key] = value

    def remove(self, key: str) -> None:
        self.pop(key, None)


class Journal:
    """A log of records over base entries. The owner should `compact` where it holds `limit` records, or where as much
    came since the last time as LEAST_BYTES and SHARE say.

    >>> journal = Journal(DictEntries(), limit=2)
    >>> journal.append(b"one"), journal.append(b"two")
    (False, True)
    >>> journal.compact({"sum": b"three"})
    >>> journal.load()
    ({'sum': b'three'}, [])
    """

    def __init__(self, entries: Entries, limit: int = 512) -> None:
        self.entries = entries
        self.limit = limit
        self.length = 0
        self.next = 0
        self._sizes: dict[str, int] = {}  # bytes of each base entry, but for those beside
        self._base = 0  # of all of them
        self.grown = 0  # bytes that came to the log since it was made short

    def load(self, beside: tuple[str, ...] = ()) -> tuple[dict[str, bytes], list[bytes]]:
        """The base entries, and the records of the log, oldest first. Those of the former whose keys begin with one of
        `beside` the owner puts and removes itself: no compaction writes them.
        """
        base: dict[str, bytes] = {}
        log: dict[str, bytes] = {}
        for key, value in self.entries.items():
            (log if key.startswith(LOG) else base)[key] = value
        self._sizes = {key: len(value) for key, value in base.items() if not key.startswith(beside)}
        self._base = sum(self._sizes.values())
        self.grown = sum(map(len, log.values()))
        keys = sorted(log)
        self.length = len(keys)
        self.next = int(keys[-1][len(LOG) :], 16) + 1 if keys else 0
        return base, [log[key] for key in keys]

    def append(self, record: bytes) -> bool:
        """Add a record to the log; True where it is time to compact."""
        self.entries.put(f"{LOG}{self.next:016x}", record)
        self.next += 1
        self.length += 1
        self.grown += len(record)
        return self.length >= self.limit or self.grown >= max(LEAST_BYTES, self._base // SHARE)

    def put(self, changed: Mapping[str, bytes]) -> None:
        """Write base entries, and leave the log as it is."""
        for key, value in changed.items():
            self.entries.put(key, value)
            self._base += len(value) - self._sizes.get(key, 0)
            self._sizes[key] = len(value)

    def compact(self, changed: Mapping[str, bytes], log: Iterable[bytes] = ()) -> None:
        """Replace the log by the base entries that its records changed, and by the records of `log`."""
        self.put(changed)
        for number in range(self.next - self.length, self.next):
            self.entries.remove(f"{LOG}{number:016x}")
        self.length = 0
        for record in log:
            self.append(record)
        self.grown = 0
