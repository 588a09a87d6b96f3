"""What the service does with requests as they should not be, and with too many of them."""

import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from riverrank.jobs.config.edges import RedisSettings, ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.http.backend import Backend
from served import Service, error, put, serving, slate_of, spoken
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.testclient import TestClient
from valkey_server import Server, free_port

KEY, OTHER = "k" * 32, "o" * 32
LIMITS = "[serve]\ntimeout = '1s'\nwait = '2s'\nrequests = 4\nconnections = 20\nheaders = 4096\nbody = 2048\n"


@pytest.fixture(scope="module")
def server(server: Server) -> Server:
    put(server, "slate:u-17", slate_of("u-17"))
    return server


@pytest.fixture(scope="module")
def limited(server: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with small limits, in a process of its own."""
    with serving(tmp_path_factory.mktemp("limited"), "--redis", server.url, config=LIMITS) as running:
        yield running


def config_of(server: Server, **serve: object) -> Config:
    return Config(redis=RedisSettings(url=server.url), serve=ServeSettings(**serve))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("query", "field", "said"),
    [
        ("ofset=3", "ofset", "the nearest is offset"),
        ("N=3", "N", "no such parameter; the nearest is n"),
        ("n=0", "n", "expected int >= 1"),
        ("n=ten", "n", "expected int"),
        ("n=1&n=2", "n", "expected once"),
        ("n=" + "9" * 400, "n", "expected int <= 200"),
        ("log=perhaps", "log", "expected bool"),
        ("exclude=", "exclude", "length >= 1"),
        ("n=%FF", None, "not percent-encoded UTF-8"),
        ("&".join(["exclude=i"] * 1_001), "exclude", "length <= 1000"),
        ("&".join(["exclude=i"] * 1_101), None, "Max number of fields"),
        ("%1b%5B31m=1", "\x1b[31m", "no such parameter"),
    ],
)
def test_a_parameter_that_is_none_is_named_with_what_was_expected(
    server: Server, query: str, field: str | None, said: str
) -> None:
    with TestClient(application(config_of(server))) as client:
        answer = client.get(f"/v1/slates/u-17?{query}")
    assert error(answer) == (400, "bad_request", field)
    assert said in answer.json()["error"]["message"]


def test_a_parameter_that_is_missing_is_named(server: Server) -> None:
    with TestClient(application(config_of(server))) as client:
        answer = client.get("/v1/previews/u-17")
    assert error(answer) == (400, "bad_request", "item")
    assert answer.json()["error"]["message"] == "item: expected once, not given"


FOREIGN = [
    {"origin": "https://evil.example", "content-type": "text/plain"},
    {"origin": "null"},
    {"origin": "http://["},
    {"origin": "http://testserver.evil.example"},
    {"sec-fetch-site": "cross-site"},
    {"sec-fetch-site": "same-site"},
]


@pytest.mark.parametrize("headers", FOREIGN)
def test_a_page_of_another_origin_may_not_ask_where_there_are_no_keys(server: Server, headers: dict[str, str]) -> None:
    with TestClient(application(config_of(server))) as client:
        for answer in (
            client.post("/v1/events", content=b"{}", headers=headers),
            client.get("/v1/slates/u-17?log=1", headers=headers),
        ):
            assert error(answer) == (403, "forbidden", "origin")
        assert client.get("/healthz", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [{"origin": "http://testserver"}, {"origin": "https://shop.example"}, {"sec-fetch-site": "same-origin"}, {}],
)
def test_own_pages_and_those_of_cors_may(server: Server, headers: dict[str, str]) -> None:
    with TestClient(application(config_of(server, cors=("https://shop.example",)))) as client:
        assert client.post("/v1/events", content=b"{}", headers=headers).status_code != 403


def test_who_gives_a_key_may_ask_from_anywhere(server: Server, tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("k" * 32)
    with TestClient(application(config_of(server, keys_file=str(tmp_path / "keys")))) as client:
        headers = {"origin": "https://shop.example", "x-api-key": "k" * 32}
        assert client.post("/v1/events", content=b"{}", headers=headers).status_code != 403


def test_addresses_and_methods_that_are_none_are_errors_like_others(server: Server) -> None:
    with TestClient(application(config_of(server))) as client:
        for path in ("/", "/v1", "/v1/slates", "/v1/popular/", "/v1/%2e%2e/metrics", "//healthz"):
            assert error(client.get(path)) == (404, "not_found", None), path
        answer = client.post("/v1/popular")
        assert error(answer) == (405, "method_not_allowed", None) and "GET" in answer.headers["allow"]
        assert client.head("/v1/slates/u-17").status_code == 200
        assert error(client.get("/healthz?x=1")) == (400, "bad_request", "x")


def test_every_answer_has_the_headers_of_safety(server: Server) -> None:
    with TestClient(application(config_of(server))) as client:
        for path in ("/v1/slates/u-17", "/nope", "/docs", "/healthz"):
            headers = client.get(path).headers
            assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"
            assert headers["content-security-policy"].startswith("default-src 'none'")
            assert "access-control-allow-origin" not in headers


def test_the_page_of_operations_needs_nothing_of_elsewhere(server: Server) -> None:
    with TestClient(application(config_of(server))) as client:
        page = client.get("/docs")
    assert page.headers["content-type"].startswith("text/html")
    assert "GET /v1/slates/{user}" in page.text and "serve.wait" in page.text
    assert not {"<script", "src=", "http://", "https://", "@import"} & {*page.text.split('"'), *page.text.split()}
    assert "style-src 'sha256-" in page.headers["content-security-policy"]


def test_with_keys_nobody_else_is_answered_but_probes(server: Server, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text(f"# the shop\n{KEY}\n\n{OTHER}\n")
    with TestClient(application(config_of(server, keys_file=str(keys)))) as client:
        answer = client.get("/v1/slates/u-17")
        assert error(answer) == (401, "unauthorized", "authorization")
        assert answer.headers["www-authenticate"] == "Bearer"
        for given in ({"authorization": f"Bearer {KEY}"}, {"authorization": f"bearer {OTHER}"}, {"x-api-key": KEY}):
            assert client.get("/v1/slates/u-17", headers=given).status_code == 200
        for wrong in (KEY[:-1], KEY + "x", "", "# the shop"):
            assert client.get("/v1/slates/u-17", headers={"x-api-key": wrong}).status_code == 401
            assert client.get("/v1/slates/u-17", headers={"authorization": f"Bearer {wrong}"}).status_code == 401
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        assert {client.get(path).status_code for path in ("/metrics", "/docs", "/openapi.json", "/nope")} == {401}
        assert "security" in client.get("/openapi.json", headers={"x-api-key": KEY}).json()["paths"]["/docs"]["get"]


@pytest.mark.parametrize(
    ("held", "said"), [("", "holds no key"), ("# none\n", "holds no key"), ("short\n", "16 ASCII characters or more")]
)
def test_a_file_of_keys_that_are_none_is_refused(server: Server, tmp_path: Path, held: str, said: str) -> None:
    (tmp_path / "keys").write_text(held)
    with pytest.raises(UsageError, match=said):
        application(config_of(server, keys_file=str(tmp_path / "keys")))
    with pytest.raises(UsageError, match="cannot read the file"):
        application(config_of(server, keys_file=str(tmp_path / "absent")))


def test_pages_of_allowed_origins_alone_may_read(server: Server) -> None:
    shop = "https://shop.example"
    with TestClient(application(config_of(server, cors=(shop,)))) as client:
        for path in ("/v1/slates/u-17", "/v1/slates/u-17?n=0"):
            assert client.get(path, headers={"origin": shop}).headers["access-control-allow-origin"] == shop
        other = client.get("/v1/slates/u-17", headers={"origin": "https://other.example"})
        assert "access-control-allow-origin" not in other.headers
        asked = {"origin": shop, "access-control-request-method": "POST", "access-control-request-headers": "x-api-key"}
        assert client.options("/v1/events", headers=asked).status_code == 200


def test_bodies_and_heads_are_bounded(limited: Service) -> None:
    url = limited.url
    assert error(httpx2.post(f"{url}/v1/events", content=b"x" * 2049)) == (413, "too_large", None)
    assert error(httpx2.post(f"{url}/v1/events", content=iter([b"x" * 1500] * 2))) == (413, "too_large", None)
    long = httpx2.get(f"{url}/healthz", headers={"x-long": "y" * 4_100})
    assert error(long) == (431, "headers_too_large", None)
    assert spoken(limited, b"GET /" + b"z" * 70_000 + b" HTTP/1.1\r\n").startswith(b"HTTP/1.1 400 Bad Request\r\n")


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\x00", b"GET /\r\nhost: a", b"\x00\r\n\r\n", b"GET \xff\r\n\r\n"]
)
def test_what_is_no_http_is_told_in_json(limited: Service, sent: bytes) -> None:
    head, _, body = spoken(limited, sent + b"\r\n\r\n").partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ") and b"application/json" in head
    assert body.startswith(b'{"error":{"code":"bad_request"')


def test_heads_and_bodies_that_never_end_are_ended(limited: Service) -> None:
    started = time.monotonic()
    assert spoken(limited, b"") == b""
    assert spoken(limited, b"GET /healthz HTTP/1.1\r\nhost: a\r\n") == b""
    late = spoken(limited, b"POST /v1/events HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\nconnection: close\r\n\r\n{")
    assert late.startswith(b"HTTP/1.1 408 ") and b'"timed_out"' in late
    assert time.monotonic() - started < 15


def test_requests_above_the_bound_are_told_to_come_later(limited: Service) -> None:
    found: list[httpx2.Response] = []
    waiting = [
        threading.Thread(target=lambda: found.append(httpx2.get(f"{limited.url}/v1/slates/u-17?after=e-9")))
        for _ in range(4)
    ]
    for thread in waiting:
        thread.start()
    time.sleep(0.7)
    answer = httpx2.get(f"{limited.url}/v1/slates/u-17")
    assert error(answer) == (503, "busy", None) and answer.headers["retry-after"] == "1"
    assert httpx2.get(f"{limited.url}/healthz").status_code == 200
    for thread in waiting:
        thread.join()
    assert [each.status_code for each in found] == [200] * 4
    assert httpx2.get(f"{limited.url}/v1/slates/u-17").status_code == 200


def test_connections_above_the_bound_are_refused(limited: Service) -> None:
    idle = [socket.create_connection(limited.address, 5) for _ in range(20)]
    try:
        time.sleep(0.2)
        assert spoken(limited, b"").startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in idle:
            connection.close()
    time.sleep(0.2)
    assert httpx2.get(f"{limited.url}/healthz").status_code == 200


def test_a_page_can_be_added_and_what_it_raises_is_told_and_logged(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    def pages(backend: Backend) -> list[Route]:
        async def page(request: Request) -> Response:
            found = await backend.slate_of("u-17")
            assert found is not None
            return Response(found.slate.slate_id, media_type="text/html")

        async def broken(request: Request) -> Response:
            raise RuntimeError("on purpose")

        return [Route("/", page), Route("/broken", broken)]

    with TestClient(application(config_of(server), pages=pages), raise_server_exceptions=False) as client:
        assert client.get("/").text == "u-17:42"
        assert error(client.get("/broken")) == (500, "internal", None)
        assert "on purpose" in caplog.text


def test_a_port_that_is_taken_is_one_line(tmp_path: Path, server: Server) -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        from riverrank.jobs.serving.http.server import serve  # noqa: PLC0415

        with pytest.raises(UsageError, match=f"serve.port: cannot listen on 127.0.0.1:{port}"):
            serve(config_of(server, port=port))
