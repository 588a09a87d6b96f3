"""What tests of the service share: what Redis holds for it, and a service in a process of its own."""

import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import httpx2
import redis
from riverrank.jobs.processes import OwnedProcess
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json
from valkey_server import Server

ITEMS = ("i-1", "i-2", "i-3", "i-4", "i-5")


def slate_of(user: str, items: Sequence[str] = ITEMS, version: int = 42, trigger: str = "e-1") -> Slate:
    """A slate as the job writes it."""
    slots = tuple(
        Slot(item_id, rank, 0.9 / rank, 0.5, ("popular",), (Cause("popular"),))
        for rank, item_id in enumerate(items, start=1)
    )
    info = ModelInfo(examples=57, global_version=1203)
    return Slate(
        f"{user}:{version}", user, version, 1_764_000_000_000, trigger, "warm", "control", info, slots
    )  # fmt: skip


def put(server: Server, key: str, slate: Slate | bytes) -> None:
    """Have Redis hold it, as CACHE does."""
    raw = slate if isinstance(slate, bytes) else to_json(slate)
    with redis.Redis(port=server.port) as client:
        client.hset(f"rr:{key}", mapping={"version": 1, "slate": raw})


def list_of(key: str, item_id: str | None, items: Sequence[str] = ITEMS) -> bytes:
    """A list as the job writes it."""
    places = [{"item_id": item, "rank": rank, "score": 1 / rank} for rank, item in enumerate(items, start=1)]
    about = {} if item_id is None else {"item_id": item_id}
    return to_json({"key": key, **about, "version": 7, "ts": 1_764_000_000_000, "items": places})


def ids(response: httpx2.Response) -> list[str]:
    """The items of an answer, in their order."""
    assert response.status_code == 200, response.text
    return [place["item_id"] for place in response.json()["items"]]


def error(response: httpx2.Response) -> tuple[int, str, str | None]:
    """Status, code and field of an error, of which nothing else is told than its message."""
    (problem,) = response.json().values()
    assert set(problem) == {"code", "message", "field"} and problem["message"], problem
    assert response.headers["content-type"] == "application/json"
    return response.status_code, problem["code"], problem["field"]


class Service(NamedTuple):
    """A service that listens, and its process."""

    url: str
    process: OwnedProcess

    @property
    def address(self) -> tuple[str, int]:
        """Where its socket is."""
        host, port = self.url.removeprefix("http://").split(":")
        return host, int(port)

    def logged(self) -> str:
        """All that it wrote."""
        return self.process.log.read_text("utf-8")


def spoken(service: Service, sent: bytes, seconds: float = 5) -> bytes:
    """All that comes back on a connection of its own, until the service closes it."""
    with socket.create_connection(service.address, seconds) as connection:
        connection.sendall(sent)
        heard = b""
        while more := connection.recv(65_536):
            heard += more
        return heard


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
