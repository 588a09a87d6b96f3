"""What was measured, as text: the ratios for a terminal, and all of it as `docs/benchmarks.md` with its picture."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from riverrank.jobs import markdown
from riverrank.state.records.outgoing import to_json

from .contest import Ratio, Round, Row, ratios, rows
from .figures import Spread
from .growth import ACTIVE, BASE, Point
from .learning import Rate
from .parts import ALL, PartTime
from .serving.rates import LIMIT, PLAIN, USERS
from .serving.rates import Row as SlateRow
from .serving.scene import slate_of, user_ids
from .sizes import Broadcast, Sizes

ATTENTION = 0.05  # share of an event from which a part is marked
HEAD = """# Benchmarks

Written by `make bench`; `make bench-quick` gives the ratios alone in some three minutes. A figure is the median of
{rounds} rounds, with the lowest and the highest in brackets.

{machine}
"""
CONTEST = """## Slates a second

The same {count:,} events of a simulated shop (2,000 items, 500 users, each event answered with a slate of 20), from
files to files, in turn. `job` is `riverrank run`, `replay` is `riverrank replay`, `tutorial` is the way that tutorials
show a recommender on PyFlink (one pickled River model a user, process mode), `empty` is the job's own graph with no
logic in it: its messages and its keyed state, a slate from memory. Each has all cores: the job and the tutorials' way
in several processes of Java and Python, `replay` in several of Python. Rates begin after the first {short:,} events,
the difference of two runs, so that what a run costs once is not in it. A contestant that lost an event, or answered one
twice or with less than a whole slate, would have no figure.

The vectors of items are learned from each of the first feedbacks, and from a quarter of the later ones. With nothing
set the first are 100,000: that is `job-warming-up` and `replay-warming-up`. For `job` and `replay` they are the first
{short:,}, so that theirs is the rate of a job which has been running for a while.
"""
LEARNING = """## Learning alone

Rows a second on one core; a row is one candidate with its features and whether it was taken. Ours are timed inside the
running operators, with all that a call costs there. Vowpal Wabbit runs its own loop (plain SGD, logistic loss) over the
same rows from its binary cache, River over dictionaries that were made before.
"""
GROWTH = """## What makes an event dearer

Microseconds of an event in one process, without Flink, after {warm_up:,} events. One thing grows at a time, the others
stay at {items:,} items, {users:,} users, a history of {history} and {candidates} candidates. Items are taken by Zipf's
law (the item of rank r in proportion to 1/r). Of more than {active:,} users the further ones are copies of these, who
all come equally often, for {visit} interactions among some thousand of others, and in one row of measures for one: what
is kept in memory of the last 1,000 users (`operators/recent.py`) serves nobody then. The slope says by how much an
event is dearer than at the first value, within each round.

![Microseconds an event over items, users, history and candidates](benchmarks.svg)
"""
SIZES = """## Bytes a user and an item
"""
BROADCAST = """## What an event adds to what every TaskManager is sent

What SIGNALS and RANKER learn is broadcast: each TaskManager is sent all of it, and its index follows. Bytes, and
microseconds of processor time, of one process for each event of the whole job, with the stream of the contest, after
{warm_up:,} events, where the vectors and the ranker learn from a quarter. SIGNALS tells of so many feedbacks at once
(`signals.flush_events`), or of fewer where `signals.flush_every` comes first, which it does not here.
"""
LATENCY = """## From an event in Kafka to its slate in Redis

Milliseconds at 200 events a second, with checkpoints, broker and Redis on the same machine, by `jobs.dev.latency`; the
empty job has the same hops. `warming` is the 99th percentile of the half minute before what is measured: Java has not
compiled by then what writes a checkpoint.
"""
SLATES = """## Slates by HTTP

