"""A service that runs in its own process, on a Valkey and a Kafka that are real."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx
import pytest
from riverrank.jobs.processes import OwnedProcess
from streams import wait_until
from valkey_server import Server


class Service(NamedTuple):
    """A service that answers, and its log."""

    url: str
    process: OwnedProcess

    def get(self, path: str, **options: object) -> httpx.Response:
        return httpx.get(self.url + path, timeout=20, **options)  # type: ignore[arg-type]

    def post(self, path: str, **options: object) -> httpx.Response:
        return httpx.post(self.url + path, timeout=20, **options)  # type: ignore[arg-type]

    def logged(self) -> str:
        return self.process.log.read_text("utf-8")


@contextmanager
def serving(folder: Path, *flags: str, config: str = "") -> Iterator[Service]:
    """`riverrank serve` on a free port, with that configuration and those flags."""
    (folder / "serve.toml").write_text(config)
    command = [sys.executable, "-m", "riverrank.jobs.cli", "serve", "--config", str(folder / "serve.toml")]
    process = OwnedProcess("serve", [*command, "--port", "0", *flags], folder / "serve.log")
    process.start()
    try:
        process.wait_until(lambda: "serving on" in process.log.read_text("utf-8"), 60)
        found = re.search(r"serving on (\S+)", process.log.read_text("utf-8"))
        assert found
        yield Service(found[1], process)
    finally:
        process.stop()


@pytest.fixture(scope="module")
def redis_server() -> Iterator[Server]:
    server = Server()
    yield server
    server.stop()
