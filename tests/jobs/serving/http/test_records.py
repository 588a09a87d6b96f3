"""Taking records by HTTP, to a real Kafka, and following the catalogue there."""

import json
import time
from contextlib import closing

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer
from riverrank.jobs.config.edges import KafkaSettings, RedisSettings, ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.http.catalogue import Catalogue
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from served import error, ids, put, slate_of
from starlette.testclient import TestClient
from streams import wait_until
from valkey_server import Server

EVENT = '{"event_id":"e-1","type":"click","user_id":"u-17","item_id":"i-3","ts":1764000000000,"page":7}'
BAD_EVENTS = [
    '{"event_id":"e","type":"click","user_id":"u","ts":1}',
    '{"event_id":"e","type":"dance","user_id":"u","ts":1}',
    '{"event_id":"e","type":"view","user_id":"","item_id":"i","ts":1}',
    '{"event_id":"e","type":"view","user_id":"u","item_id":"i","ts":"1"}',
    '{"event_id":"e","type":"view","user_id":"u","item_id":"\\u0000i","ts":1}',
    '{"event_id":"e","type":"rate","user_id":"u","item_id":"i","ts":1,"value":1e9}',
    '{"type":"view"}',
    "7",
    "null",
    "[]",
]
BAD_ITEMS = ['{"item_id":"i"}', '{"item_id":"","ts":1}', '{"item_id":"i","ts":1,"embedding":[1e9]}', '"i"']


@pytest.fixture(scope="module")
def server(server: Server) -> Server:
    put(server, "slate:u-17", slate_of("u-17"))
    return server


def config_of(broker: KafkaBroker, server: Server, name: str, **serve: object) -> Config:
    """Its own topics, which are made."""
    for stream in ("events", "items"):
        broker.create_topic(f"{name}-{stream}", 2)
    kafka = KafkaSettings(bootstrap=broker.bootstrap, events=f"{name}-events", items=f"{name}-items")
    settings = ServeSettings(**{"refresh": 1, **serve})  # type: ignore[arg-type]
    return Config(kafka=kafka, redis=RedisSettings(url=server.url), serve=settings)


def written(config: Config, topic: str) -> list[tuple[bytes, bytes]]:
    """Key and value of all that the topic holds."""
    reading = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 3_000}
    with closing(KafkaConsumer(topic, **config.kafka.python_arguments(), **reading)) as consumer:
        return [(record.key, record.value) for record in consumer]


def ready(client: TestClient) -> None:
    wait_until(lambda: client.get("/readyz").status_code == 200)


def test_records_are_checked_as_the_job_does_and_the_good_ones_are_in_kafka(
    broker: KafkaBroker, server: Server
) -> None:
    config = config_of(broker, server, "taken")
    other = '{"event_id":"e-2","type":"request","user_id":"käse 17","ts":1}'
    with TestClient(application(config)) as client:
        ready(client)
        one = client.post("/v1/events", content=EVENT)
        assert (one.status_code, one.json()) == (202, {"accepted": 1, "refused": []})
        some = client.post("/v1/events", content=f"[{','.join([other, *BAD_EVENTS, EVENT])}]".encode())
        assert some.status_code == 207
        assert some.json()["accepted"] == 2
        refused = some.json()["refused"]
        assert [each["index"] for each in refused] == list(range(1, len(BAD_EVENTS) + 1))
        for bad, each in zip(BAD_EVENTS, refused, strict=True):
            rejected = decode_event(bad.encode())
            assert isinstance(rejected, Reject)
            assert (each["reason"], each["detail"]) == (rejected.reason, rejected.detail)
        assert [each["field"] for each in refused[:4]] == ["item_id", "type", "user_id", "ts"]
        none = client.post("/v1/items", content=f"[{','.join(BAD_ITEMS)}]")
        assert none.status_code == 422 and none.json()["error"]["code"] == "none_accepted"
        for bad, each in zip(BAD_ITEMS, none.json()["refused"], strict=True):
            rejected = decode_item(bad.encode())
            assert isinstance(rejected, Reject) and each["detail"] == rejected.detail
        counts = client.get("/metrics").text
    assert 'riverrank_serve_records_total{outcome="accepted",stream="events"} 3.0' in counts
    assert 'riverrank_serve_records_total{outcome="bad_field",stream="events"}' in counts
    found = written(config, "taken-events")
    assert sorted(found) == sorted([(b"u-17", EVENT.encode())] * 2 + [("käse 17".encode(), other.encode())])
    assert written(config, "taken-items") == []


