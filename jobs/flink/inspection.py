"""`riverrank state inspect`: what a savepoint holds, of which operators and users, in how many bytes, of which layouts.

What cannot be read is told to be so, and never guessed.
"""

import re
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import msgspec
import numpy as np
from riverrank.state import uids

from .savepoint import BROADCAST, MAP, Entry, Operator, operators

USERS = {uids.SESSION: uids.SESSION_VALUE, uids.RECOMMEND: uids.LEARNER_VALUE}  # by the beginning of a uid, the state
NO_NUMBER = "none"  # of what begins with no number of a layout
PERCENTILE = 99


class Sizes(msgspec.Struct, frozen=True):
    """How many bytes each of several things has."""

    mean: float
    median: float
    p99: float
    max: int


class StateFound(msgspec.Struct):
    """A state of an operator. `keys` that it is kept under; `bytes` that were stored; `entries` by their kind, what
    stands before a colon or a zero in their names; `layouts` by kind, how many entries begin with that number of a
    layout.
    """

    name: str
    kind: str
    keys: int = 0
    bytes: int = 0
    entries: dict[str, int] = {}
    layouts: dict[str, dict[str, int]] = {}


class OperatorFound(msgspec.Struct):
    """An operator. `bytes` are Flink's own count of all that is stored of it; `states` is None where the form of a
    checkpoint keeps them from being read.
    """

    uid: str
    name: str
    id: str
    parallelism: int
    max_parallelism: int
    bytes: int
    states: list[StateFound] | None


class Found(msgspec.Struct):
    """What a savepoint holds. `users` is how many keys there are by operator, and `bytes_a_user` of all that is kept of
    one; None where that cannot be read.
    """

    savepoint: str
    operators: list[OperatorFound]
    users: dict[str, int] | None
    bytes_a_user: Sizes | None


def found(path: Path) -> Found:
    """What the savepoint in the folder `path` holds. Raises as `savepoint.operators` does."""
    users: dict[str, dict[str, int]] = {}
    told = [_operator(operator, users) for operator in operators(path)]
    if users.keys() != USERS.keys():
        return Found(str(path), told, None, None)
    sizes: Counter[str] = Counter()
    for of_operator in users.values():
        sizes.update(of_operator)
    return Found(str(path), told, {name: len(keys) for name, keys in users.items()}, _sizes([*sizes.values()]))


def run(path: Path, *, as_json: bool) -> None:
    """Print what is found: JSON, or tables."""
    what = found(path)
    if as_json:
        sys.stdout.write(msgspec.json.encode(what).decode() + "\n")
    else:
        _print(what)


def _operator(operator: Operator, users: dict[str, dict[str, int]]) -> OperatorFound:
    """What is found of it; what it keeps of single users is put to `users`, bytes by key."""
    told = OperatorFound(
        operator.uid, operator.name, operator.id, operator.parallelism, operator.max_parallelism, operator.size, None
    )
    if operator.entries is None:
        return told
    states: dict[str, StateFound] = {}
    keys: dict[str, set[str]] = {}
    of_users = next((name for name in USERS if operator.uid.startswith(f"{name}-")), None)
    for entry in operator.entries():
        state = states.setdefault(entry.state, StateFound(entry.state, entry.kind))
        _count(state, entry)
        if entry.key is None:
            continue
        keys.setdefault(entry.state, set()).add(entry.key)
        if of_users and entry.state == USERS[of_users]:
            users.setdefault(of_users, {})[entry.key] = len(entry.value or b"")
    for name, state in states.items():
        state.keys = len(keys.get(name, ()))
    if of_users:
        users.setdefault(of_users, {})
    told.states = sorted(states.values(), key=lambda state: state.name)
    return told


def _count(state: StateFound, entry: Entry) -> None:
    kind = re.split("[:\0]", entry.name)[0] if entry.kind in (MAP, BROADCAST) else entry.kind
    state.entries[kind] = state.entries.get(kind, 0) + 1
    if entry.value is not None:
        state.bytes += len(entry.value)
        layouts = state.layouts.setdefault(kind, {})
        layout = layout_of(entry.value)
        layouts[layout] = layouts.get(layout, 0) + 1


def layout_of(stored: bytes) -> str:
    """The number of the layout that stored bytes begin with (see `state.codec`), or the tag of a message.

    >>> layout_of(bytes([0x92, 3, 0])), layout_of(bytes([0x92, 0xA1, 0x78, 0])), layout_of(b"no array")
    ('3', 'x', 'none')
    """
    if not stored:
        return NO_NUMBER
    at = 1 if 0x90 <= stored[0] <= 0x9F else {0xDC: 3, 0xDD: 5}.get(stored[0], 0)
    if not at or at >= len(stored):
        return NO_NUMBER
    tag = stored[at]
    if tag < 0x80:
        return str(tag)
    if 0xA0 <= tag <= 0xBF:
        return stored[at + 1 : at + 1 + (tag & 0x1F)].decode("utf-8", "replace")
    return NO_NUMBER


def _sizes(sizes: list[int]) -> Sizes | None:
    if not sizes:
        return None
    counted = np.array(sizes)
    median, p99 = np.percentile(counted, [50, PERCENTILE]).tolist()
    return Sizes(float(counted.mean()), median, p99, int(counted.max()))


def _print(what: Found) -> None:
    lines = [["operator", "parallelism", "at most", "bytes", "state", "keys", "entries", "bytes stored", "layouts"]]
    for operator in what.operators:
        of = [
            operator.uid or operator.name or operator.id,
            operator.parallelism,
            operator.max_parallelism,
            operator.bytes,
        ]
        states = operator.states
        if not states:
            lines.append([*map(str, of), "not read: no canonical savepoint" if states is None else "", "", "", "", ""])
        for number, state in enumerate(states or ()):
            first = map(str, of) if not number else ["", "", "", ""]
            lines.append([*first, f"{state.name} ({state.kind})", str(state.keys or ""), *_of_entries(state)])
    for line in _aligned(lines):
        print(line)
    if what.users is None or what.bytes_a_user is None:
        print("users: not to be told: the keyed state is not read, or holds none")
        return
    print("users: " + ", ".join(f"{number} in {name}" for name, number in what.users.items()))
    sizes = what.bytes_a_user
    print(
        f"bytes a user: {sizes.mean:.0f} in the mean, median {sizes.median:.0f}, p99 {sizes.p99:.0f}, "
        f"at most {sizes.max}"
    )


def _of_entries(state: StateFound) -> list[str]:
    entries = " ".join(f"{kind} {number}" for kind, number in sorted(state.entries.items()))
    layouts = " ".join(f"{kind} {'/'.join(sorted(numbers))}" for kind, numbers in sorted(state.layouts.items()))
    return [entries, str(state.bytes), layouts]


def _aligned(lines: Iterable[list[str]]) -> list[str]:
    held = list(lines)
    widths = [max(len(line[column]) for line in held) for column in range(len(held[0]))]
    return ["  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in held]
