"""`make bench` and `make bench-quick`: all measures in one run, or the ratios alone."""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.processes import ServiceError

from . import chart, report
from .contest import Round, contest, ratios, rows
from .figures import Spread, alone, machine
from .growth import AXES, grow
from .learning import Rate
from .parts import PartTime
from .serving import minute, rates
from .sizes import measure as measure_sizes
from .sizes import measure_broadcast
from .waiting import latency

QUICK_SECONDS = 150.0  # no round begins that would end later, by the longest so far
FEWEST_EVENTS = 100
MINUTE = 60.0


@dataclass(frozen=True)
class Scale:
    """How much is measured: numbers of events unless said otherwise."""

    rounds: int = 5
    events: int = 20_000  # of the contest
    short: int = 5_000  # of its short runs: the warm-ups
    axes: Mapping[str, Sequence[int]] = field(default_factory=lambda: AXES)
    growth_warm_up: int = 20_000
    growth_events: int = 1_000  # a round
    learning_warm_up: int = 5_000
    learning_events: int = 400  # a round
    learning_rows: int = 20_000
    interactions: int = 100  # of a user whose bytes are counted
    catalogue: int = 100_000  # items that bytes are counted by
    met: int = 5_000  # items, likewise, that all are met
    parts_warm_up: int = 6_000
    parts_events: int = 800  # a round
    broadcast_warm_up: int = 10_000
    broadcast_events: int = 4_000  # a round
    latency_warm: int = 30  # seconds, as below
    latency_seconds: int = 40  # a round
    slates_seconds: float = 3.0  # a round of each server and number at once