`riverrank serve` and one client process, whose connections each ask again as soon as they are answered, with Redis on
the same machine: slates of 20, of {users:,} users, some {size:,} bytes each. `{plain}` is the same client that asks
Redis itself for the same; `{limit}` is a server that answers whatever it is asked with as many bytes: with this client
no service could be faster. With a catalogue each place is looked up in it. Two processes have ports of their own, over
which the client spreads itself as a proxy would: they share none, so that a port which is taken is an error. Processor
time is that of the service, a request.
"""
PARTS = """## Where the time of one event goes

By part, in microseconds of an event, in one process without Flink, after {warm_up:,} events of the stream above. Parts
within a part are listed below it, and are not in its own figure. What the stop-watches cost is subtracted; the last
line is the same without any. Parts of {attention:.0%} or more are marked.
"""


@dataclass(frozen=True)
class Measured:
    """All that a full run found."""

    machine: Mapping[str, str]
    rounds: Sequence[Round]
    count: int
    short: int
    rates: Sequence[Rate]
    missing: str  # what learning could not be compared with
    points: Sequence[Point]
    growth_warm_up: int
    sizes: Sizes
    broadcast: Sequence[Broadcast]
    broadcast_warm_up: int
    latency: Mapping[str, Mapping[str, Spread]] | str  # milliseconds by job and percentile, or why there are none
    slates: Sequence[SlateRow]
    parts: Sequence[PartTime]
    parts_warm_up: int


def document(measured: Measured) -> str:
    """The Markdown of it."""
    machine = ", ".join(f"{name} {value}" for name, value in measured.machine.items())
    fields = {**vars(BASE), "active": ACTIVE}
    parts = [
        HEAD.format(rounds=len(measured.rounds), machine=f"Machine: {machine}."),
        CONTEST.format(count=measured.count, short=measured.short),
        markdown.table(*contest_table(rows(measured.rounds))),
        markdown.table(*ratio_table(ratios(measured.rounds))),
        LEARNING,
        markdown.table(*_learning(measured.rates)),
        *([f"{measured.missing}.\n"] if measured.missing else []),
        GROWTH.format(warm_up=measured.growth_warm_up, **fields),
        markdown.table(*_growth(measured.points)),
        SIZES,
        markdown.table(*_sizes(measured.sizes)),
        BROADCAST.format(warm_up=measured.broadcast_warm_up),
        markdown.table(*broadcast_table(measured.broadcast)),
        LATENCY,
        f"{measured.latency}.\n" if isinstance(measured.latency, str) else markdown.table(*_latency(measured.latency)),
        slates_text(),
        markdown.table(*slates_table(measured.slates)),
        PARTS.format(warm_up=measured.parts_warm_up, attention=ATTENTION),
        markdown.table(*_parts(measured.parts)),
    ]
    return "\n".join(parts).rstrip() + "\n"


Table = tuple[Sequence[str], list[list[str]]]  # the names of the columns, and the rows


def contest_table(rows: Sequence[Row]) -> Table:
    """Contestants."""
    return ("contestant", "rounds", "slates a second", "slates a CPU second", "seconds to the first slate"), [
        [
            *(row.contestant, str(row.rounds), row.per_second.text(), row.per_cpu_second.text()),
            row.first_slate_seconds.text(1),
        ]
        for row in rows
    ]


def ratio_table(ratios: Sequence[Ratio]) -> Table:
    """Ratios within rounds."""
    return ("ratio", "by the clock", "by CPU time"), [
        [ratio.name, ratio.per_second.text(2), ratio.per_cpu_second.text(2)] for ratio in ratios
    ]


def plain(names: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table for a terminal.

    >>> print(plain(["a", "bb"], [["ccc", "d"]]))
    a    bb
    ccc  d
    """
    widths = [max(map(len, column)) for column in zip(names, *lines, strict=True)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (names, *lines)
    )


