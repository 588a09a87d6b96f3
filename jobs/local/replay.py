"""`riverrank replay`: the local pipeline over all there is to read now.

The oracle for tests of the job, and the fastest way to look at quality.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from itertools import chain

from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import Failure
from riverrank.jobs.interruptions import terminable, uninterrupted
from riverrank.operators.flink.arrivals import Arrival, event_of, wall_ms
from riverrank.operators.models.prior import PriorFile
from riverrank.operators.warm import warm
from riverrank.state.messages import Update
from riverrank.state.outputs import SLATES
from riverrank.state.runtime.environment import collect_rarely, cores

from .ahead import ahead
from .cache import LocalCache
from .pipeline import Message, Pipeline
from .reading import read, topic_of
from .writing import opened

PROGRESS_EVERY = 20_000  # records
ANSWERING = 4  # processes that answer, at most: one that learns makes work for no more
SLOW_SECONDS = 4.0

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Read everything there is, answer it, and end; raises UsageError or Failure."""
    started = time.monotonic()
    with terminable(), opened(config) as outputs:
        with uninterrupted(), _told(SLOW_SECONDS, "compiling kernels, which takes up to a minute the first time"):
            warm(config.behaviour)  # kernels are loaded once for all processes, and by callbacks of C
        cache = LocalCache(config, outputs) if config.redis.url else None
        names = {name: topic_of(config, name) for name in ("events", "items")}
        every, ttl, told = config.cache.popular_every, config.cache.ttl, SLATES.name in topics_of(config)
        lists, depth = config.cache.lists, config.cache.depth
        pipeline = Pipeline(config.behaviour, outputs, cache, every, ttl, names, told=told, lists=lists, depth=depth)
        try:
            _read_all(config, pipeline, cache)
            if cache is not None:
                cache.finish()
        except Failure:
            _tell(pipeline)
            raise
    seconds = time.monotonic() - started
    log.info("%d slates in %.1f s, %.0f a second", pipeline.slates, seconds, pipeline.slates / max(seconds, 1e-9))
    _tell(pipeline)
    if fault := pipeline.tally.fault:
        raise Failure(fault)


def _read_all(config: Config, pipeline: Pipeline, cache: LocalCache | None) -> None:
    for arrival in _watched(config, "items"):
        pipeline.item(arrival)
    pipeline.open()
    collect_rarely()
    for number, message in enumerate(_messages(config, pipeline)):
        if not number and cache is not None:
            cache.start()  # the other processes are there
        pipeline.hear(message)
    pipeline.refresh_popular(last=True)


def _tell(pipeline: Pipeline) -> None:
    for line in pipeline.tally.told():
        log.info(line)


@contextmanager
def _told(after_seconds: float, what: str) -> Iterator[None]:
    """Say `what` is done, where it isn't after that time."""
    timer = threading.Timer(after_seconds, log.info, [what])
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()  # what comes next may fork


def _messages(config: Config, pipeline: Pipeline) -> Iterator[Message]:
    """What becomes of all events; where there are several cores, made by a process that runs ahead of this one, and
    answered by others beside it, each for a share of the users.
    """
    events = (
        message
        for arrival in _watched(config, "events")
        for message in pipeline.messages(event_of(arrival, config.behaviour), arrival)
    )
    made = chain(events, pipeline.last_messages(), _left(config, pipeline))
    others = min(len(cores()), ANSWERING) - 1
    if not others:
        yield from made
        return
    with closing(ahead(made, pipeline.answer_apart, others)) as messages:
        for message in messages:
            if isinstance(message, Update):
                pipeline.index.apply(message)  # the other process has applied it to an index of its own
            yield message


def _left(config: Config, pipeline: Pipeline) -> Iterator[Message]:
    """No message: writes `prior.out`, if there is one, in whatever process learned."""
    PriorFile(config.behaviour.prior, wall_ms).write(pipeline.lessons.ranker.prior)
    yield from ()


def _watched(config: Config, name: str) -> Iterator[Arrival]:
    """The records of an input, with a line of progress on standard error now and then."""
    for number, arrival in enumerate(read(config, name), start=1):
        yield arrival
        if number % PROGRESS_EVERY == 0:
            log.info("%d %s read", number, name)
