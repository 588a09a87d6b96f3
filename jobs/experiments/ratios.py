"""Whether arms have as many users as they should: a sample-ratio mismatch says that users were lost, or assigned
otherwise than is believed, and then no comparison holds.
"""

import math
from collections.abc import Mapping, Sequence

SUSPECT = 0.001  # p, below which something is wrong
CONCENTRATIONS = (2.0, 100.0)  # of priors: shares that are off by far are found soonest, or by some hundredths


def mismatch(users: Mapping[str, int], shares: Mapping[str, float]) -> float:
    """How little so many users by arm agree with the shares of arms: a p-value that holds at any number of looks.

    One over the mean Bayes factor of multinomial shares with a Dirichlet prior around those expected, against these: a
    martingale where they hold, so Ville's inequality bounds how often it is ever high. Lindon and Malek, Anytime-valid
    inference for multinomial count data (2022). What has users and no share is a mismatch for certain.

    >>> halves = {"a": 0.5, "b": 0.5}
    >>> mismatch({"a": 1000, "b": 1020}, halves), mismatch({"a": 1000, "b": 1300}, halves) < 0.001
    (1.0, True)
    """
    if any(n and shares.get(arm, 0.0) <= 0.0 for arm, n in users.items()):
        return 0.0
    counted = [(share, users.get(arm, 0)) for arm, share in shares.items() if share > 0.0]
    factors = [_log_factor(counted, concentration) for concentration in CONCENTRATIONS]
    highest = max(factors)
    mean = sum(math.exp(factor - highest) for factor in factors) / len(factors)
    return math.exp(-max(0.0, highest + math.log(mean)))


def _log_factor(counted: Sequence[tuple[float, int]], concentration: float) -> float:
    """The logarithm of the Bayes factor, of shares and counts."""
    total = sum(n for _, n in counted)
    log_factor = math.lgamma(concentration) - math.lgamma(concentration + total)
    for share, n in counted:
        prior = concentration * share
        log_factor += math.lgamma(prior + n) - math.lgamma(prior) - n * math.log(share)
    return log_factor
