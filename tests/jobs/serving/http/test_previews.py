"""Previews by HTTP and by the page, over a real Kafka, with the local pipeline in place of the job."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import pytest
from kafka import KafkaConsumer, KafkaProducer
from riverrank.jobs.config.edges import KafkaSettings, RedisSettings, ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.http.backend import Busy
from riverrank.jobs.serving.page.service import Page
from riverrank.jobs.serving.previews import Previews
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json
from served import error, ids, put, slate_of
from shop_pipeline import PLAIN
from starlette.testclient import TestClient
from streams import wait_until
from valkey_server import Server

T0 = 1_764_000_000_000
HOSTILE = 'käse/"17'


def config_of(broker: KafkaBroker, name: str, previews: bool = True, **serve: object) -> Config:
    """Its own topics, which are made."""
    for stream in ("events", "items", "previews"):
        broker.create_topic(f"{name}-{stream}", 2)
    topics = {"events": f"{name}-events", "items": f"{name}-items"}
    kafka = KafkaSettings(  # type: ignore[call-arg]
        bootstrap=broker.bootstrap,
        slates="",
        dead_letters="",
        previews=f"{name}-previews" if previews else "",
        **topics,
    )
    return Config(kafka=kafka, serve=ServeSettings(**{"wait": 20_000, **serve}))  # type: ignore[arg-type]


class Job:
    """A pipeline that answers the previews among the events of a topic, after some records that are none."""

    def __init__(self, config: Config) -> None:
        self.slates: dict[str, bytes | None] = {}  # by user
        self.asked: list[Event] = []
        self.pipeline = Pipeline(PLAIN, {"previews": self._told})
        for k in range(30):
            self.pipeline.lessons.item(Item(f"i-{k}", 1, categories=(f"c{k % 3}",)))
        self.kafka, self.ending = config.kafka, threading.Event()
        self.thread = threading.Thread(target=self._run)

    @contextmanager
    def running(self) -> Iterator[None]:
        self.thread.start()
        try:
            yield
        finally:
            self.ending.set()
            self.thread.join(60)

    def _told(self, key: str, value: bytes | None) -> None:
        self.slates[key] = value

    def _run(self) -> None:
        arguments = self.kafka.python_arguments()
        consumer = KafkaConsumer(self.kafka.events, auto_offset_reset="earliest", **arguments)
        producer = KafkaProducer(**arguments)
        while not self.ending.is_set():
            for records in consumer.poll(100).values():
                for record in records:
                    event = decode_event(record.value)
                    assert isinstance(event, Event) and record.key == event.user_id.encode()
                    self.asked.append(event)
                    self.pipeline.take(event, Arrival(0, record.offset, 0, record.value))
                    other = slate_of("another", trigger=event.event_id)  # nobody's, though it names the event
                    for value in (b"\xff{", b"[]", b'{"trigger":1}', to_json(other), self.slates[event.user_id]):
                        producer.send(self.kafka.previews, value, event.user_id.encode())
                    producer.flush()
        consumer.close()
        producer.close()


@pytest.fixture(scope="module")
def config(broker: KafkaBroker) -> Config:
    return config_of(broker, "imagined")


@pytest.fixture(scope="module")
def server(server: Server) -> Server:
    put(server, "popular", slate_of("popular"))
    return server


def is_followed(client: TestClient) -> bool:
    return bool(client.app.state.backend._previews.ready and client.app.state.backend.readiness()["kafka"])  # type: ignore[attr-defined]


def test_the_job_is_asked_and_its_answer_is_found_among_those_of_others_by_each_of_many_services(
    config: Config,
) -> None:
    job = Job(config)
    for k in range(8):
        job.pipeline.take(Event(f"e{k}", "click", "u-17", T0 + k, f"i-{3 * k}"), Arrival(0, k, 0, None))
    users = dict(job.pipeline.users)
    with job.running(), TestClient(application(config)) as one, TestClient(application(config)) as other:
        wait_until(lambda: is_followed(one) and is_followed(other), 60)
        for client, user in ((one, "u-17"), (other, "u-17"), (other, HOSTILE)):
            found = client.get(f"/v1/previews/{user}", params={"item": "i-4", "n": 5, "exclude": "i-4"})
            slate = msgspec.json.decode(job.slates[user] or b"")
            assert ids(found) == [slot["item_id"] for slot in slate["items"] if slot["item_id"] != "i-4"][:5]
            assert (found.json()["trigger"], found.json()["version"]) == (slate["trigger"], 9 if user == "u-17" else 1)
    assert [(event.type, event.item_id) for event in job.asked] == 3 * [("preview", "i-4")]
    assert job.pipeline.users == users


def test_the_page_shows_what_a_click_would_change(config: Config, server: Server) -> None:
    config = msgspec.structs.replace(config, redis=RedisSettings(url=server.url))
    job = Job(config)
    with job.running(), Page(config) as page, TestClient(application(config, pages=page.routes)) as client:
        wait_until(lambda: is_followed(client), 60)
        shown = client.get("/preview", params={"user": "v", "item": "i-5"})
    assert shown.status_code == 200, shown.text
    assert (job.asked[-1].user_id, job.asked[-1].item_id) == ("v", "i-5")
    first = msgspec.json.decode(job.slates["v"] or b"")["items"][0]["item_id"]
    assert "i-5" in shown.text and first in shown.text


def test_where_no_job_answers_or_the_request_is_wrong_it_says_so(broker: KafkaBroker) -> None:
    config = config_of(broker, "unanswered", wait=300)
    with TestClient(application(config)) as client:
        wait_until(lambda: is_followed(client), 60)
        assert error(client.get("/v1/previews/u?item=i")) == (504, "no_answer", None)
        assert error(client.get("/v1/previews/u"))[:2] == (400, "bad_request")
        assert error(client.get("/v1/previews/u?item="))[0] == 400
    none = config_of(broker, "nowhere", previews=False)
    with TestClient(application(none)) as client:
        assert error(client.get("/v1/previews/u?item=i")) == (501, "not_configured", None)


def test_before_the_topic_is_followed_and_while_too_many_wait_nobody_is_asked(broker: KafkaBroker) -> None:
    config = config_of(broker, "early", requests=1)
    backend = application(config).state.backend
    with pytest.raises(Exception, match="can't be followed now"):
        asyncio.run(backend.preview("u", "i"))
    backend._previews.trouble = ""

    async def second() -> None:
        with backend._previews.expected("e", "u"):
            await backend.preview("u", "i")

    with pytest.raises(Busy):
        asyncio.run(second())
    assert len(backend._previews) == 0


def test_an_answer_that_comes_twice_or_after_who_waited_is_left() -> None:
    previews = Previews(KafkaSettings(bootstrap="127.0.0.1:1"), "previews", 100)
    previews.settle(to_json(slate_of("u", trigger="p")))

    async def wait() -> None:
        with previews.expected("p", "u") as answer:
            for _ in range(2):
                previews.settle(to_json(slate_of("u", trigger="p")))
            assert (await asyncio.wait_for(answer, 5)).slate_id == "u:42"
        previews.settle(to_json(slate_of("u", trigger="p")))
        await asyncio.sleep(0)

    asyncio.run(wait())
    previews.settle(to_json(slate_of("u", trigger="p")))
    assert len(previews) == 0
