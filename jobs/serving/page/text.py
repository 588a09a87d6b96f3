"""Text as pages show it: ids and titles that cannot harm, times, ages and numbers; and the templates they stand in."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from riverrank.state.records.printable import printable

MOST_SHOWN = 160  # characters of an id or a title


def shown(text: object) -> str:
    """An id or a title for people: at most MOST_SHOWN characters, control and direction codes as Python writes them.
    HTML is escaped by the templates.

    >>> shown("a\\u202eb"), len(shown("x" * 999))
    ('a\\\\u202eb', 160)
    """
    whole = str(text)
    return printable(whole if len(whole) <= MOST_SHOWN else f"{whole[: MOST_SHOWN - 1]}…")


def link(path: str, **named: str | None) -> str:
    """A path with a query in which any text may stand; None and "" are left out.

    >>> link("/user", id="a&b\\n", q="")
    '/user?id=a%26b%0A'
    """
    query = urlencode({name: value for name, value in named.items() if value})
    return f"{path}?{query}" if query else path


def clock(ms: int | None) -> str:
    """Epoch milliseconds as UTC; a date goes before the time where it is not today's.

    >>> clock(1_764_000_000_000)
    '2025-11-24 16:00:00 UTC'
    """
    if ms is None:
        return "not known"
    when = datetime.fromtimestamp(ms / 1000, UTC)
    today = datetime.now(UTC).date() == when.date()
    return when.strftime("%H:%M:%S UTC" if today else "%Y-%m-%d %H:%M:%S UTC")


def duration(ms: float) -> str:
    """A length of time in its largest fitting unit; what is less than none is none.

    >>> [duration(ms) for ms in (12.4, 4200, 90_000, 7_200_000, 200_000_000)]
    ['12 ms', '4.2 s', '1.5 min', '2.0 h', '2.3 d']
    """
    left = max(0.0, float(ms))
    for unit, size in (("d", 86_400_000), ("h", 3_600_000), ("min", 60_000), ("s", 1_000)):
        if left >= size:
            return f"{left / size:.1f} {unit}"
    return f"{left:.0f} ms"


def templates() -> Environment:
    """The templates of the pages: HTML is escaped, and a name that is not there is an error."""
    made = Environment(
        loader=PackageLoader("riverrank.jobs.serving.page"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(shown=shown, clock=clock, duration=duration)
    made.globals.update(link=link)
    return made
