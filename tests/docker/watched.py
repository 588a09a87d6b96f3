"""What tests of the alerts and of the dashboard share: the metrics there are, and Prometheus with its tools."""

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from riverrank.jobs.dev import services
from riverrank.jobs.processes import OwnedProcess
from riverrank.jobs.serving.http.metrics import Metrics
from riverrank.operators.metrics import GROUP, METRICS
from ruamel.yaml import YAML

ROOT = Path(__file__).resolve().parents[2]
RULES = ROOT / "docker" / "prometheus" / "alerts.yml"
SCRAPING = RULES.with_name("prometheus.yml")
DASHBOARD = ROOT / "docker" / "grafana" / "riverrank.json"
OURS = f"flink_taskmanager_job_task_operator_{GROUP}_"
# Of Flink's own, those that are used here: `test_prometheus` sees that a running job has each.
FLINKS = {
    "flink_jobmanager_numRunningJobs",
    "flink_jobmanager_job_numRestarts",
    "flink_jobmanager_job_runningTime",
    "flink_jobmanager_job_numberOfCompletedCheckpoints",
    "flink_jobmanager_job_numberOfFailedCheckpoints",
    "flink_jobmanager_job_lastCheckpointDuration",
    "flink_jobmanager_job_lastCheckpointSize",
    "flink_taskmanager_Status_JVM_CPU_Load",
    "flink_taskmanager_Status_JVM_Memory_Heap_Max",
    "flink_taskmanager_Status_JVM_Memory_Heap_Used",
    "flink_taskmanager_job_task_busyTimeMsPerSecond",
    "flink_taskmanager_job_task_numRecordsIn",
    "flink_taskmanager_job_task_operator_pendingRecords",
}
Rule = dict[str, Any]


def exported(name: str) -> str:
    """The metric of that name of METRICS as Prometheus knows it."""
    label = METRICS[name].label
    return f"{OURS}{label}_{name}" if label else f"{OURS}{name}"


def rules() -> list[Rule]:
    """Every rule of every group, in their order."""
    return [rule for group in YAML(typ="safe").load(RULES)["groups"] for rule in group["rules"]]


def alerts() -> dict[str, Rule]:
    """The rules that are alerts, by name."""
    return {rule["alert"]: rule for rule in rules() if "alert" in rule}


def shown() -> list[str]:
    """Every expression of the dashboard."""
    panels = json.loads(DASHBOARD.read_text("utf-8"))["panels"]
    return [target["expr"] for panel in panels for target in panel.get("targets", ())]


def named(text: str) -> set[str]:
    """The names of metrics and recorded rules in an expression, or on a page."""
    return set(re.findall(r"\bflink_\w+|\briverrank:[\w:]+|\briverrank_serve_\w+", text))


def served() -> set[str]:
    """The metrics that `riverrank serve` tells, as Prometheus knows them; of a histogram its buckets stand for all."""
    metrics = Metrics()
    metrics.watch({"redis": lambda: True}, lambda: 0)
    kinds = re.findall(r"^# TYPE (\w+) (\w+)$", metrics.text().decode(), re.MULTILINE)
    names = {f"{name}_bucket" if kind == "histogram" else name for name, kind in kinds}
    return {name for name in names if not name.endswith("_created")}


def tool(name: str) -> str:
    """Prometheus's program of that name, on PATH or beside this Python; the test is skipped where it is absent."""
    beside = [os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)]
    found = shutil.which(name, path=os.pathsep.join(beside))
    if found is None:
        pytest.skip(f"{name} is not here: `make prometheus` gets it on Debian, or install Prometheus")
    return found


def promtool(*arguments: object) -> None:
    """Run it; it must find no fault."""
    done = subprocess.run(
        [tool("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def loopback_servers(folder: Path) -> str:
    """Options of a Java by which all its HTTP servers listen at 127.0.0.1, once `folder` is on its class path."""
    code = f"""
from pathlib import Path
from pyflink.java_gateway import get_gateway
from riverrank.jobs.flink.java import prepare_environment
prepare_environment()
compiler = get_gateway().jvm.org.codehaus.janino.SimpleCompiler()
compiler.cook(Path({str(Path(__file__).with_name("LoopbackServers.java"))!r}).read_text("utf-8"))
for name, compiled in compiler.getBytecodes().items():
    Path({str(folder)!r}, f"{{name}}.class").write_bytes(compiled)
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    return (
        "-Dcom.sun.net.httpserver.HttpServerProvider=LoopbackServers "
        "--add-exports=jdk.httpserver/sun.net.httpserver=ALL-UNNAMED"
    )


class Prometheus(services.Service):
    """A Prometheus that asks these ports of this machine each second, and looks at the rules of the text as often."""

    name = "prometheus"

    def __init__(self, rules: str, ports: Iterable[int]) -> None:
        super().__init__()
        self._rules, self._targets = rules, [f"127.0.0.1:{port}" for port in ports]

    def get(self, path: str, **parameters: str) -> Any:
        """What its API answers."""
        url = f"http://127.0.0.1:{self.port}/api/v1/{path}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return json.load(answer)["data"]

    def firing(self) -> set[str]:
        """The names of the alerts that fire now."""
        return {each["labels"]["alertname"] for each in self.get("alerts")["alerts"] if each["state"] == "firing"}

    def value(self, expression: str) -> float:
        """What an expression of one series is now, 0 for none."""
        found = self.get("query", query=expression)["result"]
        return float(found[0]["value"][1]) if found else 0.0

    def names(self) -> set[str]:
        """The names of all metrics that it has seen."""
        return set(self.get("label/__name__/values"))

    def _prepare(self, folder: Path) -> OwnedProcess:
        yaml = YAML(typ="safe")
        config = yaml.load(SCRAPING)
        config["global"] = {"scrape_interval": "1s", "scrape_timeout": "1s", "evaluation_interval": "1s"}
        scrape, _ = config["scrape_configs"]  # Flink's, and that of slates by HTTP
        config["scrape_configs"] = [scrape]
        del scrape["dns_sd_configs"]
        scrape["static_configs"] = [{"targets": self._targets}]
        (folder / "alerts.yml").write_text(self._rules, "utf-8")
        with (folder / "prometheus.yml").open("w", encoding="utf-8") as file:
            yaml.dump(config, file)
        command: list[str | Path] = [
            tool("prometheus"),
            f"--config.file={folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{self.port}",
        ]
        return OwnedProcess(self.name, command, folder / "prometheus.log")

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/-/ready", timeout=5) as answer:
                return bool(answer.status == 200)
        except OSError:
            return False  # it is starting
