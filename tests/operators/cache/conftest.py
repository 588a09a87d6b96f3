"""Fixtures of the tests of CACHE."""

from collections.abc import Iterator

import pytest
import redis
from valkey_server import Server


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    server = Server("--enable-debug-command", "yes")
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server) -> Server:
    redis.Redis(port=shared.port).flushall()
    return shared


@pytest.fixture
def own() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()
