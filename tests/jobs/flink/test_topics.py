"""What is read from topics of real data: what was committed, and each record by the user that it is of."""

import json
import subprocess
import sys
from pathlib import Path

from kafka import KafkaProducer
from riverrank.jobs.dev import services
from streams import TIMEOUT_SECONDS, answers, topics

TWICE = b'{"user_id":null,"user_id":"u","event_id":"twice","type":"request","ts":1764000000000,"item_id":null}'


def click(name: str, second: int) -> bytes:
    at = 1_764_000_000_000 + 1000 * second
    return json.dumps({"event_id": name, "type": "click", "user_id": "u", "item_id": name, "ts": at}).encode()


def riverrank(*arguments: str) -> str:
    command = [sys.executable, "-m", "riverrank.jobs.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_a_transaction_took_back_is_not_answered(broker: services.KafkaBroker, tmp_path: Path) -> None:
    """By `run`, `replay` and `check` alike; nor does a record end the job whose user a quick look can't tell."""
    config = str(topics(broker, tmp_path, "transactions", "bounded = true"))
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="shop")
    producer.init_transactions()
    records = [click("first back", 1), click("committed", 2), TWICE, click("plain", 4), click("last back", 5)]
    for number, record in enumerate(records):
        producer.begin_transaction()
        producer.send("transactions-events", record, key=b"u")
        producer.flush()
        producer.abort_transaction() if number in (0, 4) else producer.commit_transaction()
    producer.close()
    found = {}
    for command in ("replay", "run"):
        target = tmp_path / f"{command}.jsonl"
        riverrank(command, "--config", config, "--slates", str(target))
        found[command] = [json.loads(line) for line in target.read_text().splitlines()]
        assert [slate["trigger"] for slate in found[command]] == ["committed", "twice", "plain"], command
    assert answers(found["run"]) == answers(found["replay"])
    assert "3 records" in riverrank("check", "--config", config)
