"""How the demo looks: a live screen on a terminal, plain lines elsewhere, and the summary at the end.

It shows what it is handed and measures nothing.
"""

import math
from dataclasses import dataclass
from typing import Protocol, Self

import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text
from riverrank.jobs.serving.slates import headline, reasons_of, table_of
from riverrank.state.records.outgoing import Slate

from .metrics import Estimate, Quantiles

LINE_EVERY_SECONDS = 5.0
SLATE_EVERY_SECONDS = 15.0
ROWS = 6
BLOCKS = " ▁▂▃▄▅▆▇█"
SPARK_POINTS = 60

_decode_slate = msgspec.json.Decoder(Slate).decode


@dataclass(frozen=True)
class ArmView:
    """An arm at a glance: of all so far, and of the last ten seconds; `course` is the recent rate over time."""

    name: str
    rate: float
    recent: float
    shown: int
    clicked: int
    course: list[float]


@dataclass(frozen=True)
class Moment:
    """One moment of the demo."""

    elapsed: float
    seconds: float
    events_per_second: float
    events: int
    recent_wait: Quantiles
    overall_wait: Quantiles
    arms: list[ArmView]
    customer: str
    likes: list[str]
    slate: bytes | None
    titles: dict[str, str]
    job_line: str


@dataclass(frozen=True)
class Summary:
    """What came out."""

    elapsed: float
    arms: dict[str, tuple[Estimate, int, int]]  # rate, clicked, shown
    lift: Estimate
    events: int
    slates: int
    dead_letters: int
    wait: Quantiles
    late: int
    unanswered: int
    setup_seconds: float
    steps: dict[str, float]


class Screen(Protocol):
    """Where a view is shown."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: object) -> None: ...

    def show(self, view: Moment) -> None:
        """Show `view`, or wait for a better moment."""


class LiveScreen:
    """The whole terminal, drawn anew with every view."""

    def __init__(self, console: Console) -> None:
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        self._live.stop()

    def show(self, view: Moment) -> None:
        """Draw `view`."""
        self._live.update(_drawn(view), refresh=True)


class PlainScreen:
    """A line every few seconds, and now and then the top of the customer's slate."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._next = 0.0
        self._next_slate = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def show(self, view: Moment) -> None:
        """Print `view`, unless the last line is fresh."""
        if view.elapsed < self._next:
            return
        self._next = view.elapsed + LINE_EVERY_SECONDS
        arms = "  ".join(f"{arm.name} {_percent(arm.rate)} (last 10 s {_percent(arm.recent)})" for arm in view.arms)
        self._say(f"{view.elapsed:5.0f} s  {view.events_per_second:5.0f} events/s  {_wait(view.recent_wait)}  {arms}")
        if view.slate is not None and view.elapsed >= self._next_slate:
            self._next_slate = view.elapsed + SLATE_EVERY_SECONDS
            slate = _decode_slate(view.slate)
            self._say(f"         {view.customer} likes {', '.join(view.likes)}; {headline(slate)}")
            for slot in slate.items[:3]:
                title = view.titles.get(slot.item_id, slot.item_id)
                self._say(f"         {slot.rank}. {title}: {reasons_of(slot.reasons, view.titles)}")

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)


def summary_of(result: Summary) -> str:
    """The summary as text."""
    lines = [f"riverrank demo: {result.elapsed:.0f} s, {result.events} events, {result.slates} slates"]
    for name, (rate, clicked, shown) in result.arms.items():
        lines.append(
            f"  click-through {name:9} {_percent(rate.value)}  (95 %: {_percent(rate.low)} to {_percent(rate.high)}; "
            f"{clicked} clicks of {shown} items shown)"
        )
    gain = result.lift
    lines.append(
        "  lift                    too few clicks to say"
        if math.isnan(gain.value)
        else f"  lift                    {gain.value:+.0%}  (95 %: {gain.low:+.0%} to {gain.high:+.0%})"
    )
    steps = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in result.steps.items())
    lines += [
        f"  event to Redis          {_wait(result.wait)}  ({result.wait.count} visits; late {result.late}, "
        f"never {result.unanswered})",
        f"  dead letters            {result.dead_letters}",
        f"  first slate after       {result.setup_seconds:.1f} s  ({steps})",
        "Customers tire of what they took; the popular slate, which is the same for all, does not know what that is.",
        "A wait: from sending the last event of a visit to Kafka until the slate that answers it was read from Redis.",
    ]
    return "\n".join(lines)


def spark(values: list[float], top: float) -> str:
    """Values as a line of blocks, `top` the highest; a gap where there is none.

    >>> spark([0.0, 0.5, 1.0, math.nan], 1.0)
    ' ▄█ '
    """
    highest = top if top > 0 else 1.0
    return "".join(
        " " if math.isnan(value) else BLOCKS[min(len(BLOCKS) - 1, round(value / highest * (len(BLOCKS) - 1)))]
        for value in values
    )


def _drawn(view: Moment) -> Panel:
    facts = Table.grid(padding=(0, 3))
    facts.add_row(
        f"[b]{view.events_per_second:.0f}[/b] events/s",
        f"{view.events} events",
        f"event to Redis, last 10 s: [b]{_wait(view.recent_wait)}[/b]",
        f"all: {_wait(view.overall_wait)}",
    )
    arms = Table(box=None, padding=(0, 2), pad_edge=False)
    for column in ("click-through of", "so far", "last 10 s", "clicks / shown", "course"):
        arms.add_column(column, no_wrap=True)
    top = max((value for arm in view.arms for value in arm.course if not math.isnan(value)), default=0.0)
    for arm in view.arms:
        arms.add_row(
            arm.name,
            f"[b]{_percent(arm.rate)}[/b]",
            _percent(arm.recent),
            f"{arm.clicked} / {arm.shown}",
            spark(arm.course[-SPARK_POINTS:], top),
        )
    parts: list[Table | Text] = [facts, Text(), arms, Text()]
    if view.slate is not None:
        parts.append(Text(f"{view.customer} secretly likes {', '.join(view.likes)}, and Redis holds:", style="italic"))
        parts.append(table_of(_decode_slate(view.slate), view.titles, ROWS))
    parts.append(Text(f"job: {view.job_line}", style="dim", no_wrap=True, overflow="ellipsis"))
    return Panel(Group(*parts), title=f"riverrank demo, {view.elapsed:.0f} of {view.seconds:.0f} s")


def _percent(rate: float) -> str:
    return "  -  " if math.isnan(rate) else f"{100 * rate:4.1f} %"


def _wait(wait: Quantiles) -> str:
    if not wait.count:
        return "p50 - ms, p99 - ms"
    return f"p50 {1000 * wait.p50:.0f} ms, p99 {1000 * wait.p99:.0f} ms"
