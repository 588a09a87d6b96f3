"""The job with nothing in it: what its hops, messages and keyed state cost before any logic runs.

    python -m riverrank.jobs.dev.benchmarks.flink.empty --events F --slates F [the other flags of `riverrank run`]

The graph is the job's own (`jobs.flink.topology`), with an empty function in each operator's stead, so that the hops
are the same whatever becomes of the job. SESSION passes each event on, in a message as long as the job's feedback;
RECOMMEND keeps 2 KB a user and answers 4 KB from memory; SIGNALS and RANKER learn nothing and broadcast updates as long
and as frequent as the job's once it runs. Parse, CACHE and sinks are the job's: they have no logic to take out.
"""

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import msgspec
from pyflink.common import Row
from pyflink.datastream import KeyedProcessFunction, RuntimeContext
from pyflink.datastream.functions import KeyedBroadcastProcessFunction
from pyflink.datastream.state import ValueStateDescriptor
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.flink.arrivals import decode_arrival
from riverrank.operators.flink.channels import PAIRS, SAMPLE, STORED, Emitter, Outputs
from riverrank.operators.flink.recommend import CacheRoute
from riverrank.operators.flink.shipped import Shipped
from riverrank.operators.settings import EmbeddingSettings, RankerSettings, SignalSettings
from riverrank.state.messages import CacheWrite
from riverrank.state.outputs import Origin

SESSION_BYTES = 1_400  # kept of a user by SESSION
FEEDBACK_BYTES = 900  # a message of SESSION
LEARNER_BYTES = 2_000  # kept of a user by RECOMMEND
SLATE_BYTES = 4_000
UPDATE_BYTES = 4_000  # a broadcast of SIGNALS
UPDATE_EVERY = SignalSettings().flush_events  # events
SAMPLED_EVERY = round(1 / EmbeddingSettings().sample)  # events
WEIGHTS_BYTES = 170_000  # a broadcast of RANKER, with the vectors that moved
WEIGHTS_EVERY = RankerSettings().flush_events  # samples
SLATE_SIZE = 20
VERSION_BYTES = 8


class EmptySession(Shipped, KeyedProcessFunction):
    """Passes each event on, to RECOMMEND, to SIGNALS and to RANKER."""

    def __init__(self, *_: object) -> None:
        """Takes what the job's own function takes, for nothing; so do those below."""

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("session", STORED))
        self.number = 0

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[Any]:
        self.number += 1
        self.state.value()
        self.state.update(value.ljust(SESSION_BYTES, b"\0"))
        message = _event_of(decode_arrival(value).value or b"").event_id.encode().ljust(FEEDBACK_BYTES, b"\0")
        yield Row(ctx.get_current_key(), message)
        yield PAIRS, Row("0", message)
        if self.number % SAMPLED_EVERY == 0:
            yield SAMPLE, Row("0", message)


class EmptySignals(Shipped, KeyedProcessFunction):
    """Broadcasts an update now and then."""

    def __init__(self, *_: object) -> None:
        self.number = 0

    def process_element(self, value: bytes, ctx: KeyedProcessFunction.Context) -> Iterator[bytes]:
        self.number += 1
        if self.number % UPDATE_EVERY == 0:
            yield value.ljust(UPDATE_BYTES, b"\0")


class EmptyRanker(Shipped, KeyedBroadcastProcessFunction):
    """Broadcasts weights now and then."""

    def __init__(self, *_: object) -> None:
        self.number = 0

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[bytes]:
        self.number += 1
        if self.number % WEIGHTS_EVERY == 0:
            yield value.ljust(WEIGHTS_BYTES, b"\0")

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[bytes]:
        return iter(())


class EmptyRecommend(Shipped, KeyedBroadcastProcessFunction):
    """Answers each event from memory, with the user's next version."""

    def __init__(
        self, _behaviour: object, _catalogue: object, outputs: Outputs, _ttl: object, cache: CacheRoute | None
    ) -> None:
        """`cache` says how CACHE is reached, if it is."""
        self.outputs, self.cache = outputs, cache
        items = [{"item_id": f"i-{number:05d}", "rank": number + 1} for number in range(SLATE_SIZE)]
        self.rest = (f'","items":{json.dumps(items)},"filler":"'.ljust(SLATE_BYTES, "x") + '"}').encode()

    def open(self, runtime_context: RuntimeContext) -> None:
        self.state = runtime_context.get_state(ValueStateDescriptor("learner", STORED))
        self.answers = Emitter(self.outputs, Origin.ANSWER)

    def process_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.ReadOnlyContext) -> Iterator[Any]:
        held = self.state.value() or b""
        version = int.from_bytes(held[:VERSION_BYTES], "little") + 1
        self.state.update(version.to_bytes(VERSION_BYTES, "little").ljust(LEARNER_BYTES, b"\0"))
        slate = b'{"trigger":"' + value.rstrip(b"\0") + self.rest
        user_id = ctx.get_current_key()
        if self.cache is not None:
            yield self.cache.write(CacheWrite(slate_key(user_id), 0, version, slate))
        yield from self.answers.emit(user_id, EmptyAnswer(slate))

    def process_broadcast_element(self, value: bytes, ctx: KeyedBroadcastProcessFunction.Context) -> Iterator[Any]:
        return iter(())


class EmptyAnswer(NamedTuple):
    """What outputs are made from, as RECOMMEND's `Answer`."""

    slate: bytes
    predictions: tuple[bytes, ...] = ()


class _Named(msgspec.Struct):
    """All that is read of an event."""

    event_id: str


_event_of = msgspec.json.Decoder(_Named).decode


FLAGS = {
    "--events": "files.events",
    "--items": "files.items",
    "--slates": "files.slates",
    "--kafka": "kafka.bootstrap",
    "--redis": "redis.url",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line, with the flags of `riverrank run`; the exit code."""
    # What only the client needs, and must not be imported where operators run (`operators.flink.native` says why).
    from riverrank.jobs.config.schema import load  # noqa: PLC0415
    from riverrank.jobs.errors import Failure, UsageError  # noqa: PLC0415
    from riverrank.jobs.flink import java, launch  # noqa: PLC0415

    parser = argparse.ArgumentParser(prog=f"python -m {__name__}", description="The job with nothing in it.")
    parser.add_argument("--config", metavar="FILE", help="TOML; default: none, all defaults")
    for flag, key in FLAGS.items():
        parser.add_argument(flag, dest=key, metavar="VALUE", help=f"as of `riverrank run`, for {key}")
    given = vars(parser.parse_args(arguments))
    try:
        config = load(given.pop("config"), given)
        java.prepare_environment()
        from riverrank.jobs.flink.topology import Operators  # noqa: PLC0415 (starts Java)

        launch.run(config, Operators(EmptySession, EmptySignals, EmptyRanker, EmptyRecommend))
    except (UsageError, Failure) as error:
        print(f"empty: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    return 0


if __name__ == "__main__":
    # By its importable name: what is defined in `__main__` travels by value.
    from riverrank.jobs.dev.benchmarks.flink import empty

    sys.exit(empty.main())
