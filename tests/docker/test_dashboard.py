"""The dashboard is one that Grafana can show: its expressions parse, and it leaves out nothing that the job tells."""

import json
from pathlib import Path

from riverrank.operators.metrics import METRICS
from ruamel.yaml import YAML
from watched import DASHBOARD, ROOT, exported, named, promtool, shown

COMPOSE = ROOT / "docker" / "compose.yaml"


def test_every_expression_of_the_dashboard_parses(tmp_path: Path) -> None:
    checked = [{"record": f"panel:{number}", "expr": expression} for number, expression in enumerate(shown())]
    assert len(checked) > 30
    path = tmp_path / "panels.yml"
    path.write_text(json.dumps({"groups": [{"name": "panels", "rules": checked}]}), "utf-8")  # JSON is YAML
    promtool("check", "rules", path)


def test_the_dashboard_shows_every_metric_of_the_job() -> None:
    assert {*map(exported, METRICS)} - {name for expression in shown() for name in named(expression)} == set()


def test_panels_lie_beside_each_other_and_have_a_title_and_a_number_each() -> None:
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert panel["title"] and at["x"] + at["w"] <= 24 and not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels}) == len(panels) > 25


def test_containers_are_reached_from_this_machine_alone_and_are_given_files_that_there_are() -> None:
    services = YAML(typ="safe").load(COMPOSE)["services"]
    published = [port for service in services.values() for port in service.get("ports", ())]
    assert len(published) == 5 and all(port.startswith("127.0.0.1:") for port in published)
    given = [each.split(":")[0] for service in services.values() for each in service.get("volumes", ())]
    paths = [path for path in given if path.startswith("./")]
    assert len(paths) == 4 and all((COMPOSE.parent / path).exists() for path in paths)
