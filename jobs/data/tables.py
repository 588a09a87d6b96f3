"""Tables of any make, row by row: with a header or without, with any separator, quotes and encoding.

Every line is in a row that is given, or counted as bad with where it stands and why. An empty line is no row.
"""

import codecs
import csv
import gzip
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple

import msgspec
from riverrank.jobs.errors import Failure, UsageError

from .cells import one_line
from .convert import Collector

csv.field_size_limit(1 << 24)  # characters; a longer field is a bad row

BROKEN = "\udc80"  # what stands for bytes that do not decode; no record holds a surrogate
_ON_BROKEN = "riverrank.broken"
codecs.register_error(_ON_BROKEN, lambda error: (BROKEN, getattr(error, "end", 0)))

NAMED = 300  # characters of a header's names in a message
OTHER_KINDS = {
    b"\x1f\x8b": "gzip data; give it a name that ends in .gz",
    b"PK\x03\x04": "a zip archive or an Excel sheet; unpack it, or write it as CSV",
    b"PAR1": "Parquet; write it as CSV",
}


class Format(msgspec.Struct, frozen=True, kw_only=True):
    """How a table is written.

    Args:
        separator: what stands between two columns; with quotes, one character.
        quoted: whether `"` around a cell keeps the separators and line ends in it; `""` in it is one of them.
        encoding: as Python names it. A byte order mark is skipped.
        columns: the names of the columns, by position; none: the first line has them.
        flag: how the names of the flags that say all this begin, for a reason to name them; empty: there are none.
    """

    separator: str = ","
    quoted: bool = True
    encoding: str = "utf-8"
    columns: tuple[str, ...] = ()
    flag: str = ""

    def mend(self, *words: str) -> str:
        """What a reason ends with: the flags that may mend it."""
        return f" ({' or '.join(self.flag + word for word in words)})" if self.flag else ""


class _Parsed(NamedTuple):
    """What the parser made of some lines: their first one's number, they, and the cells or why there are none."""

    first: int
    lines: Sequence[str]
    cells: list[str] | str


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
    path: Path, collector: Collector, needed: Sequence[str], form: Format | None = None
) -> Iterator[tuple[str, dict[str, str]]]:
    """Each row with where it stands, as `numbered_rows` has them."""
    for line, row in numbered_rows(path, collector, needed, form or Format()):
        yield f"{path.name}, line {line}", row


def numbered_rows(
    path: Path, collector: Collector, needed: Sequence[str], form: Format
) -> Iterator[tuple[int, dict[str, str]]]:
    """Each row, by the names of its columns, with the number of its first line, from 1.

    Rows that are not whole go to `collector` as bad. Raises UsageError where the file cannot be read or has no column
    of a name in `needed`, and Failure where it is empty or damaged.
    """
    parsed = (_quoted if form.quoted else _split)(read_lines(path, form.encoding), form.separator)
    names = list(form.columns) or _header(path, next(parsed, None), needed, form)
    for first, lines, cells in parsed:
        lost = len(lines)
        if isinstance(cells, str):
            why = cells + (form.mend("quote none") if lost > 1 else "")
        elif form.quoted and _went_astray(lines, cells, len(names), form.separator):
            over = f"goes on over {lost} lines" if lost > 1 else "does not end"
            why = f"a quoted cell {over}: is a quote in it astray?{form.mend('quote none')}"
        elif any(BROKEN in line for line in lines):
            why, lost = f"it has bytes that are no {form.encoding}{form.mend('encoding NAME')}", 1
        elif len(cells) != len(names):
            why = f"expected {len(names)} columns, got {len(cells)}"
        else:
            yield first, dict(zip(names, cells, strict=True))
            continue
        for line in range(first, first + lost):
            collector.bad(f"{path.name}, line {line}", why)


