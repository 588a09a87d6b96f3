"""The picture of growth: one chart an axis, the cost of an event over a logarithmic scale of what grows."""

import math
from collections.abc import Sequence
from pathlib import Path

import leather

from .growth import Point

WIDTH, HEIGHT = 1000, 760
SPARE = 1.2  # of the highest value, what the scale goes up to
MARGIN = 0.15  # powers of ten, on either side
_FONTS = ("title", "legend", "axis_title", "tick")

for _font in _FONTS:
    setattr(leather.theme, f"{_font}_font_family", "sans-serif")
leather.theme.background_color = "#ffffff"
leather.theme.label_color = leather.theme.title_color


def draw(points: Sequence[Point], path: Path) -> None:
    """Write an SVG of all points, in charts of one scale: the median of each with a line, the extremes as dots."""
    highest = SPARE * max(point.microseconds.high for point in points)
    grid = leather.Grid()
    for axis in dict.fromkeys(point.axis for point in points):
        grid.add_one(_chart(axis, [point for point in points if point.axis == axis], highest))
    grid.to_svg(str(path), WIDTH, HEIGHT)


def _chart(axis: str, points: Sequence[Point], highest: float) -> leather.Chart:
    at = [math.log10(point.value) for point in points]
    chart = leather.Chart(f"Microseconds an event, by {axis}")
    chart.add_x_scale(at[0] - MARGIN, at[-1] + MARGIN)
    chart.add_y_scale(0, highest)
    chart.add_x_axis(ticks=at, tick_formatter=lambda value, *_: f"{10**value:,.0f}", name=axis)
    chart.add_y_axis(tick_formatter=lambda value, *_: f"{value:,.0f}")
    medians = [(x, point.microseconds.median) for x, point in zip(at, points, strict=True)]
    extremes = [
        (x, value)
        for x, point in zip(at, points, strict=True)
        for value in (point.microseconds.low, point.microseconds.high)
    ]
    chart.add_line(medians, name="median")
    chart.add_dots(extremes, name="extremes")
    return chart
