"""What `replay` does where a broker goes away in the middle, or does not take what is written: it says so, and ends."""

from collections.abc import Iterator

import pytest
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
