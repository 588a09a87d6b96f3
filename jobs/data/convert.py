"""Public data sets and plain CSV as the two files that riverrank reads: events in order of time, and items.

A row is written whole, or left out and counted with its reason; whatever is written decodes with `records.decoding`.
Items carry the time 0 unless a column says theirs: a data set's catalogue is known from its start. What each set's rows
mean is in `datasets`, those of any other table in `plain_csv`.
"""

import gzip
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

from .cells import one_line


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion gave: records written, rows left out, and why the first of these was.

    Args:
        bad_rows: rows that make no valid record; `first_bad` says where the first is, and what is wrong with it.
        returns: purchases of nothing or less, which are none.
        left_out: rows whose type was said to mean nothing, by type.
        repeated_items: rows of a catalogue whose item another row has too; one of them stands.
    """

    events: int
    items: int
    users: int
    bad_rows: int
    first_bad: str | None
    returns: int = 0
    left_out: dict[str, int] = {}
    repeated_items: int = 0

    def told(self) -> list[str]:
        """The figures as lines to read."""
        lines = [f"{self.events} events of {self.users} users, {self.items} items"]
        if self.bad_rows:
            lines.append(f"{self.bad_rows} rows left out; the first, {one_line(self.first_bad or '')}")
        if self.returns:
            lines.append(f"{self.returns} returns left out: purchases whose value is 0 or less")
        if self.left_out:
            types = ", ".join(f"{count} {one_line(type_)}" for type_, count in sorted(self.left_out.items()))
            lines.append(f"{sum(self.left_out.values())} rows left out on purpose, by --types: {types}")
        if self.repeated_items:
            lines.append(f"{self.repeated_items} rows of items that another row has too; the newest, or last, stands")
        return lines


class Collector:
    """The records of a data set while its rows are read; of an id, the item of the newest time stands, or the last."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.users: dict[str, int] = {}  # to the time of their first event, in epoch milliseconds
        self.bad_rows = 0
        self.first_bad: str | None = None
        self.returns = 0
        self.left_out: Counter[str] = Counter()
        self.repeated_items = 0
        self._times: dict[str, int] = {}  # of items that have one, in epoch milliseconds
        self._profiles: list[tuple[int, bytes]] = []
        self._events: list[tuple[int, bytes]] = []

    @contextmanager
    def row(self, where: str) -> Iterator[None]:
        """One row of the source: a `ValueError` or `ArithmeticError` makes it a bad one."""
        try:
            yield
        except (ValueError, ArithmeticError) as error:
            self.bad(where, str(error))

    def bad(self, where: str, why: str) -> None:
        """Count a bad row."""
        self.bad_rows += 1
        self.first_bad = self.first_bad or f"{where}: {why}"

    def take(self, events: Iterable[Event], items: Iterable[Item] = ()) -> None:
        """Take all that a row gives. Raises ValueError where any of it is not valid, and then takes nothing."""
        made = [(event, _checked(event, decode_event)) for event in events]
        named = [(item, _checked(item, decode_item)) for item in items]
        for event, raw in made:
            self._events.append((event.ts, raw))
            self.users[event.user_id] = min(event.ts, self.users.get(event.user_id, event.ts))
        for item, raw in named:
            if item.ts >= self._times.get(item.item_id, 0):
                self.items[item.item_id] = raw
                if item.ts:
                    self._times[item.item_id] = item.ts

    def event(self, event: Event) -> None:
        """Take an event. Raises ValueError where it is not valid."""
        self.take((event,))

    def profile(self, user_id: str, attributes: dict[str, str]) -> None:
        """Take what is known of a user, placed right before their first event; without one, it has no time."""
        ts = self.users.get(user_id)
        if ts is not None and attributes:
            profile = Event(
                event_id=f"profile-{user_id}", type="profile", user_id=user_id, ts=ts, attributes=attributes
            )
            self._profiles.append((ts, _checked(profile, decode_event)))

    def item(self, item: Item) -> None:
        """Take an item. Raises ValueError where it is not valid."""
        self.take((), (item,))

    def events(self) -> list[bytes]:
        """All events in order of time; at equal times, profiles first, then as in the source."""
        return [raw for _, raw in sorted(self._profiles + self._events, key=lambda entry: entry[0])]

    def report(self) -> Report:
        """The figures."""
        return Report(
            events=len(self._profiles) + len(self._events),
            items=len(self.items),
            users=len(self.users),
            bad_rows=self.bad_rows,
            first_bad=self.first_bad,
            returns=self.returns,
            left_out=dict(self.left_out),
            repeated_items=self.repeated_items,
        )


Reader = Callable[[Path, Collector], None]


def convert(read: Reader, source: Path, events: str, items: str, *beside: Path) -> Report:
    """Read `source`, and the files `beside` it that `read` knows; write both files (gz by their ending, `-` is standard
    output). Raises `UsageError` where the source is not there or not what it should be, or would be written over, and
    `Failure` where it is damaged or gives no event.
    """
    if events == items:
        raise UsageError(f"--events and --items are both {events!r}; give each a file of its own")
    for path in (source, *beside):
        if path.is_file() and any(out != "-" and Path(out).exists() and path.samefile(out) for out in (events, items)):
            raise UsageError(f"{path}: it is read, so nothing can be written to it; give another file")
    collector = Collector()
    try:
        read(source, collector)
    except OSError as error:
        raise UsageError(f"{error.filename or source}: cannot read it ({error.strerror})") from error
    report = collector.report()
    if not report.events:
        raise Failure(f"{source}: {_why_nothing(report)}")
    write_lines(items, list(collector.items.values()))
    write_lines(events, collector.events())
    return report


def _why_nothing(report: Report) -> str:
    """Why no event was written."""
    if not (report.bad_rows or report.returns or report.left_out):
        return "it has no row; expected at least one, after the header if it has one"
    bad = f"no usable row among {report.bad_rows} ({report.first_bad})" if report.bad_rows else "no usable row"
    return "; ".join((bad, *msgspec.structs.replace(report, bad_rows=0).told()[1:]))


def write_lines(path: str, lines: list[bytes]) -> None:
    """Write records as JSON lines; the same records give the same bytes, gz or not."""
    if path == "-":
        sys.stdout.buffer.writelines(line + b"\n" for line in lines)
        sys.stdout.buffer.flush()
        return
    try:
        with open(path, "wb") as file:
            if path.endswith(".gz"):
                with gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
                    packed.writelines(line + b"\n" for line in lines)
            else:
                file.writelines(line + b"\n" for line in lines)
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError, PermissionError) as error:
        raise UsageError(
            f"{path}: cannot write it ({error.strerror}); give a path in a folder that is there"
        ) from error
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error


def _checked(record: Event | Item, decode: Callable[[bytes], Event | Item | Reject]) -> bytes:
    raw: bytes = to_json(record)
    decoded = decode(raw)
    if isinstance(decoded, Reject):
        raise ValueError(decoded.detail)
    return raw
