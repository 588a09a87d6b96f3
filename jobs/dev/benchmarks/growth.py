"""How the cost of an event grows with items, users, history and candidates: the local operators, once warm.

One axis is varied at a time, the others stay at BASE. Popularity follows Zipf's law (`streams.ZipfShop`). All points of
an axis are measured in turns, a round each, and by how much one is dearer than the first is told within each round: a
machine that gets slower meanwhile makes no slope.
"""

import itertools
import multiprocessing
import resource
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
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
    """The cost of an event in microseconds where one axis has that value, and by that of the axis's first value; the
    memory of the process in MB, and how long an item of the catalogue took to load, in microseconds.
    """

    axis: str
    value: int
    microseconds: Spread
    slope: Spread
    megabytes: float
    load_microseconds: float


def grow(axes: Mapping[str, Sequence[int]], warm_up: int, events: int, rounds: int, folder: Path) -> list[Point]:
    """All points of these axes, each in a process of its own, after `warm_up` events, by `rounds` times `events`."""
    points = []
    for axis, values in axes.items():
        sizes = []
        for value in values:
            size = {**asdict(BASE), **({"users": value, "visit": 1} if axis == STRANGERS else {axis: value})}
            if axis == "history":  # so few users that each has such a history by then
                size["users"] = max(1, min(BASE.users, warm_up // (2 * value)))
            sizes.append(size)
        arguments = {"sizes": sizes, "warm_up": warm_up, "events": events, "rounds": rounds}
        for value, found in zip(values, alone("growth.in_turns", arguments, folder), strict=True):
            spreads = Spread(*found["microseconds"]), Spread(*found["slope"])
            points.append(Point(axis, value, *spreads, found["megabytes"], found["load_microseconds"]))
    return points


def in_turns(sizes: Sequence[Mapping[str, int]], warm_up: int, events: int, rounds: int) -> list[dict[str, Any]]:
    """The cost of an event at each of `sizes`, and by that of the first; each in a process that ends with this one."""
    start = multiprocessing.get_context("spawn")
    asking: list[Connection] = []
    loaded = []
    for size in sizes:
        ours, theirs = start.Pipe()
        start.Process(target=point, args=(Size(**size), warm_up, events, theirs), daemon=True).start()
        theirs.close()
        loaded.append(ours.recv())  # it is warm, and waits
        asking.append(ours)
    costs: list[list[float]] = []
    for _ in range(rounds):
        costs.append([])
        for connection in asking:
            connection.send(True)
            costs[-1].append(connection.recv())
    found = []
    for number, connection in enumerate(asking):
        connection.send(False)
        found.append(
            {
                "microseconds": Spread.of([cost[number] for cost in costs]),
                "slope": Spread.of([cost[number] / cost[0] for cost in costs]),
                "megabytes": connection.recv(),
                "load_microseconds": loaded[number],
            }
        )
    return found


def point(size: Size, warm_up: int, events: int, asked: Connection) -> None:
    """One point: sends how long an item took to load, in microseconds, once it is warm; then the microseconds of an
    event, over `events` of them, each time it is `asked`; at last its peak memory in MB.
    """
    behaviour = Behaviour()
    behaviour = msgspec.structs.replace(
        behaviour,
        history=msgspec.structs.replace(behaviour.history, size=size.history),
        slate=msgspec.structs.replace(behaviour.slate, candidates=size.candidates),
    )
    shop, local = ZipfShop(size.items, size.users), Local(behaviour)
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
    coming = shop.events(visit=size.visit)
    asked.send(loading / size.items * 1e6)
    while asked.recv():
        arrivals = [local.arrival(event) for event in itertools.islice(coming, events)]
        started = time.perf_counter()
        local.run(arrivals)
        asked.send((time.perf_counter() - started) / events * 1e6)
    asked.send(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
