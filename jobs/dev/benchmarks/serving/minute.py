"""The service while Redis goes and comes: what 200 clients at once hear before, during and after."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from riverrank.jobs.dev.benchmarks.figures import alone
from riverrank.jobs.dev.services import Valkey
from riverrank.jobs.errors import Failure, UsageError

from . import scene
from .clients import OK, POPULAR, STALE, UNAVAILABLE, Heard

AT_ONCE = 200
USERS = 1_000
WARM_SECONDS = 1.0
LEAST_SECONDS, MOST_SECONDS = 3.0, 600.0  # the most: each reply is kept
BACK_SECONDS = 5.0  # after Redis is back, from when every request is answered with a slate


class Minute(NamedTuple):
    """What was heard, and when Redis was away, on the same clock."""

    heard: Heard
    stopped: float
    back: float

    def times(self) -> list[tuple[str, float, float]]:
        """What each third is called, from when and until when it was."""
        return [
            ("before", 0.0, self.stopped), ("while", self.stopped, self.back), ("after", self.back, float("inf")),
        ]  # fmt: skip

    def faults(self) -> list[str]:
        """What should not have come.

        >>> heard = Heard(2, 9.0, ["503", "500"], [0, 1], [8.1, 1.0], [0.1, 0.1])
        >>> Minute(heard, stopped=2.0, back=3.0).faults()
        ['500: 1', '503 later than 5 s after Redis was back: 1']
        """
        other = {kind: count for kind, count in self.heard.counts().items() if kind not in _EXPECTED}
        late = self.heard.counts(since=self.back + BACK_SECONDS)[UNAVAILABLE]
        found = [f"{kind}: {count}" for kind, count in sorted(other.items())]
        return found + [f"{UNAVAILABLE} later than {BACK_SECONDS:g} s after Redis was back: {late}"] * bool(late)

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Names of columns, and a row each of before, during and after."""
        kinds = sorted({*_EXPECTED, *self.heard.kinds})
        rows = []
        for name, since, until in self.times():
            counts = self.heard.counts(since, until)
            p99 = self.heard.milliseconds(99, since, until)
            rows.append([name, f"{counts.total():,}", *(f"{counts[kind]:,}" for kind in kinds), f"{p99:,.1f}"])
        return ["Redis was away", "requests", *kinds, "p99, ms"], rows


_EXPECTED = (OK, POPULAR, STALE, UNAVAILABLE)


def measure(seconds: float, folder: Path) -> Minute:
    """So many seconds of load, of which Redis is away for the second third.

    Raises:
        UsageError: that is too short or too long.
        Failure: nothing was heard before, during or after.
    """
    if not LEAST_SECONDS <= seconds <= MOST_SECONDS:
        raise UsageError(f"give --serve-minute {LEAST_SECONDS:g} to {MOST_SECONDS:g} seconds, not {seconds:g}")
    with Valkey() as valkey, scene.Serve(valkey) as service, ThreadPoolExecutor(1) as beside:
        scene.fill(valkey, USERS)
        asks = scene.paths(scene.user_ids(USERS))
        arguments = {"speech": "http", "ports": [service.port], "asks": asks, "at_once": AT_ONCE}
        timing = {"warm": WARM_SECONDS, "seconds": seconds}
        loading = beside.submit(alone, "serving.clients.load", arguments | timing, folder)
        time.sleep(WARM_SECONDS + seconds / 3)
        stopped = time.monotonic()
        valkey.stop()
        time.sleep(max(0.0, stopped + seconds / 3 - time.monotonic()))
        valkey.start()
        back = time.monotonic()
        found = Minute(Heard(*loading.result()), stopped, back)
    for name, since, until in found.times():
        if not found.heard.counts(since, until):
            raise Failure(f"nothing was heard {name} Redis was away, so nothing was measured; give more seconds")
    return found
