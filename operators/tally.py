"""What became of the records of a run: counted where they are taken or refused, and told when it ends."""

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import msgspec
from riverrank.state.records.decoding import Reject

FILE_BYTES = 16_384  # more than a tally takes: the detail of a dead letter is some hundreds


class Tally(msgspec.Struct):
    """`accepted` events, `redelivered` ones, which do nothing, and dead letters by reason in `dead`; where the `first`
    of these came from, and why it is one; and `slates`, by whoever makes them.

    >>> tally = Tally(accepted=1)
    >>> tally.refuse("events", 7, Reject("bad_json", "not JSON: no value"))
    >>> list(tally.told())
    ['1 dead letters (1 bad_json); the first, events 7: not JSON: no value']
    """

    accepted: int = 0
    redelivered: int = 0
    dead: dict[str, int] = {}
    first: str = ""
    slates: int = 0

    def refuse(self, topic: str, offset: int, reject: Reject) -> None:
        """Count a dead letter."""
        self.dead[reject.reason] = self.dead.get(reject.reason, 0) + 1
        expected, _, _ = reject.detail.partition(', got "')  # a log names no user: what was given is in the dead letter
        self.first = self.first or f"{topic} {offset}: {expected}"

    def add(self, other: "Tally") -> None:
        """Count what `other` counted elsewhere, after what is counted here."""
        self.accepted += other.accepted
        self.slates += other.slates
        self.redelivered += other.redelivered
        for reason, count in other.dead.items():
            self.dead[reason] = self.dead.get(reason, 0) + count
        self.first = self.first or other.first

    def told(self) -> Iterator[str]:
        """A line each of what is worth to be told."""
        if self.redelivered:
            yield f"{self.redelivered} redeliveries, which do nothing"
        if self.dead:
            reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.dead.items()))
            yield f"{sum(self.dead.values())} dead letters ({reasons}); the first, {self.first}"

    @property
    def fault(self) -> str | None:
        """Why the run was for nothing, where no event could be used."""
        if self.accepted or self.redelivered:
            return None
        why = f"the first dead letter, {self.first}" if self.dead else "there is none"
        return f"no event could be used: {why}"


class TallyFile:
    """The `tally` of a subtask, in a file for whoever ends the run, however that ends: Flink does not close every
    operator that it stops with a savepoint. It goes on from that of a subtask before it, as after a failure: what was
    read again counts again.
    """

    def __init__(self, path: Path | None) -> None:
        """`path` None: the tally goes nowhere."""
        self._held: mmap.mmap | None = None
        self.tally = Tally()
        if path is not None:
            path.touch()
            os.truncate(path, FILE_BYTES)
            with path.open("r+b") as file:
                self._held = mmap.mmap(file.fileno(), FILE_BYTES)
            self.tally = read_tally(path)

    def write(self) -> None:
        """Write it over what was there: it never gets shorter. Takes 1 us."""
        if self._held is not None:
            encoded = msgspec.json.encode(self.tally)
            self._held[: len(encoded)] = encoded


def read_tally(path: Path) -> Tally:
    """What a `TallyFile` wrote."""
    written = path.read_bytes().rstrip(b"\0")
    return msgspec.json.decode(written, type=Tally) if written else Tally()
