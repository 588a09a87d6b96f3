"""What writing promises where one topic takes no records: its own are refused alone, and the service says so."""

import asyncio
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    KafkaAdminClient,
    ResourcePattern,
    ResourceType,
)
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker, free_port
from riverrank.jobs.serving.http import writes
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.http.writes import KafkaAway, Record, Writes
from secured import PASSWORD, USER, Authority, SecuredBroker
from starlette.testclient import TestClient
from streams import wait_until

EVENT = {"event_id": "e", "type": "click", "user_id": "u", "item_id": "i", "ts": 1}
ITEM = {"item_id": "i", "ts": 1}
RECORD = Record(b"u", b"{}")


class GuardedBroker(SecuredBroker):
    """Who is named has the rights that were given; whoever comes plainly has all."""

    def _properties(self, data: Path, controller: int) -> dict[str, object]:
        return super()._properties(data, controller) | {
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": "User:ANONYMOUS",
        }

    def settings(self, folder: Path, events: str, items: str) -> KafkaSettings:
        """Of who is named, for these topics."""
        answers = self.answers("PLAIN", USER, PASSWORD, folder)
        return KafkaSettings(**answers, events=events, items=items)  # type: ignore[arg-type]

    def allow(self, topic: str, *operations: ACLOperation) -> None:
        """Give USER rights."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            admin.create_acls([self._rule(topic, operation) for operation in operations])

    def forbid(self, topic: str, operation: ACLOperation) -> None:
        """Take a right."""
        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            admin.delete_acls([self._rule(topic, operation)])

    def _rule(self, topic: str, operation: ACLOperation) -> ACL:
        pattern = ResourcePattern(ResourceType.TOPIC, topic)
        return ACL(f"User:{USER}", "*", operation, ACLPermissionType.ALLOW, pattern)


@pytest.fixture(scope="module")
def guarded(authority: Authority) -> Iterator[GuardedBroker]:
    with GuardedBroker(authority) as broker:
        yield broker


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writes, "LOOK_SECONDS", 0.2)


@contextmanager
def taking(kafka: KafkaSettings) -> Iterator[TestClient]:
    """A service of that Kafka, once it takes events."""
    with TestClient(application(Config(kafka=kafka))) as client:
        wait_until(lambda: client.post("/v1/events", json=EVENT).status_code == 202, 60)
        yield client


def posted(client: TestClient) -> tuple[int, int]:
    """The status of an event, and of an item."""
    return client.post("/v1/events", json=EVENT).status_code, client.post("/v1/items", json=ITEM).status_code


def kafka_is_ready(client: TestClient) -> bool:
    return bool(client.get("/readyz").json()["kafka"])


def test_a_topic_that_may_not_be_written_refuses_its_own_records_alone(
    guarded: GuardedBroker, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for topic in ("rights-events", "rights-items"):
        guarded.create_topic(topic, 2)
    guarded.allow("rights-events", ACLOperation.READ, ACLOperation.WRITE)
    guarded.allow("rights-items", ACLOperation.READ)
    with taking(guarded.settings(tmp_path, "rights-events", "rights-items")) as client:
        assert [posted(client) for _ in range(40)] == [(202, 503)] * 40
        assert kafka_is_ready(client)
        assert "takes no records of topic rights-items: the right to write it is missing" in caplog.text
        guarded.allow("rights-items", ACLOperation.WRITE)
        wait_until(lambda: posted(client) == (202, 202), 60)
        guarded.forbid("rights-events", ACLOperation.WRITE)
        wait_until(lambda: posted(client)[0] == 503, 60)
        assert [posted(client) for _ in range(40)] == [(503, 202)] * 40
        assert kafka_is_ready(client)
        guarded.forbid("rights-items", ACLOperation.WRITE)
        wait_until(lambda: posted(client)[1] == 503, 60)
        wait_until(lambda: not kafka_is_ready(client), 60)
        guarded.allow("rights-events", ACLOperation.WRITE)
        wait_until(lambda: kafka_is_ready(client) and posted(client) == (202, 503), 60)


def test_a_topic_that_may_not_be_seen_refuses_its_own_records_alone(guarded: GuardedBroker, tmp_path: Path) -> None:
    guarded.create_topic("seen-events")
    guarded.allow("seen-events", ACLOperation.WRITE)
    with taking(guarded.settings(tmp_path, "seen-events", "unseen-items")) as client:
        assert [posted(client) for _ in range(10)] == [(202, 503)] * 10
        assert kafka_is_ready(client)


def test_a_topic_that_is_missing_refuses_its_own_records_alone_until_it_is_there(broker: KafkaBroker) -> None:
    broker.create_topic("there-events")
    kafka = KafkaSettings(bootstrap=broker.bootstrap, events="there-events", items="there-items")
    with taking(kafka) as client:
        assert [posted(client) for _ in range(40)] == [(202, 503)] * 40
        assert not kafka_is_ready(client)
        broker.create_topic("there-items")
        wait_until(lambda: kafka_is_ready(client) and posted(client) == (202, 202), 60)


def test_a_record_that_is_refused_fails_alone(broker: KafkaBroker) -> None:
    broker.create_topic("keyed", config={"cleanup.policy": "compact"})
    broker.create_topic("unkeyed")
    writing = Writes(KafkaSettings(bootstrap=broker.bootstrap), ["keyed", "unkeyed"], 5_000)

    async def write() -> None:
        for _ in range(10):
            with pytest.raises(KafkaAway, match=r"of topic keyed: .*key"):
                await writing.write("keyed", [Record(None, b"{}")])  # type: ignore[arg-type]
            await writing.write("unkeyed", [RECORD, RECORD])
            await writing.write("keyed", [RECORD])
            assert writing.ready

    writing.start()
    try:
        wait_until(lambda: writing.ready, 60)
        asyncio.run(write())
    finally:
        writing.close()


def test_a_kafka_that_is_not_there_costs_no_thread_and_no_file(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, "kafka")  # what is captured holds errors, and they what failed
    monkeypatch.setattr(writes, "RETRY_SECONDS", 0.01)
    writing = Writes(KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}"), ["topic"], 50)
    looks = 0
    look = writing._look

    def counted() -> None:
        nonlocal looks
        look()
        looks += 1

    monkeypatch.setattr(writing, "_look", counted)

    def held() -> tuple[int, int]:
        return threading.active_count(), len(os.listdir("/proc/self/fd"))

    writing.start()
    try:
        wait_until(lambda: looks >= 3)
        before = held()
        wait_until(lambda: looks >= 33)
        after = held()
    finally:
        writing.close()
    assert after[0] <= before[0] and after[1] <= before[1] + 8, (before, after)
