"""The promises of the bench: set-up is not in the figures; a contestant that loses an event has none; no leftovers."""

import json
import os
import subprocess
import sys
import textwrap
import uuid
from collections.abc import Sequence
from pathlib import Path

import pytest
from riverrank.jobs.dev import bench
from riverrank.jobs.dev.bench import Contestant, Pace
from riverrank.jobs.dev.processes import ServiceError
from riverrank.jobs.errors import Failure
from riverrank.state.records import Event

MARK = "RIVERRANK_TEST_MARK"
TIMEOUT_SECONDS = 290
STAND_IN = """
import json
SLATES = {count}
items = [{{"item_id": f"i{{number}}"}} for number in range(20)]

def slates(first, count):
    return "".join(json.dumps({{"trigger": f"e{{n}}", "items": items}}) + "\\n" for n in range(first, first + count))
"""


def test_all_three_answer_everything_and_leave_nothing(tmp_path: Path) -> None:
    mark = uuid.uuid4().hex
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.dev.bench", "--events", "2200", "--rounds", "1", "--json"],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, MARK: mark, "TMPDIR": str(tmp_path)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    report = json.loads(done.stdout)
    rows = {row["contestant"]: row for row in report["contestants"]}
    assert list(rows) == ["job", "replay", "tutorial"]
    for row in rows.values():
        assert row["lowest"] == row["median"] == row["highest"] > 10
        assert row["per_cpu_second"] > 10
        assert row["to_replay"] == pytest.approx(row["median"] / rows["replay"]["median"])
        assert row["to_tutorial"] == pytest.approx(row["median"] / rows["tutorial"]["median"])
    assert report["machine"]["events"] == 2200
    assert report["machine"]["cores"] >= 1
    assert processes_of(mark) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("riverrank")] == []


def test_stream_is_always_the_same_and_every_event_a_slate() -> None:
    (items, events), again = bench.stream(500), bench.stream(500)
    assert (items, events) == again
    assert len({event.event_id for event in events}) == 500
    assert {event.type for event in events} == {"click", "cart", "purchase"}
    assert {event.item_id for event in events} <= {item.item_id for item in items}


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
    pace = bench.compared(run(code, tmp_path, 100), run(code, tmp_path, 500), "it")
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
    pace = bench.compared(run(code, tmp_path, 50), run(code, tmp_path, 400), "it")
    assert pace.slates_per_cpu_second == pytest.approx(250, rel=0.2)


def test_too_few_slates_to_tell_is_a_failure(tmp_path: Path) -> None:
    at_once = "open('slates.jsonl', 'w').write(slates(0, SLATES))"
    with pytest.raises(Failure, match="give more --events"):
        bench.compared(run(at_once, tmp_path, 10), run(at_once, tmp_path, 20), "it")


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
        bench.check_answers(contestant(""), tmp_path, ["a", "b", "c"])


def test_short_slate_is_a_failure_and_whole_ones_are_none(tmp_path: Path) -> None:
    answers(tmp_path, ["b", "a"])
    bench.check_answers(contestant(""), tmp_path, ["a", "b"])
    answers(tmp_path, ["a", "b"], size=19)
    with pytest.raises(Failure, match="answered a with 19 items, not 20"):
        bench.check_answers(contestant(""), tmp_path, ["a", "b"])


def test_ratios_are_taken_within_a_round() -> None:
    """The machine is twice as fast in the second round and thrice in the third; the job is half of replay in each."""
    rounds = [
        {"job": Pace(50 * f, 40, 9), "replay": Pace(100 * f, 80, 1), "tutorial": Pace(25 * f, 10, 8)} for f in (1, 2, 3)
    ]
    job, *_ = rows = bench.summarised(rounds)
    assert (job.median, job.lowest, job.highest) == (100, 50, 150)
    assert (job.to_replay, job.to_tutorial, job.per_cpu_second_to_replay) == (0.5, 2.0, 0.5)
    printed = bench.table(rows, {"cores": 2}).splitlines()
    assert printed[1].split() == ["job", "100", "50", "150", "0.50", "2.00", "40", "0.50", "9.0", "s"]
    assert printed[-1] == "cores 2"


def test_nonsense_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert bench.main(["--events", "3"]) == 2
    assert bench.main(["--rounds", "0"]) == 2
    assert "--rounds 1 or more" in capsys.readouterr().err


def contestant(code: str) -> Contestant:
    return Contestant("it", (sys.executable, "-c", code), "slates.jsonl", "slates.jsonl")


def run(code: str, folder: Path, count: int) -> bench.Run:
    """A stand-in that has `SLATES` to write, in `code`, with the help of `slates(first, count)`."""
    stand_in = STAND_IN.format(count=count) + textwrap.dedent(code)
    events = [Event(f"e{number}", "request", "u", 1) for number in range(count)]
    return bench.run(contestant(stand_in), folder / str(count), events)


def answers(folder: Path, triggers: Sequence[str], size: int = 20) -> None:
    items = [{"item_id": f"i{number}"} for number in range(size)]
    (folder / "slates.jsonl").write_text("".join(json.dumps({"trigger": t, "items": items}) + "\n" for t in triggers))


def processes_of(mark: str) -> list[str]:
    """Processes that have the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
            except OSError:
                continue  # it ended meanwhile, or is another's
    return found
