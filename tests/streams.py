"""What tests of the job on a real broker share: topics, records in and out, and what a user was answered."""

import json
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from riverrank.jobs.dev import bundle, services
from shop_pipeline import ALONE

TIMEOUT_SECONDS = 150
Record = dict[str, Any]
Answers = dict[str, list[tuple[Any, ...]]]


def answers(slates: Iterable[Record], *, whole: bool = False) -> Answers:
    """By user, in their order: version, trigger, and examples learned from; with `whole`, also every slot as it is,
    which only is as `replay` has it where nothing is broadcast (ALONE).
    """
    by_user: Answers = {}
    for slate in slates:
        answer = (slate["version"], slate["trigger"], slate["model"]["examples"])
        by_user.setdefault(slate["user_id"], []).append((*answer, json.dumps(slate["items"])) if whole else answer)
    return by_user


def tables(settings: Mapping[str, Mapping[str, Any]]) -> str:
    """Settings by table and name, as those of a configuration file."""
    return "\n".join(
        f"[{table}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in of_table.items())
        for table, of_table in settings.items()
    )


def alone() -> str:
    """ALONE as tables of a configuration file."""
    return tables(ALONE)


def cached(valkey: services.Valkey, users: Iterable[str], prefix: str = "rr:") -> dict[str, int]:
    """The version of each user's slate in Redis, -1 for none."""
    names = [*users]
    with redis.Redis.from_url(valkey.url) as client, client.pipeline(transaction=False) as pipeline:
        for user in names:
            pipeline.hget(f"{prefix}slate:{user}", "version")
        return {user: int(version or -1) for user, version in zip(names, pipeline.execute(), strict=True)}


def popular(valkey: services.Valkey, prefix: str = "rr:") -> Record:
    """The slate of whoever has none, without what tells how far the ranker is."""
    with redis.Redis.from_url(valkey.url) as client:
        slate = json.loads(client.hget(f"{prefix}popular", "slate") or "null")
    return {name: value for name, value in slate.items() if name != "model"}


def topics(broker: services.KafkaBroker, folder: Path, name: str, *lines: str, job: tuple[str, ...] = ()) -> Path:
    """Topics of that prefix, two partitions for what is keyed, and a configuration that names them.

    `lines` follow those of the table [kafka], and `job` those of [job].
    """
    written = ["[job]", 'checkpoint_every = "1s"', *job, "[kafka]", f'bootstrap = "{broker.bootstrap}"']
    for stream in ("events", "items", "slates", "dead-letters", "receipts"):
        broker.create_topic(f"{name}-{stream}", 2 if stream in ("events", "slates") else 1)
        written.append(f'{stream.replace("-", "_")} = "{name}-{stream}"')
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*written, *lines]))
    return path


def job_of(zipped: Path, *arguments: object) -> tuple[object, ...]:
    """What `flink run` is told of the job: its file, its code (the fixture `zipped`), and arguments of its own."""
    return ("-py", bundle.JOB_FILE, "-pyfs", zipped, *arguments)


def lines(records: Iterable[Record]) -> list[str]:
    """Them as JSON, one each."""
    return [json.dumps(record) for record in records]


def send(broker: services.KafkaBroker, topic: str, lines: Iterable[str | bytes | None], key: str = "") -> None:
    """Send lines as records, each with its field `key` as the record's key."""
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for line in lines:
        name = json.loads(line).get(key) if isinstance(line, str) and key and line.endswith("}") else None
        producer.send(topic, line.encode() if isinstance(line, str) else line, name.encode() if name else b"")
    producer.flush()
    producer.close()


def received(broker: services.KafkaBroker, topic: str, **options: Any) -> list[tuple[bytes, bytes]]:
    """Keys and values of a topic, in the order of each partition; `options` are the consumer's."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False, **options)
    partitions = [TopicPartition(topic, number) for number in sorted(consumer.partitions_for_topic(topic) or ())]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    consumer.seek_to_beginning(*partitions)
    found: list[tuple[bytes, bytes]] = []
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(1_000).values():
            found += [(record.key, record.value) for record in records]
    consumer.close()
    return found


def wait_until(holds: Callable[[], bool], timeout_seconds: float = TIMEOUT_SECONDS, every: float = 0.2) -> None:
    """Wait for what must come to pass within that time, and look for it every so many seconds."""
    deadline = time.monotonic() + timeout_seconds
    while not holds():
        assert time.monotonic() < deadline, "it never came to pass"
        time.sleep(every)
