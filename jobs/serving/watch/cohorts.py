"""How well users are served by what they stated of themselves. Tells of no cohort of too few."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from riverrank.operators.catalogue.tokens import names
from riverrank.operators.slate.fairness.groups import NONE, OTHER, text_of, told_apart

from .minutes import ArmCounts


@dataclass(frozen=True)
class Cohort:
    """Those of the users held who stated one `value`, and all that was counted of them."""

    value: str
    users: int
    counts: ArmCounts


def stated_of(attributes: Mapping[str, Any], listed: Sequence[str]) -> dict[str, str]:
    """What a profile says of the attributes that are `listed`, NONE for what names nothing.

    >>> stated_of({"age_band": "25-34", "likes": ["drama"], "country": None}, ["age_band", "country"])
    {'age_band': '25-34', 'country': 'none'}
    """
    said = {name: text_of(attributes[name]) for name in listed if name in attributes}
    return {name: text if names(text) else NONE for name, text in said.items()}


def cohorts_of(users: Sequence[tuple[str, ArmCounts]], least: int) -> list[Cohort]:
    """The cohorts of users, each given by its value and its counts, the largest first; see `told_apart`.

    >>> users = [("a", ArmCounts(shown=2)), ("a", ArmCounts()), ("b", ArmCounts())]
    >>> cohorts_of(users, least=1)[0]
    Cohort(value='a', users=2, counts=ArmCounts(shown=2, clicked=0, judged=0, hits=0))
    """
    members: dict[str, set[int]] = {}
    for number, (value, _) in enumerate(users):
        members.setdefault(value, set()).add(number)
    alone, together = told_apart(members, least)
    told = [(value, members[value]) for value in sorted(alone, key=lambda value: (-len(members[value]), value))]
    if together:
        told.append((OTHER, set[int]().union(*(members[value] for value in together))))
    return [Cohort(value, len(some), ArmCounts.together(users[n][1] for n in some)) for value, some in told]
