"""The topics that a configuration names: which there are, and making those that are missing."""

from collections.abc import Iterable

import msgspec
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.preflight import BROKER_TIMEOUT_MS, broker_errors
from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import UsageError
from riverrank.state.outputs import OUTPUTS

COMPACTED = ("items",)  # of an item the newest record is all that counts; slates are a log, and are erased by age


class Topic(msgspec.Struct, frozen=True):
    """A topic of the configuration: the stream that it carries, its name, and its partitions, 0 where it is missing."""

    stream: str
    name: str
    partitions: int


def found(config: Config) -> list[Topic]:
    """Those topics as the broker has them. Raises `UsageError` where no broker answers."""
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415  slow to import

    names = topics_of(config)
    with broker_errors(config.kafka), KafkaAdminClient(**_arguments(config.kafka)) as admin:
        there = set(admin.list_topics())
        told = admin.describe_topics(sorted(there.intersection(names.values())))
    partitions = {topic["name"]: len(topic["partitions"]) for topic in told}
    return [Topic(stream, name, partitions.get(name, 0)) for stream, name in names.items()]


def create(config: Config, missing: Iterable[Topic], partitions: int, replication: int) -> None:
    """Make topics: items compacted, the others kept as long as their output says, or the broker by itself.

    Raises UsageError where the broker does not make them, with what it says.
    """
    from kafka.admin import KafkaAdminClient  # noqa: PLC0415  as above
    from kafka.errors import BrokerResponseError  # noqa: PLC0415

    wanted = {
        topic.name: {
            "num_partitions": partitions,
            "replication_factor": replication,
            "configs": _settings_of(topic.stream),
        }
        for topic in missing
    }
    with broker_errors(config.kafka), KafkaAdminClient(**_arguments(config.kafka)) as admin:
        try:
            admin.create_topics(wanted, wait_for_metadata=True)
        except BrokerResponseError as error:
            raise UsageError(f"topics: {config.kafka.bootstrap} does not make {', '.join(wanted)}: {error}") from error


def _settings_of(stream: str) -> dict[str, str]:
    """What a topic is made with beside the broker's defaults."""
    if stream in COMPACTED:
        return {"cleanup.policy": "compact"}
    retention = OUTPUTS[stream].retention_ms if stream in OUTPUTS else 0
    # A record goes with its segment, so that must not stay open for longer.
    kept = {"retention.ms": str(retention), "segment.ms": str(retention)}
    return {"cleanup.policy": "delete", **kept} if retention else {}


def _arguments(kafka: KafkaSettings) -> dict[str, object]:
    return {**kafka.python_arguments(), "bootstrap_timeout_ms": BROKER_TIMEOUT_MS}
