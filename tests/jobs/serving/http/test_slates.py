"""Reading slates and lists by HTTP, from a real Valkey."""

import asyncio
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import redis
from riverrank.jobs.config.edges import CacheSettings, FileSettings, RedisSettings, ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.http.backend import Backend, Wanted
from riverrank.operators.experiment import ExperimentSettings
from riverrank.operators.settings import Behaviour, SlateSettings
from riverrank.state.hashing import pseudonym
from served import ITEMS, error, ids, list_of, put, slate_of
from starlette.testclient import TestClient
from streams import wait_until
from valkey_server import Server

GOODS = """\
{"item_id":"i-1","ts":1,"title":"Light tent","categories":["tents"],"attributes":{"brand":"Isbre","price":199}}
{"item_id":"i-2","ts":1,"title":"Small stove","categories":["stoves"],"attributes":{"brand":"Isbre"}}
{"item_id":"i-3","ts":1,"title":"Old tent","categories":["tents"],"available":false}
{"item_id":"i-4","ts":1,"categories":["tents"],"attributes":{"brand":["Tarn","Isbre"],"sale":true}}
"""


@pytest.fixture(autouse=True)
def fresh(server: Server) -> None:
    redis.Redis(port=server.port).flushall()
    put(server, "slate:u-17", slate_of("u-17"))


def config_of(server: Server, items: str = "", **serve: object) -> Config:
    settings = ServeSettings(**{"refresh": 1, **serve})  # type: ignore[arg-type]
    return Config(redis=RedisSettings(url=server.url), serve=settings, files=FileSettings(items=items))


@pytest.fixture
def client(server: Server) -> Iterator[TestClient]:
    with TestClient(application(config_of(server))) as running:
        yield running


def test_a_slate_is_what_redis_holds(client: TestClient) -> None:
    answer = client.get("/v1/slates/u-17")
    assert ids(answer) == list(ITEMS)
    said = answer.json()
    assert (said["slate_id"], said["version"], said["trigger"]) == ("u-17:42", 42, "e-1")
    assert "fallback" not in said and "stale" not in said
    assert said["items"][0]["propensity"] == 0.5 and said["items"][0]["reasons"] == [{"code": "popular"}]


def test_who_has_none_gets_the_popular_slate_which_is_said(client: TestClient, server: Server) -> None:
    assert error(client.get("/v1/slates/u-18")) == (404, "not_found", None)
    put(server, "popular", slate_of("popular", ("i-9",)))
    time.sleep(0.01)
    answer = client.get("/v1/slates/u-18")
    assert ids(answer) == ["i-9"] and answer.json()["fallback"] == "popular"
    assert ids(client.get("/v1/popular")) == ["i-9"]


def test_what_is_gone_or_excluded_is_left_out_and_pages_go_on_from_there(client: TestClient, server: Server) -> None:
    redis.Redis(port=server.port).sadd("rr:gone", "i-2")
    assert ids(client.get("/v1/slates/u-17")) == ["i-1", "i-3", "i-4", "i-5"]
    assert ids(client.get("/v1/slates/u-17?exclude=i-1&exclude=i-4")) == ["i-3", "i-5"]
    assert ids(client.get("/v1/slates/u-17?n=2")) == ["i-1", "i-3"]
    assert ids(client.get("/v1/slates/u-17?n=2&offset=2")) == ["i-4", "i-5"]
    assert ids(client.get("/v1/slates/u-17?offset=9")) == []


def test_a_deeper_slate_has_further_pages_and_the_first_is_that_of_the_arm(server: Server) -> None:
    arms = ExperimentSettings(arms={"short": {"share": 0.5, "slate.size": 1}})
    behaviour = Behaviour(slate=SlateSettings(size=2), experiment=arms)
    config = msgspec.structs.replace(config_of(server), behaviour=behaviour, cache=CacheSettings(depth=5))
    put(server, "slate:u-18", msgspec.structs.replace(slate_of("u-18"), arm="short"))
    with TestClient(application(config)) as client:
        pages = [ids(client.get(f"/v1/slates/u-17{query}")) for query in ("", "?offset=2", "?n=2&offset=4", "?n=9")]
        assert pages == [["i-1", "i-2"], ["i-3", "i-4"], ["i-5"], [*ITEMS]]
        assert ids(client.get("/v1/slates/u-18")) == ["i-1"]


