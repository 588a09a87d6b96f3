"""What tests of the service, and of the service beside a job, share."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from valkey_server import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """A Valkey of the module's own, empty at its start."""
    running = Server()
    yield running
    running.stop()


@pytest.fixture(scope="session")
def go_cache() -> Iterator[None]:
    """A place for what Go compiles, its own library first, which takes long: once a run, and gone with it."""
    with tempfile.TemporaryDirectory(prefix="riverrank-go-") as folder, pytest.MonkeyPatch.context() as environment:
        environment.setenv("GOCACHE", str(Path(folder, "cache")))
        environment.setenv("GOPATH", str(Path(folder, "path")))
        yield
