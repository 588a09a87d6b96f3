"""The promises of the bench: set-up is not in the figures; a contestant that loses an event has none; no leftovers."""

import itertools
import json
import os
import re
import statistics
import subprocess
import sys
import textwrap
import uuid
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

import pytest
from riverrank.jobs.dev.benchmarks import __main__ as benchmarks
from riverrank.jobs.dev.benchmarks import chart, contest, growth, learning, parts, report, streams
from riverrank.jobs.dev.benchmarks.contest import Contestant, Pace
from riverrank.jobs.dev.benchmarks.figures import Spread
from riverrank.jobs.dev.benchmarks.flink import empty
from riverrank.jobs.dev.benchmarks.local import Local
from riverrank.jobs.errors import Failure
from riverrank.jobs.processes import ServiceError
from riverrank.state.messages import encode
from riverrank.state.records.incoming import Event

MARK = "RIVERRANK_TEST_MARK"
TIMEOUT_SECONDS = 880
STAND_IN = """
import json
SLATES = {count}
items = [{{"item_id": f"i{{number}}"}} for number in range(20)]

def slates(first, count):
    return "".join(json.dumps({{"trigger": f"e{{n}}", "items": items}}) + "\\n" for n in range(first, first + count))
"""
WORK = """
class Work:
    def __init__(self, clock):
        self.clock = clock

    def outer(self):
        self.clock.now += 2_000_000
        for _ in range(2):
            self.inner()
        for _ in range(1000):
            self.idle()

    def inner(self):
        self.clock.now += 3_000_000

    def idle(self):
        pass
"""


class Clock:
    """Nanoseconds that pass when something works, and 200 with each look at them."""

    def __init__(self) -> None:
        self.now = 0

    def __call__(self) -> int:
        self.now += 200
        return self.now


@pytest.mark.skipif("RIVERRANK_TEST_BENCH" not in os.environ, reason="minutes long: RIVERRANK_TEST_BENCH=1 runs it")
@pytest.mark.timeout(900)
def test_all_of_it_runs_and_leaves_nothing(tmp_path: Path) -> None:
    """With next to no events: every contestant answers everything, every measure has figures, the report is written."""
    mark = uuid.uuid4().hex
    scratch, page = tmp_path / "scratch", tmp_path / "page.md"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.dev.benchmarks", "--tiny", "--json", "--write", page],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, MARK: mark, "TMPDIR": str(scratch)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    (paces,) = found["rounds"]
    assert list(paces) == ["job", "replay", "tutorial", "empty", "job-warming-up", "replay-warming-up"]
    assert all(pace["slates_per_second"] > 10 and pace["slates_per_cpu_second"] > 10 for pace in paces.values())
    learners = {rate["learner"] for rate in found["learning"]}
    assert learners == {"riverrank's per-user learner", "riverrank's ranker", "Vowpal Wabbit", "River"}
    assert all(rate["per_second"][0] > 100 for rate in found["learning"])
    assert [(point["axis"], point["value"]) for point in found["growth"]] == [
        ("items", 500),
        ("items", 1_000),
        ("history", 1),
        ("history", 5),
    ]
    assert 100 < found["sizes"]["user"][0] < 10_000
    assert {part["outer"] for part in found["parts"]} == {"", "ranker", "recommend"}
    text = page.read_text("utf-8")
    assert text.count("\n## ") == 6
    assert "replay / tutorial" in text
    assert text.count("| recommend: ") + text.count("**recommend: ") >= 6
    assert page.with_suffix(".svg").read_text("utf-8").count("Microseconds an event, by") == 2
    assert processes_of(mark) == []
    assert [path.name for path in scratch.iterdir() if path.name.startswith("riverrank")] == []


def test_shop_stream_is_always_the_same_and_every_event_a_slate() -> None:
    (items, events), again = streams.shop_stream(500), streams.shop_stream(500)
    assert (items, events) == again
    assert len({event.event_id for event in events}) == 500
    assert {event.type for event in events} == {"click", "cart", "purchase"}
    assert {event.item_id for event in events} <= {item.item_id for item in items}


def test_popularity_follows_zipfs_law_at_any_size() -> None:
    """Without loyalty to categories, the first tenth of 1,000 items gets H(100) / H(1000) of all."""
    shop = streams.ZipfShop(1_000, 50)
    shop.LOYALTY = 0.0
    events = list(itertools.islice(shop.events(), 20_000))
    assert events == list(itertools.islice(fresh_zipf().events(), 20_000))
    counts = sorted(Counter(event.item_id for event in events).values(), reverse=True)
    harmonic = [sum(1 / rank for rank in range(1, most + 1)) for most in (100, 1_000)]
    assert sum(counts[:100]) / 20_000 == pytest.approx(harmonic[0] / harmonic[1], abs=0.02)
    assert {event.item_id for event in events} <= {item.item_id for item in shop.catalogue()}
    assert {event.user_id for event in itertools.islice(shop.events(3), 100)} == set(shop.user_ids[:3])


def test_users_come_for_visits() -> None:
    block = streams.ZipfShop.BLOCK
    for visit in (1, 4):
        events = streams.ZipfShop(1_000, 100_000).events(visit=visit)
        users = Counter(event.user_id for event in itertools.islice(events, block))
        assert Counter(users.values()).most_common(1)[0][0] == visit
        assert len(users) == pytest.approx(block / visit, rel=0.02)