def test_items_are_filtered_by_what_the_catalogue_says(server: Server, tmp_path: Path) -> None:
    (tmp_path / "items.jsonl").write_text(GOODS)
    put(server, "popular", slate_of("popular"))
    with TestClient(application(config_of(server, str(tmp_path / "items.jsonl")))) as client:
        wait_until(lambda: client.get("/readyz").status_code == 200)
        assert ids(client.get("/v1/slates/u-17")) == ["i-1", "i-2", "i-4", "i-5"]  # i-3 is out of stock
        assert ids(client.get("/v1/slates/u-17?where=category:tents")) == ["i-1", "i-4"]
        assert ids(client.get("/v1/slates/u-17?where=brand:Isbre")) == ["i-1", "i-2", "i-4"]
        assert ids(client.get("/v1/slates/u-17?where=category:tents&where=sale:true")) == ["i-4"]
        assert ids(client.get("/v1/popular?where=price:199")) == ["i-1"]
        assert error(client.get("/v1/slates/u-17?where=tents")) == (400, "bad_request", "where")


def test_where_without_a_catalogue_says_what_to_configure(client: TestClient) -> None:
    assert error(client.get("/v1/slates/u-17?where=category:tents")) == (501, "not_configured", None)


def test_a_read_waits_for_the_slate_that_answers_its_own_click(server: Server) -> None:
    newer = slate_of("u-17", version=43, trigger="e-2")
    with TestClient(application(config_of(server, wait=30_000))) as client:
        assert client.get("/v1/slates/u-17?after=e-1").json()["answered"] is True
        timer = threading.Timer(0.3, put, (server, "slate:u-17", newer))
        started = time.monotonic()
        timer.start()
        said = client.get("/v1/slates/u-17?after=e-2").json()
        assert (said["version"], said["answered"]) == (43, True)
        assert 0.3 <= time.monotonic() - started < 20
        timer.join()


def test_a_wait_is_bounded_and_says_that_it_was_for_nothing(server: Server) -> None:
    with TestClient(application(config_of(server, wait=200))) as client:
        started = time.monotonic()
        said = client.get("/v1/slates/u-17?after=e-9").json()
        assert (said["version"], said["answered"]) == (42, False)
        assert 0.2 <= time.monotonic() - started < 10


@pytest.mark.parametrize(
    "user",
    ["a/b", "a%2Fb", "..", "ключ", "\x1b[31m\x00", "a\r\nb\n", "<script>", "u?x=1#y", " ", "a//", "ü" * 128],
)
def test_ids_of_any_bytes_are_read_as_they_are(client: TestClient, server: Server, user: str) -> None:
    put(server, f"slate:{user}", slate_of(user, ("i-7",)))
    answer = client.get(f"/v1/slates/{quote(user, safe='').replace('.', '%2E')}")
    assert ids(answer) == ["i-7"] and answer.json()["user_id"] == user


@pytest.mark.parametrize("path", ["/v1/slates/", "/v1/slates/%FF", "/v1/slates/" + "x" * 257])
def test_what_is_no_id_is_refused(client: TestClient, path: str) -> None:
    assert error(client.get(path)) == (400, "bad_request", "user")


@pytest.mark.parametrize("name", ["similar", "together"])
def test_lists_about_an_item(client: TestClient, server: Server, name: str) -> None:
    assert error(client.get(f"/v1/{name}/i-9")) == (404, "not_found", None)
    put(server, f"{name}:i-9", list_of(name, "i-9"))
    answer = client.get(f"/v1/{name}/i-9?n=2&offset=1&exclude=i-2")
    assert ids(answer) == ["i-3", "i-4"]
    assert (answer.json()["item_id"], answer.json()["version"]) == ("i-9", 7)


def test_what_trends(client: TestClient, server: Server) -> None:
    put(server, "trending", list_of("trending", None))
    redis.Redis(port=server.port).sadd("rr:gone", "i-1")
    time.sleep(0.01)
    assert ids(client.get("/v1/trending?n=2")) == ["i-2", "i-3"]


