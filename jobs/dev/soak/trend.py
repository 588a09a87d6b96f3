"""Whether a series of measures grows: a slope with its interval, that outliers and gaps move little."""

import statistics
from collections.abc import Callable, Sequence
from typing import NamedTuple

from scipy.stats import theilslopes

BIN_SECONDS = 15.0  # neighbours in time are no two measures: of each bin one number counts
WARM_UP = 1 / 3  # share of the time that is no part of it: what is bounded is not full before
CONFIDENCE = 0.95
LIMIT = 0.05  # share of the size an hour: what surely grows by more than that is no longer flat
FEWEST = 5  # bins

Bins = Callable[[Sequence[float]], float]


class Trend(NamedTuple):
    """The middle of a series, and its slope, with the ends of its interval, as a share of that an hour."""

    size: float
    slope: float
    low: float
    high: float

    @property
    def is_flat(self) -> bool:
        """Whether it may well not grow: the lower end of the interval is at most LIMIT.

        >>> Trend(100.0, 0.1, -0.01, 0.2).is_flat, Trend(100.0, 0.1, 0.06, 0.2).is_flat
        (True, False)
        """
        return self.low <= LIMIT


def trend_of(seconds: Sequence[float], values: Sequence[float], of_bin: Bins = statistics.median) -> Trend:
    """The trend of `values` at `seconds`, ascending, after the warm-up: the median of the slopes between all pairs of
    bins, of each of which `of_bin` makes one number (Theil, 1950; Sen, Estimates of the regression coefficient based on
    Kendall's tau, 1968). Raises ValueError where there are fewer than FEWEST bins.

    >>> line = [float(second) for second in range(3600)]
    >>> trend = trend_of(line, [1000.0 + 0.1 * second for second in line])
    >>> round(trend.slope, 2), trend.is_flat
    (0.29, False)
    """
    start = seconds[0] + WARM_UP * (seconds[-1] - seconds[0])
    bins: dict[int, list[float]] = {}
    for second, value in zip(seconds, values, strict=True):
        if second >= start:
            bins.setdefault(int((second - start) / BIN_SECONDS), []).append(value)
    if len(bins) < FEWEST:
        raise ValueError(f"{len(bins)} bins of {BIN_SECONDS:.0f} s: expected {FEWEST}; soak for longer")
    hours = [number * BIN_SECONDS / 3600 for number in bins]
    numbers = [of_bin(held) for held in bins.values()]
    size = statistics.median(numbers)
    slope, _, low, high = theilslopes(numbers, hours, CONFIDENCE)
    unit = abs(size) or 1.0
    return Trend(size, float(slope) / unit, float(low) / unit, float(high) / unit)
