"""The clients of `docs/serve.md`, as they stand there, on a service with a real Valkey and a real Kafka."""

import json
import os
import signal
import time
from collections.abc import Iterator

import httpx2
import pytest
from clients import BUILDERS, Client, NotTaken, built
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.processes import free_port
from served import Service, put, serving, slate_of
from streams import received, wait_until
from valkey_server import Server

HOSTILE = ["a/b", "a%2Fb", "../popular", "u?n=1#y", "ключ 😀", '\x1b[31m\x00\r\n"\\\b', "<script>&amp;", " +*~"]
FOLDERS = [".", ".."]  # what a browser's way to read an address makes of these names
ITEMS = ["i-1", '"},{"item_id":"forged', "\\u0041\\", "\x00\t\x1f", "</script>", "ключ 😀", "[{"]
SLACK_SECONDS = 10  # of a busy machine, beside what the same took before
CONFIG = "[kafka]\nevents = 'clients-events'\nitems = 'clients-items'\n[serve]\nrefresh = '1ms'\nwait = '3s'\n"
pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="module")
def service(server: Server, broker: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """On a port that stays its own when it is ended and started again."""
    for topic in ("events", "items"):
        broker.create_topic(f"clients-{topic}")
    flags = ("--port", str(free_port()), "--redis", server.url, "--kafka", broker.bootstrap)
    with serving(tmp_path_factory.mktemp("clients"), *flags, config=CONFIG) as running:
        wait_until(lambda: is_ready(running))
        yield running


@pytest.fixture(scope="module", params=[*BUILDERS])
def client(
    request: pytest.FixtureRequest, service: Service, go_cache: None, tmp_path_factory: pytest.TempPathFactory
) -> Client:
    return built(request.param, tmp_path_factory.mktemp(request.param), service.url)


def test_a_client_shows_the_users_slate_else_the_popular_one_and_takes_ids_as_they_are(
    client: Client, server: Server
) -> None:
    put(server, "slate:u-17", slate_of("u-17", ITEMS))
    put(server, "popular", slate_of("popular", ("p", "q")))
    assert client.items_for("u-17") == ITEMS
    assert client.items_for("u-17", 2) == ITEMS[:2]
    assert client.items_for("u-18") == ["p", "q"]
    refuses = FOLDERS if client.language == "js" else []
    for user in [user for user in HOSTILE + FOLDERS if user not in refuses]:
        put(server, f"slate:{user}", slate_of(user, (user, "b")))
        assert client.items_for(user) == [user, "b"], user
    for user in ["u" * 257, "", *refuses]:
        assert client.items_for(user, tries=1) == [], user


def test_a_client_writes_the_click_that_was_given_and_reads_what_answers_it(
    client: Client, server: Server, broker: KafkaBroker
) -> None:
    for number, named in enumerate(HOSTILE):
        event_id = f"{client.language} {named}"
        put(server, f"slate:{named}", slate_of(named, (f"after-{number}",), trigger=event_id))
        before = time.time_ns() // 1_000_000
        assert client.items_after_click(event_id, named, f"i {named}") == [f"after-{number}"]
        key, value = received(broker, "clients-events")[-1]
        event = json.loads(value)
        assert key == named.encode() and before <= event.pop("ts") <= time.time_ns() // 1_000_000
        assert event == {"event_id": event_id, "type": "click", "user_id": named, "item_id": f"i {named}"}
    with pytest.raises(NotTaken):
        client.items_after_click("e" * 257, "u", "i")


def test_a_client_never_waits_long_and_shows_nothing_where_the_service_hangs_or_is_away(
    client: Client, server: Server, service: Service
) -> None:
    put(server, "slate:u-17", slate_of("u-17", ITEMS))

    def seconds(expected: list[str]) -> float:
        began = time.monotonic()
        assert client.items_for("u-17", tries=20 if expected else 1) == expected
        return time.monotonic() - began

    usual = seconds(ITEMS)  # the start of the program is in it
    assert service.process.pid is not None
    os.kill(service.process.pid, signal.SIGSTOP)
    try:
        assert seconds([]) < usual + SLACK_SECONDS
    finally:
        os.kill(service.process.pid, signal.SIGCONT)
    service.process.stop()
    try:
        assert seconds([]) < usual + SLACK_SECONDS
        with pytest.raises(NotTaken):
            client.items_after_click("e-1", "u-17", "i-1")
    finally:
        service.process.start()
        wait_until(lambda: is_ready(service))
    assert client.items_for("u-17") == ITEMS


def is_ready(service: Service) -> bool:
    """Whether it can do all that it does."""
    try:
        return httpx2.get(f"{service.url}/readyz").status_code == 200
    except httpx2.TransportError:
        return False
