"""What the demo promises: true measures, an end in which nothing is left, and the whole thing on the real job."""

import contextlib
import math
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from demo_stand_in import STAND_IN
from rich.console import Console
from riverrank.jobs.demo.demo import demo
from riverrank.jobs.demo.metrics import ClickThrough, Pace, Quantiles, Waits, lift
from riverrank.jobs.demo.screen import ArmView, LiveScreen, Moment, PlainScreen
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.evaluation.shop import ShopSettings
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json

MARK = "RIVERRANK_TEST_MARK"


@pytest.fixture
def stand_in(tmp_path: Path) -> list[str]:
    script = tmp_path / "stand_in.py"
    script.write_text(STAND_IN)
    return [sys.executable, str(script)]


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """After each test no process that came of it is there, and no file in the folder for temporary ones."""
    mark, scratch = uuid.uuid4().hex, tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setenv(MARK, mark)
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr(tempfile, "tempdir", None)
    yield
    assert marked(mark) == {}
    assert [path.name for path in scratch.iterdir() if not path.name.startswith("hsperfdata")] == []


def marked(mark: str) -> dict[int, str]:
    """Every process but this one that has the mark in its environment, by id, with its command."""
    found = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):  # it ended meanwhile
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found[int(entry.name)] = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100]
    return found