def test_what_is_no_list_and_no_slate_is_told(
    client: TestClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    put(server, "slate:u-19", b'{"slate_id":7}')
    put(server, "popular", slate_of("popular"))
    assert client.get("/v1/slates/u-19").json()["fallback"] == "popular"
    assert f"slate:{pseudonym('u-19', b'')} is not what it should be" in caplog.text and "u-19" not in caplog.text
    put(server, "trending", b"[]")
    assert error(client.get("/v1/trending")) == (502, "bad_record", None)
    assert len(caplog.records) == 1, "the next line is a minute away"
    assert "riverrank_serve_unreadable_total 2.0" in client.get("/metrics").text


def test_who_waits_for_an_answer_is_counted_once_and_the_popular_slate_is_none(server: Server) -> None:
    put(server, "popular", slate_of("popular"))
    with TestClient(application(config_of(server, wait=120))) as client:
        trigger = client.get("/v1/popular").json()["trigger"]
        said = client.get("/v1/slates/u-20", params={"after": trigger}).json()
        assert (said["fallback"], said["answered"]) == ("popular", False)
        assert "riverrank_serve_fallbacks_total 1.0" in client.get("/metrics").text


def test_the_more_is_gone_the_less_often_it_is_read(server: Server) -> None:
    now = [0.0]
    backend = Backend(config_of(server), clock=lambda: now[0])
    with redis.Redis(port=server.port) as other:
        other.sadd("rr:gone", *(f"gone-{n}" for n in range(50_000)))

        async def left(at: float) -> list[str]:
            now[0] = at
            found = await backend.slate_of("u-17")
            assert found is not None
            return [place.item_id for place in backend.served(found.slate.items, Wanted(n=20))]

        async def told() -> list[list[str]]:
            before = await left(0.0)
            other.sadd("rr:gone", ITEMS[0])
            return [before, await left(1.9), await left(2.1)]

        backend.start()
        try:
            assert asyncio.run(told()) == [[*ITEMS], [*ITEMS], [*ITEMS[1:]]]
        finally:
            backend.close()


def test_a_redis_that_goes_is_known_without_anybody_asking(tmp_path: Path) -> None:
    server = Server()
    with TestClient(application(config_of(server))) as client:
        assert client.get("/readyz").status_code == 200
        server.stop()
        wait_until(lambda: client.get("/readyz").status_code == 503, 10)


def test_a_key_of_another_type_says_nothing_of_the_others(
    client: TestClient, server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with redis.Redis(port=server.port) as other:
        other.sadd("rr:gone", "i-1")
        assert ids(client.get("/v1/slates/u-17")) == [*ITEMS[1:]]
        other.delete("rr:gone")
        for key in ("rr:gone", "rr:popular", "rr:similar:i-9", "rr:trending", "rr:slate:u-19"):
            other.set(key, "another")
    time.sleep(0.01)
    answer = client.get("/v1/slates/u-17")
    assert ids(answer) == [*ITEMS[1:]], "what was gone when it was read last still is"
    assert "fallback" not in answer.json() and "stale" not in answer.json()
    assert error(client.get("/v1/similar/i-9")) == error(client.get("/v1/trending")) == (502, "bad_record", None)
    assert error(client.get("/v1/slates/u-19")) == (404, "not_found", None)
    assert client.get("/readyz").status_code == 200
    assert "Redis holds for gone is not what it should be: WRONGTYPE" in caplog.text and "u-19" not in caplog.text


def test_without_redis_the_last_popular_slate_is_served_until_it_is_back(caplog: pytest.LogCaptureFixture) -> None:
    server = Server()
    put(server, "slate:u-17", slate_of("u-17"))
    put(server, "popular", slate_of("popular", ("i-9",)))
    with TestClient(application(config_of(server))) as client:
        assert ids(client.get("/v1/slates/u-17")) == list(ITEMS)
        server.stop()
        started = time.monotonic()
        said = [client.get("/v1/slates/u-17").json() for _ in range(10)]
        assert time.monotonic() - started < 10
        assert {(each["fallback"], each["stale"]) for each in said} == {("popular", True)}
        assert client.get("/v1/popular").json()["stale"] is True
        assert error(client.get("/v1/trending")) == (503, "redis_away", None)
        assert client.get("/v1/trending").headers["retry-after"] == "1"
        not_ready = client.get("/readyz")
        assert (not_ready.status_code, not_ready.json()["redis"]) == (503, False)
        assert caplog.text.count("can't be read") == 1
        server.start()
        put(server, "slate:u-17", slate_of("u-17", version=50))
        wait_until(lambda: client.get("/v1/slates/u-17").json().get("version") == 50)
        assert client.get("/readyz").status_code == 200 and "Redis is back" in caplog.text
        assert client.get("/v1/popular").json()["stale"] is True  # it came back empty
    server.stop()


def test_a_redis_that_was_never_there_is_a_503_at_once() -> None:
    server = Server()
    server.stop()
    with TestClient(application(config_of(server))) as client:
        assert error(client.get("/v1/slates/u-17")) == (503, "redis_away", None)
        started = time.monotonic()
        assert client.get("/v1/slates/u-17").status_code == 503
        assert time.monotonic() - started < 5


def test_a_redis_that_hangs_holds_up_nobody_for_long(server: Server) -> None:
    put(server, "popular", slate_of("popular"))
    with TestClient(application(config_of(server, timeout=1_000))) as client:
        assert client.get("/v1/slates/u-17").status_code == 200
        server.process.send_signal(19)  # SIGSTOP
        try:
            started = time.monotonic()
            assert client.get("/v1/slates/u-17").json()["stale"] is True
            assert 0.3 < time.monotonic() - started < 10
        finally:
            server.process.send_signal(18)  # SIGCONT
        wait_until(lambda: "stale" not in client.get("/v1/slates/u-17").json())
