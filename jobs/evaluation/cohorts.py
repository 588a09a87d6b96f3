"""How good slates are for each cohort of users, beside all others. Tells of no cohort with fewer users than may be told
of. Knows nothing of policies but what each of their tests came to.
"""

from collections.abc import Mapping, Sequence

import msgspec
import numpy as np
from riverrank.operators.slate.fairness.groups import OTHER, told_apart

from .metrics import AT, Difference, Judged, apart


class Rest(msgspec.Struct, frozen=True, rename=AT):
    """A cohort's means less those of all other tests."""

    hr10: Difference
    ndcg10: Difference


class Quality(msgspec.Struct, frozen=True, rename=AT):
    """Of one policy: the means of a cohort's tests with their errors, and what these are less those of all others."""

    hr10: Difference
    ndcg10: Difference
    less_rest: Rest


class Cohort(msgspec.Struct, frozen=True):
    """The users who had stated one `value` by the time of a test."""

    value: str
    users: int
    tests: int
    policies: dict[str, Quality]


def cohorts_of(values: Sequence[tuple[str, np.ndarray]], judged: Mapping[str, Judged], least: int) -> list[Cohort]:
    """The figures of each of `values`, which are the numbers of its tests, int64, of each policy.

    Those of fewer than `least` users are told of together, as OTHER, with as many of the others as it takes for these
    to be so many: what is left out could be told from the rest. Where all users are fewer, there is nothing.
    """
    users = next(iter(judged.values())).users
    told = _merged([(value, tests) for value, tests in values if len(tests)], users, least)
    found = []
    for value, tests in told:
        inside = np.zeros(len(users), bool)
        inside[tests] = True
        policies = {name: _quality(each, inside) for name, each in judged.items()}
        found.append(Cohort(value, len(np.unique(users[tests])), len(tests), policies))
    return found


def _merged(values: list[tuple[str, np.ndarray]], users: np.ndarray, least: int) -> list[tuple[str, np.ndarray]]:
    """`values` of which each has `least` users, in their order; see `cohorts_of`."""
    tests = dict(values)
    alone, together = told_apart({value: set(users[some].tolist()) for value, some in values}, least)
    found = [(value, tests[value]) for value in alone]
    return [*found, (OTHER, np.sort(np.concatenate([tests[value] for value in together])))] if together else found


def _quality(judged: Judged, inside: np.ndarray) -> Quality:
    users = judged.users
    hits, gains = (apart(values, users, inside) for values in (judged.hits, judged.gains))
    return Quality(hits.mean, gains.mean, Rest(hits.less_rest, gains.less_rest))
