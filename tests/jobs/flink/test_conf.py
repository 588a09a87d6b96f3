"""What stands in `flink-conf` for clusters and again in the code for embedded runs is the same."""

import functools
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from riverrank.jobs.flink import embedded, jars, java
from ruamel.yaml import YAML

CONF = Path(__file__).parents[3] / "flink-conf" / "config.yaml"


def on_a_cluster(key: str) -> Any:
    return functools.reduce(lambda tree, name: tree[name], key.split("."), YAML(typ="safe").load(CONF))


def test_a_clusters_taskmanagers_have_the_java_options_of_embedded_ones() -> None:
    assert on_a_cluster("env.java.opts.taskmanager").split() == list(java.CHEAP_EXCEPTIONS)


def test_a_clusters_buffers_are_as_short_as_embedded_ones() -> None:
    assert {key: str(on_a_cluster(key)) for key in embedded.SHORT_BUFFERS} == embedded.SHORT_BUFFERS


def logged(file: str, form: str, folder: Path) -> list[str]:
    """What a TaskManager without a configuration logs by that log4j file, on its console or to its file."""
    (folder / "config.yaml").touch()
    program, log = jars.java_home() / "bin" / "java", folder / "log"
    where = (f"-Dlog4j.configurationFile={(CONF.parent / file).as_uri()}", f"-Dlog.file={log}")
    command = [program, *where, "-cp", os.pathsep.join(map(str, jars.flink())), embedded.RUNNER, "--configDir", folder]
    environment = {name: value for name, value in os.environ.items() if name != "RIVERRANK_LOG"}
    environment |= {"RIVERRANK_LOG": form} if form else {}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)
    assert done.returncode == 1
    if file == "log4j.properties":  # log4j may have begun a second file on its way out
        files = sorted(folder.glob("log*"), reverse=True)
        return "".join(each.read_text("utf-8") for each in files).splitlines()
    return done.stdout.splitlines()


@pytest.mark.parametrize("file", ["log4j.properties", "log4j-console.properties"])
def test_flink_logs_json_where_the_job_does_and_else_as_ever(file: str, tmp_path: Path) -> None:
    found = [json.loads(line) for line in logged(file, "json", tmp_path)]
    fields = ["time", "level", "logger", "message"]
    assert len(found) > 10 and all(list(each) == fields for each in found[:-1])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", each["time"]) for each in found)
    assert found[0]["level"] == "INFO" and found[-1]["level"] == "ERROR"
    assert list(found[-1]) == [*fields, "exception"] and "\n\tat org.apache.flink" in found[-1]["exception"]
    for number, form in enumerate(("text", "")):
        (tmp_path / str(number)).mkdir()
        lines = logged(file, form, tmp_path / str(number))
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO  org\.apache\.flink", lines[0])
        assert any(line.startswith("\tat org.apache.flink") for line in lines)
