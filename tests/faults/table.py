"""The table of what was seen, as Markdown, and the page that it stands in."""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from scene import Seen

BEGIN, END = "<!-- table: written by `make faults` -->\n", "<!-- end of the table -->\n"
HEAD = (
    "fault",
    "events",
    "users",
    "slates",
    "learners equal",
    "answers equal",
    "last in Redis",
    "dead letters",
    "restarts",
    "seconds",
)
WHY_KEPT = 200  # characters of what a row that failed says


class Row(NamedTuple):
    """One test: what it breaks, how it ended in pytest's word, how long it took, what it saw, and else why not."""

    what: str
    outcome: str
    seconds: float
    seen: Seen | None
    why: str = ""


def lines(rows: Iterable[Row]) -> list[str]:
    """The table, a line a row. One that did not hold, or was skipped, says so and no figure."""
    return [
        f"| {' | '.join(HEAD)} |",
        f"|{' --- |' * len(HEAD)}",
        *(f"| {' | '.join(_cells(row))} |" for row in rows),
    ]


def write(path: Path, table: Iterable[str]) -> None:
    """Put the table between the marks of the page; all else there stays."""
    before, begin, rest = path.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise ValueError(f"{path} has no place for the table: it stands between {BEGIN!r} and {END!r}")
    written = "".join(f"{line}\n" for line in table)
    path.write_text(f"{before}{begin}\n{written}\n{end}{after}", "utf-8")


def _cells(row: Row) -> list[str]:
    what, seconds = row.what.replace("|", "/"), f"{row.seconds:.0f}"
    if row.outcome != "passed" or row.seen is None:
        outcome = "FAILED" if row.outcome == "failed" else row.outcome
        why = " ".join(row.why.split())[:WHY_KEPT].replace("|", "/")
        return [what, f"**{outcome}**: {why}", *[""] * (len(HEAD) - 3), seconds]
    seen, found = row.seen, row.seen.found
    return [
        f"{what}; {seen.note}" if seen.note else what,
        f"{seen.events:,}",
        f"{seen.users:,}",
        f"{found.slates:,}",
        f"{found.learners:,} of {seen.users:,}",
        f"{found.answers:,} of {seen.wanted:,}",
        f"{found.last:,} of {seen.users:,}",
        str(found.letters),
        str(seen.restarts),
        seconds,
    ]
