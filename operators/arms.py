"""What each arm of an experiment changes of the behaviour. Arms share what is learned from all users, and the layout of
what is kept of one, so an arm may change only what acts at answering, or in its user's own learner.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
from riverrank.operators.experiment import CONTROL, MOST_ARMS, SHARE
from riverrank.operators.settings import Behaviour
from riverrank.state.records.printable import printable

LEAST_SHARES = 1e-9  # by which shares may be above 1 together: they are written in decimals
MOST_NAME = 64  # bytes: it is on every slate

# What an arm may change, by section; no others.
MAY_CHANGE: Mapping[str, frozenset[str]] = {
    "exploration": frozenset({"kind", "rate", "halved_after"}),
    "diversity": frozenset({"strength", "novelty", "category_cap"}),
    "rules": frozenset({"pin", "boost", "bury"}),
    "fairness": frozenset({"floors"}),
    "slate": frozenset({"size"}),
    "learner": frozenset({"rate", "negatives", "tokens", "drift"}),
}
# Why not, of settings that look as if they could.
WHY_NOT: Mapping[str, str] = {
    "learner": "a learner that was kept can't follow it",
    "rules": "the index of items, which all arms share, leaves out what rules exclude",
    "slate": "RANKER, which all arms share, finds candidates by it",
}


def arms_of(behaviour: Behaviour) -> dict[str, Behaviour]:
    """The settings of each arm, CONTROL first, which has them as they are.

    Raises ValueError, with the mend, for an arm that can't be: a name or a share that is none, shares of more than 1
    together, a setting that an arm can't change, or a value that does not fit.

    >>> arms = {"bold": {"share": 0.5, "exploration": {"rate": 0.1}}}
    >>> changed = msgspec.convert({"experiment": {"arms": arms}}, Behaviour)
    >>> [(name, each.exploration.rate) for name, each in arms_of(changed).items()]
    [('control', 0.02), ('bold', 0.1)]
    """
    arms = behaviour.experiment.arms
    if len(arms) > MOST_ARMS:
        raise ValueError(f"experiment.arms: expected at most {MOST_ARMS}, got {len(arms)}; end some of them")
    found = {CONTROL: behaviour}
    for name, arm in sorted(arms.items()):
        _check_name(name)
        _check_share(name, arm)
        found[name] = changed = _changed(behaviour, name, arm)
        if changed.slate.size > behaviour.slate.size:
            raise ValueError(
                f"experiment.arms.{name}: slate.size: expected at most the {behaviour.slate.size} of all, for "
                f"which candidates are found, got {changed.slate.size}; make slate.size larger"
            )
    total = sum(arm[SHARE] for arm in arms.values())
    if total > 1.0 + LEAST_SHARES:
        raise ValueError(f"experiment.arms: expected shares of 1 at most together, got {total:g}; make some smaller")
    return found


def changes_of(name: str, arm: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """Section, name and value of each setting that an arm changes, which a file may write as `exploration.rate`, in a
    table [experiment.arms.NAME.exploration], or as one key in quotes. Raises ValueError where an arm can't change it.
    """
    for key, value in arm.items():
        section, _, setting = key.partition(".")
        if key == SHARE:
            continue
        inner = {setting: value} if setting else value
        if not isinstance(inner, Mapping) or not inner:
            inner = {"": value}
        for each, given in inner.items():
            if each not in MAY_CHANGE.get(section, ()):
                raise ValueError(_refusal(name, f"{section}.{each}".rstrip("."), section))
            yield section, each, given


def _refusal(name: str, key: str, section: str) -> str:
    can = ", ".join(f"{section}.{each}" for section, names in MAY_CHANGE.items() for each in sorted(names))
    why = WHY_NOT.get(section, "all arms share what it acts on")
    return f"experiment.arms.{name}: an arm can't change {printable(key)[:100]}: {why}; it can change {can}"


def _changed(behaviour: Behaviour, name: str, arm: Mapping[str, Any]) -> Behaviour:
    """The settings as the arm has them."""
    for section, setting, value in changes_of(name, arm):
        before = getattr(behaviour, section)
        try:
            after = msgspec.convert({**msgspec.to_builtins(before), setting: value}, type(before))
        except msgspec.ValidationError as error:
            raise ValueError(f"experiment.arms.{name}: {section}.{setting}: {error}") from error
        behaviour = msgspec.structs.replace(behaviour, **{section: after})
    return behaviour


def _check_name(name: str) -> None:
    if name == CONTROL:
        raise ValueError(
            f"experiment.arms.{CONTROL}: {CONTROL} is whoever is in no other arm, by the settings as they are; leave "
            "it out, or give the arm another name"
        )
    if not name or len(name.encode()) > MOST_NAME or printable(name) != name:
        raise ValueError(
            f"experiment.arms: expected a name of 1 to {MOST_NAME} bytes that can be printed, got {printable(name)!r}"
        )


def _check_share(name: str, arm: Mapping[str, Any]) -> None:
    share = arm.get(SHARE)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.0 <= share <= 1.0:
        raise ValueError(
            f"experiment.arms.{name}: share: expected a number from 0 to 1, the share of all users, got "
            f"{'none' if share is None else printable(repr(share))[:100]}"
        )
