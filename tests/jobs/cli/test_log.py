"""What is logged: as text, or on request as one JSON object a line, from every process of a run."""

import json
import logging
import re
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest
from console_script import assert_one_line, click, lines, riverrank
from riverrank.jobs.config.schema import parse
from riverrank.jobs.flink.embedded import EmbeddedFlink
from riverrank.state.runtime.logs import JsonLines

FIELDS = ["time", "level", "logger", "message"]


def logged(text: str) -> list[dict[str, str]]:
    """Every line as the object that it is."""
    found = [json.loads(line) for line in text.splitlines()]
    assert found and all(list(each) == FIELDS for each in found)
    return found


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_run_logs_json_and_its_results_are_as_ever(how: str, events: Path) -> None:
    flag = ("--log-format", "json") if how == "flag" else ()
    environment = {"RIVERRANK_LOG": "json"} if how == "environment" else {}
    done = riverrank(*flag, "replay", "--events", events, "--slates", "-", environment=environment)
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 60
    (line,) = logged(done.stderr)
    assert (
        line["level"] == "INFO" and line["logger"] == "riverrank.jobs.local.replay" and "60 slates" in line["message"]
    )
    age = datetime.now(UTC) - datetime.fromisoformat(line["time"])
    assert 0 <= age.total_seconds() < 60


def test_the_flag_goes_before_the_environment(events: Path) -> None:
    done = riverrank("--log-format", "text", "replay", "--events", events, environment={"RIVERRANK_LOG": "json"})
    assert done.returncode == 0 and re.search(r"^60 slates in ", done.stderr, re.MULTILINE)


@pytest.mark.parametrize("arguments", [("replay", "--events", "absent"), ("replay", "--nonsense"), ("no-command",)])
def test_a_mistake_is_one_object_too(arguments: tuple[str, ...]) -> None:
    done = riverrank("--log-format", "json", *arguments)
    (line,) = logged(done.stderr)
    assert done.returncode == 2 and (line["level"], line["logger"]) == ("ERROR", "riverrank")


def test_another_format_is_refused(events: Path) -> None:
    done = riverrank("replay", "--events", events, environment={"RIVERRANK_LOG": "yaml"})
    assert_one_line(done, 2, "RIVERRANK_LOG: expected text or json, got 'yaml'")
    assert_one_line(riverrank("--log-format", "yaml", "replay"), 2, "--log-format")


def test_operators_in_a_flink_process_log_json_and_a_run_hands_their_lines_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code = (
        "import logging; from riverrank.operators.flink.shipped import tell_on_standard_error as tell\n"
        "tell(); log = logging.getLogger('riverrank.operators.cache'); log.warning('Redis is %s', 'a\\nway')\n"
        "try: 1 / 0\n"
        "except ZeroDivisionError: log.exception('100 %% of %s', 'it')"
    )
    environment = {"RIVERRANK_LOG": "json", "PATH": ""}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True, env=environment
    )
    first, second = map(json.loads, done.stderr.splitlines())
    assert list(first) == FIELDS and first["message"] == "Redis is a\nway"
    assert "ZeroDivisionError" in second["exception"]
    flink = EmbeddedFlink(parse({}), tmp_path)
    flink._taskmanagers[0].log.write_text(f"2026-01-01 INFO Flink's own\n{done.stderr}" + '{"time": "no"}\n')
    flink.tell()
    handed_on = [json.loads(JsonLines().format(record)) for record in caplog.records]
    assert handed_on == [first, second]
    assert {record.levelno for record in caplog.records} == {logging.WARNING, logging.ERROR}


def test_what_is_not_json_by_itself_stays_on_its_line() -> None:
    record = logging.makeLogRecord({"msg": 'a "b"\n\u2028\x1b[31m\ud800', "name": "n"})
    line = JsonLines().format(record)
    assert line.isascii() and "\n" not in line and json.loads(line)["message"] == record.getMessage()


def test_a_run_says_what_it_reads_and_writes_and_what_came_of_it(tmp_path: Path) -> None:
    events, slates = tmp_path / "e.jsonl", tmp_path / "s.jsonl"
    late = click("late", 1)
    events.write_text(lines(*(click(f"e{n}", 10**9 + n) for n in range(9)), click("e3", 10**9 + 3), late) + "{broken\n")
    done = riverrank("run", "--events", events, "--slates", slates)
    assert done.returncode == 0, done.stderr
    told = done.stderr.splitlines()
    assert told[:2] == [f"reads events from {events}", f"writes slates to {slates}"]
    assert told[2].startswith("running; Flink's page is http://127.0.0.1:")
    assert told[3:5] == ["9 events accepted, 9 slates", "1 redeliveries, which do nothing"]
    assert told[5].startswith("2 dead letters (1 bad_json, 1 late); the first, events ")
    assert len(told) == 6
