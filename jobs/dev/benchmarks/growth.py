"""How the cost of an event grows with items, users, history and candidates: the local operators, once warm.

One axis is varied at a time, the others stay at BASE. Popularity follows Zipf's law (`streams.ZipfShop`).
"""

import itertools
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from riverrank.operators.settings import Behaviour

from .figures import Spread, alone
from .local import Local
from .streams import ZipfShop

ACTIVE = 1_000  # users that make the stream that warms up; further ones are copies of them


STRANGERS = "users, of one interaction a visit"


@dataclass(frozen=True)
class Size:
    """One point: what there is of each."""

    items: int = 10_000
    users: int = 1_000
    history: int = 50
    candidates: int = 120
    visit: int = 4  # interactions of a user among the next thousand


BASE = Size()
AXES: Mapping[str, Sequence[int]] = {
    "items": (1_000, 10_000, 100_000, 1_000_000),
    "users": (1_000, 10_000, 100_000, 200_000),
    STRANGERS: (1_000, 200_000),
    "history": (1, 10, 50, 200),
    "candidates": (30, 120, 250, 500),
}


class Point(NamedTuple):
    """The cost of an event in microseconds where one axis has that value, the memory of the process in MB, and how
    long an item of the catalogue took to load, in microseconds.
    """

    axis: str
    value: int
    microseconds: Spread
    megabytes: float
    load_microseconds: float


def grow(axes: Mapping[str, Sequence[int]], warm_up: int, events: int, rounds: int, folder: Path) -> list[Point]:
    """All points of these axes, each in a process of its own, after `warm_up` events, by `rounds` times `events`."""
    points = []
    for axis, values in axes.items():
        for value in values:
            size = {"users": value, "visit": 1} if axis == STRANGERS else {axis: value}
            arguments = {**asdict(BASE), **size, "warm_up": warm_up, "events": events, "rounds": rounds}
            if axis == "history":  # so few users that each has such a history by then
                arguments["users"] = max(1, min(BASE.users, warm_up // (2 * value)))
            found = alone("growth.point", arguments, folder)
            points.append(
                Point(axis, value, Spread(*found["microseconds"]), found["megabytes"], found["load_microseconds"])
            )
    return points


def point(
    items: int, users: int, history: int, candidates: int, visit: int, warm_up: int, events: int, rounds: int
) -> dict[str, Any]:
    """The cost of an event in this process: its spread over rounds; with peak memory and time of loading an item."""
    behaviour = Behaviour()
    behaviour = msgspec.structs.replace(
        behaviour,
        history=msgspec.structs.replace(behaviour.history, size=history),
        slate=msgspec.structs.replace(behaviour.slate, candidates=candidates),
    )
    shop, local = ZipfShop(items, users), Local(behaviour)
    catalogue = map(local.arrival, shop.catalogue())
    loading = 0.0
    while chunk := list(itertools.islice(catalogue, 10_000)):
        started = time.perf_counter()
        local.load(chunk)
        loading += time.perf_counter() - started
    active = shop.user_ids[:ACTIVE]
    local.run(map(local.arrival, itertools.islice(shop.events(len(active)), warm_up)))
    here = [user for user in active if user in local.learners]
    local.clone_users(here, [user for user in shop.user_ids if user not in local.learners])
    coming = shop.events(visit=visit)
    cost = []
    for _ in range(rounds):
        arrivals = [local.arrival(event) for event in itertools.islice(coming, events)]
        started = time.perf_counter()
        local.run(arrivals)
        cost.append((time.perf_counter() - started) / events * 1e6)
    return {
        "microseconds": Spread.of(cost),
        "megabytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        "load_microseconds": loading / items * 1e6,
    }
