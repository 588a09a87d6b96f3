"""What following topics promises, on a real broker: each record once, whatever fails, and an end in bounded time."""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.dev.services import KafkaBroker, free_port
from riverrank.jobs.serving import following
from riverrank.jobs.serving.following import CLOSE_SECONDS, TopicFollower
from streams import wait_until


class Recorder(TopicFollower):
    """Follows a topic from its beginning. Fails by `faults`, one after another, and at any record that is poison."""

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        super().__init__(kafka, (topic,), 2_000, {"auto_offset_reset": "earliest"})
        self.taken: list[bytes] = []
        self.faults: list[Exception] = []
        self.times_opened = 0

    def starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        return dict(consumer.beginning_offsets(partitions))

    def take(self, record: ConsumerRecord, left: int) -> None:
        if record.value == b"poison":
            raise RecursionError("too deep")
        assert left >= 1
        self.taken.append(record.value)

    def look(self, consumer: KafkaConsumer) -> None:
        if self.faults:
            raise self.faults.pop()

    @contextmanager
    def opened(self) -> Iterator[KafkaConsumer]:
        self.times_opened += 1
        with super().opened() as consumer:
            yield consumer


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "ASSIGN_SECONDS", 0.2)
    monkeypatch.setattr(following, "RETRY_SECONDS", (0.1,))


@contextmanager
def following_of(bootstrap: str, topic: str) -> Iterator[Recorder]:
    follower = Recorder(KafkaSettings(bootstrap=bootstrap), topic)
    follower.start()
    try:
        yield follower
    finally:
        began = time.monotonic()
        follower.close()
        assert time.monotonic() - began < CLOSE_SECONDS + 1
        wait_until(lambda: not follower._thread.is_alive(), 30)


def write(broker: KafkaBroker, topic: str, *values: bytes) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for value in values:
        producer.send(topic, value)
    producer.flush(30)
    producer.close()


def test_each_record_is_taken_once_whatever_fails_and_one_that_it_fails_at_is_left_out(
    broker: KafkaBroker, caplog: pytest.LogCaptureFixture
) -> None:
    broker.create_topic("followed-through", 3)
    values = [b"%d" % number for number in range(200)]
    with following_of(broker.bootstrap, "followed-through") as follower:
        for start in range(0, 200, 50):
            write(broker, "followed-through", *values[start : start + 25], b"poison", *values[start + 25 : start + 50])
            follower.faults += [ValueError("nobody names it"), OSError("away"), RuntimeError()]
            wait_until(lambda until=start + 50: not follower.faults and len(follower.taken) >= until, 30)  # type: ignore[misc]
        time.sleep(0.5)
        assert sorted(follower.taken) == sorted(values)
    for trouble in ("too deep", "nobody names it", "away", "RuntimeError"):
        assert f"following followed-through of {broker.bootstrap}: {trouble}" in caplog.text


def test_a_topic_that_is_missing_is_told_and_followed_once_it_is_there(broker: KafkaBroker) -> None:
    with following_of(broker.bootstrap, "followed-late") as follower:
        wait_until(lambda: follower.missing == ("followed-late",), 30)
        broker.create_topic("followed-late")
        write(broker, "followed-late", b"first")
        wait_until(lambda: follower.taken == [b"first"], 30)
        assert (follower.missing, follower.trouble, follower.times_opened) == ((), "", 1)


def test_after_an_outage_it_goes_on_and_during_one_it_ends_in_time() -> None:
    with KafkaBroker() as own:
        own.create_topic("interrupted", 2)
        with following_of(own.bootstrap, "interrupted") as follower:
            write(own, "interrupted", b"before")
            wait_until(lambda: follower.taken == [b"before"], 30)
            own.stop()
            time.sleep(1)
            own.start()
            write(own, "interrupted", b"after")
            wait_until(lambda: len(follower.taken) > 1, 30)
            assert follower.taken == [b"before", b"after"]
            own.kill()


def test_a_broker_that_is_not_there_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    with (
        caplog.at_level(logging.WARNING, following.__name__),
        following_of(f"127.0.0.1:{free_port()}", "x") as follower,
    ):
        wait_until(lambda: follower.times_opened >= 3, 30)
    assert len([record for record in caplog.records if record.name == following.__name__]) == 1
