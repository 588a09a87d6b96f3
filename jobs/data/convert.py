"""Public data sets and plain CSV as the two files that riverrank reads: events in order of time, and items.

A row that makes no valid record is counted and left out; whatever is written decodes with `state.records`.
Items carry the time 0: a data set's catalogue is known from its start. What each set's rows mean is in `datasets`.
"""

import csv
import gzip
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.records import Event, Item, Reject, decode_event, decode_item, to_json

csv.field_size_limit(1 << 24)  # bytes; a longer field is a bad row


class Report(msgspec.Struct, frozen=True, kw_only=True):
    """What a conversion gave: records written, rows left out, and why the first of these was."""

    events: int
    items: int
    users: int
    bad_rows: int
    first_bad: str | None


class Collector:
    """The records of a data set while its rows are read; the last item of an id stands."""

    def __init__(self) -> None:
        self.items: dict[str, bytes] = {}
        self.users: dict[str, int] = {}  # to the time of their first event, in epoch milliseconds
        self.bad_rows = 0
        self.first_bad: str | None = None
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

    def event(self, event: Event) -> None:
        """Take an event. Raises ValueError where it is not valid."""
        self._events.append((event.ts, _checked(event, decode_event)))
        self.users[event.user_id] = min(event.ts, self.users.get(event.user_id, event.ts))

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
        self.items[item.item_id] = _checked(item, decode_item)

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
        )


Reader = Callable[[Path, Collector], None]


def convert(read: Reader, source: Path, events: str, items: str) -> Report:
    """Read `source` and write both files (gz by their ending, `-` is standard output).

    Raises `UsageError` where the source is not there or not what it should be, and `Failure` where it gives no event.
    """
    if events == items:
        raise UsageError(f"--events and --items are both {events!r}; give each a file of its own")
    collector = Collector()
    try:
        read(source, collector)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Failure(f"{source}: damaged gzip data ({error}); fetch the file again") from error
    except OSError as error:
        raise UsageError(f"{error.filename or source}: cannot read it ({error.strerror})") from error
    report = collector.report()
    if not report.events:
        raise Failure(f"{source}: no usable row among {report.bad_rows} ({report.first_bad or 'it is empty'})")
    write_lines(items, list(collector.items.values()))
    write_lines(events, collector.events())
    return report


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
    except OSError as error:
        raise UsageError(
            f"{path}: cannot write it ({error.strerror}); give a path in a folder that is there"
        ) from error


def find(source: Path, *names: str) -> Path:
    """The first of the files `names`, plain or .gz, in the folder `source`. Raises UsageError where there is none."""
    found = optional(source, *names)
    if found is None:
        raise UsageError(f"{source}: expected a folder that holds {' or '.join(names)}, plain or .gz; mend --source")
    return found


def optional(source: Path, *names: str) -> Path | None:
    """As `find`, but None where there is none."""
    candidates = (source / f"{name}{ending}" for name in names for ending in ("", ".gz"))
    return next((path for path in candidates if path.is_file()), None)


def rows(
    path: Path,
    collector: Collector,
    columns: tuple[str, ...],
    *,
    separator: str = ",",
    header: bool = True,
    encoding: str = "utf-8-sig",
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row of a table with where it stands; rows of another length are bad. `columns` must all be there."""
    with open_text(path, encoding) as file:
        reader = csv.reader(
            (line.replace("\0", "\ufffd") for line in file),
            delimiter=separator,
            quoting=csv.QUOTE_MINIMAL if header else csv.QUOTE_NONE,
        )
        names = list(columns)
        if header:
            names = next(reader, [])
            if missing := [name for name in columns if name not in names]:
                raise UsageError(
                    f"{path}: no column {', '.join(missing)}; its header has {', '.join(names) or 'nothing'}"
                )
        while True:
            try:
                row = next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                collector.bad(f"{path.name}, line {reader.line_num}", str(error))
                continue
            where = f"{path.name}, line {reader.line_num}"
            if len(row) == len(names):
                yield where, dict(zip(names, row, strict=True))
            elif row:
                collector.bad(where, f"expected {len(names)} columns, got {len(row)}")


def open_text(path: Path, encoding: str = "utf-8-sig") -> IO[str]:
    """A text file, gz by its ending. Broken bytes come as surrogates, which no record holds: they spoil their row."""
    opener: Callable[..., IO[str]] = gzip.open if path.name.endswith(".gz") else open
    return opener(path, "rt", encoding=encoding, errors="surrogateescape", newline="")


def _checked(record: Event | Item, decode: Callable[[bytes], Event | Item | Reject]) -> bytes:
    raw: bytes = to_json(record)
    decoded = decode(raw)
    if isinstance(decoded, Reject):
        raise ValueError(decoded.detail)
    return raw
