"""What the demo measures: the click-through of an arm, with what chance may do to it, and latencies.

Pure arithmetic on numbers and times that are handed in.
"""

import math
from collections import defaultdict, deque
from dataclasses import dataclass

import numpy as np

Z_95 = 1.959964  # standard deviations either side of a normal that hold 95 %
RECENT_SECONDS = 10.0


@dataclass(frozen=True)
class Estimate:
    """A number with its 95 % confidence interval; `nan` where there is too little to say."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Quantiles:
    """Seconds that half, and 99 of 100, of `count` waits were not longer than."""

    count: int
    p50: float
    p99: float


class ClickThrough:
    """Clicks an item shown, of one arm. Customers are the sample: visits of one customer are no independent draws."""

    def __init__(self) -> None:
        self._by_customer: dict[int, tuple[int, int]] = defaultdict(lambda: (0, 0))
        self._recent: deque[tuple[float, int, int]] = deque()
        self.shown = 0
        self.clicked = 0

    def add(self, customer: int, shown: int, clicked: int, now: float) -> None:
        """`customer` was shown items at `now` (seconds), and clicked some."""
        before = self._by_customer[customer]
        self._by_customer[customer] = (before[0] + shown, before[1] + clicked)
        self._recent.append((now, shown, clicked))
        self.shown += shown
        self.clicked += clicked

    def rate(self) -> float:
        """Of all that was shown, the share that was clicked."""
        return self.clicked / self.shown if self.shown else math.nan

    def recent(self, now: float) -> float:
        """The same of the last ten seconds."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        shown = sum(entry[1] for entry in self._recent)
        return sum(entry[2] for entry in self._recent) / shown if shown else math.nan

    def estimate(self) -> Estimate:
        """The rate with its interval: the delta method for a ratio of sums over customers."""
        rate, error = self.rate(), self.standard_error()
        return Estimate(rate, max(0.0, rate - Z_95 * error), rate + Z_95 * error)

    def standard_error(self) -> float:
        """Of the rate, from how much customers differ; `nan` with fewer than two of them."""
        counts = np.array(list(self._by_customer.values()), np.float64).reshape(-1, 2)
        if len(counts) < 2 or not self.shown:
            return math.nan
        residual = counts[:, 1] - self.rate() * counts[:, 0]
        return float(np.sqrt((residual**2).sum() * len(counts) / (len(counts) - 1)) / self.shown)


def lift(treated: ClickThrough, control: ClickThrough) -> Estimate:
    """By how much the first rate is above the second, as a share of the second; interval on the log of their ratio.

    >>> one, other = ClickThrough(), ClickThrough()
    >>> for customer in range(4):
    ...     one.add(customer, 100, 30, 0.0)
    ...     other.add(customer, 100, 10, 0.0)
    >>> round(lift(one, other).value, 6)
    2.0
    """
    if not (treated.clicked and control.clicked):
        return Estimate(math.nan, math.nan, math.nan)
    ratio = treated.rate() / control.rate()
    error = math.hypot(treated.standard_error() / treated.rate(), control.standard_error() / control.rate())
    return Estimate(ratio - 1, ratio * math.exp(-Z_95 * error) - 1, ratio * math.exp(Z_95 * error) - 1)


class Waits:
    """How long something took, each time."""

    def __init__(self) -> None:
        self._all: list[float] = []
        self._recent: deque[tuple[float, float]] = deque()

    def add(self, seconds: float, now: float) -> None:
        """It took `seconds`, and ended at `now`."""
        self._all.append(seconds)
        self._recent.append((now, seconds))

    def overall(self) -> Quantiles:
        """Of all waits so far."""
        return _quantiles(self._all)

    def recent(self, now: float) -> Quantiles:
        """Of those that ended in the last ten seconds."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        return _quantiles([seconds for _, seconds in self._recent])


class Pace:
    """How often something happens, over the last ten seconds."""

    def __init__(self) -> None:
        self._recent: deque[tuple[float, int]] = deque()
        self.total = 0

    def add(self, count: int, now: float) -> None:
        """It happened `count` times at `now`."""
        self._recent.append((now, count))
        self.total += count

    def per_second(self, now: float, started: float) -> float:
        """Times a second of the last ten, or of those since `started`."""
        while self._recent and self._recent[0][0] < now - RECENT_SECONDS:
            self._recent.popleft()
        return sum(count for _, count in self._recent) / max(1e-9, min(RECENT_SECONDS, now - started))


def _quantiles(values: list[float]) -> Quantiles:
    if not values:
        return Quantiles(0, math.nan, math.nan)
    p50, p99 = np.quantile(np.array(values), (0.5, 0.99), method="higher")
    return Quantiles(len(values), float(p50), float(p99))
