"""Counts of the last minutes, in a ring: events by type, clicks and hits by arm, and how long slates took. It is handed
times and knows no clock.
"""

import random
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

MINUTE_MS = 60_000
MINUTES = 60  # of the ring
MOST_ARMS = 12  # that a minute tells apart; more are counted as OTHERS
OTHERS = "other arms"
WAITS = 512  # of a minute that quantiles are taken from: a random sample where there are more


@dataclass
class ArmCounts:
    """What happened in one arm: lists `shown` that name a slate and `clicked` of them, interactions `judged` and those
    that the slate before them held.
    """

    shown: int = 0
    clicked: int = 0
    judged: int = 0
    hits: int = 0

    @property
    def clicks_a_list(self) -> float | None:
        """Clicks a list shown; None where none was.

        >>> ArmCounts(shown=4, clicked=1).clicks_a_list
        0.25
        """
        return self.clicked / self.shown if self.shown else None

    @property
    def hit_rate(self) -> float | None:
        """The share of interactions that the slate before them held; None where there was none."""
        return self.hits / self.judged if self.judged else None

    @classmethod
    def together(cls, counts: Iterable["ArmCounts"]) -> "ArmCounts":
        """The sum of several.

        >>> ArmCounts.together([ArmCounts(shown=4), ArmCounts(shown=1, clicked=1)]).clicks_a_list
        0.2
        """
        given = [(each.shown, each.clicked, each.judged, each.hits) for each in counts]
        return cls(*map(sum, zip(*given, strict=True)))


@dataclass
class Minute:
    """One minute, from `start_ms` on."""

    start_ms: int
    events: Counter[str] = field(default_factory=Counter)
    arms: dict[str, ArmCounts] = field(default_factory=dict)
    slates: int = 0
    waits_ms: list[int] = field(default_factory=list)
    waited: int = 0

    def arm(self, name: str) -> ArmCounts:
        """The counts of an arm, those of OTHERS where there are too many."""
        known = name in self.arms or len(self.arms) < MOST_ARMS
        return self.arms.setdefault(name if known else OTHERS, ArmCounts())

    def add_wait(self, wait_ms: int, draw: random.Random) -> None:
        """A slate came so long after its event."""
        self.waited += 1
        if len(self.waits_ms) < WAITS:
            self.waits_ms.append(wait_ms)
        elif (place := draw.randrange(self.waited)) < WAITS:
            self.waits_ms[place] = wait_ms


@dataclass(frozen=True)
class Waits:
    """Of `count` slates, the milliseconds that half, and 99 of 100, took at most."""

    count: int
    p50_ms: float
    p99_ms: float


class Minutes:
    """The last MINUTES minutes that something was counted in. What is older than those is not counted.

    >>> minutes = Minutes()
    >>> minutes.at(60_000).events["click"] += 1
    >>> [(minute.start_ms, minute.events.total()) for minute in minutes.between(0, 120_000)]
    [(0, 0), (60000, 1), (120000, 0)]
    """

    def __init__(self) -> None:
        self._ring: list[Minute | None] = [None] * MINUTES
        self._draw = random.Random(7)

    def at(self, ts: int) -> Minute:
        """The minute that `ts` (epoch milliseconds) falls in; one that is not kept where it is too old."""
        start = ts - ts % MINUTE_MS
        place = start // MINUTE_MS % MINUTES
        held = self._ring[place]
        if held is None or held.start_ms < start:
            held = self._ring[place] = Minute(start)
        return held if held.start_ms == start else Minute(start)

    def wait(self, ts: int, wait_ms: int) -> None:
        """A slate that came at `ts` came `wait_ms` after its event."""
        self.at(ts).add_wait(wait_ms, self._draw)

    def between(self, first_ms: int, last_ms: int) -> list[Minute]:
        """All minutes from that of `first_ms` to that of `last_ms`, MINUTES at most, those without anything too."""
        held = {minute.start_ms: minute for minute in self._held()}
        end = last_ms - last_ms % MINUTE_MS
        begin = max(first_ms - first_ms % MINUTE_MS, end - (MINUTES - 1) * MINUTE_MS)
        return [held.get(start, Minute(start)) for start in range(begin, end + 1, MINUTE_MS)]

    def _held(self) -> Iterator[Minute]:
        return (minute for minute in self._ring if minute is not None)


def waits_of(minutes: list[Minute]) -> Waits | None:
    """The waits of some minutes together; None where no slate came in them."""
    waits = [wait for minute in minutes for wait in minute.waits_ms]
    if not waits:
        return None
    p50, p99 = np.quantile(waits, (0.5, 0.99))
    return Waits(sum(minute.waited for minute in minutes), float(p50), float(p99))