FULL = Scale()
QUICK = replace(FULL, rounds=0, events=12_000)
TINY = Scale(
    rounds=1,
    events=3_000,
    short=600,
    axes={"items": (500, 1_000), "history": (1, 5)},
    growth_warm_up=150,
    growth_events=20,
    learning_warm_up=60,
    learning_events=200,
    learning_rows=400,
    interactions=5,
    catalogue=3_000,
    met=50,
    parts_warm_up=150,
    parts_events=100,
    broadcast_warm_up=300,
    broadcast_events=100,
    latency_warm=1,
    latency_seconds=3,
    slates_seconds=0.3,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit code."""
    parser = argparse.ArgumentParser(prog="python -m riverrank.jobs.dev.benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the ratios alone, in as many rounds as fit")
    parser.add_argument(
        "--tiny", action="store_true", help="next to no events, to see that all of it works; figures mean nothing"
    )
    parser.add_argument("--serve", action="store_true", help="slates by HTTP alone, as text on standard output")
    parser.add_argument(
        "--serve-minute",
        type=float,
        nargs="?",
        const=MINUTE,
        metavar="SECONDS",
        help="slates by HTTP while Redis goes and comes, 200 requests at once: exit code 1 where one was not answered "
        f"as it should be; default {MINUTE:g}",
    )
    parser.add_argument("--rounds", type=int, metavar="N", help=f"of each measure; default {FULL.rounds}")
    parser.add_argument("--events", type=int, metavar="N", help=f"of the contest; default {FULL.events}")
    parser.add_argument("--short", type=int, metavar="N", help="of the contest's short runs; default: the warm-up")
    parser.add_argument("--write", type=Path, metavar="FILE", help="the report, .md, with its picture beside it")
    parser.add_argument("--json", action="store_true", help="all figures as one JSON object on standard output")
    given = parser.parse_args(arguments)
    scale = TINY if given.tiny else QUICK if given.quick else FULL
    changed = {name: value for name in ("rounds", "events", "short") if (value := getattr(given, name)) is not None}
    try:
        scale = _checked(replace(scale, **changed))
        if given.serve or given.serve_minute is not None:
            return _slates(scale) if given.serve else _minute(given.serve_minute)
        facts = machine()
        rounds = _rounds(scale)
        if not given.quick:
            measured = _all(scale, facts, rounds)
            if given.write is not None:
                given.write.write_text(report.document(measured), "utf-8")
                chart.draw(measured.points, given.write.with_suffix(".svg"))
    except (UsageError, Failure, ServiceError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    if given.json:
        found = _ratios(facts, rounds) if given.quick else report.as_json(measured)
        print(json.dumps(found))
    elif given.quick or given.write is None:
        print(_quick(facts, rounds, scale) if given.quick else report.document(measured), end="")
    return 1 if not given.quick and isinstance(measured.latency, str) else 0


def _slates(scale: Scale) -> int:
    """Slates by HTTP alone."""
    facts = machine()
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-") as name:
        found = rates.measure(max(1, scale.rounds), scale.slates_seconds, Path(name))
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    print(f"{report.slates_text()}\n{report.plain(*report.slates_table(found))}\n\n{scale.rounds} rounds; {told}")
    return 0


def _minute(seconds: float) -> int:
    """Slates by HTTP while Redis goes and comes; the exit code."""
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-") as name:
        found = minute.measure(seconds, Path(name))
    away = found.back - found.stopped
    print(f"{report.plain(*found.table())}\n\n{minute.AT_ONCE} at once for {seconds:g} s; Redis was away {away:.1f} s")
    for fault in found.faults():
        print(f"bench: {fault}", file=sys.stderr)
    return 1 if found.faults() else 0


def _checked(scale: Scale) -> Scale:
    short = scale.short if scale.short < scale.events else scale.events // 4
    if scale.events < FEWEST_EVENTS or scale.rounds < 0 or short < 1:
        raise UsageError(f"give --events {FEWEST_EVENTS} or more, --short 1 or more, and --rounds 1 or more")
    return replace(scale, short=short)


def _rounds(scale: Scale) -> list[Round]:
    """The contest: so many rounds, or where that is 0, as many as fit into QUICK_SECONDS, one at least."""
    rounds: list[Round] = []
    started = before = time.monotonic()
    longest = 0.0
    for paces in contest(scale.events, scale.short, warming_up=scale.rounds > 0):
        rounds.append(paces)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        if len(rounds) == scale.rounds or (not scale.rounds and now - started + longest > QUICK_SECONDS):
            break
    return rounds


def _all(scale: Scale, facts: dict[str, str], rounds: list[Round]) -> report.Measured:
    """The other measures."""
    with tempfile.TemporaryDirectory(prefix="riverrank-bench-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        _say("where the time of an event goes")
        parts = alone("parts.measure", _sizes(scale.parts_warm_up, scale.parts_events, scale.rounds), folder)
        _say("learning alone")
        learned = alone(
            "learning.measure",
            _sizes(scale.learning_warm_up, scale.learning_events, scale.rounds) | {"most": scale.learning_rows},
            folder,
        )
        _say("growth")
        points = grow(scale.axes, scale.growth_warm_up, scale.growth_events, scale.rounds, folder)
        _say("bytes")
        sizes = measure_sizes(scale.interactions, 20, scale.catalogue, scale.met, folder)
        broadcast = measure_broadcast(scale.broadcast_warm_up, scale.broadcast_events, scale.rounds, folder)
        _say("slates by HTTP")
        slates = rates.measure(scale.rounds, scale.slates_seconds, folder)
        _say("latency")
        return report.Measured(
            machine=facts,
            rounds=rounds,
            count=scale.events,
            short=scale.short,
            rates=[Rate._make([*rate, Spread(*spread)]) for *rate, spread in learned["rates"]],
            missing=learned["missing"],
            points=points,
            growth_warm_up=scale.growth_warm_up,
            sizes=sizes,
            broadcast=broadcast,
            broadcast_warm_up=scale.broadcast_warm_up,
            latency=latency(scale.rounds, scale.latency_warm, scale.latency_seconds, folder),
            slates=slates,
            parts=[PartTime._make([*part, Spread(*spread)]) for *part, spread in parts["parts"]],
            parts_warm_up=scale.parts_warm_up,
        )


def _sizes(warm_up: int, events: int, rounds: int) -> dict[str, int]:
    return {"warm_up": warm_up, "events": events, "rounds": rounds}


def _quick(facts: dict[str, str], rounds: list[Round], scale: Scale) -> str:
    """The ratios for a terminal."""
    told = ", ".join(f"{name} {value}" for name, value in facts.items())
    tables = [report.plain(*report.contest_table(rows(rounds))), report.plain(*report.ratio_table(ratios(rounds)))]
    return "\n\n".join([*tables, f"{len(rounds)} rounds of {scale.events:,} events; {told}"]) + "\n"


def _ratios(facts: dict[str, str], rounds: list[Round]) -> dict[str, object]:
    return {
        "machine": facts,
        "contestants": [asdict(row) for row in rows(rounds)],
        "ratios": [asdict(ratio) for ratio in ratios(rounds)],
        "rounds": [{name: asdict(pace) for name, pace in paces.items()} for paces in rounds],
    }


def _say(what: str) -> None:
    print(f"bench: {what}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
