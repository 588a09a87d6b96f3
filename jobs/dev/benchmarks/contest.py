"""Slates a second of the job, of `replay`, of the way that tutorials show and of an empty job, measured in turn.

What is measured. Each contestant is a process of its own that reads the same files and answers every event with a slate
of 20. `job` is `riverrank run` and `replay` is `riverrank replay`, both by their command lines; `tutorial` is
`flink.tutorial`; `empty` is `flink.empty`, the job's own hops with no logic in them. The stream is of a simulated shop,
interactions only, so that an event is a slate for all. All must have answered every event once with a whole slate, or
the bench fails.

The configuration of `job` and `replay` is the default but for the two settings that say when the warm-ups of the
vectors and of the ranker are over: with the short run, not after 100,000 events, which no run here is as long as. What
an event costs after them is the same. `job-warming-up` and `replay-warming-up` are these two with nothing set: what the
first 100,000 events cost.

How. Each contestant runs twice a round, on the first events of the stream and on all of it, and in each run the files
that it writes are watched as they grow: seconds from the first slate to the last. The rate is the difference of the
slates by the difference of these seconds. It is true because whatever a run costs once is in both and cancels (Java's
start, submission, compiling, the head start of SESSION while RECOMMEND loads, the last bundle, closing), and nothing
that an event costs is left out. A window within one run would not do: SESSION, SIGNALS and RANKER run ahead as far as
network buffers allow, which is thousands of feedbacks, so a late window holds the work of RECOMMEND alone. The short
run is as long as the warm-ups, in which everything is learned from: the rate is that of a job that has been running for
a while.

On a machine with other work, rates swing: contestants take turns so that it hits all alike, and ratios are taken within
a round. Even so, where cores are short, who runs more threads gets more of them; so processor time is measured
likewise, over all processes of a contestant, and given as slates for each second of it: that is the figure for "per
core", and its ratio the one to trust on a busy machine.
"""

import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
from riverrank.jobs.errors import Failure
from riverrank.jobs.processes import OwnedProcess
from riverrank.state.records.incoming import Event

from .figures import ONE_THREAD, Spread
from .streams import shop_stream, write

SLATE_SIZE = 20
POLL_SECONDS = 0.02
CPU_SECONDS = 0.25  # between two looks at processor times
STALLED_SECONDS = 240.0  # without a further slate
TUTORIAL = """
import sys
from riverrank.jobs.flink import java
java.prepare_environment()
from riverrank.jobs.dev.benchmarks.flink import tutorial
tutorial.run(*sys.argv[1:])
"""
JOB_WARMING_UP, REPLAY_WARMING_UP = "job-warming-up", "replay-warming-up"
RATIOS = (
    ("replay", "tutorial"),
    ("job", "tutorial"),
    ("job", "replay"),
    ("job", "empty"),
    (REPLAY_WARMING_UP, "tutorial"),
    (JOB_WARMING_UP, "tutorial"),
)


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


Round = Mapping[str, Pace]  # by contestant, without those that were done too soon to tell


@dataclass(frozen=True)
class Row:
    """All rounds of one contestant that tell its pace."""

    contestant: str
    rounds: int
    per_second: Spread
    per_cpu_second: Spread
    first_slate_seconds: Spread


@dataclass(frozen=True)
class Ratio:
    """One contestant's pace by another's: spreads of the ratios within each round."""

    name: str
    per_second: Spread
    per_cpu_second: Spread


