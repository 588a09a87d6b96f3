"""Comparisons and estimates as text: tables for a terminal, tab-separated elsewhere. Computes nothing."""

import math
import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text
from riverrank.operators.experiment import CONTROL
from riverrank.state.records.printable import printable

from .clusters import LEAST_USERS, Estimate
from .compare import Comparison
from .estimate import Estimation

NAMES = {
    "click_through": "click-through",
    "reward": "reward a slate",
    "hr10": "HR@10",
    "ndcg10": "NDCG@10",
}


def show(title: str, rows: Sequence[Sequence[str]], warnings: Iterable[str]) -> None:
    """Print a table, whose first row is its head, on standard output, and then warnings."""
    cells = [[printable(cell) for cell in row] for row in rows]
    if sys.stdout.isatty():
        table = Table(title=Text(title), title_justify="left")
        for number, name in enumerate(cells[0]):
            table.add_column(Text(name), justify="right" if number else "left")
        for row in cells[1:]:
            table.add_row(*map(Text, row))
        Console(highlight=False).print(table)
    else:
        print(title)
        print("\n".join("\t".join(row) for row in cells))
    for warning in warnings:
        print(f"warning: {printable(warning)}")


def comparison(report: Comparison) -> tuple[str, list[list[str]]]:
    """The title and the rows of a comparison: a row an arm and measure."""
    ratio = "" if report.sample_ratio is None else f", sample ratio p = {report.sample_ratio:.2g}"
    basis = "that were seen" if report.seen else "in all"
    title = f"{report.slates} slates, {report.events} events; slates {basis}{ratio}; intervals hold at every look"
    rows = [["measure", "arm", "users", "of", "value", "95 %", "less control", "95 %", "says"]]
    for name, called in NAMES.items():
        for arm, figures in report.arms.items():
            value, less = figures.measures[name], figures.differences.get(name)
            n = figures.choices if name in ("hr10", "ndcg10") else figures.slates
            row = [called, arm, str(figures.users), str(n), number(value.value), interval(value.always)]
            if less is None:
                row += ["", "", ""]
            else:
                users = min(figures.users, report.arms[CONTROL].users)
                row += [number(less.value), interval(less.always), verdict(less, users)]
            rows.append(row)
    return title, rows


def estimation(report: Estimation) -> tuple[str, list[list[str]]]:
    """The title and the rows of an estimation: a row an estimator."""
    basis = " that were seen" if report.seen else ""
    title = f"{report.slates} slates{basis} of {report.users} users, {report.depth} ranks at most; reward a slate"
    rows = [["of", "by", "value", "95 %", "more than logged", "95 %", "effective slates", "mean weight"]]
    for of, earned in report.earned.items():
        rows.append([of, "logged", number(earned.value), interval(earned.once), "", "", "", ""])
        for figure in report.figures:
            if figure.of == of:
                cells = [number(figure.earned.value), interval(figure.earned.once)]
                cells += [number(figure.more.value), interval(figure.more.once), f"{figure.sample:.0f}"]
                rows.append([of, figure.estimator, *cells, number(report.weights[of].value)])
    return title, rows


def verdict(difference: Estimate, users: int) -> str:
    """What the interval that holds at every look says of a difference, where the smaller arm has so many users."""
    low, high = difference.always
    if math.isnan(low):
        return "too few" if users < LEAST_USERS else "can't be told"
    return "higher" if low > 0 else "lower" if high < 0 else "no difference shown"


def number(value: float) -> str:
    """A figure, in four digits."""
    return "" if math.isnan(value) else f"{value:.4g}"


def interval(bounds: tuple[float, float]) -> str:
    """Two figures.

    >>> interval((0.12345, 2.0)), interval((math.nan, math.nan))
    ('0.1235 to 2', '')
    """
    return "" if math.isnan(bounds[0]) else f"{number(bounds[0])} to {number(bounds[1])}"
