"""An output has its channels as soon as the registry has an entry for it."""

import subprocess
import sys

import pytest
from adapters import feedback, recommend
from riverrank.operators.flink.channels import Outputs
from riverrank.state import outputs as registry


def test_an_output_is_added_by_one_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    toy = registry.Output("versions", "versions", "", registry.Origin.ANSWER, lambda answer: [b"%d" % answer.version])
    monkeypatch.setitem(registry.OUTPUTS, "versions", toy)
    harness = recommend(Outputs(lines=frozenset({"versions"}), records=frozenset({"versions"})))
    harness.element(feedback("e1"), "u")
    assert harness.sides == {"versions-lines": ["1"], "versions-records": [("u", b"1")]}


TOY = """
from riverrank.state.outputs import OUTPUTS, Origin, Output
OUTPUTS["toys"] = Output("toys", "toys", "toys", Origin.ANSWER, lambda answer: [])
from riverrank.jobs.config.schema import FLAGS, parse
from riverrank.jobs.flink import sinks
for table in ({"files": {"toys": "t.jsonl"}}, {"kafka": {"bootstrap": "h:1"}}):
    wanted = sinks.outputs(parse(table))
    print("toys" in wanted.lines, "toys" in wanted.records, "--toys" in FLAGS)
"""


def test_the_topology_wants_an_output_as_soon_as_it_has_an_entry() -> None:
    done = subprocess.run([sys.executable, "-c", TOY], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.splitlines() == ["True False True", "False True True"]
