"""What the text of a cell means: a number, a time, categories."""

import math
import re
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Literal

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
PER_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MILLISECOND = timedelta(milliseconds=1)
SHOWN = 60  # characters of a cell in what is said of it


def shown(text: str) -> str:
    """A cell as it stands in a message, cut where it is long."""
    return repr(text if len(text) <= SHOWN else text[:SHOWN] + "...")


def number(text: str, field: str = "") -> float:
    """A finite number. Raises ValueError, which names `field`, where it is none.

    >>> number("4.5"), number("-12")
    (4.5, -12.0)
    """
    try:
        given = math.nan if "_" in text else float(text)
    except ValueError:
        given = math.nan
    if not math.isfinite(given):
        raise ValueError(f"{field + ': ' if field else ''}expected a finite number, got {shown(text)}")
    return given


def timestamp(text: str, unit: str, zone: tzinfo = UTC) -> int:
    """A time as epoch milliseconds: a number of `unit` (a `TimeUnit`), or ISO 8601, in `zone` unless it says otherwise.

    >>> timestamp("1590884413", "s"), timestamp("1590884413.5", "s"), timestamp("2020-05-31T00:20:13", "iso")
    (1590884413000, 1590884413500, 1590884413000)
    """
    if unit == "iso":
        return _from_iso(text, zone)
    try:
        whole = int("" if "_" in text else text)
    except ValueError:
        given = number(text)
        return round(given * 1_000 if unit == "s" else given / PER_MILLISECOND[unit])
    return whole * 1_000 if unit == "s" else whole // PER_MILLISECOND[unit]


def epoch_ms(time: datetime) -> int:
    """A time that knows its zone, as epoch milliseconds."""
    return (time - EPOCH) // MILLISECOND


def _from_iso(text: str, zone: tzinfo) -> int:
    try:
        time = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(f"expected a time such as 2020-05-31 00:20:13, got {shown(text)}") from None
    return epoch_ms(time if time.tzinfo else time.replace(tzinfo=zone))


def categories(text: str) -> tuple[str, ...]:
    """The distinct categories of a cell, split at the first of | ; , that is in it.

    >>> categories("Toys, Games|Outdoor"), categories("Adventure; Sci-Fi"), categories("")
    (('Toys, Games', 'Outdoor'), ('Adventure', 'Sci-Fi'), ())
    """
    between = next((mark for mark in "|;," if mark in text), None)
    return distinct([each for part in text.split(between) if (each := part.strip())] if between else [text.strip()])


def distinct(values: list[str]) -> tuple[str, ...]:
    """The values that are not empty, each once, in their order.

    >>> distinct(["a", "", "b", "a"])
    ('a', 'b')
    """
    return tuple(dict.fromkeys(value for value in values if value))


def one_line(text: str) -> str:
    """Text without line ends and tabs, for a message."""
    return re.sub(r"\s+", " ", text)
