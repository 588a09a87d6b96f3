"""How much noise a promise takes: deviations and thresholds from epsilon and delta, and what windows add up to.

A window's releases are one Gaussian mechanism, whose deviation is `multiplier` times what one user can change. That is
computed here in closed form; what is reported of it is computed by `dp-accounting`, and the two agree (a test).
"""

import math
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from riverrank.operators.settings import NoiseSettings
from scipy.special import log_ndtr, ndtri

ORDER_DECAY = 0.9  # of a pair's weight, for each interaction that lies between
GRID = 1 << 10  # steps of 1 that amounts and noise are whole numbers of
MOST_BLOCKS = 64  # that a sum is made of, and so releases that a cell is looked at in
QUICK_BELOW = 0.25  # multiplier: epsilon is 30 then
SHARES = {"counts": 0.25, "pairs": 0.5, "choices": 0.25}  # of 1 / multiplier ** 2


class Budget(NamedTuple):
    """The deviations of the noise: `counts` and `pairs` of what a block counted, `choices` of a batch's sum of
    gradients. `tail` is how many deviations no cell of one user alone ever reaches, but for half of delta.
    """

    multiplier: float
    counts: float
    pairs: float
    choices: float
    tail: float


def gaussian_delta(epsilon: float, multiplier: float) -> float:
    """Delta of the Gaussian mechanism whose noise deviates by `multiplier` times the sensitivity, exactly (Balle and
    Wang, Improving the Gaussian mechanism for differential privacy, 2018, theorem 8).

    >>> round(gaussian_delta(1.0, 1.0), 6)
    0.126937
    """
    half = 0.5 / multiplier
    return math.exp(log_ndtr(half - epsilon * multiplier)) - math.exp(epsilon + log_ndtr(-half - epsilon * multiplier))


def gaussian_epsilon(multiplier: float, delta: float) -> float:
    """The least epsilon at which the mechanism has `delta`."""
    return _crossing(lambda epsilon: gaussian_delta(epsilon, multiplier) - delta, 0.0, 1.0)


def gaussian_multiplier(epsilon: float, delta: float) -> float:
    """The least multiplier with which the mechanism has `epsilon` and `delta`."""
    return _crossing(lambda multiplier: gaussian_delta(epsilon, multiplier) - delta, 1e-3, 1.0)


def weights_of(pairs: int) -> list[float]:
    """What pairs with the last `pairs` items weigh, on the grid and never above ORDER_DECAY's powers."""
    return [math.floor(ORDER_DECAY**k * GRID) / GRID for k in range(pairs)]


def sensitivities(noise: NoiseSettings) -> dict[str, float]:
    """By how much one user's contributions of one window change each part, in L2. The n-th item has n pairs at most."""
    items, weights = noise.contributions, weights_of(noise.pairs)
    pairs = sum(weight**2 for nth in range(items) for weight in weights[:nth])
    return {"counts": math.sqrt(items), "pairs": math.sqrt(pairs), "choices": noise.clip * math.sqrt(items)}


@lru_cache(maxsize=8)
def budget_of(noise: NoiseSettings) -> Budget:
    """The noise that the settings ask for. Raises ValueError, with the mend, where there is no secret to make it of."""
    if not noise.key:
        raise ValueError(
            "noise.epsilon: noise is made of the operator's secret, and there is none: give privacy.key_file or "
            "RIVERRANK_PRIVACY_KEY"
        )
    multiplier = gaussian_multiplier(noise.epsilon, noise.delta / 2)
    deviations = {
        part: multiplier * sensitivity / math.sqrt(SHARES[part]) for part, sensitivity in sensitivities(noise).items()
    }
    cells = noise.contributions * (1 + noise.pairs)
    return Budget(multiplier, **deviations, tail=-float(ndtri(noise.delta / 2 / (cells * MOST_BLOCKS))))


class Spent(NamedTuple):
    """What so many windows of one user have cost, all their contributions together."""

    windows: int
    epsilon: float
    delta: float


class Accountant:
    """What was spent, by `dp-accounting`. Raises ImportError where that is not there.

    Windows are Gaussian mechanisms on blocks of their own, which together are one of `multiplier / sqrt(windows)`: told
    by its privacy loss distribution, or where so much was spent that this takes seconds, by Renyi's divergence, which
    is a little more.
    """

    def __init__(self, noise: NoiseSettings) -> None:
        from dp_accounting import GaussianDpEvent, pld, rdp  # noqa: PLC0415  of the extra `privacy`; takes a second

        self._event, self._exact, self._quick = GaussianDpEvent, pld.PLDAccountant, rdp.RdpAccountant
        self.noise, self.budget = noise, budget_of(noise)
        self._spent = Spent(0, 0.0, 0.0)

    def spent(self, windows: int) -> Spent:
        """What a user has spent who contributed in all of so many `windows`, 1 or more: half of the delta of one is the
        Gaussian's at any time, the other half adds up.
        """
        if windows != self._spent.windows:
            multiplier = self.budget.multiplier / math.sqrt(windows)
            accountant = (self._exact if multiplier >= QUICK_BELOW else self._quick)()
            accountant.compose(self._event(multiplier))
            epsilon = float(accountant.get_epsilon(self.noise.delta / 2))
            self._spent = Spent(windows, epsilon, self.noise.delta * (1 + windows) / 2)
        return self._spent


def _crossing(falling: Callable[[float], float], least: float, first: float) -> float:
    """Where a `falling` function is 0, from above, to 1e-12 of it."""
    low, high = least, first
    if falling(low) <= 0.0:
        return low
    while falling(high) > 0.0:
        low, high = high, 2.0 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2.0
        low, high = (middle, high) if falling(middle) > 0.0 else (low, middle)
    return high