def test_an_event_of_the_future_is_ahead_as_for_the_job(broker: KafkaBroker, server: Server) -> None:
    event = {"event_id": "e", "type": "request", "user_id": "u", "ts": wall_ms() + 3_600_000}
    with TestClient(application(config_of(broker, server, "ahead"))) as client:
        ready(client)
        answer = client.post("/v1/events", json=event)
    assert answer.status_code == 422
    assert (answer.json()["refused"][0]["reason"], answer.json()["error"]["field"]) == ("ahead", "ts")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"  ", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b"[{", 400, "bad_request"),
        (b'[{"event_id":"\\ud800"}]', 400, "bad_request"),
        (b"[" * 100_000, 400, "bad_request"),
        (b"[" + b",".join([b"{}"] * 4) + b"]", 413, "too_large"),
    ],
)
def test_bodies_that_hold_no_records_are_refused(
    broker: KafkaBroker, server: Server, body: bytes, status: int, code: str
) -> None:
    kafka = KafkaSettings(bootstrap=broker.bootstrap, events="none-events", items="")
    config = Config(kafka=kafka, redis=RedisSettings(url=server.url), serve=ServeSettings(batch=3))
    with TestClient(application(config)) as client:
        answer = client.post("/v1/events", content=body)
        assert error(answer) == (status, code, None)
        assert error(client.post("/v1/items", content=b'{"item_id":"i","ts":1}')) == (501, "not_configured", None)


@pytest.mark.parametrize("body", [b"{", b"\xff", b'{"a":\xff}', b"{" * 100_000, b"nonsense"])
def test_a_body_that_is_one_bad_record_is_told_as_one(broker: KafkaBroker, server: Server, body: bytes) -> None:
    with TestClient(application(Config(kafka=KafkaSettings(bootstrap=broker.bootstrap)))) as client:
        answer = client.post("/v1/events", content=body)
        assert answer.status_code == 422
        rejected = decode_event(body)
        assert isinstance(rejected, Reject) and answer.json()["refused"][0]["reason"] == rejected.reason
        assert client.get("/v1/slates/u").status_code == 501  # no Redis is configured


def test_the_catalogue_follows_the_items_that_were_taken(broker: KafkaBroker, server: Server) -> None:
    config = config_of(broker, server, "followed")
    with closing(KafkaProducer(**config.kafka.python_arguments())) as producer:
        old = b'{"item_id":"i-1","ts":5,"title":"Light tent","categories":["tents"]}'
        producer.send("followed-items", key=b"i-1", value=old).get(10)
    with TestClient(application(config)) as client:
        ready(client)
        assert ids(client.get("/v1/slates/u-17?where=category:tents")) == ["i-1"]
        items = [
            {"item_id": "i-2", "ts": 5, "categories": ["tents"]},
            {"item_id": "i-1", "ts": 4, "categories": ["lamps"]},
            {"item_id": "i-4", "ts": 5, "available": False},
            {"item_id": "i-5", "ts": 5, "deleted": True},
        ]
        assert client.post("/v1/items", json=items).json() == {"accepted": 4, "refused": []}
        wait_until(lambda: ids(client.get("/v1/slates/u-17?where=category:tents")) == ["i-1", "i-2"])
        wait_until(lambda: ids(client.get("/v1/slates/u-17")) == ["i-1", "i-2", "i-3"])
        assert "riverrank_serve_catalogue_items 4.0" in client.get("/metrics").text
        with closing(KafkaProducer(**config.kafka.python_arguments())) as producer:
            producer.send("followed-items", key=b"i-2", value=None).get(10)
        wait_until(lambda: ids(client.get("/v1/slates/u-17")) == ["i-1", "i-3"])


