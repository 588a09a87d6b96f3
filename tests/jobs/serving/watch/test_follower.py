"""What following promises, on a real broker: it begins before the end, names what is missing, skips what is too much,
and a broker that is away does not end it.
"""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaTimeoutError
from kafka.structs import OffsetAndMetadata
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.dev.services import KafkaBroker, free_port
from riverrank.jobs.serving.watch import follower as following
from riverrank.jobs.serving.watch.follower import WatchFollower
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.outgoing import DeadLetter, ModelInfo, Slate, to_json
from streams import wait_until


@contextmanager
def followed(kafka: KafkaSettings, **options: int) -> Iterator[tuple[WatchFollower, Seen]]:
    seen = Seen()
    follower = WatchFollower(kafka, seen, **options)
    follower.start()
    try:
        yield follower, seen
    finally:
        began = time.monotonic()
        follower.close()
        assert not follower._thread.is_alive() and time.monotonic() - began < 5


def click(number: int) -> bytes:
    made = {"event_id": f"e-{number}", "type": "click", "user_id": "u", "item_id": "i", "ts": wall_ms()}
    return json.dumps(made).encode()


def written(broker: KafkaBroker, topic: str, values: list[bytes]) -> None:
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for value in values:
        producer.send(topic, value=value, key=b"u")
    producer.flush(30)
    producer.close()


def test_topics_are_followed_from_before_their_end_and_on(broker: KafkaBroker) -> None:
    names = {"events": "looked-at-events", "slates": "looked-at-slates", "dead_letters": "looked-at-dead"}
    for name in (names["events"], names["slates"]):
        broker.create_topic(name, partitions=2)
    written(broker, names["events"], [click(number) for number in range(30)])
    kafka = KafkaSettings(bootstrap=broker.bootstrap, group="looked-at-job", **names)
    with followed(kafka) as (follower, seen):
        wait_until(lambda: follower.progress.read == 30 and follower.progress.trouble == "", 60)
        assert (follower.progress.missing, follower.progress.left_out) == ((names["dead_letters"],), 0)
        assert follower.progress.job_behind is None, "the group committed nothing"
        assert wall_ms() - 120_000 < (follower.progress.since_ms or 0) <= wall_ms()
        user = seen.user("u")
        assert user is not None and user.events[-1].event_id == "e-29"
        ts = wall_ms()
        slate = Slate("u:1", "u", 1, ts, "e-29", "warm", "a", ModelInfo(0, 0), ())
        written(broker, names["slates"], [to_json(slate)])
        wait_until(lambda: bool((held := seen.user("u")) and held.slates), 30)
        waits = [wait for minute in seen.minutes(ts - 60_000, wall_ms()) for wait in minute.waits_ms]
        assert len(waits) == 1 and 0 <= waits[0] < 20_000
        commit(broker, names["events"], "looked-at-job", 10)
        wait_until(lambda: follower.progress.job_behind == 20, 30)


def commit(broker: KafkaBroker, topic: str, group: str, behind: int) -> None:
    """As a job that has `behind` events of one partition still to read."""
    consumer = KafkaConsumer(bootstrap_servers=broker.bootstrap, group_id=group, enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in (0, 1)]
    consumer.assign(partitions)
    ends = consumer.end_offsets(partitions)
    full = max(partitions, key=lambda each: ends[each])
    offsets = {each: OffsetAndMetadata(ends[each] - (20 if each == full else 0), "", -1) for each in partitions}
    assert behind < ends[full]
    consumer.commit(offsets)
    consumer.close()


def test_what_can_not_be_kept_up_with_is_left_out_and_told(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "MOST_BEHIND", 500)
    monkeypatch.setattr(following, "ASK_SECONDS", 0.2)
    broker.create_topic("flooded")
    kafka = KafkaSettings(bootstrap=broker.bootstrap, events="flooded", slates="", dead_letters="")
    with followed(kafka, records_a_second=20) as (follower, _):
        wait_until(lambda: follower.progress.trouble == "", 30)
        time.sleep(0.5)
        written(broker, "flooded", [click(number) for number in range(5_000)])
        wait_until(lambda: follower.progress.left_out > 3_000, 30)
        before = follower.progress.read
        written(broker, "flooded", [click(9_999)])
        wait_until(lambda: follower.progress.read > before, 30)
        assert follower.progress.read + follower.progress.left_out <= 5_001


def test_after_a_fault_of_the_broker_it_goes_on_where_it_was(
    broker: KafkaBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = 0

    def fault(*_: object) -> None:
        nonlocal faults
        faults += 1
        if faults in (2, 4):
            raise KafkaTimeoutError("no answer")

    monkeypatch.setattr(following, "ASK_SECONDS", 0.2)
    monkeypatch.setattr(WatchFollower, "_ask_for_the_job", fault)
    names = {"events": "hiccup-events", "slates": "hiccup-slates", "dead_letters": "hiccup-dead"}
    for name in names.values():
        broker.create_topic(name)
    kafka = KafkaSettings(bootstrap=broker.bootstrap, **names)
    written(broker, names["events"], [click(number) for number in range(50)])
    written(broker, names["dead_letters"], [to_json(DeadLetter("events", 0, 1, "bad_json", "", "{", wall_ms()))])
    began = wall_ms()
    with followed(kafka) as (follower, seen):
        wait_until(lambda: faults > 5, 60)
        written(broker, names["events"], [click(50)])
        wait_until(lambda: follower.progress.read >= 52, 30)
        assert follower.progress.read == 52
        assert sum(minute.events["click"] for minute in seen.minutes(began - 120_000, wall_ms())) == 51
        assert seen.dead_letters()[0] == {"bad_json": 1}


def test_a_broker_that_is_not_there_is_told_and_tried_again() -> None:
    kafka = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")
    with followed(kafka) as (follower, seen):
        first = follower.progress.trouble
        wait_until(lambda: follower.progress.trouble != first, 30)
        assert follower.progress.trouble
        assert seen.user_ids(1) == []
