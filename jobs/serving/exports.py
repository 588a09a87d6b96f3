"""All that is kept of one user, asked of a running job by an event, and what Redis holds: `riverrank export`.

What the job keeps, it tells itself (`operators.export`); nothing of its state is read from outside.
"""

import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

import msgspec
from kafka import KafkaConsumer, TopicPartition
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.preflight import broker_errors, check_topic
from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import Failure, UsageError
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.event_types import EXPORT
from riverrank.state.outputs import EXPORTS
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from riverrank.state.records.pieces import Collector
from riverrank.state.records.printable import printable, printable_json

from .slates import cached, require_user, send

POLL_MS = 500
# What the job holds of users and cannot find by one, with the reason: it is part of every export.
NOT_TOLD = (
    {
        "where": "the logs of SIGNALS and RANKER",
        "what": "the last feedbacks as they came, each with the history and the profile of then, until the log is made "
        "short",
        "why": "they lie in the order of arrival, under nobody's name: to find them is to read all of a log, up to 200 "
        "MB; what they hold is what the user's own events said",
    },
    {
        "where": "SIGNALS, cohorts that too few users have stated",
        "what": "a 32-bit hash of the user beside a 64-bit hash of an attribute and its value",
        "why": "it is found by the value alone, and others may have the same hash; the values are those of the profile",
    },
    {
        "where": "what SIGNALS, RANKER and RECOMMEND learned from all users",
        "what": "counts, lists, vectors and weights of items, and of attributes that enough users stated",
        "why": "it names no user",
    },
    {
        "where": "the memory of operators",
        "what": "the states of the users who came last, decoded, and the candidates of their last slates",
        "why": "it is the same as in state, or found again from it; none of it outlives the process",
    },
    {
        "where": "topics, files of results, checkpoints and savepoints",
        "what": "events, slates, predictions, receipts, dead letters, exports, and states of then",
        "why": "they are outside of the job: see docs/contract.md for how long each is kept",
    },
)


def export(config: Config, user: str, wait_seconds: float, output: TextIO | None = None) -> None:
    """Write all that is kept of `user` as one JSON object to `output` (standard output unless given): by part what the
    job tells, by `redis` the slate as it stands there, and `not_told` what it holds and cannot find by a user.

    With no Kafka configured the event that asks for it is written, for a file of events.

    Raises:
        UsageError: `user` is no id, exports go to no topic, or a broker or Redis can't be reached.
        Failure: the job has not told all of it within `wait_seconds`.
    """
    require_user(user)
    out = sys.stdout if output is None else output
    asked = Event(event_id=f"export-{uuid.uuid4()}", type=EXPORT, user_id=user, ts=wall_ms())
    if not config.kafka.bootstrap:
        print(to_json(asked).decode(), file=out)
        return
    topic = topics_of(config).get(EXPORTS.name)
    if topic is None:
        raise UsageError("kafka.exports: exports go to no topic; name one in the configuration of the job, and here")
    _redis(config, user)  # before anything is asked, whether it answers
    kept: dict[str, Any] = dict(_asked(config, topic, asked, wait_seconds))
    if (held := _redis(config, user)) is not None:
        kept["redis"] = held
    elif not config.redis.url and "cache" in kept:
        print("the job has a Redis, and none was asked: give --redis URL for what it holds", file=sys.stderr)
    if not any(kept.values()):
        print(f"nothing is kept of {printable(user)}", file=sys.stderr)
    whole = {"user_id": user, "event_id": asked.event_id, "ts": asked.ts, "kept": kept, "not_told": NOT_TOLD}
    print(printable_json(msgspec.json.format(to_json(whole), indent=2).decode()), file=out)


def _asked(config: Config, topic: str, asked: Event, wait_seconds: float) -> dict[str, dict[str, Any]]:
    """By part what the job tells once it was asked."""
    collector = Collector(asked)
    with _from_now_on(config, topic) as consumer:
        send(config, asked)
        deadline = time.monotonic() + wait_seconds
        while time.monotonic() < deadline:
            for records in consumer.poll(POLL_MS).values():
                for record in records:
                    _take(collector, record.value)
            if (whole := collector.whole()) is not None:
                return whole
    raise Failure(
        f"the job did not tell all that it keeps of {printable(asked.user_id)} within {wait_seconds:g} s "
        f"({collector.missing()}): see whether it runs, reads {config.kafka.events} and writes {topic}; its answer to "
        f"{asked.event_id} comes there when it does. --wait N gives it more time"
    )


def _take(collector: Collector, record: bytes | None) -> None:
    try:
        collector.take(record)
    except ValueError as error:
        raise Failure(f"the export is too large: {error}") from error


@contextmanager
def _from_now_on(config: Config, topic: str) -> Iterator[KafkaConsumer]:
    """Reads what comes to the topic from now on; of transactions, what is committed."""
    check_topic(config.kafka, topic)
    settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
    with broker_errors(config.kafka), consuming(config.kafka, **settings) as consumer:
        partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
        consumer.assign(partitions)
        for partition, end in consumer.end_offsets(partitions).items():
            consumer.seek(partition, end)
        yield consumer


def _redis(config: Config, user: str) -> dict[str, Any] | None:
    """What Redis holds under the user's key, nothing where it holds none; None where there is no Redis."""
    if not config.redis.url:
        return None
    ((held,), _) = cached(config.redis, (slate_key(user),))
    if held is None:
        return {}
    try:
        return {"slate": msgspec.json.decode(held)}
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):  # who knows what was put there
        return {"text": held.decode("utf-8", "replace")}