def test_a_fault_that_nobody_names_does_not_end_the_catalogue(
    broker: KafkaBroker, server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    take = Catalogue.take

    def fail(catalogue: Catalogue, item: Item) -> None:
        if item.item_id == "i-1":
            raise ValueError("nobody names it")
        take(catalogue, item)

    monkeypatch.setattr(Catalogue, "take", fail)
    config = config_of(broker, server, "faulty")
    with TestClient(application(config)) as client:
        ready(client)
        for number in (1, 2):
            client.post("/v1/items", json={"item_id": f"i-{number}", "ts": 5, "available": False})
        wait_until(lambda: ids(client.get("/v1/slates/u-17"))[:2] == ["i-1", "i-3"])


def test_what_was_answered_is_logged_as_an_impression(broker: KafkaBroker, server: Server) -> None:
    config = config_of(broker, server, "logged")
    with TestClient(application(config)) as client:
        ready(client)
        said = client.get("/v1/slates/u-17?log=1&n=2&exclude=i-1").json()
        assert client.head("/v1/slates/u-17?log=1").status_code == 200
        assert "impression" not in client.get("/v1/slates/u-17?log=1&offset=99").json()
    ((key, value),) = written(config, "logged-events")
    event = decode_event(value)
    assert isinstance(event, Event) and key == b"u-17"
    assert (event.event_id, event.type, event.user_id) == (said["impression"], "impression", "u-17")
    assert (event.items, event.slate_id) == (("i-2", "i-3"), "u-17:42")
    assert abs(event.ts - wall_ms()) < 60_000


def test_a_kafka_that_is_away_is_a_503_in_bounded_time_and_comes_back(server: Server) -> None:
    with KafkaBroker() as broker:
        config = config_of(broker, server, "away", timeout=2_000)
        with TestClient(application(config)) as client:
            ready(client)
            assert client.post("/v1/events", content=EVENT).status_code == 202
            broker.kill()
            started = time.monotonic()
            answer = client.post("/v1/events", content=EVENT)
            assert error(answer) == (503, "kafka_away", None) and answer.headers["retry-after"] == "1"
            assert time.monotonic() - started < 20
            started = time.monotonic()
            assert [client.post("/v1/events", content=EVENT).status_code for _ in range(20)] == [503] * 20
            assert time.monotonic() - started < 20
            shown = client.get("/v1/slates/u-17?log=1")  # who reads still reads, and is told that nothing was logged
            assert ids(shown) and "impression" not in shown.json()
            assert client.get("/readyz").json()["kafka"] is False
            broker.start()
            wait_until(lambda: client.post("/v1/events", content=EVENT).status_code == 202)
            ready(client)
        assert {json.loads(value)["event_id"] for _, value in written(config, "away-events")} == {"e-1"}


def test_a_kafka_that_goes_is_known_without_anybody_writing(server: Server) -> None:
    with KafkaBroker() as own, TestClient(application(config_of(own, server, "idle", timeout=4_000))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        own.stop()
        wait_until(lambda: client.get("/readyz").json()["kafka"] is False, 60)


def test_a_kafka_that_was_never_there_does_not_keep_the_service_from_starting(server: Server) -> None:
    with redis.Redis(port=server.port) as client:
        assert client.ping()
    kafka = KafkaSettings(bootstrap="127.0.0.1:9")
    config = Config(kafka=kafka, redis=RedisSettings(url=server.url), serve=ServeSettings(timeout=1_000))
    started = time.monotonic()
    with TestClient(application(config)) as serving:
        assert error(serving.post("/v1/events", content=EVENT)) == (503, "kafka_away", None)
        assert ids(serving.get("/v1/slates/u-17"))
        assert error(serving.get("/v1/slates/u-17?where=category:tents")) == (503, "not_ready", "where")
    assert time.monotonic() - started < 20
