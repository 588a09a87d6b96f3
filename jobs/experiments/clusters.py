"""Means over users, with intervals: users are the sample, what one does again and again is no independent draw.

Two intervals each: one for whoever looks once, and one that holds however often somebody looks.
"""

import math
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.special import stdtrit

ALPHA = 0.05
TIGHTEST_AT = 2000  # users, at which the interval for any number of looks is as narrow as it can be made
LEAST_USERS = 2
ROUNDING = 1e-12  # of its terms, below which a sum of them is 0: what differs by the order of additions alone


class Estimate(msgspec.Struct, frozen=True):
    """A number with its intervals of 1 - ALPHA: `once`, for one look at a time that was fixed before, and `always`,
    for as many as anybody likes. nan where there is too little to say.
    """

    value: float
    once: tuple[float, float]
    always: tuple[float, float]


UNSURE = (math.nan, math.nan)


class Mean(NamedTuple):
    """A mean of `users` users, and its standard `error`; nan where there is none."""

    value: float
    error: float
    users: int

    def less(self, other: "Mean") -> "Mean":
        """The difference from that of other users."""
        return Mean(self.value - other.value, math.hypot(self.error, other.error), self.users + other.users)

    def estimate(self, alpha: float = ALPHA) -> Estimate:
        """With its intervals."""
        if not (self.users >= LEAST_USERS and math.isfinite(self.error)):
            return Estimate(self.value, UNSURE, UNSURE)
        once = float(stdtrit(self.users - 1, 1.0 - alpha / 2.0)) * self.error
        always = widening(self.users, alpha) * self.error
        return Estimate(self.value, *((self.value - width, self.value + width) for width in (once, always)))


class Sums:
    """Sums by user, `width` numbers each, which is all that is kept of one.

    >>> sums = Sums(2)
    >>> for user, clicks, slates in (("u", 1, 2), ("v", 1, 1), ("u", 1, 1)):
    ...     sums.add(user, [clicks, slates])
    >>> sums.rows().tolist(), sums.ratio(0, 1).value
    ([[2.0, 3.0], [1.0, 1.0]], 0.75)
    """

    def __init__(self, width: int) -> None:
        self._users: dict[str, int] = {}
        self._sums = np.zeros((16, width))

    def __len__(self) -> int:
        return len(self._users)

    def __contains__(self, user: str) -> bool:
        return user in self._users

    def add(self, user: str, numbers: "np.ndarray | list[float]") -> None:
        """Add the numbers to the user's."""
        row = self._users.setdefault(user, len(self._users))
        if row == len(self._sums):
            self._sums = np.concatenate([self._sums, np.zeros_like(self._sums)])
        self._sums[row] += numbers

    def rows(self) -> np.ndarray:
        """The sums, float64 (users, width)."""
        return self._sums[: len(self._users)]

    def ratio(self, numerator: int, denominator: int) -> Mean:
        """The sum of one column over that of another, by the delta method for a ratio of means over users."""
        rows = self.rows()
        return ratio_of_sums(rows[:, [numerator]], rows[:, [denominator]])


def ratio_of_sums(numerators: np.ndarray, denominators: np.ndarray) -> Mean:
    """The sum over columns of the ratio of their sums over users, float64 (users, columns) each: by the delta method, a
    user counts with the sum of (y - ratio * x) / mean(x). nan where a denominator is 0; 0 what is left of rounding.
    """
    users = len(denominators)
    means = denominators.mean(axis=0) if users else np.zeros(1)
    if not means.all():
        return Mean(math.nan, math.nan, users)
    ratios = numerators.mean(axis=0) / means
    influence = _sums(np.hstack([numerators / means, -ratios * denominators / means]))
    error = math.sqrt((influence**2).sum() / (users - 1) / users) if users >= LEAST_USERS else math.nan
    return Mean(float(_sums(ratios)), error, users)


def _sums(terms: np.ndarray) -> np.ndarray:
    """The sum of each row, 0 where it is no more than what rounding leaves of its terms."""
    sums = terms.sum(axis=-1)
    return np.where(np.abs(sums) > ROUNDING * np.abs(terms).sum(axis=-1), sums, 0.0)


def widening(users: int, alpha: float = ALPHA) -> float:
    """How many standard errors either side hold the truth at all numbers of users at once, with 1 - alpha.

    sqrt(2 (n r + 1) / (n r) * log(sqrt(n r + 1) / alpha)): the asymptotic confidence sequence of Waudby-Smith, Arbour,
    Sinha, Kennedy and Ramdas, Time-uniform central limit theory and asymptotic confidence sequences (2021), where r is
    their rho squared, by which it is the narrowest at TIGHTEST_AT.

    >>> [round(widening(n), 2) for n in (100, 2000, 1_000_000)]
    [4.72, 3.04, 3.78]
    """
    log = -2.0 * math.log(alpha)
    spent = users * (log + math.log(log + 1.0)) / TIGHTEST_AT
    return math.sqrt(2.0 * (spent + 1.0) / spent * math.log(math.sqrt(spent + 1.0) / alpha))
