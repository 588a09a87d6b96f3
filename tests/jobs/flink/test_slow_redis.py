"""A Redis that is far away slows no slate on Kafka, and has the last slate of each user in the end."""

import json
import subprocess
import sys
from pathlib import Path

from kafka import KafkaConsumer, TopicPartition
from riverrank.jobs.dev import services
from secured import in_front_of
from streams import TIMEOUT_SECONDS, cached, send, topics

START_MS = 1_764_000_000_000
USERS, EVENTS, WARM = 150, 3_000, 500
DELAY = 0.1  # seconds, each way
SCRIPT = Path(sys.executable).with_name("riverrank")


def events() -> list[str]:
    made = []
    for k in range(EVENTS):
        event = {"event_id": f"e{k}", "type": "click", "user_id": f"u{k % USERS}", "item_id": f"i{k * 7 % 90}"}
        made.append(json.dumps({**event, "ts": START_MS + k}))
    return made


def slates_a_second(broker: services.KafkaBroker, topic: str) -> float:
    """By the times that the broker took them at, from the WARM-th on."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in range(2)]
    consumer.assign(partitions)
    ends, times = consumer.end_offsets(partitions), []
    consumer.seek_to_beginning(*partitions)
    while any(consumer.position(partition) < ends[partition] for partition in partitions):
        for records in consumer.poll(1_000).values():
            times += [record.timestamp for record in records]
    consumer.close()
    assert len(times) == EVENTS
    times.sort()
    return 1000 * (EVENTS - WARM) / (times[-1] - times[WARM])


def ran(broker: services.KafkaBroker, folder: Path, name: str, port: int) -> float:
    config = topics(broker, folder, name, "bounded = true")
    send(broker, f"{name}-events", events(), key="user_id")
    command = [SCRIPT, "run", "--config", config, "--redis", f"redis://127.0.0.1:{port}/0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return slates_a_second(broker, f"{name}-slates")


def test_slates_on_kafka_keep_their_rate_and_redis_catches_up(broker: services.KafkaBroker, tmp_path: Path) -> None:
    rates = {}
    for name, delay in (("near", 0.0), ("far", DELAY)):
        with services.Valkey() as valkey, in_front_of(valkey.port, delay=delay) as port:
            rates[name] = ran(broker, tmp_path, name, port)
            users = [f"u{user}" for user in range(USERS)]
            assert cached(valkey, users) == dict.fromkeys(users, EVENTS // USERS)
    assert rates["far"] > 0.5 * rates["near"], rates
