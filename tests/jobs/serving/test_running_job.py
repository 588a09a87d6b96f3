"""The service beside a running job: what it takes is answered, its clients read that, and Redis goes and comes."""

import itertools
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import quote

import httpx2
import msgspec
import pytest
import schemathesis
from clients import BUILDERS, built
from documented import statuses_of
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.processes import OwnedProcess
from riverrank.jobs.serving.http.operations import OPERATIONS
from riverrank.jobs.serving.http.routing import Operation
from riverrank.state.records.outgoing import Slate
from served import Service, serving
from streams import Record, received, topics, wait_until

KINDS, ITEMS, USERS = 4, 24, 40
NAMES = [f"i{number}" for number in range(ITEMS)]
CATALOGUE = [
    {"item_id": name, "ts": 1, "title": f"Item {name}", "categories": [f"c{number % KINDS}"]}
    for number, name in enumerate(NAMES)
]
BATCH = 20  # records that are sent at once
EXAMPLES = 20  # an operation
CALLERS = 8
START_SECONDS = 600  # of the job, on a busy machine
ATTEMPTS = 5  # to read two answers: a busy machine may be late
HOSTILE = '../\n"ключ"?<b>'
PREVIEWS = "running-previews"
SETTINGS = (
    f'previews = "{PREVIEWS}"',
    "[cache]",
    "lists = 5.0",
    'popular_every = "1s"',
    "[serve]",
    f"batch = {BATCH}",
    'timeout = "30s"',
)
pytestmark = pytest.mark.timeout(1800)
_numbers = itertools.count()
_slate = msgspec.json.Decoder(Slate)


