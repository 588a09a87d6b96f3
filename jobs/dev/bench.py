"""`make bench`: slates per second of the job, of `replay`, and of the way that tutorials show, measured in turn.

What is measured. Each contestant is a process of its own that reads the same files and answers every event with a slate
of 20. `job` is `riverrank run` and `replay` is `riverrank replay`, both by their command lines with the default
configuration; `tutorial` is `jobs.dev.tutorial`. The stream is of a simulated shop, interactions only, so that
an event is a slate for all three. All three must have answered every event once with a whole slate, or the bench fails.

How. Each contestant runs twice a round, on the first quarter of the stream and on all of it, and in each run the files
that it writes are watched as they grow: seconds from the first slate to the last. The rate is the difference of the
slates by the difference of these seconds. It is true because whatever a run costs once is in both and cancels (Java's
start, submission, compiling at run time, the head start of SESSION while RECOMMEND loads, the last bundle, closing),
and nothing that an event costs is left out. A window within one run would not do: SESSION, SIGNALS and RANKER run ahead
as far as network buffers allow, which is thousands of feedbacks, so a late window holds the work of RECOMMEND alone.

On a machine with other work, rates swing: contestants take turns so that it hits all alike, and ratios are taken within
a round. Even so, where cores are short, who runs more threads gets more of them; so processor time is measured
likewise, over all processes of a contestant, and told as slates for each second of it: that is the figure for "per
core", and its ratio the one to trust on a busy machine.
"""

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

import msgspec
import numpy as np
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.evaluation.shop import Shop, ShopSettings
from riverrank.state.records import Event, Item, to_json

from .processes import OwnedProcess, ServiceError

EVENTS, ROUNDS = 6_000, 3
FEWEST_EVENTS = 100
SLATE_SIZE = 20
USERS, ITEMS = 500, 2_000
SEED = 7
START_MS, STEP_MS = 1_764_000_000_000, 500
SHORT_RUN = 4  # all of the stream, by its part that the short run reads
POLL_SECONDS = 0.02
CPU_SECONDS = 0.25  # between two looks at processor times
TIMEOUT_SECONDS = 900.0
TUTORIAL = """
import sys
from riverrank.jobs.flink import launch
launch.prepare_environment()
from riverrank.jobs.dev import tutorial
tutorial.run(*sys.argv[1:])
"""


@dataclass(frozen=True)
class Contestant:
    """A command, with the files (patterns below its folder) that slates grow in, and those that hold them at last."""

    name: str
    command: tuple[str, ...]
    growing: str
    results: str


@dataclass(frozen=True)
class Run:
    """One run: slates, seconds from its start to the first and to the last, and processor seconds since the first."""

    slates: int
    first_seconds: float
    last_seconds: float
    cpu_seconds: float


@dataclass(frozen=True)
class Pace:
    """What the two runs of a round showed: slates a second, slates a processor second, seconds to the first slate."""

    slates_per_second: float
    slates_per_cpu_second: float
    first_slate_seconds: float


