"""Standard streams that are closed are told of in one line, by the command that needs them."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from console_script import SCRIPT, assert_one_line

INPUT, OUTPUT = "standard input is closed; give it something", "standard output is closed; let it go somewhere"


def with_closed(closing: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """One run of the console script with what the shell closes by `closing`, as `>&-`."""
    command = ["sh", "-c", f'exec "$0" "$@" {closing}', SCRIPT, *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize(
    ("closing", "told", "arguments"),
    [
        (">&-", OUTPUT, ("replay", "--events", "EVENTS", "--slates", "-")),
        (">&-", OUTPUT, ("run", "--events", "EVENTS", "--slates", "-")),
        (">&-", OUTPUT, ("check",)),
        (">&-", OUTPUT, ("erase", "u-17")),
        (">&-", OUTPUT, ("evaluate", "--events", "EVENTS")),
        (">&-", OUTPUT, ("starters", "--events", "EVENTS", "--items", "ITEMS")),
        (">&-", OUTPUT, ("demo",)),
        (">&-", OUTPUT, ("drift",)),
        (">&-", OUTPUT, ("--help",)),
        ("<&-", INPUT, ("replay", "--events", "-")),
        ("<&-", INPUT, ("run", "--events", "-")),
        ("<&-", INPUT, ("prior", "--events", "-", "--out", "PRIOR")),
        ("<&- >&-", INPUT, ("replay", "--events", "-")),
    ],
)
def test_one_that_is_needed_is_told_of_in_one_line(
    closing: str, told: str, arguments: tuple[str, ...], events: Path, items: Path, tmp_path: Path
) -> None:
    paths = {"EVENTS": events, "ITEMS": items, "PRIOR": tmp_path / "prior"}
    done = with_closed(closing, *(paths.get(argument, argument) for argument in arguments))
    assert_one_line(done, 2, told)


def test_those_that_are_not_needed_are_not_missed_and_no_file_takes_their_place(events: Path, tmp_path: Path) -> None:
    slates = tmp_path / "slates.jsonl"
    done = with_closed("<&- >&- 2>&-", "replay", "--events", events, "--slates", slates)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert [json.loads(line)["trigger"] for line in slates.open()] == [f"e{n}" for n in range(60)]


def test_what_is_printed_is_the_same_without_standard_error(events: Path) -> None:
    """And what would be said there is not said elsewhere."""
    assert json.loads(with_closed("2>&-", "erase", "u-17").stdout)["user_id"] == "u-17"
    failed = with_closed("2>&-", "replay", "--events", os.devnull + "/nothing")
    assert (failed.returncode, failed.stdout) == (2, "")
