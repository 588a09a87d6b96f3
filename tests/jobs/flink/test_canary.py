"""A user whose id and attribute nobody else has, erased while a TaskManager is lost: neither is found in the next
savepoint, in Redis, or in the compacted topic of slates.
"""

import json
from pathlib import Path

import pytest
import redis
from riverrank.jobs.dev import services
from streams import Record, job_of, lines, received, send, topics, wait_until

START_MS = 1_764_000_000_000
CANARY, ATTRIBUTE = "canary-user-7e1", "canary-value-93d"
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "1000",
    "min.cleanable.dirty.ratio": "0.001",
    "delete.retention.ms": "0",
}
pytestmark = pytest.mark.timeout(900)


def stream(name: str, count: int, ts: int) -> list[Record]:
    """Events of the canary and of six others, who state an age that is everybody's."""
    made: list[Record] = []
    for number in range(count):
        user = CANARY if number % 7 == 0 else f"u{number % 7}"
        event: Record = {"event_id": f"{name}-{number}", "user_id": user, "ts": ts + 1000 * number}
        if number < 7:
            event |= {"type": "profile", "attributes": {"age": "25-34"}}
            if user == CANARY:
                event["attributes"]["about"] = ATTRIBUTE
        elif number % 5 == 0:
            event |= {"type": "impression", "items": [f"i{number % 20}", f"i{number % 13}x"]}
        else:
            event |= {"type": "click", "item_id": f"i{number % 20}"}
        made.append(event)
    return made


def names_the_canary(raw: bytes) -> bool:
    return CANARY.encode() in raw or ATTRIBUTE.encode() in raw


def in_files(savepoint: str) -> list[str]:
    files = [path for path in Path(savepoint.removeprefix("file:")).rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) > 10_000
    return [path.name for path in files if names_the_canary(path.read_bytes())]


def in_redis(valkey: services.Valkey) -> list[bytes]:
    with redis.Redis.from_url(valkey.url) as client:
        keys = [*client.scan_iter()]
        assert keys
        return [key for key in keys if names_the_canary(key + b"".join(sum(client.hgetall(key).items(), ())))]


def in_topic(broker: services.KafkaBroker, topic: str) -> list[bytes]:
    return [key for key, value in received(broker, topic) if names_the_canary(key + (value or b""))]


def test_a_canary_that_is_erased_through_a_crash_is_found_nowhere(
    broker: services.KafkaBroker, valkey: services.Valkey, zipped: Path, tmp_path: Path
) -> None:
    settings = topics(broker, tmp_path, "canary")
    broker.create_topic("canary-compacted", 1, COMPACTED)
    settings.write_text(settings.read_text().replace('"canary-slates"', '"canary-compacted"'))
    conf = {"heartbeat.timeout": "6 s", "execution.checkpointing.interval": "1 s"}
    submitted = job_of(zipped, "--config", settings, "--redis", valkey.url)
    with services.FlinkCluster(taskmanagers=2, conf=conf) as cluster:
        job = cluster.run("-p", 1, *submitted)
        cluster.wait_for(job)
        send(broker, "canary-events", lines(stream("a", 210, START_MS)), key="user_id")
        wait_until(lambda: len(received(broker, "canary-compacted")) > 100)
        assert in_topic(broker, "canary-compacted")
        before = cluster.savepoint(job, tmp_path / "savepoints")
        assert in_files(before) and in_redis(valkey)  # else this test finds nothing whatever happens
        erase = {"event_id": "erase", "type": "erase", "user_id": CANARY, "ts": START_MS + 1_000_000}
        send(broker, "canary-events", lines([erase]), key="user_id")
        (worker,) = cluster.workers(job)
        cluster.kill_taskmanager(worker)
        others = [event for event in stream("b", 70, START_MS + 2_000_000) if event["user_id"] != CANARY]
        send(broker, "canary-events", lines(others), key="user_id")
        wait_until(lambda: received(broker, "canary-receipts") != [])
        wait_until(lambda: in_redis(valkey) == [])
        asked = 0

        def is_compacted() -> bool:
            nonlocal asked
            asked += 1
            record = {
                "event_id": f"ask-{asked}",
                "type": "request",
                "user_id": "u1",
                "ts": START_MS + 3_000_000 + asked,
            }
            send(broker, "canary-events", lines([record]), key="user_id")
            return in_topic(broker, "canary-compacted") == []

        wait_until(is_compacted)
        after = cluster.stop_with_savepoint(job, tmp_path / "savepoints")
    assert in_files(after) == [] and in_redis(valkey) == []
    assert in_topic(broker, "canary-compacted") == [] != received(broker, "canary-compacted")
    receipts = {json.loads(value)["user_id"] for _, value in received(broker, "canary-receipts")}
    assert receipts == {CANARY}
