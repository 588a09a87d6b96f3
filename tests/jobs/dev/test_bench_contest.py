"""The contest of the bench: set-up is not in the figures, and a contestant that loses an event has none."""

import json
import re
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

import pytest
from riverrank.jobs.dev.benchmarks import contest, report
from riverrank.jobs.dev.benchmarks.contest import Contestant, Pace
from riverrank.jobs.errors import Failure
from riverrank.jobs.processes import ServiceError
from riverrank.state.records.incoming import Event

STAND_IN = """
import json
SLATES = {count}
items = [{{"item_id": f"i{{number}}"}} for number in range(20)]

def slates(first, count):
    return "".join(json.dumps({{"trigger": f"e{{n}}", "items": items}}) + "\\n" for n in range(first, first + count))
"""


@pytest.mark.parametrize("lump", [1, 20])
def test_set_up_and_closing_down_are_not_in_the_pace(tmp_path: Path, lump: int) -> None:
    """It writes 200 slates a second, one by one or in lumps, after a slow start, and with idleness before and after."""
    code = f"""
        import time
        time.sleep(1)
        due = time.monotonic()
        with open("slates.jsonl", "w") as file:
            for number in range(SLATES // {lump}):
                slow = {lump} * 0.02 if number * {lump} < 100 else 0.0
                time.sleep(slow)
                due += {lump} / 200 + slow
                while time.monotonic() < due:
                    pass
                file.write(slates(number * {lump}, {lump}))
                file.flush()
        time.sleep(1)
    """
    pace = contest.compared(run(code, tmp_path, 100), run(code, tmp_path, 500))
    assert pace.slates_per_second == pytest.approx(200, rel=0.2)
    assert 1 < pace.first_slate_seconds < 5


def test_processor_time_is_that_of_its_processes(tmp_path: Path) -> None:
    """Each slate costs a child 4 ms of processor time; its parent waits."""
    code = """
        import os, time
        child = os.fork()
        if child:
            os.waitpid(child, 0)
        else:
            with open("slates.jsonl", "w") as file:
                for number in range(SLATES):
                    until = time.process_time() + 0.004
                    while time.process_time() < until:
                        pass
                    file.write(slates(number, 1))
                    file.flush()
                time.sleep(0.6)
    """
    pace = contest.compared(run(code, tmp_path, 50), run(code, tmp_path, 400))
    assert pace.slates_per_cpu_second == pytest.approx(250, rel=0.2)


def test_too_few_slates_tell_no_pace(tmp_path: Path) -> None:
    at_once = "open('slates.jsonl', 'w').write(slates(0, SLATES))"
    assert contest.compared(run(at_once, tmp_path, 10), run(at_once, tmp_path, 20)) is None


def test_contestant_that_fails_shows_the_end_of_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="no luck today"):
        run("raise SystemExit('no luck today')", tmp_path, 10)


@pytest.mark.parametrize(
    ("answered", "complaint"),
    [
        (["a", "b"], "lost 1 of 3 events and gave 0 answers too many, c among them"),
        (["a", "b", "c", "c"], "lost 0 of 3 events and gave 1 answers too many, c among them"),
        (["a", "b", "x"], "lost 1 of 3 events and gave 1 answers too many, c among them"),
        ([], "lost 3 of 3 events"),
    ],
)
def test_lost_or_repeated_answers_are_a_failure(tmp_path: Path, answered: list[str], complaint: str) -> None:
    answers(tmp_path, answered)
    with pytest.raises(Failure, match=complaint):
        contest.check_answers(contestant(""), tmp_path, ["a", "b", "c"])


def test_short_slate_is_a_failure_and_whole_ones_are_none(tmp_path: Path) -> None:
    answers(tmp_path, ["b", "a"])
    contest.check_answers(contestant(""), tmp_path, ["a", "b"])
    answers(tmp_path, ["a", "b"], size=19)
    with pytest.raises(Failure, match="answered a with 19 items, not 20"):
        contest.check_answers(contestant(""), tmp_path, ["a", "b"])


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is twice as fast in the second round and thrice in the third; the job is half of replay in each."""
    rounds = [
        {
            "job": Pace(50 * f, 40, 9),
            "replay": Pace(100 * f, 80, 1),
            "tutorial": Pace(25 * f, 10, 8),
            "empty": Pace(200 * f, 160, 8),
        }
        for f in (1, 2, 3)
    ]
    job, *_ = contest.rows(rounds)
    assert job.per_second == (100, 50, 150)
    found = {ratio.name: (ratio.per_second, ratio.per_cpu_second) for ratio in contest.ratios(rounds)}
    assert found == {
        "replay / tutorial": ((4, 4, 4), (8, 8, 8)),
        "job / tutorial": ((2, 2, 2), (4, 4, 4)),
        "job / replay": ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        "job / empty": ((0.25, 0.25, 0.25), (0.25, 0.25, 0.25)),
    }
    del rounds[0]["empty"], rounds[1]["empty"], rounds[2]["tutorial"]  # done too soon to tell
    found = {ratio.name: ratio.per_second for ratio in contest.ratios(rounds)}
    assert found == {name: (value,) * 3 for name, value in zip(found, (4, 2, 0.5, 0.25), strict=True)}
    assert [row.per_second.median for row in contest.rows(rounds)] == [100, 200, 37.5, 600]
    del rounds[2]["empty"]
    assert [ratio.name for ratio in contest.ratios(rounds)] == ["replay / tutorial", "job / tutorial", "job / replay"]
    printed = report.plain(*report.contest_table([job])).splitlines()
    assert re.split("  +", printed[1]) == ["job", "3", "100 (50 to 150)", "40 (40 to 40)", "9.0 (9.0 to 9.0)"]


def contestant(code: str) -> Contestant:
    return Contestant("it", (sys.executable, "-c", code), "slates.jsonl", "slates.jsonl")


def run(code: str, folder: Path, count: int) -> contest.Run:
    """A stand-in that has `SLATES` to write, in `code`, with the help of `slates(first, count)`."""
    stand_in = STAND_IN.format(count=count) + textwrap.dedent(code)
    events = [Event(f"e{number}", "request", "u", 1) for number in range(count)]
    return contest.run(contestant(stand_in), folder / str(count), events)


def answers(folder: Path, triggers: Sequence[str], size: int = 20) -> None:
    items = [{"item_id": f"i{number}"} for number in range(size)]
    (folder / "slates.jsonl").write_text("".join(json.dumps({"trigger": t, "items": items}) + "\n" for t in triggers))