class Shop(NamedTuple):
    """A job, and a service beside it."""

    service: Service
    job: OwnedProcess
    broker: KafkaBroker
    valkey: Valkey
    config: str

    def get(self, path: str, **parameters: Any) -> httpx2.Response:
        """What the service answers."""
        return httpx2.get(f"{self.service.url}{path}", params=parameters, timeout=60)

    def post(self, stream: str, records: Sequence[Record]) -> httpx2.Response:
        """What it says of such records."""
        return httpx2.post(f"{self.service.url}/v1/{stream}", json=records, timeout=60)

    def browse(self, count: int) -> list[Record]:
        """Clicks by users who each keep to one kind of items, which the service takes."""
        events = [click(f"u{k % USERS}", NAMES[k // USERS * KINDS % ITEMS + k % KINDS]) for k in some(count)]
        for batch in (events[first : first + BATCH] for first in range(0, count, BATCH)):
            answer = self.post("events", batch)
            assert (answer.status_code, answer.json()) == (202, {"accepted": len(batch), "refused": []})
        return events

    def slates(self) -> list[Slate]:
        """All that the topic holds."""
        found = received(self.broker, "running-slates")
        assert all(key == _slate.decode(value).user_id.encode() for key, value in found if value)
        return [_slate.decode(value) for _, value in found if value]

    def answers_to(self, events: Sequence[Record]) -> dict[str, list[Slate]]:
        """By event, in their order, the slates that answer it, once each has one."""
        by_trigger: dict[str, list[Slate]] = {event["event_id"]: [] for event in events}
        wait_until(lambda: by_trigger.keys() <= {slate.trigger for slate in self.slates()})
        for slate in self.slates():
            by_trigger.get(slate.trigger, []).append(slate)
        return by_trigger


def some(count: int) -> list[int]:
    """The next numbers."""
    return list(itertools.islice(_numbers, count))


def click(user: str, item: str) -> Record:
    """Such an event, of now."""
    (number,) = some(1)
    now = time.time_ns() // 1_000_000
    return {"event_id": f"running-{number}", "type": "click", "user_id": user, "item_id": item, "ts": now}


def ids(answer: httpx2.Response) -> list[str]:
    """What is on a slate or a list; nothing on one that is not there."""
    assert answer.status_code in (200, 404), answer.text
    return [place["item_id"] for place in answer.json().get("items", [])]


def logged(process: OwnedProcess) -> str:
    """All that it wrote."""
    return process.log.read_text("utf-8") if process.log.exists() else ""


@pytest.fixture(scope="module")
def shop(broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("running")
    config = topics(broker, folder, "running", *SETTINGS)
    broker.create_topic(PREVIEWS)
    with Valkey() as valkey:
        flags = ("--kafka", broker.bootstrap, "--redis", valkey.url)
        command = [sys.executable, "-m", "riverrank.jobs.cli", "run", "--config", str(config), *flags]
        job = OwnedProcess("run", command, folder / "run.log")
        job.start()
        try:
            settings = config.read_text("utf-8")
            with serving(folder, *flags, config=f"{settings}\nwait = '4s'") as service:
                running = Shop(service, job, broker, valkey, settings)
                job.wait_until(lambda: "running; " in logged(job), START_SECONDS)
                wait_until(lambda: running.get("/readyz").status_code == 200)
                for half in (CATALOGUE[::2], CATALOGUE[1::2]):
                    assert running.post("items", half).json() == {"accepted": len(half), "refused": []}
                yield running
                for process in (job, service.process):
                    assert process.ending is None and "Traceback" not in logged(process), logged(process)[-2000:]
        finally:
            job.stop()


def test_what_the_service_takes_is_answered_once_each_in_the_order_of_its_user(shop: Shop) -> None:
    events = shop.browse(3 * USERS)
    answers = shop.answers_to(events)
    assert {len(slates) for slates in answers.values()} == {1}
    for user in {event["user_id"] for event in events}:
        own = [answers[event["event_id"]][0] for event in events if event["user_id"] == user]
        assert {slate.user_id for slate in own} == {user}
        assert [slate.version for slate in own] == [*range(own[0].version, own[0].version + 3)]


def test_an_event_that_is_sent_again_is_answered_once(shop: Shop) -> None:
    again = click("u-again", "i1")
    for _ in range(2):
        assert shop.post("events", [again, again]).json()["accepted"] == 2
    last = click("u-again", "i2")
    assert shop.post("events", [last]).status_code == 202
    answers = shop.answers_to([again, last])
    assert [(slate.trigger, slate.version) for slates in answers.values() for slate in slates] == [
        (event["event_id"], version) for version, event in enumerate((again, last), start=1)
    ]


def test_lists_of_items_appear(shop: Shop) -> None:
    paths = [f"/v1/{name}/{item}" for name in ("similar", "together") for item in NAMES[:KINDS]]

    def have_come() -> bool:
        shop.browse(2 * BATCH)  # lists are made when events are answered
        return all(ids(shop.get(path)) for path in [*paths, "/v1/trending", "/v1/popular"])

    wait_until(have_come, every=1)
    for path in paths:
        about, found = path.rpartition("/")[2], ids(shop.get(path))
        assert set(found) <= set(NAMES) - {about}
        kinds = {NAMES.index(item) % KINDS for item in found}
        assert NAMES.index(about) % KINDS in kinds, "of those who took it, and of what is like it"
    assert set(ids(shop.get("/v1/trending", n=5))) <= set(NAMES)


@pytest.mark.parametrize("language", BUILDERS)
def test_a_client_reads_the_slate_that_answers_its_click(
    shop: Shop, language: str, go_cache: None, tmp_path: Path
) -> None:
    client, user = built(language, tmp_path, shop.service.url), f"{HOSTILE} {language}"
    read: list[list[str]] = []
    for attempt in range(1, 1 + ATTEMPTS):
        event = click(user, f"i{attempt}")
        shown = client.items_after_click(event["event_id"], user, event["item_id"], 5)
        ((slate,),) = shop.answers_to([event]).values()
        assert (slate.user_id, slate.version) == (user, attempt)
        if shown == [slot.item_id for slot in slate.items][:5]:
            read.append(shown)
            assert client.items_for(user, 5) == shown
        if len(read) == 2:
            break
    assert len(read) == 2 and read[0] != read[1] and min(map(len, read)) == 5


@pytest.fixture(scope="module")
def document(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    """That of another service beside the same job, which waits for no slate that never comes."""
    folder, flags = tmp_path_factory.mktemp("another"), ("--kafka", shop.broker.bootstrap, "--redis", shop.valkey.url)
    with serving(folder, *flags, config=f"{shop.config}\nwait = '50ms'") as service:
        wait_until(lambda: httpx2.get(f"{service.url}/readyz").status_code == 200)
        yield schemathesis.openapi.from_url(f"{service.url}/openapi.json")
        assert "Traceback" not in logged(service.process), logged(service.process)[-2000:]


@pytest.mark.parametrize("mode", schemathesis.GenerationMode, ids=lambda mode: str(mode.value))
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: str(operation.name))
def test_no_answer_is_a_fault_or_against_the_document(
    shop: Shop, document: schemathesis.BaseSchema, operation: Operation[Any], mode: schemathesis.GenerationMode
) -> None:
    if operation.name == "preview":  # which has to be waited for
        document = schemathesis.openapi.from_url(f"{shop.service.url}/openapi.json")
    statuses = statuses_of(document, operation, mode, EXAMPLES, has_job=True)
    if operation.body and mode is schemathesis.GenerationMode.POSITIVE:
        assert statuses & {202, 207}, "nothing of it came to the job"


def test_the_job_goes_on_after_all_that(shop: Shop) -> None:
    events = shop.browse(BATCH)
    assert {len(slates) for slates in shop.answers_to(events).values()} == {1}


def test_while_redis_goes_and_comes_nothing_but_200_202_and_503_is_answered(shop: Shop) -> None:
    heard, over = Counter[int | str](), threading.Event()
    paths = [f"/v1/slates/{quote('u-again')}", "/v1/slates/nobody", "/v1/popular", "/v1/trending", "/v1/similar/i1"]
    assert {shop.get(path).status_code for path in paths} == {200}

    def call(caller: int) -> None:
        for number in itertools.count(caller):
            if over.is_set():
                return
            try:
                if number % 10:
                    answer = shop.get(paths[number % len(paths)])
                else:
                    answer = shop.post("events", [click(f"u{caller}", "i1")])
            except httpx2.TransportError as error:
                heard[type(error).__name__] += 1
            else:
                is_stale = answer.status_code == 200 and answer.json().get("stale")
                heard["stale" if is_stale else answer.status_code] += 1

    callers = [threading.Thread(target=call, args=(caller,)) for caller in range(CALLERS)]
    for each in callers:
        each.start()
    try:
        wait_until(lambda: heard[200] > 5 * CALLERS and heard[202] > 0)
        shop.valkey.stop()
        wait_until(lambda: heard["stale"] > CALLERS and heard[503] > CALLERS)
        taken = heard[202]
        wait_until(lambda: heard[202] > taken)
        shop.valkey.start()
        found = heard[200]
        wait_until(lambda: heard[200] > found + 5 * CALLERS)
    finally:
        over.set()
        for each in callers:
            each.join()
    assert set(heard) == {200, 202, 503, "stale"}

    def is_answered() -> bool:
        event = click("u-again", "i3")
        assert shop.post("events", [event]).status_code == 202
        return shop.get("/v1/slates/u-again", after=event["event_id"]).json()["answered"] is True

    wait_until(is_answered)
