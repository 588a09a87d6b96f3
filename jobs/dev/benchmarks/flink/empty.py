"""The job with nothing in it: what its hops, messages and keyed state cost before any logic runs.

The graph is the job's own (`jobs.flink.topology`), with an empty function in each operator's stead, so that the hops
are the same whatever becomes of the job. SESSION passes each event on, in a message as long as the job's feedback;
RECOMMEND keeps 2 KB a user and answers 4 KB from memory; SIGNALS and RANKER learn nothing and broadcast updates as long
and as frequent as the job's once it runs.
"""

import json
from collections.abc import Iterator
from typing import Any

import msgspec
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from pyflink.datastream.state import ValueStateDescriptor
from riverrank.operators.flink.arrivals import decode_arrival
from riverrank.operators.flink.process import LINES, PAIRS, SAMPLE, STORED, Output

SESSION_BYTES = 1_400  # kept of a user by SESSION
FEEDBACK_BYTES = 900  # a message of SESSION
LEARNER_BYTES = 2_000  # kept of a user by RECOMMEND
SLATE_BYTES = 4_000
UPDATE_BYTES = 1_600  # a broadcast of SIGNALS
UPDATE_EVERY = 4  # events: `signals.flush_events`
WEIGHTS_BYTES = 40_000  # a broadcast of RANKER, with the vectors that moved
WEIGHTS_EVERY = 64  # events: `ranker.flush_events`
SLATE_SIZE = 20
MADE: set[type] = set()  # of the functions below, which the graph was built from


class _Named(msgspec.Struct):
    """All that is read of an event."""

    event_id: str


_event_of = msgspec.json.Decoder(_Named).decode


def run(events: str, slates: str) -> None:
    """Answer the events of a file in the file `slates`, with nothing; to the end."""
    # What only the client needs, and must not be imported where operators run (`operators.flink.native` says why).
    from riverrank.jobs.config.schema import Config, FileSettings  # noqa: PLC0415
    from riverrank.jobs.errors import Failure  # noqa: PLC0415
    from riverrank.jobs.flink import launch, topology  # noqa: PLC0415

    for name, empty in EMPTIED.items():
        if not hasattr(topology, name):
            raise Failure(f"the topology has no {name} any more: the empty job has other hops than the job")
        setattr(topology, name, empty)
    launch.run(Config(files=FileSettings(events=events, slates=slates)))
    if missing := [name for name, empty in EMPTIED.items() if empty not in MADE]:
        raise Failure(f"the job was built with its own {', '.join(missing)}: it was not empty")


class EmptySession(KeyedProcessFunction):
    """Passes each event on, to RECOMMEND, to SIGNALS and to RANKER."""

    def __init__(self, *_: object) -> None:
        """Takes what the job's own function takes, for nothing; so do those below."""
        MADE.add(type(self))

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("session", STORED))

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        self.state.value()
        self.state.update(value.ljust(SESSION_BYTES, b"\0"))
        message = _event_of(decode_arrival(value).value or b"").event_id.encode().ljust(FEEDBACK_BYTES, b"\0")
        yield Row(ctx.get_current_key(), message)
        yield PAIRS, Row("0", message)
        yield SAMPLE, Row("0", message)  # all of them, as the job does while `embedding.warmup_events` last


class EmptySignals(KeyedProcessFunction):
    """Broadcasts an update now and then."""

    def __init__(self, *_: object) -> None:
        MADE.add(type(self))
        self.number = 0

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        self.number += 1
        if self.number % UPDATE_EVERY == 0:
            yield value.ljust(UPDATE_BYTES, b"\0")


class EmptyRanker(KeyedBroadcastProcessFunction):
    """Broadcasts weights now and then."""

    def __init__(self, *_: object) -> None:
        MADE.add(type(self))
        self.number = 0

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        self.number += 1
        if self.number % WEIGHTS_EVERY == 0:
            yield value.ljust(WEIGHTS_BYTES, b"\0")

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        return iter(())


class EmptyRecommend(KeyedBroadcastProcessFunction):
    """Answers each event from memory."""

    def __init__(self, *_: object) -> None:
        MADE.add(type(self))
        items = [{"item_id": f"i-{number:05d}", "rank": number + 1} for number in range(SLATE_SIZE)]
        self.rest = f'","items":{json.dumps(items)},"filler":"'.ljust(SLATE_BYTES, "x") + '"}'

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("learner", STORED))

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        self.state.value()
        self.state.update(value[:200].ljust(LEARNER_BYTES, b"\0"))
        event_id = value.rstrip(b"\0").decode()
        yield LINES[Output.SLATES], f'{{"trigger":"{event_id}{self.rest}'

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Any]:
        return iter(())


EMPTIED = {
    "SessionFunction": EmptySession,
    "SignalsFunction": EmptySignals,
    "RankerFunction": EmptyRanker,
    "RecommendFunction": EmptyRecommend,
}
