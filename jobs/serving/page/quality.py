"""What the followers counted, as charts and figures of the page."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from riverrank.jobs.serving.watch.minutes import MINUTE_MS, ArmCounts, Minute, Waits, waits_of
from riverrank.state.event_types import EVENT_TYPES

from .charts import Chart, chart_of
from .text import shown

SHOWN_MINUTES = 30


@dataclass(frozen=True)
class ArmFigures:
    """An arm over all minutes that are shown."""

    name: str
    counts: ArmCounts


@dataclass(frozen=True)
class Quality:
    """All figures of the overview."""

    charts: tuple[Chart, ...]
    arms: tuple[ArmFigures, ...]
    events: tuple[tuple[str, int], ...]
    minutes: int
    waits: Waits | None


def quality_of(minutes: list[Minute]) -> Quality:
    """The figures of `minutes`, oldest first; the last one is not over yet, and left out of what is per second."""
    names = sorted({name for minute in minutes for name in minute.arms})
    labels = [_label(minute.start_ms) for minute in minutes]
    whole = minutes[:-1]
    charts = (
        chart_of("Clicks per list shown", "", labels, _by_arm(minutes, names, lambda arm: arm.clicks_a_list)),
        chart_of("Next interaction in the last slate", "", labels, _by_arm(minutes, names, _hit_rate), percent=True),
        chart_of("Events a second", "", labels[:-1], _events_by_type(whole)),
        chart_of("Event to slate, milliseconds", "ms", labels, _waits(minutes)),
    )
    events: Counter[str] = sum((minute.events for minute in minutes), Counter())
    return Quality(
        charts=charts,
        arms=tuple(
            ArmFigures(shown(name), ArmCounts.together(minute.arms[name] for minute in minutes if name in minute.arms))
            for name in names
        ),
        events=tuple((name, events[name]) for name in EVENT_TYPES if events[name]),
        minutes=len(minutes),
        waits=waits_of(minutes),
    )


def _hit_rate(arm: ArmCounts) -> float | None:
    return arm.hit_rate


def _by_arm(
    minutes: list[Minute], names: list[str], figure: Callable[[ArmCounts], float | None]
) -> dict[str, list[float | None]]:
    none = ArmCounts()
    return {shown(name): [figure(minute.arms.get(name, none)) for minute in minutes] for name in names}


def _events_by_type(minutes: list[Minute]) -> dict[str, list[float | None]]:
    seconds = MINUTE_MS / 1000
    types = [name for name in EVENT_TYPES if any(minute.events[name] for minute in minutes)]
    return {name: [minute.events[name] / seconds for minute in minutes] for name in types}


def _waits(minutes: list[Minute]) -> dict[str, list[float | None]]:
    waits = [waits_of([minute]) for minute in minutes]
    return {
        "half within": [None if each is None else each.p50_ms for each in waits],
        "99 of 100 within": [None if each is None else each.p99_ms for each in waits],
    }


def _label(start_ms: int) -> str:
    minute = start_ms // MINUTE_MS
    return f"{minute // 60 % 24:02d}:{minute % 60:02d}"
