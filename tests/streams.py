"""What tests of the job on a real broker share: a known stream, what `replay` answers to it, topics, records in and
out, and what a user was answered.
"""

import json
import random
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import redis
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from riverrank.jobs.config import schema as config
from riverrank.jobs.dev import services
from riverrank.jobs.local import replay
from shop_pipeline import ALONE

TIMEOUT_SECONDS = 150
START_MS = 1_764_000_000_000
USERS, ITEMS = 24, 40
CATALOGUE = [
    json.dumps({"item_id": f"i{n}", "ts": START_MS, "categories": [f"c{n % 4}"]}) for n in range(ITEMS)
]  # of the known stream
Record = dict[str, Any]
Answers = dict[str, list[tuple[Any, ...]]]


class Expected(NamedTuple):
    """What `replay` makes of a stream: the answers, whole, and the dead letters."""

    answers: Answers
    letters: list[Record]


def stream(count: int, seed: int, users: int = USERS) -> list[str]:
    """Lines of events of every kind that teaches, a second apart, later than those of a lower seed by some hours; user
    u of category u % 4 takes mostly what is of that category.
    """
    rng = random.Random(seed)
    made: list[str] = []
    for number in range(count):
        user = rng.randrange(users)
        event: Record = {"event_id": f"{seed}-{number}", "user_id": f"u{user}", "ts": START_MS + 1000 * number}
        event["ts"] += seed * 10_000_000
        item = f"i{rng.randrange(ITEMS // 4) * 4 + user % 4}"
        kind = rng.choice(("click", "click", "purchase", "rate", "request", "impression"))
        event["type"] = kind
        if kind == "impression":
            event["items"] = [item, f"i{rng.randrange(ITEMS)}x"]
        elif kind != "request":
            event["item_id"] = item
            event["value"] = float(rng.randrange(1, 6))
        made.append(json.dumps(event))
    return made


def expected(folder: Path, events: Iterable[str | bytes], items: Iterable[str] = CATALOGUE) -> Expected:
    """What replay makes of these lines, with nothing broadcast; `folder` is for its files."""
    (folder / "alone.toml").write_text(alone())
    given = (line.encode() if isinstance(line, str) else line for line in events)
    (folder / "all.jsonl").write_bytes(b"".join(line + b"\n" for line in given))
    (folder / "items.jsonl").write_text("".join(line + "\n" for line in items))
    names = {"events": "all.jsonl", "items": "items.jsonl", "slates": "slates.jsonl", "dead_letters": "letters.jsonl"}
    paths = {f"files.{field}": str(folder / name) for field, name in names.items()}
    replay.run(config.load(str(folder / "alone.toml"), paths))
    made = {name: (folder / f"{name}.jsonl").read_bytes().splitlines() for name in ("slates", "letters")}
    return Expected(
        answers(map(json.loads, made["slates"]), whole=True), [json.loads(line) for line in made["letters"]]
    )


def answers(slates: Iterable[Record], *, whole: bool = False) -> Answers:
    """By user, in their order: version, trigger, and examples learned from; with `whole`, also every slot as it is,
    which only is as `replay` has it where nothing is broadcast (ALONE).
    """
    by_user: Answers = {}
    for slate in slates:
        answer = (slate["version"], slate["trigger"], slate["model"]["examples"])
        by_user.setdefault(slate["user_id"], []).append((*answer, json.dumps(slate["items"])) if whole else answer)
    return by_user


def alone() -> str:
    """ALONE as tables of a configuration file."""
    return "\n".join(
        f"[{table}]\n" + "\n".join(f"{key} = {json.dumps(value)}" for key, value in settings.items())
        for table, settings in ALONE.items()
    )


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


def topics(broker: services.KafkaBroker, folder: Path, name: str, *lines: str) -> Path:
    """Topics of that prefix, two partitions for what is keyed, and a configuration that names them.

    `lines` follow those of the table [kafka].
    """
    written = ["[job]", 'checkpoint_every = "1s"', "[kafka]", f'bootstrap = "{broker.bootstrap}"']
    for stream_name in ("events", "items", "slates", "dead-letters", "receipts"):
        broker.create_topic(f"{name}-{stream_name}", 2 if stream_name in ("events", "slates") else 1)
        written.append(f'{stream_name.replace("-", "_")} = "{name}-{stream_name}"')
    path = folder / f"{name}.toml"
    path.write_text("\n".join([*written, *lines]))
    return path


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