def read_lines(path: Path, encoding: str = "utf-8") -> Iterator[str]:
    """The lines of a text file, gz by its ending, with their ends and without a byte order mark.

    Bytes that do not decode come as BROKEN. Raises Failure where gzip data is damaged, and UsageError where the file
    cannot be read or is no text.
    """
    packed = path.name.endswith(".gz")
    opener: Callable[..., IO[str]] = gzip.open if packed else open
    try:
        if not packed:
            _refuse_other_kinds(path)
        with opener(path, "rt", encoding=encoding, errors=_ON_BROKEN, newline="") as file:
            yield file.readline().removeprefix("\ufeff")
            yield from file
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise Failure(f"{path}: damaged gzip data ({error}); fetch the file again") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot read it ({error.strerror or error})") from error
    except UnicodeError as error:
        raise UsageError(f"{path}: cannot read it as {encoding} ({error}); --encoding names another") from error


def _refuse_other_kinds(path: Path) -> None:
    if not path.is_file():  # a pipe has nothing to spare
        return
    with path.open("rb") as file:
        begins = file.read(4)
    for mark, what in OTHER_KINDS.items():
        if begins.startswith(mark):
            raise UsageError(f"{path}: expected text, and it is {what}")


def _split(lines: Iterator[str], separator: str) -> Iterator[_Parsed]:
    """Rows without quotes: a line is a row."""
    for at, line in enumerate(lines, 1):
        if text := line.rstrip("\r\n"):
            yield _Parsed(at, (line,), text.split(separator))


def _quoted(lines: Iterator[str], separator: str) -> Iterator[_Parsed]:
    """Rows whose cells may be quoted, and may then hold line ends."""
    taken: list[str] = []

    def noted() -> Iterator[str]:
        for line in lines:
            taken.append(line)
            yield line

    reader = csv.reader(noted(), delimiter=separator)
    first = 1
    while True:
        cells: list[str] | str
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            cells = str(error)
        if cells:
            yield _Parsed(first, taken, cells)
        first += len(taken)
        taken.clear()


def _went_astray(lines: Sequence[str], cells: list[str], columns: int, separator: str) -> bool:
    """Whether a stray quote took further lines with it: the cells are not those of a row, the quote does not end where
    a cell does, or the lines would be rows by themselves. In the last line it may only not end.
    """
    if len(lines) == 1 and lines[0].count('"') % 2 == 0:
        return False
    if len(lines) > 1 and len(cells) != columns:
        return True
    try:
        for _ in csv.reader(lines, delimiter=separator, strict=True):
            pass
    except csv.Error as error:
        return len(lines) > 1 or "unexpected end" in str(error)
    alone = [_could_be_row(line, columns, separator) for line in lines]
    return alone[0] and any(alone[1:])


def _could_be_row(line: str, columns: int, separator: str) -> bool:
    """Whether a line has the columns of a row by itself, be there quotes in it or not."""
    return columns in (line.count(separator) + 1, len(next(csv.reader([line], delimiter=separator), [])))


def _header(path: Path, parsed: _Parsed | None, needed: Sequence[str], form: Format) -> list[str]:
    """The names of the columns; raises where these are not what is needed."""
    if parsed is None:
        raise Failure(f"{path}: it is empty; expected a header with {', '.join(needed)}, and rows")
    names = [name.strip() for name in parsed.cells] if isinstance(parsed.cells, list) else []
    if any(BROKEN in line or "\0" in line for line in parsed.lines):
        raise UsageError(
            f"{path}: its header has bytes that are no {form.encoding}; expected text in it"
            f"{form.mend('encoding NAME, such as utf-16 or cp1252')}"
        )
    if missing := [name for name in dict.fromkeys(needed) if name not in names]:
        has = one_line(", ".join(names))[:NAMED] or "nothing"
        mend = form.mend("map FIELD=COLUMN", "separator", "columns, where there is no header")
        raise UsageError(f"{path}: no column {', '.join(missing)}; its header has {has}{mend}")
    if twice := [name for name in dict.fromkeys(needed) if names.count(name) > 1]:
        raise UsageError(
            f"{path}: its header has the column {', '.join(twice)} more than once; expected it once: rename one, or "
            f"name all by position{form.mend('columns')}"
        )
    return names