def test_demo_measures_both_arms_and_ends_by_itself(stand_in: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    started = time.monotonic()
    summary = demo(6, plain=True, settings=ShopSettings(customers=40, items=300), job_command=stand_in)
    assert time.monotonic() - started < 100
    assert 6 <= summary.elapsed < 12
    assert summary.dead_letters == summary.unanswered == summary.late == 0
    assert summary.events > 100
    assert summary.slates > 50
    assert summary.wait.count > 30
    assert 0 < summary.wait.p50 <= summary.wait.p99 < 5
    assert summary.setup_seconds == pytest.approx(sum(summary.steps.values()))
    for arm in ("riverrank", "popular"):
        rate, clicked, shown = summary.arms[arm]
        assert shown > 100
        assert rate.value == clicked / shown
        assert rate.low <= rate.value <= rate.high
    out, err = capfd.readouterr()
    assert "click-through riverrank" in out
    assert "click-through popular" in out
    assert "dead letters            0" in out
    assert "events/s" in err
    assert "events/s" not in out


def test_job_that_ends_early_is_a_failure_that_shows_its_log(capfd: pytest.CaptureFixture[str]) -> None:
    broken = [sys.executable, "-c", "import sys; print('before', flush=True); sys.exit('no luck today')"]
    with pytest.raises(Failure, match=r"the job ended \(exit code 1\): no luck today"):
        demo(5, plain=True, job_command=broken)
    out, err = capfd.readouterr()
    assert "before\nno luck today" in err
    assert out == ""


def test_job_that_breaks_in_the_middle_is_a_failure(stand_in: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    script = Path(stand_in[1])
    late = "while True:\n    if sum(versions.values()) > 300: sys.exit('broke in the middle')\n"
    script.write_text(STAND_IN.replace("while True:\n", late))
    with pytest.raises(Failure, match="broke in the middle"):
        demo(60, plain=True, job_command=stand_in)
    assert "stand-in for the job: 3000 items" in capfd.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", ["events/s", "Kafka:"])
def test_interruption_at_any_moment_leaves_nothing(stand_in: list[str], moment: str, number: int) -> None:
    code = f"""
        from riverrank.jobs.demo.demo import demo
        demo(600, plain=True, job_command={stand_in!r})
        """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if moment in line:
            break
    process.send_signal(number)
    time.sleep(0.2)
    process.send_signal(number)  # an impatient second one breaks into nothing
    out, err = process.communicate(timeout=60)
    assert process.returncode in (-signal.SIGINT, 130), err
    assert ("click-through riverrank" in out) == (moment == "events/s")


def test_demo_of_no_length_is_a_usage_error() -> None:
    for seconds in (0, -1, math.nan, math.inf):
        with pytest.raises(UsageError, match="--seconds"):
            demo(seconds, plain=True)


def test_click_through_interval_holds_the_truth_as_often_as_it_says() -> None:
    draw, held = np.random.default_rng(3), 0
    for _ in range(400):
        through = ClickThrough()
        for customer in range(80):
            taste, visits = draw.beta(2, 18), 1 + draw.poisson(5)
            for _ in range(visits):
                through.add(customer, 10, int(draw.binomial(10, taste)), 0.0)
        estimate = through.estimate()
        held += estimate.low <= 0.1 <= estimate.high
    assert 0.91 <= held / 400 <= 0.98


def test_lift_has_an_interval_and_none_without_clicks() -> None:
    treated, control = ClickThrough(), ClickThrough()
    for customer in range(50):
        treated.add(customer, 100, 20 + customer % 5, 0.0)
        control.add(customer, 100, 10 + customer % 3, 0.0)
    gain = lift(treated, control)
    assert gain.low < gain.value < gain.high
    assert gain.value == pytest.approx(22 / 10.98 - 1, abs=1e-3)
    assert gain.low > 0.8
    assert math.isnan(lift(treated, ClickThrough()).value)
    assert math.isnan(ClickThrough().estimate().value)


def test_recent_figures_are_those_of_the_last_ten_seconds() -> None:
    through, waits, pace = ClickThrough(), Waits(), Pace()
    for second in range(31):
        through.add(1, 10, 5 if second < 20 else 1, float(second))
        waits.add(1.0 if second < 20 else 0.1, float(second))
        pace.add(3, float(second))
    assert through.recent(30.0) == pytest.approx(0.1)
    assert through.rate() == pytest.approx(111 / 310)
    assert waits.recent(30.0) == Quantiles(11, 0.1, 0.1)
    assert waits.overall() == Quantiles(31, 1.0, 1.0)
    assert pace.per_second(30.0, 0.0) == pytest.approx(3.3)
    assert pace.total == 93


def view(slate: bytes | None, elapsed: float = 7.0) -> Moment:
    course = [0.05, math.nan, 0.1]
    return Moment(
        elapsed=elapsed,
        seconds=60.0,
        events_per_second=312.4,
        events=999,
        recent_wait=Quantiles(10, 0.012, 0.034),
        overall_wait=Quantiles(90, 0.013, 0.056),
        arms=[
            ArmView("riverrank", 0.123, 0.145, 800, 98, course),
            ArmView("popular", 0.071, math.nan, 800, 57, course),
        ],
        customer="u-0042",
        likes=["boots", "maps"],
        slate=slate,
        titles={"i-1": "Tarn old boots", "i-2": "Ural dry maps"},
        job_line="checkpoint 3",
    )


def a_slate() -> bytes:
    because = Cause("because_you_clicked", item_id="i-2", weight=0.42)
    slot = Slot("i-1", 1, 0.83, 0.91, ("covisit",), (because,))
    return to_json(Slate("u-0042:7", "u-0042", 7, 1, "e-1", "warm", "control", ModelInfo(5, 6), (slot,)))


@pytest.mark.parametrize("terminal", [True, False])
def test_screen_shows_every_figure_and_the_reasons_of_a_slate(tmp_path: Path, terminal: bool) -> None:
    with (tmp_path / "screen").open("w+") as file:
        console = Console(file=file, force_terminal=terminal, width=140)
        with LiveScreen(console) if terminal else PlainScreen(console) as screen:
            screen.show(view(None))
            screen.show(view(a_slate(), 20.0) if terminal else view(None, 8.0))
        file.seek(0)
        shown = file.read()
    wanted = ["312", "p50 12 ms, p99 34 ms", "12.3 %", "14.5 %", "7.1 %"]
    if terminal:
        wanted += [
            "Tarn old boots",
            "because you clicked Ural dry maps (+0.42)",
            "boots, maps",
            "98 / 800",
            "checkpoint 3",
        ]
    else:
        assert shown.count("events/s") == 1, "a line every few seconds, not one a view"
    assert [word for word in wanted if word not in shown] == []


def test_plain_screen_shows_a_slate_with_its_reasons(tmp_path: Path) -> None:
    with (tmp_path / "screen").open("w+") as file:
        PlainScreen(Console(file=file, width=140)).show(view(a_slate()))
        file.seek(0)
        assert "1. Tarn old boots: because you clicked Ural dry maps (+0.42)" in file.read()


@pytest.mark.timeout(280)
def test_demo_runs_on_the_real_job(capfd: pytest.CaptureFixture[str]) -> None:
    summary = demo(10, plain=True)
    assert summary.dead_letters == summary.unanswered == 0
    assert summary.wait.count > 50
    assert summary.slates >= summary.wait.count
    assert all(shown > 100 for _, _, shown in summary.arms.values())
    assert "learner of" in capfd.readouterr().err, "a slate with its reasons was on the screen"
