"""Lines over minutes as points of an SVG, and the same numbers for a table. Text of others is drawn nowhere in it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

WIDTH, HEIGHT = 480, 150  # of the drawing, in its own units
LEFT, TOP, BOTTOM = 48, 10, 22  # room for the axes
COLOURS = 6  # that the stylesheet tells lines apart by


@dataclass(frozen=True)
class Line:
    """One line: its name, and its pieces, each the `points` of a polyline; a gap lies between two pieces."""

    name: str
    colour: int
    pieces: tuple[str, ...]
    last: tuple[float, float] | None


@dataclass(frozen=True)
class Chart:
    """Lines over the same minutes. `ticks` are heights with what they stand for; `rows` the table beside."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]
    times: tuple[tuple[float, str], ...]
    rows: tuple[tuple[str, tuple[str, ...]], ...]
    width: int = WIDTH
    height: int = HEIGHT
    left: int = LEFT

    @property
    def is_empty(self) -> bool:
        """Whether there is no number to draw."""
        return not any(line.pieces for line in self.lines)


def chart_of(
    title: str, unit: str, labels: Sequence[str], series: dict[str, list[float | None]], percent: bool = False
) -> Chart:
    """A chart of several series over the minutes that `labels` name, one number a minute, None for none.

    >>> chart = chart_of("t", "", ["10:00", "10:01"], {"a": [0.0, 0.4]}, percent=True)
    >>> chart.lines[0].pieces, chart.rows[1]
    (('48.0,128.0 480.0,33.6',), ('10:01', ('40 %',)))
    """
    top = _round_up(max((value for line in series.values() for value in line if value is not None), default=0.0))
    across = (WIDTH - LEFT) / max(1, len(labels) - 1)
    lines = tuple(
        _line(name, number % COLOURS, values, across, top) for number, (name, values) in enumerate(series.items())
    )
    ticks = tuple((_y(share * top, top), _said(share * top, percent)) for share in (0.0, 0.5, 1.0))
    step = max(1, math.ceil(len(labels) / 4))
    times = tuple((LEFT + n * across, label) for n, label in enumerate(labels) if n % step == 0 and n + 1 < len(labels))
    rows = tuple(
        (label, tuple(_said(values[number], percent) for values in series.values()))
        for number, label in enumerate(labels)
    )
    return Chart(title, unit, lines, ticks, times, rows)


def _line(name: str, colour: int, values: list[float | None], across: float, top: float) -> Line:
    pieces: list[list[tuple[float, float]]] = [[]]
    for number, value in enumerate(values):
        if value is None:
            pieces.append([])
        else:
            pieces[-1].append((round(LEFT + number * across, 1), _y(value, top)))
    drawn = [piece for piece in pieces if piece]
    dots = [piece if len(piece) > 1 else [(piece[0][0] - 1.5, piece[0][1]), piece[0]] for piece in drawn]
    points = tuple(" ".join(f"{x},{y}" for x, y in piece) for piece in dots)
    return Line(name, colour, points, drawn[-1][-1] if drawn else None)


def _y(value: float, top: float) -> float:
    return round(TOP + (HEIGHT - TOP - BOTTOM) * (1 - value / top), 1)


def _round_up(value: float) -> float:
    """The next of 1, 2 or 5 times a power of ten; 1 for nothing.

    >>> [_round_up(value) for value in (0.0, 0.03, 7.0, 130.0)]
    [1.0, 0.05, 10.0, 200.0]
    """
    if not value > 0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(float(f"{step * power:.6g}") for step in (1, 2, 5, 10) if step * power >= value * (1 - 1e-9))


def _said(value: float | None, percent: bool) -> str:
    """In few characters.

    >>> [_said(value, False) for value in (None, 0.25, 2000.0, 45_000.0, 1.8e12)]
    ['–', '0.25', '2000', '45k', '1.8T']
    """
    if value is None:
        return "–"
    if percent:
        return f"{100 * value:.3g} %"
    if value < 10_000:
        return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
    thousands = min(4, int(math.log10(value)) // 3)
    return f"{value / 1000**thousands:.3g}{' kMGT'[thousands]}"
