"""The report of `riverrank evaluate`: its shape as JSON, as text for a terminal, and the learning curves as a picture.

Computes nothing.
"""

from collections.abc import Iterable, Sequence
from xml.sax.saxutils import escape

import msgspec

from .metrics import AT, Clicks, Difference, Hits, Ratings, Showing

OWN = "riverrank"
BLOCKS = "▁▂▃▄▅▆▇█"
COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 900, 480, 60, 190, 40, 50  # of the picture and its margins, in pixels


class PolicyReport(msgspec.Struct, frozen=True):
    """The figures of one policy; `curve` is HR@10 over consecutive stretches of the tests."""

    all: Hits
    first_5: Hits
    from_20th: Hits
    last_fifth: Hits
    shown: Showing
    curve: list[float]


class Against(msgspec.Struct, frozen=True, rename=AT):
    """The job's own policy less another, by test; `first` and `first_5` are HR@10 of users' first and first five."""

    hr10: Difference
    ndcg10: Difference
    first: Difference
    first_5: Difference


class Report(msgspec.Struct, frozen=True):
    """All of it. `unserved` counts positive interactions before their user's first slate, which are no tests."""

    events: int
    dead_letters: int
    slates: int
    tests: int
    unserved: int
    users: int
    servable_items: int
    repeat: bool
    seconds: float
    policies: dict[str, PolicyReport]
    differences: dict[str, Against]
    ratings: Ratings | None
    clicks: Clicks | None


def text(report: Report) -> str:
    """The report in plain text."""
    head = (
        f"{report.events} events, {report.slates} slates, {report.tests} tests of {report.users} users "
        f"({report.unserved} positive interactions came before any slate), {report.dead_letters} dead letters, "
        f"slate.repeat {'on' if report.repeat else 'off'}, {report.seconds:.0f} s"
    )
    parts = [head, _quality(report), _differences(report), _curves(report), _predictions(report)]
    return "\n\n".join(part for part in parts if part)


def _quality(report: Report) -> str:
    heads = "HR@10 HR@20 NDCG@10 MRR@20 first_5 from_20th last_fifth coverage Gini novelty diversity"
    rows = [["", *heads.split()]]
    for name, policy in report.policies.items():
        hits, shown = policy.all, policy.shown
        others = (policy.first_5.hr10, policy.from_20th.hr10, policy.last_fifth.hr10)
        shares = (hits.hr10, hits.hr20, hits.ndcg10, hits.mrr20, *others)
        cells = [_figure(share, 4) for share in shares]
        cells += [_figure(shown.coverage, 3), _figure(shown.gini, 3), _figure(shown.novelty, 2)]
        rows.append([name, *cells, _figure(shown.diversity, 3)])
    note = "first_5, from_20th, last_fifth: HR@10 of users' first five and from their 20th on, and of the last fifth"
    return f"{_table(rows)}\n{note}"


def _differences(report: Report) -> str:
    if not report.differences:
        return ""
    rows = [[f"{OWN} less", "HR@10", "in errors", "NDCG@10", "in errors", "first", "in errors", "first_5", "in errors"]]
    for name, against in report.differences.items():
        cells = [name]
        for difference in msgspec.structs.astuple(against):
            told = f"{difference.mean:+.4f} ± {difference.error:.4f}", f"{difference.errors:+.1f}"
            cells += told if difference.error else ("-", "-")
        rows.append(cells)
    note = "paired by test, standard errors clustered by user; first, first_5: HR@10 of users' first and first five"
    return f"{_table(rows)}\n{note}"


def _curves(report: Report) -> str:
    highest = max((max(policy.curve) for policy in report.policies.values()), default=0.0)
    rows = [["HR@10 over time", "", "first", "last"]]
    for name, policy in report.policies.items():
        curve = policy.curve
        rows.append([name, sparkline(curve, highest), _figure(curve[0], 4), _figure(curve[-1], 4)])
    return f"{_table(rows)}\n{len(curve)} stretches of equal length, from 0 to {highest:.4f}"


def _predictions(report: Report) -> str:
    rows = [
        [f"{kind}", *(f"{name} {_figure(value, 4)}" for name, value in msgspec.structs.asdict(figures).items())]
        for kind, figures in (("ratings", report.ratings), ("clicks", report.clicks))
        if figures is not None
    ]
    return "predictions, made before learning\n" + "\n".join(", ".join(row) for row in rows) if rows else ""


def sparkline(values: Sequence[float], highest: float) -> str:
    """Values from 0 to `highest` as blocks of eight heights.

    >>> sparkline([0.0, 0.5, 1.0], 1.0)
    '▁▄█'
    """
    scale = (len(BLOCKS) - 1) / highest if highest > 0 else 0.0
    return "".join(BLOCKS[int(value * scale)] for value in values)


def drawn(report: Report) -> str:
    """The learning curves as SVG: HR@10 of each policy over the tests."""
    highest = 1.1 * max((max(policy.curve) for policy in report.policies.values()), default=0.0) or 1.0
    across, down = WIDTH - LEFT - RIGHT, HEIGHT - TOP - BOTTOM

    def place(share: float, value: float) -> tuple[float, float]:
        return LEFT + share * across, TOP + (1.0 - value / highest) * down

    parts = [_label(LEFT, TOP - 15, f"HR@10 over {report.tests} tests")]
    for step in range(5):
        x, y = place(step / 4, highest * step / 4)
        parts += [
            f'<line x1="{LEFT}" y1="{y:.1f}" x2="{LEFT + across}" y2="{y:.1f}" stroke="#dddddd"/>',
            _label(LEFT - 8, y + 4, f"{highest * step / 4:.3f}", "end"),
            _label(x, HEIGHT - BOTTOM + 20, f"{report.tests * step // 4}", "middle"),
        ]
    parts.append(_label(LEFT + across / 2, HEIGHT - 10, "tests", "middle"))
    for number, (name, policy) in enumerate(report.policies.items()):
        colour = COLOURS[number % len(COLOURS)]
        dashes = f' stroke-dasharray="{2 + 2 * (number // len(COLOURS))}"' if number >= len(COLOURS) else ""
        look = f'fill="none" stroke="{colour}" stroke-width="{3 if name == OWN else 1.5}"{dashes}'
        n = len(policy.curve)
        points = " ".join("{:.1f},{:.1f}".format(*place((k + 0.5) / n, v)) for k, v in enumerate(policy.curve))
        y = TOP + 10 + 18 * number
        parts += [
            f'<polyline {look} points="{points}"/>',
            f'<polyline {look} points="{WIDTH - RIGHT + 15},{y} {WIDTH - RIGHT + 40},{y}"/>',
            _label(WIDTH - RIGHT + 47, y + 4, f"{name} {_figure(policy.all.hr10, 4)}"),
        ]
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    style = 'font-family="sans-serif" font-size="13"'
    ground = '<rect width="100%" height="100%" fill="white"/>'
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" {size} {style}>', ground, *parts, "</svg>\n"])


def _label(x: float, y: float, words: str, anchor: str = "start") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{escape(words)}</text>'


def _figure(value: float | None, digits: int) -> str:
    """A number of `digits` after the point, a dash where there is none.

    >>> _figure(0.5, 3), _figure(7, 3), _figure(None, 3)
    ('0.500', '7', '-')
    """
    if value is None:
        return "-"
    return str(value) if isinstance(value, int) else f"{value:.{digits}f}"


def _table(rows: Iterable[Sequence[str]]) -> str:
    """Columns of cells: the first to the left, the others to the right."""
    held = list(rows)
    widths = [max(map(len, column)) for column in zip(*held, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in held
    )
