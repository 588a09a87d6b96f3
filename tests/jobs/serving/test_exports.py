"""What `export` promises, against a real broker and a real valkey-server; what the job tells is made by the local
pipeline.
"""

import io
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import ConfigResource, ConfigResourceType, KafkaAdminClient
from riverrank.jobs.config.edges import KafkaSettings, RedisSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.pipeline import Exported, Pipeline
from riverrank.jobs.serving import topics
from riverrank.jobs.serving.exports import NOT_TOLD, export
from riverrank.operators.cache.redis_cache import Cache, slate_key
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.messages import CacheWrite, Feedback
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from shop_pipeline import PLAIN
from valkey_server import free_port

ARRIVAL = Arrival(0, 0, 0, None)
USER = "käse\x1b[31m\u202e 17"


def config_of(broker: KafkaBroker, name: str, redis: str = "") -> Config:
    names = {stream: f"{name}-{stream}" for stream in ("events", "exports")}
    kafka = KafkaSettings(bootstrap=broker.bootstrap, items="", slates="", dead_letters="", receipts="", **names)  # type: ignore[call-arg]
    return Config(kafka=kafka, redis=RedisSettings(url=redis))


@contextmanager
def job(config: Config, pipeline: Pipeline) -> Iterator[list[Event]]:
    """Stands in for the job until the end of the context: answers the exports that come to the topic of events, after
    records that are none, the pieces in the wrong order and twice. The events that came.
    """
    came: list[Event] = []
    ends = threading.Event()

    def run() -> None:
        consumer = KafkaConsumer(
            config.kafka.events, bootstrap_servers=config.kafka.bootstrap, auto_offset_reset="earliest"
        )
        producer = KafkaProducer(bootstrap_servers=config.kafka.bootstrap)
        while not ends.is_set():
            for records in consumer.poll(100).values():
                for record in records:
                    event = decode_event(record.value)
                    assert isinstance(event, Event) and record.key == event.user_id.encode()
                    came.append(event)
                    for value in [b"junk", None, b'{"event_id":1}', *reversed(pieces(pipeline, event)), b"[]"]:
                        producer.send(config.kafka.exports, value, b"k")
                    producer.flush()
        consumer.close()
        producer.close()

    thread = threading.Thread(target=run)
    thread.start()
    yield came
    ends.set()
    thread.join()


def pieces(pipeline: Pipeline, event: Event) -> list[bytes]:
    found: list[bytes] = []
    for message in pipeline.messages(event, ARRIVAL):
        exported = pipeline.answer(message) if isinstance(message, Feedback) else message
        assert isinstance(exported, Exported)
        found += exported.pieces
    return found * 2


def told(*arguments: Any) -> dict[str, Any]:
    out = io.StringIO()
    export(*arguments, output=out)
    assert out.getvalue().replace("\n", "").isprintable()
    found: dict[str, Any] = json.loads(out.getvalue())
    return found


def test_without_kafka_the_event_is_written() -> None:
    out = io.StringIO()
    export(Config(), "käse 17", 1, output=out)
    event = decode_event(out.getvalue().encode())
    assert isinstance(event, Event) and (event.type, event.user_id) == ("export", "käse 17")


@pytest.mark.parametrize("user", ["", "x" * 257, "\ud800"])
def test_what_is_no_id_is_a_usage_error(user: str) -> None:
    with pytest.raises(UsageError, match="USER: "):
        export(Config(), user, 1, output=io.StringIO())


def test_where_there_is_no_broker_or_no_topic_that_is_a_usage_error() -> None:
    kafka = KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}", exports="exports")  # type: ignore[call-arg]
    with pytest.raises(UsageError, match=r"kafka\.bootstrap"):
        export(Config(kafka=kafka), "u", 1)
    with pytest.raises(UsageError, match=r"kafka\.exports: exports go to no topic"):
        export(Config(kafka=KafkaSettings(bootstrap=kafka.bootstrap)), "u", 1)  # type: ignore[call-arg]


def test_all_that_is_kept_is_one_json_object_that_is_safe_to_look_at(
    broker: KafkaBroker, valkey: Valkey, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_of(broker, "asked", valkey.url)
    topics.create(config, topics.found(config), 1, 1)
    pipeline = Pipeline(PLAIN, {"exports": lambda key, value: None})
    pipeline.take(Event("e", "click", USER, 1, "<b>\x9b2J"), ARRIVAL)
    Cache(valkey.url).write([CacheWrite(slate_key(USER), 0, 7, b'{"version":7,"items":[]}')])
    with job(config, pipeline) as came:
        whole = told(config, USER, 60)
        stranger = told(config, "nobody", 60)
    assert [(event.type, event.user_id) for event in came] == [("export", USER), ("export", "nobody")]
    assert whole["user_id"] == USER and whole["event_id"] == came[0].event_id
    kept = whole["kept"]
    assert list(kept) == ["sessions", "learner", "redis"]
    assert [row["item_id"] for row in kept["sessions"]["history"]] == ["<b>\x9b2J"]
    assert kept["learner"]["last_version"] == 1 and kept["redis"]["slate"]["version"] == 7
    assert [row["where"] for row in whole["not_told"]] == [row["where"] for row in NOT_TOLD] != []
    assert stranger["kept"] == {"sessions": {}, "learner": {}, "redis": {}}
    assert "nothing is kept of nobody" in capsys.readouterr().err


def test_a_job_that_does_not_answer_is_told_of_after_that_time(broker: KafkaBroker) -> None:
    config = config_of(broker, "silent")
    with pytest.raises(UsageError, match="the broker has no topic 'silent-exports'"):
        export(config, "u", 1, output=io.StringIO())
    topics.create(config, topics.found(config), 1, 1)
    out = io.StringIO()
    with pytest.raises(Failure, match=r"did not tell all that it keeps of u within 1 s \(nothing of it came\)"):
        export(config, "u", 1, output=out)
    assert out.getvalue() == ""


def test_the_topic_of_exports_is_made_to_keep_them_for_a_day_and_is_not_compacted(broker: KafkaBroker) -> None:
    config = config_of(broker, "kept")
    topics.create(config, topics.found(config), 2, 1)
    assert {topic.stream: topic.partitions for topic in topics.found(config)} == {"events": 2, "exports": 2}
    with KafkaAdminClient(bootstrap_servers=broker.bootstrap) as admin:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, "kept-exports")], config_filter="all")
    (settings,) = (of_one for of_kind in found.values() for of_one in of_kind.values())
    day = str(86_400_000)
    wanted = {"cleanup.policy": "delete", "retention.ms": day, "segment.ms": day}
    assert {name: settings[name]["value"] for name in wanted} == wanted