def contest(count: int, short: int, *, warming_up: bool = True) -> Iterator[Round]:
    """Rounds without end: the pace of each contestant, between its first `short` events and all `count` of them; those
    that are `warming_up`, if they are wanted.

    Raises:
        Failure: a contestant lost an event or answered it otherwise than once, with a whole slate.
        ServiceError: a contestant failed; the message holds the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        items, events = shop_stream(count)
        write(folder / "items.jsonl", items)
        write(folder / "events.jsonl", events)
        write(folder / "events-short.jsonl", events[:short])
        over = f"warmup_events = {short}\n"
        (folder / "warm.toml").write_text(f"[embedding]\n{over}[ranker]\n{over}", "utf-8")
        number = 0
        while True:
            number += 1
            paces: dict[str, Pace] = {}
            both = (contestants(folder, stream, warming_up=warming_up) for stream in ("events-short", "events"))
            for first, second in zip(*both, strict=True):
                pace = compared(
                    run(first, folder / f"{number}-{first.name}-short", events[:short]),
                    run(second, folder / f"{number}-{second.name}", events),
                )
                told = "was done before its pace could be seen: with more --events it can"
                if pace is not None:
                    paces[second.name] = pace
                    told = f"{pace.slates_per_second:.0f} slates/s, first after {pace.first_slate_seconds:.1f} s"
                print(f"bench: round {number}: {second.name} {told}", file=sys.stderr)
            yield paces


def contestants(folder: Path, name: str, *, warming_up: bool) -> list[Contestant]:
    """All of them, with those that are `warming_up` or without, reading items and the events of that name in `folder`;
    each is to run in a folder of its own.
    """
    events, items = str(folder / f"{name}.jsonl"), str(folder / "items.jsonl")
    flags = ("--events", events, "--items", items, "--slates", "slates.jsonl")
    warm = ("--config", str(folder / "warm.toml"))
    riverrank = (sys.executable, "-m", "riverrank.jobs.cli")
    tutorial = (sys.executable, "-c", TUTORIAL, events, items, "slates")
    empty = (sys.executable, "-m", "riverrank.jobs.dev.benchmarks.flink.empty", *flags)
    parts, target = ".slates.jsonl.parts-*/*part-*", "slates.jsonl"
    usual = [
        Contestant("job", (*riverrank, "run", *warm, *flags), parts, target),
        Contestant("replay", (*riverrank, "replay", *warm, *flags), target, target),
        Contestant("tutorial", tutorial, "slates/*part-*", "slates/part-*"),
        Contestant("empty", empty, parts, target),
    ]
    at_first = [
        Contestant(JOB_WARMING_UP, (*riverrank, "run", *flags), parts, target),
        Contestant(REPLAY_WARMING_UP, (*riverrank, "replay", *flags), target, target),
    ]
    return [*usual, *(at_first if warming_up else ())]


def compared(short: Run, long: Run) -> Pace | None:
    """The pace between two runs of different lengths, None where they are too short to tell.

    >>> compared(Run(100, 9.0, 11.0, 3.0), Run(400, 8.0, 13.0, 6.0))
    Pace(slates_per_second=100.0, slates_per_cpu_second=100.0, first_slate_seconds=8.5)
    >>> compared(Run(100, 9.0, 11.0, 3.0), Run(400, 8.0, 10.0, 6.0)) is None
    True
    """
    slates = long.slates - short.slates
    seconds = (long.last_seconds - long.first_seconds) - (short.last_seconds - short.first_seconds)
    cpu = long.cpu_seconds - short.cpu_seconds
    if seconds <= 0 or cpu <= 0:
        return None
    return Pace(slates / seconds, slates / cpu, (short.first_seconds + long.first_seconds) / 2)


def run(contestant: Contestant, place: Path, events: Sequence[Event]) -> Run:
    """Run a contestant to its end in the new folder `place`, see its slates arrive, and check them."""
    place.mkdir()
    process = OwnedProcess(contestant.name, contestant.command, place / "log", ONE_THREAD)  # in the folder of its log
    watch = Watch(place, contestant.growing)
    try:
        process.start()
        while (pid := process.pid) is not None:
            watch.look(pid)
            if watch.idle_seconds() > STALLED_SECONDS:
                raise process.error(f"has written nothing for {STALLED_SECONDS:.0f} s")
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

    def idle_seconds(self) -> float:
        """Since something was last seen to come, or since the start."""
        return self.seconds() - self._last

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


def rows(rounds: Sequence[Round]) -> list[Row]:
    """A row for each contestant whose pace could be seen."""
    seen: dict[str, list[Pace]] = {}
    for paces in rounds:
        for name, pace in paces.items():
            seen.setdefault(name, []).append(pace)
    return [
        Row(
            name,
            len(paces),
            Spread.of([pace.slates_per_second for pace in paces]),
            Spread.of([pace.slates_per_cpu_second for pace in paces]),
            Spread.of([pace.first_slate_seconds for pace in paces]),
        )
        for name, paces in seen.items()
    ]


def ratios(rounds: Sequence[Round]) -> list[Ratio]:
    """The ratios that matter, of contestants whose paces could be seen in one round."""
    pairs = {pair: [(paces[pair[0]], paces[pair[1]]) for paces in rounds if {*pair} <= paces.keys()] for pair in RATIOS}
    return [
        Ratio(
            f"{one} / {other}",
            Spread.of([a.slates_per_second / b.slates_per_second for a, b in both]),
            Spread.of([a.slates_per_cpu_second / b.slates_per_cpu_second for a, b in both]),
        )
        for (one, other), both in pairs.items()
        if both
    ]


class _Answer(msgspec.Struct):
    """What of a slate is checked; the tutorial's has no more."""

    trigger: str
    items: list["_Slot"]


class _Slot(msgspec.Struct):
    item_id: str
