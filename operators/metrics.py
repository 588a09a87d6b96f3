"""What the parts of the job count as they work, and how Flink's metric system, and so who scrapes it, hears of that.
Knows no Flink: it is handed a group of metrics, and who runs a part tells of its counts.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

GROUP = "riverrank"
AGES = {"30ms": 30, "100ms": 100, "300ms": 300, "1s": 1_000, "10s": 10_000, "1m": 60_000}
TOLD_EVERY = 0.1  # seconds: each number that is told is a call to Java, of 2 us


class Metric(NamedTuple):
    """What is counted, or where `is_level` how much there is; told apart by the values of `label`, if there is one."""

    what: str
    label: str = ""
    is_level: bool = False


METRICS = {
    "events": Metric("events that were accepted, by their type", "type"),
    "redelivered": Metric("events that came again, and did nothing"),
    "dead_letters": Metric("records that could not be used, by their reason", "reason"),
    "slates": Metric("slates, by their strategy: cold ones are of users without an interaction", "strategy"),
    "slate_age": Metric("slates, by the time from the `ts` of their event to the answer, by the wall clock", "within"),
    "learned": Metric("feedbacks that users' learners learned from, as `model.examples` counts them"),
    "drift": Metric("learners that began anew, as their user's taste had changed"),
    "choices": Metric("items that were taken after an answer, with which its order is judged", "arm"),
    "hits": Metric("of these, those among the first ten in the learner's order; an unknown item never is", "arm"),
    "gain_millionths": Metric("of these, the sum of 1 / log2(rank + 1) of the first ten, times a million", "arm"),
    "shown": Metric("items of impressions that are over", "arm"),
    "clicked": Metric("of these, those that were taken", "arm"),
    "loss_millionths": Metric("of these, minus the sum of the log of what was foretold, times a million", "arm"),
    "lists": Metric("lists of items that were made for Redis, by the name of their key", "list"),
    "signals": Metric("feedbacks that SIGNALS learned from"),
    "ranker": Metric("feedbacks that RANKER learned from"),
    "epsilon_thousandths": Metric(
        "what all windows so far have cost a user who contributed in each (`noise.epsilon`), times a thousand",
        is_level=True,
    ),
    "catalogue": Metric("items that may be served", is_level=True),
    "coverage_thousandths": Metric("share of these on the first ten places of the last 1,000 slates", is_level=True),
    "exposure_millionths": Metric(
        "rank-discounted exposure that slates gave to what each of fairness.floors names, and `all`, times a million",
        "floor",
    ),
    "cache_written": Metric("writes that Redis took"),
    "cache_refused": Metric("attempts at a key that Redis refused"),
    "cache_away": Metric("1 while Redis is away, else 0", is_level=True),
    "cache_waiting": Metric("keys that wait to be written to Redis", is_level=True),
    "cache_age_ms": Metric("how long the oldest of them waits, in milliseconds", is_level=True),
}


class Counts:
    """Counts since they were last taken, and levels as they are.

    >>> counts = Counts()
    >>> counts.add("events", "click")
    >>> counts.add("events", "click", 2)
    >>> counts.set("catalogue", 7)
    >>> list(counts.take()), list(counts.take())
    ([('events', 'click', 3), ('catalogue', '', 7)], [('catalogue', '', 7)])
    """

    def __init__(self) -> None:
        self._counted: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._levels: dict[str, int] = {}

    def add(self, name: str, value: str = "", n: int = 1) -> None:
        """Count `n` more of the metric of that name, with that value of its label."""
        self._counted[name, value] += n

    def set(self, name: str, level: int) -> None:
        """How much there is of the metric of that name."""
        self._levels[name] = level

    def take(self) -> Iterator[tuple[str, str, int]]:
        """Name, value of the label, and number, of all that was counted since the last call, and of every level."""
        counted, self._counted = self._counted, defaultdict(int)
        yield from ((name, value, number) for (name, value), number in counted.items())
        yield from ((name, "", level) for name, level in self._levels.items())


def within(milliseconds: int) -> str:
    """The shortest time of AGES that something which took so long came within.

    >>> within(99), within(10_000), within(86_400_000)
    ('100ms', '10s', 'more')
    """
    return next((name for name, most in AGES.items() if milliseconds <= most), "more")


class Metrics:
    """The counters and levels of one subtask. What came in the TOLD_EVERY after it last told, is told with the next
    record, or where `tell` is asked to at once.

    Levels are PyFlink's distributions, which hold the number last given: its gauges call Python from a thread of Java's
    that runs no operator, and that may wait for itself (see `native`).
    """

    def __init__(self, group: Any) -> None:
        """`group` is the operator's own, of PyFlink."""
        self._group = group.add_group(GROUP)
        self._told: dict[tuple[str, str], Any] = {}
        self._due = 0.0

    def tell(self, counts: Counts, measure: Callable[[], None] | None = None, *, at_once: bool = False) -> None:
        """Tell of `counts`, if it is time to; `measure` is called before that, to set levels."""
        now = time.monotonic()
        if now < self._due and not at_once:
            return
        self._due = now + TOLD_EVERY
        if measure is not None:
            measure()
        for name, value, number in counts.take():
            if (name, value) not in self._told:
                self._told[name, value] = self._made(name, value)
            if METRICS[name].is_level:
                self._told[name, value].update(number)
            else:
                self._told[name, value].inc(number)

    def _made(self, name: str, value: str) -> Any:
        metric = METRICS[name]
        group = self._group.add_group(metric.label, value) if metric.label else self._group
        return group.distribution(name) if metric.is_level else group.counter(name)
