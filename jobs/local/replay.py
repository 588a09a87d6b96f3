"""`riverrank replay`: the local pipeline over all there is to read now.

The oracle for tests of the job, and the fastest way to look at quality.
"""

import gc
import logging
import time
from collections.abc import Iterator

from riverrank.jobs.config.schema import Config
from riverrank.operators.flink.arrivals import Arrival

from .cache import LocalCache
from .pipeline import Pipeline
from .reading import read
from .writing import opened

PROGRESS_EVERY = 20_000  # records

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Read everything there is, answer it, and end; raises UsageError or Failure."""
    started = time.monotonic()
    with opened(config) as outputs:
        cache = LocalCache(config, outputs) if config.redis.url else None
        pipeline = Pipeline(config.behaviour, outputs, cache, config.cache.popular_every)
        for arrival in _watched(config, "items"):
            pipeline.item(arrival)
        pipeline.refresh_popular()
        gc.freeze()  # modules and catalogue stay: not to be looked through at each collection
        for arrival in _watched(config, "events"):
            pipeline.event(arrival)
        if cache is not None:
            cache.finish()
    seconds = time.monotonic() - started
    log.info("%d slates in %.1f s, %.0f a second", pipeline.slates, seconds, pipeline.slates / max(seconds, 1e-9))
    if pipeline.redeliveries:
        log.info("%d redeliveries, which do nothing", pipeline.redeliveries)
    if dead := pipeline.dead_letters:
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(dead.items()))
        log.info("%d dead letters (%s); the first, %s", dead.total(), reasons, pipeline.first_dead_letter)


def _watched(config: Config, name: str) -> Iterator[Arrival]:
    """The records of an input, with a line of progress on standard error now and then."""
    for number, arrival in enumerate(read(config, name), start=1):
        yield arrival
        if number % PROGRESS_EVERY == 0:
            log.info("%d %s read", number, name)
