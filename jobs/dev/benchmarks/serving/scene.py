"""What is asked: a Valkey with slates, `riverrank serve` on it, and a server that has no work, to say what clients can
do at most.
"""

import asyncio
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Sequence
from pathlib import Path

import redis
from riverrank.jobs.dev.services import Service, Valkey
from riverrank.jobs.processes import OwnedProcess, accepts_connections
from riverrank.state.records.incoming import Item
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json

SLOTS = 20
ITEMS = 2_000
SOURCES = ("trending", "popular", "embedding", "autoencoder", "sessions", "covisit")
TS = 1_764_000_000_000
TICKS = os.sysconf("SC_CLK_TCK")


def user_ids(users: int) -> list[str]:
    """So many users.

    >>> user_ids(2)
    ['u-00000', 'u-00001']
    """
    return [f"u-{number:05d}" for number in range(users)]


def item_id(number: int) -> str:
    """The id of an item."""
    return f"i-{number % ITEMS:05d}"


def slate_of(user_id: str, number: int) -> Slate:
    """A slate as the job writes one to a warm user: six sources and three reasons a place."""
    slots = []
    for rank in range(1, SLOTS + 1):
        first = number * SLOTS + rank
        causes = (
            Cause("because_you_clicked", item_id=item_id(first + 7), weight=3.5415),
            Cause("popular", weight=1.4886),
            Cause("category", value="tents", weight=0.4696),
        )
        score = round(0.99587 / rank, 5)
        slots.append(Slot(item_id(first), rank, score, 0.980689, SOURCES[: 1 + rank % len(SOURCES)], causes))
    info = ModelInfo(examples=57, global_version=15_048)
    return Slate(f"{user_id}:42", user_id, 42, TS, f"e-{number}", "warm", "control", info, tuple(slots))


def fill(valkey: Valkey, users: int) -> int:
    """Have Redis hold the slate of each of so many users, and the popular one; bytes of a slate."""
    slates = {f"slate:{user}": slate_of(user, number) for number, user in enumerate(user_ids(users))}
    with redis.Redis.from_url(valkey.url) as client, client.pipeline(transaction=False) as pipeline:
        for key, slate in {**slates, "popular": slate_of("popular", 0)}.items():
            pipeline.hset(f"rr:{key}", mapping={"version": slate.version, "slate": to_json(slate)})
        pipeline.execute()
    return len(to_json(slate_of(user_ids(1)[0], 0)))


def catalogue(folder: Path) -> Path:
    """A file of all items that slates name."""
    path = folder / "items.jsonl"
    names = (item_id(number) for number in range(ITEMS))
    items = (
        Item(name, TS, title=f"Light tent {name}", categories=("tents",), attributes={"brand": "Isbre", "price": 199.0})
        for name in names
    )
    path.write_bytes(b"".join(to_json(item) + b"\n" for item in items))
    return path


def paths(users: Sequence[str]) -> list[str]:
    """What HTTP is asked for."""
    return [f"/v1/slates/{user}" for user in users]


def keys(users: Sequence[str]) -> list[str]:
    """What Redis is asked for."""
    return [f"rr:slate:{user}" for user in users]


class Serve(Service):
    """`riverrank serve` as a process; its items, where there are some, are those of a file."""

    name = "serve"

    def __init__(self, valkey: Valkey, items: Path | None = None) -> None:
        super().__init__()
        self._valkey, self._items = valkey, items

    def cpu_seconds(self) -> float:
        """Processor time that it has used until now."""
        fields = Path(f"/proc/{self.pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS  # utime and stime, the 14th and 15th of all

    def _prepare(self, folder: Path) -> OwnedProcess:
        flags = ["--port", str(self.port), "--redis", self._valkey.url]
        flags += ["--items", str(self._items)] if self._items is not None else []
        return OwnedProcess(self.name, [sys.executable, "-m", "riverrank.jobs.cli", "serve", *flags], folder / "log")

    def _serves(self) -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/readyz", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False  # not listening yet, or still reading the file of items


class Canned(Service):
    """A server that gives the same answer to whatever it is asked."""

    name = "canned"

    def _prepare(self, folder: Path) -> OwnedProcess:
        return OwnedProcess(self.name, [sys.executable, "-m", __name__, str(self.port)], folder / "log")

    def _serves(self) -> bool:
        return accepts_connections(self.port)


class _Canned(asyncio.Protocol):
    body = to_json(slate_of("popular", 0))
    answer = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._transport.write(self.answer)


async def _answer_all(port: int) -> None:
    async with await asyncio.get_running_loop().create_server(_Canned, "127.0.0.1", port) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_answer_all(int(sys.argv[1])))
