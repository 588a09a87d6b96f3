"""What comes over a connection: requests asked ahead, heads and bodies that are none, or have no end."""

import socket
import time
from collections.abc import Iterator

import pytest
from served import Service, put, serving, slate_of, spoken
from valkey_server import Server

LIMITS = "[serve]\ntimeout = '1s'\nwait = '2s'\nheaders = 4096\nbody = 2048\n"
HEALTH = b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n"
POST = b"POST /v1/events HTTP/1.1\r\nhost: a\r\n"
CLOSING = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n"


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    server = Server()
    put(server, "slate:u-1", slate_of("u-1"))
    try:
        with serving(tmp_path_factory.mktemp("spoken"), "--redis", server.url, config=LIMITS) as running:
            yield running
            assert "Traceback" not in running.logged()
    finally:
        server.stop()


def statuses(heard: bytes) -> list[int]:
    """Of all answers, in their order."""
    return [int(each[:3]) for each in heard.split(b"HTTP/1.1 ")[1:]]


def test_requests_that_are_asked_ahead_are_answered_in_their_order(service: Service) -> None:
    waits = b"GET /v1/slates/u-1?after=e-9 HTTP/1.1\r\nhost: a\r\n\r\n"
    heard = spoken(service, waits + HEALTH * 3 + b"GET /nope HTTP/1.1\r\nhost: a\r\n\r\n" + CLOSING, 10)
    assert statuses(heard) == [200, 200, 200, 200, 404, 200]
    assert heard.index(b'"slate_id"') < heard.index(b'"status":"ok"')


def test_no_more_are_kept_than_may_be_asked_ahead(service: Service) -> None:
    heard = statuses(spoken(service, HEALTH * 5_000, 20))
    assert set(heard) == {200} and 30 < len(heard) < 200


def test_what_is_no_http_comes_after_the_answers_to_what_was_asked_before(service: Service) -> None:
    heard = spoken(service, HEALTH + b"\x16\x03\x01\r\n\r\n", 10)
    assert statuses(heard) == [200] and b"connection: close" in heard


@pytest.mark.parametrize(
    "sent",
    [
        b"GET /healthz HTTP/1.1\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n",
        b"GET /healthz#x HTTP/1.1\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/2.0\r\nhost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost : a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: a\x00b\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n",
        b"CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n",
        POST + b"content-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        POST + b"content-length: 2\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"content-length: -2\r\n\r\n{}",
        POST + b"content-length: 99999999999999999999999\r\n\r\n{}",
        POST + b"transfer-encoding: chunked, identity\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
        POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}x\r\n0\r\n\r\n",
    ],
)
def test_what_servers_might_read_differently_is_refused(service: Service, sent: bytes) -> None:
    heard = spoken(service, sent, 10)
    assert statuses(heard) == [400] and b'{"error":{"code":"bad_request"' in heard, heard


def test_another_protocol_is_not_taken_up(service: Service) -> None:
    upgrade = b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\nPRI * HTTP/2.0\r\n\r\n"
    assert statuses(spoken(service, upgrade, 10)) == [200]


@pytest.mark.parametrize(
    ("begun", "then"),
    [
        (b"", b"\r\n"),
        (HEALTH, b"\r\n"),
        (HEALTH + b"GET /healthz HTTP/1.1\r\n", b"x: y\r\n"),
        (POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"x: y\r\n"),
        (POST + b"transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n", b"y" * 1_000),
        (POST + b"transfer-encoding: chunked\r\n\r\n2;", b"y" * 1_000),
        (POST + b"content-length: 1000\r\n\r\n", b"y"),
        (b"GET /", b"y" * 1_000),
    ],
)
def test_what_never_ends_is_ended(service: Service, begun: bytes, then: bytes) -> None:
    started = time.monotonic()
    with socket.create_connection(service.address, 5) as connection:
        connection.sendall(begun)
        try:
            while time.monotonic() - started < 10:
                connection.sendall(then)
                time.sleep(0.05)
        except ConnectionError:
            pass
    assert time.monotonic() - started < 3