def fresh_zipf() -> streams.ZipfShop:
    shop = streams.ZipfShop(1_000, 50)
    shop.LOYALTY = 0.0
    return shop


def test_messages_of_the_empty_job_are_about_as_long_as_the_jobs() -> None:
    """Within a factor of two of what is sent once users have a history of some 25, as in the middle of the stream."""
    shop, local = streams.ZipfShop(2_000, 30), Local()
    local.load(map(local.arrival, shop.catalogue()))
    events = [local.arrival(event) for event in itertools.islice(shop.events(), 900)]
    local.run(events[:600])
    sent: dict[str, list[int]] = {"FEEDBACK": [], "SESSION": [], "UPDATE": [], "WEIGHTS": [], "SLATE": []}

    def noted(path: str, note: Callable[[Any], None]) -> tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                result = function(*arguments, **named)
                note(result)
                return result

            return called

        return path, wrap

    def accepted(result: Any) -> None:
        sent["FEEDBACK"].append(len(encode(result.feedback)))
        sent["SESSION"].append(len(result.state))

    watched = [
        noted(parts.PARTS["session"][0], accepted),
        noted(parts.PARTS["signals"][1], lambda made: sent["UPDATE"].extend(len(encode(update)) for update in made)),
        noted(parts.PARTS["ranker"][1], lambda made: sent["WEIGHTS"].append(sum(len(encode(u)) for u in made))),
        noted(parts.PARTS["recommend"][0], lambda answer: sent["SLATE"].append(len(answer.slate))),
    ]
    with parts.wrapped(dict(watched)):
        local.run(events[600:])
    for name, lengths in sent.items():
        set_to, mean = getattr(empty, f"{name}_BYTES"), statistics.mean(lengths)
        assert mean / 2 < set_to < mean * 2, f"empty.{name}_BYTES is {set_to}, the job's are {mean:.0f}"


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


def test_stop_watches_find_what_each_part_takes_and_not_what_they_cost(work: ModuleType) -> None:
    """`outer` works for 2 ms, calls `inner` twice, for 3 ms, and `idle` 1,000 times, which costs nothing."""
    clock = Clock()
    watches = parts.StopWatches({name: [f"work:Work.{name}"] for name in ("outer", "inner", "idle")}, clock)
    with watches.running():
        work.Work(clock).outer()
    assert clock.now > 8_400_000  # with what 1,003 watches cost
    taken = watches.taken()
    assert {key: calls for key, (calls, _) in taken.items()} == {
        ("", "rest"): 0,
        ("", "outer"): 1,
        ("outer", "inner"): 2,
        ("outer", "idle"): 1000,
    }
    assert taken["", "outer"][1] == pytest.approx(2_000, abs=1)
    assert taken["outer", "inner"][1] == pytest.approx(6_000, abs=1)
    assert taken["outer", "idle"][1] == pytest.approx(0, abs=1)
    assert watches.never_called() == []
    assert work.Work.inner.__name__ == "inner"  # the watches are off again


def test_part_that_is_gone_or_never_called_is_named(work: ModuleType) -> None:
    with (
        pytest.raises(Failure, match=r"work:Work.moved does not exist any more"),
        parts.StopWatches({"moved": ["work:Work.moved"]}).running(),
    ):
        pass
    watches = parts.StopWatches({"idle": ["work:Work.idle"], "inner": ["work:Work.inner"]})
    with watches.running():
        work.Work(Clock()).idle()
    watches.taken()
    assert watches.never_called() == ["work:Work.inner"]


def test_every_part_of_the_table_exists() -> None:
    paths = [path for paths in parts.PARTS.values() for path in paths]
    paths += [path for path, _ in learning.LEARNERS.values()]
    assert len(paths) > 15
    for path in paths:
        parts.Target.at(path)


def test_unanswered_event_is_a_failure_of_a_local_measure() -> None:
    local = Local()
    with pytest.raises(Failure, match="0 of 1 events were answered"):
        local.run([local.arrival(Event("e", "impression", "u", 1, items=("i",)))])


def test_copies_of_users_are_answered_as_users_who_were_here_before() -> None:
    shop, local = streams.ZipfShop(300, 4), Local()
    local.load(map(local.arrival, shop.catalogue()))
    local.run(map(local.arrival, itertools.islice(shop.events(2), 40)))
    local.clone_users(shop.user_ids[:2], shop.user_ids[2:])
    assert local.sessions["u-000003"] == local.sessions["u-000001"]
    assert len(local.learners["u-000002"]) > 100


def test_picture_has_a_chart_for_each_axis(tmp_path: Path) -> None:
    spread = Spread(200.0, 190.0, 230.0)
    values = 10, 100, 1_000
    points = [growth.Point(axis, value, spread, spread, 100.0, 20.0) for axis in growth.AXES for value in values]
    chart.draw(points, tmp_path / "growth.svg")
    drawn = ElementTree.parse(tmp_path / "growth.svg").getroot()
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word and word.startswith("Micro")] == [
        f"Microseconds an event, by {axis}" for axis in growth.AXES
    ]
    assert words.count("1,000") == len(growth.AXES)


@pytest.fixture
def work(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module with something to do."""
    module = ModuleType("work")
    exec(WORK, module.__dict__)
    monkeypatch.setitem(sys.modules, "work", module)
    return module


def test_nonsense_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["--events", "3"]) == 2
    assert benchmarks.main(["--rounds", "-1"]) == 2
    assert "--rounds 1 or more" in capsys.readouterr().err


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
