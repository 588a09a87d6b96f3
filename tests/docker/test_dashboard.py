"""The dashboard is one that Grafana can show: its expressions parse, and it leaves out nothing that is told."""

import json
from pathlib import Path

from riverrank.operators.metrics import METRICS
from watched import DASHBOARD, exported, named, promtool, served, shown


def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    checked = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(shown())]
    assert len(checked) > 30
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": checked}]}), "utf-8")  # JSON is YAML
    promtool("check", "rules", path)


def test_the_dashboard_shows_every_metric_of_the_job_and_of_slates_by_http() -> None:
    assert {*map(exported, METRICS), *served()} - {
        name for expression in shown() for name in named(expression)
    } == set()


def test_panels_lie_beside_each_other_and_have_a_title_and_a_number_each() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels) > 25
