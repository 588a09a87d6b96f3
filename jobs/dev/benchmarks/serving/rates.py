"""Slates by HTTP, requests a second and how long they take: the service beside Redis asked for the same by the same
client, in turn, with more and more clients at once.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from riverrank.jobs.dev.benchmarks.figures import Spread, alone
from riverrank.jobs.dev.services import Valkey
from riverrank.jobs.errors import Failure

from . import scene
from .clients import OK, Heard, Speech

AT_ONCE = (1, 16, 200)
USERS = 1_000
PLAIN, LIMIT = "HGET", "no work"
SERVED, CATALOGUED, TWO = "serve", "serve, catalogue", "serve, two processes"


class Row(NamedTuple):
    """What was found of one server at one number of requests at once."""

    asked: str
    at_once: int
    per_second: Spread
    p50: Spread  # milliseconds
    p99: Spread
    of_plain: Spread  # its rate in that of PLAIN, within each round
    cpu: Spread | None  # microseconds of processor time of the service, a request


class _Asked(NamedTuple):
    """Servers that are asked for the same; those whose processor time counts."""

    speech: Speech
    ports: Sequence[int]
    asks: Sequence[str]
    services: Sequence[scene.Serve] = ()


class _Run(NamedTuple):
    per_second: float
    p50: float
    p99: float
    cpu: float


def measure(rounds: int, seconds: float, folder: Path) -> list[Row]:
    """Rows by number at once and server, from so many rounds of so many seconds each.

    Raises:
        Failure: something else than the slate of the user was answered, so that nothing was measured.
    """
    runs: dict[tuple[int, str], list[_Run]] = {}
    with ExitStack() as stack:
        valkey = stack.enter_context(Valkey())
        scene.fill(valkey, USERS)
        asked = _asked(stack, valkey, folder)
        for _ in range(rounds):
            for at_once in AT_ONCE:
                for name, each in asked.items():
                    if at_once >= len(each.ports):
                        runs.setdefault((at_once, name), []).append(_run(name, each, at_once, seconds, folder))
    return [_row(name, at_once, found, runs[at_once, PLAIN]) for (at_once, name), found in runs.items()]


def _asked(stack: ExitStack, valkey: Valkey, folder: Path) -> Mapping[str, _Asked]:
    users = scene.user_ids(USERS)
    paths, keys = scene.paths(users), scene.keys(users)
    canned = stack.enter_context(scene.Canned())
    first, second = (stack.enter_context(scene.Serve(valkey)) for _ in range(2))
    catalogued = stack.enter_context(scene.Serve(valkey, scene.catalogue(folder)))
    return {
        PLAIN: _Asked("redis", [valkey.port], keys),
        LIMIT: _Asked("http", [canned.port], paths),
        SERVED: _Asked("http", [first.port], paths, [first]),
        CATALOGUED: _Asked("http", [catalogued.port], paths, [catalogued]),
        TWO: _Asked("http", [first.port, second.port], paths, [first, second]),
    }


def _run(name: str, asked: _Asked, at_once: int, seconds: float, folder: Path) -> _Run:
    arguments = {"speech": asked.speech, "ports": asked.ports, "asks": asked.asks, "at_once": at_once}
    before = sum(service.cpu_seconds() for service in asked.services)
    heard = Heard(*alone("serving.clients.load", {**arguments, "warm": seconds / 4, "seconds": seconds}, folder))
    cpu = sum(service.cpu_seconds() for service in asked.services) - before
    counts = heard.counts()
    if set(counts) != {OK}:
        raise Failure(f"{name}, {at_once} at once: expected the user's own slate each time, got {dict(counts)}")
    microseconds = 1e6 * cpu / heard.total
    return _Run(counts[OK] / heard.seconds, heard.milliseconds(50), heard.milliseconds(99), microseconds)


def _row(name: str, at_once: int, found: Sequence[_Run], plain: Sequence[_Run]) -> Row:
    rates, halves, longest, cpu = (Spread.of(values) for values in zip(*found, strict=True))
    of_plain = Spread.of([one.per_second / other.per_second for one, other in zip(found, plain, strict=True)])
    return Row(name, at_once, rates, halves, longest, of_plain, cpu if cpu.high else None)
