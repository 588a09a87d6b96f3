"""Durations as a configuration has them: a number with a unit, or a whole number of milliseconds."""

import re

UNITS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
LONGEST = 36_500 * UNITS["d"]  # a hundred years


def milliseconds(value: object) -> int:
    """A duration as milliseconds. Raises ValueError for what is none; it says what was expected, not what was given.

    >>> milliseconds("1.5h"), milliseconds("200ms"), milliseconds(5)
    (5400000, 200, 5)
    """
    result: float | None = None
    if isinstance(value, int) and not isinstance(value, bool):
        result = value
    elif isinstance(value, str) and (match := re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)\s*", value)):
        result = round(float(match[1]) * UNITS[match[2]], 6)
    if result is None or result != int(result):
        raise ValueError('expected a duration such as "1h", "200ms" or a whole number of milliseconds')
    if not 0 <= result <= LONGEST:
        raise ValueError('expected a duration from "0ms" to "36500d"')
    return int(result)


def duration(milliseconds: int) -> str:
    """Milliseconds in the largest unit that leaves no rest.

    >>> duration(5_400_000), duration(0)
    ('90m', '0ms')
    """
    units = reversed(UNITS.items())
    unit, length = next((u, n) for u, n in units if milliseconds % n == 0 and (milliseconds or n == 1))
    return f"{milliseconds // length}{unit}"