def _learning(rates: Sequence[Rate]) -> Table:
    return ("learner", "on the rows of", "rows", "features a row", "rows a second"), [
        [rate.learner, f"the {rate.rows_of}", f"{rate.rows:,}", f"{rate.features:.1f}", rate.per_second.text()]
        for rate in rates
    ]


def _growth(points: Sequence[Point]) -> Table:
    return ("what grows", "to", "microseconds an event", "slope", "process, MB"), [
        [point.axis, f"{point.value:,}", point.microseconds.text(), point.slope.text(2), f"{point.megabytes:,.0f}"]
        for point in points
    ]


def _sizes(sizes: Sizes) -> Table:
    return ("what", "bytes"), [
        [f"a user after {sizes.interactions} interactions, in Flink's state", sizes.user.text()],
        ["of these, history and event ids (SESSION)", sizes.session.text()],
        ["of these, the learner (RECOMMEND)", sizes.learner.text()],
        ["an item of the catalogue, in broadcast state", f"{sizes.item_stored:,.0f}"],
        ["an item of the catalogue, in memory, an index", f"{sizes.item:,.0f}"],
        ["an item that was met, in memory, all operators: further", f"{sizes.item_met:,.0f}"],
    ]


def broadcast_table(found: Sequence[Broadcast]) -> Table:
    """What is broadcast, by the size of an update."""
    return ("feedbacks an update", "bytes of SIGNALS", "bytes of RANKER", "microseconds of an index"), [
        [f"{each.flush_events}", f"{each.signals:,.0f}", f"{each.ranker:,.0f}", each.microseconds.text(1)]
        for each in found
    ]


def _latency(found: Mapping[str, Mapping[str, Spread]]) -> Table:
    columns = next(iter(found.values()))
    return ("job", *columns), [[job, *(figures[name].text(1) for name in columns)] for job, figures in found.items()]


def slates_text() -> str:
    """What slates by HTTP are measured with."""
    size = len(to_json(slate_of(user_ids(1)[0], 0)))
    return SLATES.format(users=USERS, size=size, plain=PLAIN, limit=LIMIT)


def slates_table(found: Sequence[SlateRow]) -> Table:
    """Slates by HTTP, by what is asked and how many at once."""
    names = ("asked", "at once", "requests a second", f"of {PLAIN}", "p50, ms", "p99, ms", "CPU, microseconds")
    return names, [
        [
            *(row.asked, f"{row.at_once}", row.per_second.text(), row.of_plain.text(2), row.p50.text(2)),
            *(row.p99.text(2), row.cpu.text() if row.cpu else ""),
        ]
        for row in found
    ]


def _parts(parts: Sequence[PartTime]) -> Table:
    inside = [part for part in parts if part.part != ALL]
    total = sum(part.microseconds.median for part in inside)
    lines = []
    for part in inside:
        share = part.microseconds.median / total
        name = f"{part.outer}: {part.part}" if part.outer else part.part
        mark = "**" if share >= ATTENTION else ""
        calls = f"{part.calls:.2f}" if part.calls else ""
        lines.append([f"{mark}{name}{mark}", calls, part.microseconds.text(1), f"{share:.0%}"])
    lines.append(["sum of the medians", "", f"{total:,.1f}", ""])
    lines += [[part.part, "", part.microseconds.text(1), ""] for part in parts if part.part == ALL]
    return ("part", "calls an event", "microseconds", "share"), lines


def as_json(measured: Measured) -> dict[str, Any]:
    """All figures, for a program."""
    return {
        "machine": dict(measured.machine),
        "rounds": [{name: vars(pace) for name, pace in paces.items()} for paces in measured.rounds],
        "learning": [rate._asdict() for rate in measured.rates],
        "growth": [point._asdict() for point in measured.points],
        "sizes": measured.sizes._asdict(),
        "broadcast": [each._asdict() for each in measured.broadcast],
        "latency": measured.latency,
        "slates": [row._asdict() for row in measured.slates],
        "parts": [part._asdict() for part in measured.parts],
    }
