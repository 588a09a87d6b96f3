"""What the page promises on the service itself: a click becomes an event on the topic and waits for its slate,
behind the service's own guard, over a real Kafka and a real Valkey.
"""

import re
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer
from page_world import slate_of
from riverrank.jobs.config.schema import Config, load
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.processes import OwnedProcess
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.page.service import Page
from riverrank.operators.cache.redis_cache import POPULAR, Cache, slate_key
from riverrank.state.messages import CacheWrite
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json
from starlette.testclient import TestClient
from streams import wait_until

KEY = "0123456789abcdef0123456789abcdef"
OWN = {"origin": "http://testserver", "sec-fetch-site": "same-origin"}
TITLES = {"i-1": "Tarn warm boots", "i-2": "Isbre old tents", "i-3": "Hylde bright boots"}


@pytest.fixture(scope="module")
def config(broker: KafkaBroker, page_valkey: Valkey, tmp_path_factory: pytest.TempPathFactory) -> Config:
    for topic in ("page-events", "page-items", "page-slates", "page-dead"):
        broker.create_topic(topic)
    folder = tmp_path_factory.mktemp("page")
    (folder / "keys").write_text(KEY)
    (folder / "c.toml").write_text(f"""
[kafka]
bootstrap = "{broker.bootstrap}"
events = "page-events"
items = "page-items"
slates = "page-slates"
dead_letters = "page-dead"
[redis]
url = "{page_valkey.url}"
[serve]
keys_file = "{folder / "keys"}"
wait = "20s"
timeout = "20s"
""")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for item_id, title in TITLES.items():
        producer.send("page-items", value=to_json(Item(item_id, 1, title=title)), key=item_id.encode())
    producer.flush(30)
    producer.close()
    put(page_valkey.url, POPULAR, slate_of("popular", 3, ["i-2", "i-1"]))
    return load(folder / "c.toml")


def put(url: str, key: str, slate: object) -> None:
    assert Cache(url).write([CacheWrite(key, 0, getattr(slate, "version", 0), to_json(slate))]) == {key}


@pytest.fixture(scope="module")
def client(config: Config) -> Iterator[TestClient]:
    with Page(config) as page, TestClient(application(config, pages=page.routes), follow_redirects=False) as made:
        wait_until(lambda: made.get("/readyz").status_code == 200, 60)
        yield made


def test_a_key_is_asked_for_by_a_form_and_operations_ask_as_before(client: TestClient) -> None:
    assert client.get("/v1/popular").status_code == 401
    assert client.get("/").headers["location"] == "/sign-in"
    assert client.post("/sign-in", data={"key": "no"}, headers=OWN).status_code == 401
    assert client.post("/sign-in", data={"key": KEY}, headers=OWN).status_code == 303
    assert client.get("/").status_code == 200
    assert client.get("/v1/popular").status_code == 401, "the cookie is for the page alone"
    assert client.get("/nowhere").status_code == 401


def test_a_click_on_the_page_is_an_event_and_its_slate_is_waited_for(
    client: TestClient, config: Config, broker: KafkaBroker
) -> None:
    client.post("/sign-in", data={"key": KEY}, headers=OWN)
    text = client.get("/customer?id=anna&q=boots").text
    assert "popular slate" in text and "Isbre old tents" in text and "2 found" in text
    sent: list[Event] = []
    job = threading.Thread(target=answer_one, args=(config, broker, sent))
    job.start()
    try:
        there = client.post("/customer?id=anna&item=i-1&slate=popular%3A3", data={"type": "click"}, headers=OWN)
    finally:
        job.join(60)
    assert [(each.type, each.user_id, each.item_id, each.slate_id) for each in sent] == [
        ("click", "anna", "i-1", "popular:3")
    ]
    after = client.get(there.headers["location"]).text
    assert "After your click on <bdi>Tarn warm boots</bdi>" in after
    assert "1 came in, 0 moved up, 0 moved down, 1 left, 1 stayed." in after
    assert re.search(r"because you clicked Tarn warm boots \+\d", after)

    def is_history() -> bool:
        return "Tarn warm boots" in client.get("/user?id=anna").text.partition("History")[2]

    wait_until(is_history, 60)


def answer_one(config: Config, broker: KafkaBroker, sent: list[Event]) -> None:
    """What the job does with one event."""
    arguments = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 40_000}
    consumer = KafkaConsumer("page-events", bootstrap_servers=broker.bootstrap, **arguments)
    made = decode_event(next(iter(consumer)).value)
    consumer.close()
    assert isinstance(made, Event)
    sent.append(made)
    time.sleep(0.5)
    put(config.redis.url, slate_key(made.user_id), slate_of(made.user_id, 1, ["i-3", "i-1"], made.event_id))


def test_the_command_serves_the_page(page_valkey: Valkey, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "riverrank.jobs.cli", "serve", "--redis", page_valkey.url, "--port", "0"]
    process = OwnedProcess("serve", command, tmp_path / "serve.log")
    process.start()
    try:
        process.wait_until(lambda: "serving on" in process.log.read_text("utf-8"), 120)
        found = re.search(r"serving on (\S+)", process.log.read_text("utf-8"))
        assert found
        with urllib.request.urlopen(found[1], timeout=20) as answer:
            assert "No Kafka is configured" in answer.read().decode()
    finally:
        process.stop()
