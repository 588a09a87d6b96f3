"""Topics as `replay` reads and writes them: in the order of time; and where a broker goes away in the middle, or does
not take what is written, it says so, and ends.
"""

import time
from collections.abc import Iterator

import pytest
from kafka import KafkaProducer
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.dev import services
from riverrank.jobs.errors import Failure
from riverrank.jobs.local import reading, writing
from riverrank.jobs.local.reading import read_topic
from riverrank.jobs.local.writing import opened
from riverrank.state.outputs import SLATES
from streams import send

RECORDS = 4000


@pytest.fixture
def own() -> Iterator[services.KafkaBroker]:
    """A broker that a test may kill."""
    with services.KafkaBroker() as broker:
        yield broker


@pytest.fixture
def config(own: services.KafkaBroker, monkeypatch: pytest.MonkeyPatch) -> Config:
    """Of that broker, with topics; whoever says nothing for two seconds is away."""
    for module in (reading, writing):
        monkeypatch.setattr(module, "AWAY_MS", 2_000)
    own.create_topic("events")
    own.create_topic("slates", config={"max.message.bytes": 300})
    return parse({"kafka": {"bootstrap": own.bootstrap, "receipts": "", "dead_letters": ""}})


def test_a_broker_that_goes_away_ends_the_reading(own: services.KafkaBroker, config: Config) -> None:
    send(own, "events", [f"{number:01000d}" for number in range(RECORDS)])
    arrivals = read_topic(config.kafka, "events")
    next(arrivals)
    own.kill()
    with pytest.raises(Failure, match="has said nothing of topic events for 2 s, and there is more to read"):
        assert len(list(arrivals)) < RECORDS


def test_a_broker_that_goes_away_ends_the_writing(own: services.KafkaBroker, config: Config) -> None:
    with pytest.raises(Failure, match="topic slates did not take a record"), opened(config) as outputs:
        outputs[SLATES.name]("u", b"taken")
        own.kill()
        outputs[SLATES.name]("u", b"lost")


def test_a_record_that_the_topic_does_not_take_is_told_of(config: Config) -> None:
    with (
        pytest.raises(Failure, match=r"topic slates did not take a record .*max\.message\.bytes"),
        opened(config) as outputs,
    ):
        outputs[SLATES.name]("u", bytes(1000))


def settings(broker: services.KafkaBroker) -> KafkaSettings:
    return parse({"kafka": {"bootstrap": broker.bootstrap}}).kafka


def sent(broker: services.KafkaBroker, topic: str, partitions: dict[int, list[int]], bytes_each: int = 8) -> int:
    """Makes the topic, with a record each of these seconds of the last hour in each partition; the hour's beginning."""
    begin = 1000 * int(time.time() - 3600)
    broker.create_topic(topic, partitions=1 + max(partitions))
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for partition, seconds in partitions.items():
        for second in seconds:
            producer.send(topic, bytes(bytes_each), partition=partition, timestamp_ms=begin + second)
    producer.close()
    return begin


def test_partitions_are_merged_by_time_however_much_of_each_there_is(broker: services.KafkaBroker) -> None:
    """Of the first more than a fetch, which kafka-python gives before it gives anything of another; of the third few,
    and of the second, fourth and fifth some, none and one.
    """
    partitions = {0: list(range(0, 3600)), 1: list(range(0, 3600, 3)), 2: list(range(7, 3600, 900)), 4: [3599]}
    begin = sent(broker, "merged-by-time", partitions, bytes_each=1000)
    arrivals = list(read_topic(settings(broker), "merged-by-time"))
    expected = sorted((second, partition) for partition, seconds in partitions.items() for second in seconds)
    assert [(arrival.ts - begin, arrival.partition) for arrival in arrivals] == expected


def test_each_partition_keeps_its_order_whatever_its_times_are(broker: services.KafkaBroker) -> None:
    partitions = {0: [50, 10, 60], 1: [20, 70], 2: [5, 5, 5]}
    begin = sent(broker, "back-in-time", partitions)
    arrivals = list(read_topic(settings(broker), "back-in-time"))
    assert [(arrival.partition, arrival.offset) for arrival in arrivals] == [
        *((2, 0), (2, 1), (2, 2)), (1, 0), *((0, 0), (0, 1), (0, 2)), (1, 1),
    ]  # fmt: skip
    assert [arrival.ts - begin for arrival in arrivals] == [5, 5, 5, 20, 50, 10, 60, 70]


def test_the_reading_ends_behind_transactions_that_were_aborted_and_at_the_end_of_its_start(
    broker: services.KafkaBroker,
) -> None:
    begin = sent(broker, "aborted", {0: [1, 4], 1: [2], 2: []})
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="aborting")
    producer.init_transactions()
    for partition in (0, 2):
        producer.begin_transaction()
        producer.send("aborted", b"never", partition=partition, timestamp_ms=begin + 3)
        producer.flush()
        producer.abort_transaction()
    producer.begin_transaction()
    producer.send("aborted", b"committed", partition=1, timestamp_ms=begin + 5)
    producer.commit_transaction()
    producer.close()
    arrivals = read_topic(settings(broker), "aborted")
    found = [next(arrivals)]
    send(broker, "aborted", [b"later"] * 20)
    found += arrivals
    assert [(arrival.partition, arrival.ts - begin) for arrival in found] == [(0, 1), (1, 2), (0, 4), (1, 5)]
