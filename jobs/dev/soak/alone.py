"""The same without Flink: the operators in one process, for whether what grows is Python's. Minutes, and no Java."""

import gc
from collections import OrderedDict
from collections.abc import Mapping

from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.benchmarks.figures import resident
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival, wall_ms
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json

from .population import Population
from .trend import Trend, trend_of
from .watching import MB

LOOK_EVERY = 500  # events
HEAD_START_MS = 86_400_000  # of the wall clock, before which all of it is to happen


def soak_alone(config: Config, seconds: float, rate: float, fill: int) -> tuple[Mapping[str, Trend], int]:
    """The trend of the process's memory over so many seconds of event time at that rate, after `fill` events, and how
    many slates it made. States of users go as Flink has them go, after `job.state_ttl`.
    """
    slates: list[int] = [0]

    def count(key: str, value: bytes | None) -> None:
        slates[0] += 1

    pipeline = Pipeline(config.behaviour, {"slates": count})
    for signals in pipeline.lessons.signals:
        signals.journal = Journal(DictEntries())
    pipeline.lessons.ranker.journal = Journal(DictEntries())
    shop, began = Population(), wall_ms() - HEAD_START_MS
    for item in shop.catalogue(began):
        pipeline.item(Arrival(0, 0, 0, to_json(item)))
    last_seen: OrderedDict[str, int] = OrderedDict()
    times: list[float] = []
    values: list[float] = []
    for number in range(fill + int(seconds * rate)):
        ts = began + int(1000 * number / rate)
        for record in shop.records(ts):
            arrival = Arrival(0, 0, 0, to_json(record))
            if isinstance(record, Event):
                pipeline.event(arrival)
                last_seen[record.user_id] = ts
                last_seen.move_to_end(record.user_id)
            else:
                pipeline.item(arrival)
        while next(iter(last_seen.values())) + config.job.state_ttl < ts:
            user, _ = last_seen.popitem(last=False)
            pipeline.users.pop(user, None)
            pipeline.intake.states.pop(user, None)
        if number >= fill and number % LOOK_EVERY == 0:
            gc.collect()
            times.append((number - fill) / rate)
            values.append(resident() / MB)
    return {"the operators in one process: resident": trend_of(times, values)}, slates[0]