@dataclass(frozen=True)
class Row:
    """All rounds of one contestant. Ratios are medians of the ratios within each round."""

    contestant: str
    median: float
    lowest: float
    highest: float
    to_replay: float
    to_tutorial: float
    per_cpu_second: float
    per_cpu_second_to_replay: float
    first_slate_seconds: float


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m riverrank.jobs.dev.bench", description="Slates a second.")
    parser.add_argument("--events", type=int, default=EVENTS, metavar="N", help=f"events a run; default {EVENTS}")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="R", help=f"runs of each; default {ROUNDS}")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    given = parser.parse_args(arguments)
    try:
        if given.events < FEWEST_EVENTS or given.rounds < 1:
            raise UsageError(f"give --events {FEWEST_EVENTS} or more, and --rounds 1 or more")
        facts = machine() | {"events": given.events, "rounds": given.rounds}
        rounds = bench(given.events, given.rounds)
    except (UsageError, Failure, ServiceError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    rows = summarised(rounds)
    if given.json:
        runs = [{name: asdict(pace) for name, pace in paces.items()} for paces in rounds]
        print(json.dumps({"machine": facts, "contestants": [asdict(row) for row in rows], "rounds": runs}))
    else:
        print(table(rows, facts))
    return 0


def bench(count: int, rounds: int) -> list[dict[str, Pace]]:
    """The pace of each contestant, by name, in each round; with progress on standard error.

    Raises:
        Failure: a contestant lost an event or answered it otherwise than once, with a whole slate.
        ServiceError: a contestant failed; the message holds the end of its log.
    """
    paces: list[dict[str, Pace]] = []
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        items, events = stream(count)
        write(folder / "items.jsonl", items)
        write(folder / "events.jsonl", events)
        write(folder / "events-short.jsonl", events[: count // SHORT_RUN])
        for number in range(1, rounds + 1):
            paces.append({})
            for short, long in zip(contestants(folder, "events-short"), contestants(folder, "events"), strict=True):
                pace = compared(
                    run(short, folder / f"{number}-{short.name}-short", events[: count // SHORT_RUN]),
                    run(long, folder / f"{number}-{long.name}", events),
                    long.name,
                )
                paces[-1][long.name] = pace
                told = f"{pace.slates_per_second:.0f} slates/s, first after {pace.first_slate_seconds:.1f} s"
                print(f"bench: round {number} of {rounds}: {long.name} {told}", file=sys.stderr)
    return paces


def contestants(folder: Path, name: str) -> list[Contestant]:
    """All of them, reading items and the events of that name in `folder`; each is to run in a folder of its own."""
    events, items = str(folder / f"{name}.jsonl"), str(folder / "items.jsonl")
    flags = ("--events", events, "--items", items, "--slates", "slates.jsonl")
    riverrank = (sys.executable, "-m", "riverrank.jobs.cli")
    return [
        Contestant("job", (*riverrank, "run", *flags), ".slates.jsonl.parts-*/*part-*", "slates.jsonl"),
        Contestant("replay", (*riverrank, "replay", *flags), "slates.jsonl", "slates.jsonl"),
        Contestant(
            "tutorial", (sys.executable, "-c", TUTORIAL, events, items, "slates"), "slates/*part-*", "slates/part-*"
        ),
    ]


def stream(count: int) -> tuple[list[Item], list[Event]]:
    """A catalogue, and the first `count` interactions of customers with tastes of their own. Always the same.

    >>> items, events = stream(100)
    >>> len(items), len(events), sorted({event.type for event in events})
    (2000, 100, ['cart', 'click', 'purchase'])
    """
    shop = Shop(ShopSettings(seed=SEED, items=ITEMS, customers=USERS, search=1.0))
    draw = np.random.default_rng([SEED, ITEMS, USERS])
    share = shop.activity / shop.activity.sum()
    events: list[Event] = []
    ts = START_MS
    while len(events) < count:
        ts += STEP_MS
        events += shop.visit(int(draw.choice(USERS, p=share)), None, (), ts).events
    return shop.catalogue(START_MS), events[:count]


def write(path: Path, records: Sequence[Item] | Sequence[Event]) -> None:
    """Write records as lines of JSON."""
    path.write_bytes(b"".join(to_json(record) + b"\n" for record in records))


def compared(short: Run, long: Run, name: str) -> Pace:
    """The pace between two runs of different lengths. Raises `Failure` where they are too short to tell.

    >>> compared(Run(100, 9.0, 11.0, 3.0), Run(400, 8.0, 13.0, 6.0), "job")
    Pace(slates_per_second=100.0, slates_per_cpu_second=100.0, first_slate_seconds=8.5)
    """
    slates = long.slates - short.slates
    seconds = (long.last_seconds - long.first_seconds) - (short.last_seconds - short.first_seconds)
    cpu = long.cpu_seconds - short.cpu_seconds
    if seconds <= 0 or cpu <= 0:
        raise Failure(f"{name} was done before its pace could be seen: give more --events")
    return Pace(slates / seconds, slates / cpu, (short.first_seconds + long.first_seconds) / 2)


def run(contestant: Contestant, place: Path, events: Sequence[Event]) -> Run:
    """Run a contestant to its end in the new folder `place`, see its slates arrive, and check them."""
    place.mkdir()
    process = OwnedProcess(contestant.name, contestant.command, place / "log")  # runs in the folder of its log
    watch = Watch(place, contestant.growing)
    try:
        process.start()
        while (pid := process.pid) is not None:
            watch.look(pid)
            if watch.seconds() > TIMEOUT_SECONDS:
                raise process.error(f"has not ended after {TIMEOUT_SECONDS:.0f} s")
            time.sleep(POLL_SECONDS)
        if process.ending != "exit code 0":
            raise process.error(f"failed ({process.ending})")
    finally:
        process.kill()
    check_answers(contestant, place, [event.event_id for event in events])
    return watch.run(len(events))


class Watch:
    """Sees slates arrive in growing files, and processor time pass."""

    def __init__(self, place: Path, pattern: str) -> None:
        self._place, self._pattern = place, pattern
        self._sizes: dict[int, int] = {}  # by inode: a part keeps it when it is renamed
        self._first: float | None = None
        self._last = 0.0
        self._cpu = (0.0, 0.0)  # at the first slate, and at most since: the ended may be counted nowhere
        self._cpu_due = 0.0
        self._started = time.monotonic()

    def seconds(self) -> float:
        """Since the start."""
        return time.monotonic() - self._started

    def look(self, group: int) -> None:
        """Note what has come, of a contestant whose processes are those of the process group `group`."""
        grown, now = self._grown(), self.seconds()
        if grown and self._first is None:
            cpu = cpu_seconds(group)
            self._first, self._cpu = now, (cpu, cpu)
        if grown:
            self._last = now
        if self._first is not None and now >= self._cpu_due:
            self._cpu = (self._cpu[0], max(self._cpu[1], cpu_seconds(group)))
            self._cpu_due = now + CPU_SECONDS

    def run(self, slates: int) -> Run:
        """What was seen of a run that has ended with so many slates."""
        if self._first is None:  # all of it came and went between two looks
            self._first = self._last = self.seconds()
        return Run(slates, self._first, self._last, self._cpu[1] - self._cpu[0])

    def _grown(self) -> bool:
        grown = False
        try:
            for path in self._place.glob(self._pattern):
                status = path.stat()
                grown |= status.st_size > self._sizes.get(status.st_ino, 0)
                self._sizes[status.st_ino] = status.st_size
        except FileNotFoundError:
            return grown  # a part was renamed, or appended to the target and gone, while it was looked at
        return grown


def cpu_seconds(group: int) -> float:
    """Processor time that the processes of a group have used so far, with that of their children that have ended."""
    ticks = 0
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
        fields = text.rpartition(")")[2].split()  # after the name, which may hold anything: state, parent, group, ...
        if int(fields[2]) == group:
            ticks += sum(int(field) for field in fields[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def check_answers(contestant: Contestant, place: Path, triggers: Sequence[str]) -> None:
    """Raises `Failure` unless each trigger was answered exactly once, with a whole slate."""
    answered: Counter[str] = Counter()
    slate = msgspec.json.Decoder(_Answer)
    for path in sorted(place.glob(contestant.results)):
        with path.open("rb") as lines:
            for line in lines:
                answer = slate.decode(line)
                answered[answer.trigger] += 1
                if len({item.item_id for item in answer.items}) != SLATE_SIZE:
                    size = len(answer.items)
                    raise Failure(f"{contestant.name} answered {answer.trigger} with {size} items, not {SLATE_SIZE}")
    if answered != Counter(triggers):
        lost, more = Counter(triggers) - answered, answered - Counter(triggers)
        example = next(iter(lost or more))
        raise Failure(
            f"{contestant.name} lost {lost.total()} of {len(triggers)} events and gave {more.total()} answers too "
            f"many, {example} among them: its pace means nothing"
        )


def summarised(rounds: Sequence[dict[str, Pace]]) -> list[Row]:
    """A row for each contestant."""
    rows = []
    for name in rounds[0]:
        rates = [paces[name].slates_per_second for paces in rounds]
        rows.append(
            Row(
                name,
                statistics.median(rates),
                min(rates),
                max(rates),
                statistics.median(p[name].slates_per_second / p["replay"].slates_per_second for p in rounds),
                statistics.median(p[name].slates_per_second / p["tutorial"].slates_per_second for p in rounds),
                statistics.median(p[name].slates_per_cpu_second for p in rounds),
                statistics.median(p[name].slates_per_cpu_second / p["replay"].slates_per_cpu_second for p in rounds),
                statistics.median(paces[name].first_slate_seconds for paces in rounds),
            )
        )
    return rows


def table(rows: Sequence[Row], facts: dict[str, str | int]) -> str:
    """What is printed."""
    lines = [
        f"{'contestant':<12}{'slates/s':>10}{'min':>8}{'max':>8}{'/ replay':>10}{'/ tutorial':>12}"
        f"{'slates/cpu s':>14}{'/ replay':>10}{'first slate':>13}"
    ]
    lines += [
        f"{row.contestant:<12}{row.median:>10.0f}{row.lowest:>8.0f}{row.highest:>8.0f}{row.to_replay:>10.2f}"
        f"{row.to_tutorial:>12.2f}{row.per_cpu_second:>14.0f}{row.per_cpu_second_to_replay:>10.2f}"
        f"{row.first_slate_seconds:>11.1f} s"
        for row in rows
    ]
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    meaning = "slates/s: median, min and max over rounds, set-up apart; ratios within rounds; cpu: of processor time"
    return "\n".join([*lines, "", meaning, told])


def machine() -> dict[str, str | int]:
    """What the figures depend on."""
    return {
        "cores": len(os.sched_getaffinity(0)),
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Python": platform.python_version(),
        "Flink": version("apache-flink"),
    }


class _Answer(msgspec.Struct):
    """What of a slate is checked; the tutorial's has no more."""

    trigger: str
    items: list["_Place"]


class _Place(msgspec.Struct):
    item_id: str


if __name__ == "__main__":
    sys.exit(main())
