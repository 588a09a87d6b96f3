"""The learning curves of `riverrank evaluate` as an SVG, drawn by leather: pure Python, where matplotlib is 30 MB."""

import leather

from .report import OWN, Report

COLOURS = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
WIDTH, HEIGHT = 900, 480  # pixels
SPARE = 1.1  # of the highest value, up to which the scale goes

for _text in ("title", "legend", "axis_title", "tick"):
    setattr(leather.theme, f"{_text}_font_family", "sans-serif")
leather.theme.background_color = "#ffffff"


def drawn(report: Report) -> str:
    """HR@10 of each policy over the tests."""
    chart = leather.Chart(f"HR@10 over {report.tests} tests")
    highest = max((max(policy.curve) for policy in report.policies.values()), default=0.0)
    chart.add_x_scale(0, report.tests)
    chart.add_y_scale(0, SPARE * highest or 1.0)
    chart.add_x_axis(name="tests", tick_formatter=lambda value, *_: f"{value:.0f}")
    chart.add_y_axis(tick_formatter=lambda value, *_: f"{value:.3f}")
    for number, (name, policy) in enumerate(report.policies.items()):
        step = report.tests / len(policy.curve)
        chart.add_line(
            [((k + 0.5) * step, value) for k, value in enumerate(policy.curve)],
            name=f"{name} {policy.all.hr10 or 0.0:.4f}",
            stroke_color=COLOURS[number % len(COLOURS)],
            width=3 if name == OWN else 1.5,
            stroke_dasharray=str(2 + 2 * (number // len(COLOURS))) if number >= len(COLOURS) else None,
        )
    return str(chart.to_svg(width=WIDTH, height=HEIGHT))
