"""The service as a process: many requests while Redis goes and comes, its end, its log, what docs/serve.md shows."""

import asyncio
import os
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path

import httpx2
import pytest
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.state.hashing import pseudonym
from served import Service, list_of, put, serving, slate_of
from streams import wait_until
from valkey_server import Server

ROOT = Path(__file__).resolve().parents[4]
CLIENTS = 200


Heard = Counter[int | str]


async def asked(url: str, outage: Callable[[Heard], Awaitable[None]]) -> Heard:
    """What CLIENTS, who each ask again as soon as they are answered, hear until the `outage` is over."""
    heard: Heard = Counter()
    limits = httpx2.Limits(max_connections=CLIENTS, max_keepalive_connections=CLIENTS)
    async with httpx2.AsyncClient(base_url=url, timeout=60, limits=limits) as client:

        async def ask(number: int) -> None:
            while not over.done():
                answer = await client.get(f"/v1/slates/u-{number % 50}")
                kind = "stale" if answer.status_code == 200 and answer.json().get("stale") else answer.status_code
                heard[kind] += 1

        over = asyncio.create_task(outage(heard))
        await asyncio.gather(over, *(ask(number) for number in range(CLIENTS)))
    return heard


def test_while_redis_goes_and_comes_every_request_is_answered(tmp_path: Path) -> None:
    server = Server()

    def fill(version: int) -> None:
        for number in range(50):
            put(server, f"slate:u-{number}", slate_of(f"u-{number}", version=version))
        put(server, "popular", slate_of("popular", version=version))

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(60):
            while not holds():
                await asyncio.sleep(0.02)

    async def outage(heard: Heard) -> None:
        await until(lambda: heard[200] > CLIENTS)
        await asyncio.to_thread(server.stop)
        await until(lambda: heard["stale"] > CLIENTS)
        await asyncio.to_thread(server.start)
        await asyncio.to_thread(fill, 99)
        before = heard[200]
        await until(lambda: heard[200] > before + CLIENTS)

    async def nothing(heard: Heard) -> None:
        await until(lambda: heard.total() > CLIENTS)

    try:
        fill(42)
        with serving(tmp_path, "--redis", server.url) as service:
            assert httpx2.get(f"{service.url}/v1/slates/u-1", timeout=60).status_code == 200
            heard = asyncio.run(asked(service.url, outage))
            assert set(heard) <= {200, 503, "stale"}, heard
            wait_until(lambda: httpx2.get(f"{service.url}/v1/slates/u-1").json().get("version") == 99)
            after = asyncio.run(asked(service.url, nothing))
            assert set(after) == {200}, after
            counts = httpx2.get(f"{service.url}/metrics").text
            assert re.search(r'requests_total\{operation="slate",status="200"\} \d{3,}', counts)
            assert "riverrank_serve_requests_open 1.0" in counts
            logged = service.logged()
            assert logged.count("can't be read") == 1 and "Redis is back" in logged and "Traceback" not in logged
    finally:
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_when_told_to_end_it_finishes_what_is_under_way(tmp_path: Path, number: signal.Signals) -> None:
    server = Server()
    try:
        put(server, "slate:u-1", slate_of("u-1"))
        with serving(tmp_path, "--redis", server.url, config="[serve]\nwait = '2s'\n") as service:
            assert httpx2.get(f"{service.url}/v1/slates/u-1").status_code == 200
            found: list[int] = []
            waiting = threading.Thread(
                target=lambda: found.append(
                    httpx2.get(f"{service.url}/v1/slates/u-1?after=e-9", timeout=20).status_code
                )
            )
            waiting.start()
            time.sleep(0.7)
            assert service.process.pid is not None
            os.kill(service.process.pid, number)
            wait_until(lambda: not listens(service))
            assert service.process.ending is None and not found  # the one under way goes on
            waiting.join()
            assert found == [200]
            wait_until(lambda: service.process.ending is not None)
            assert service.process.ending == ("exit code 0" if number == signal.SIGTERM else "exit code 130")
            assert "Traceback" not in service.logged()
    finally:
        server.stop()


def listens(service: Service) -> bool:
    """Whether it takes connections."""
    try:
        return httpx2.get(f"{service.url}/healthz").status_code == 200
    except httpx2.TransportError:
        return False


def test_its_log_names_no_user(tmp_path: Path) -> None:
    server = Server()
    try:
        put(server, "popular", slate_of("popular"))
        with serving(tmp_path, "--redis", server.url, config="[serve]\nlog = true\n") as service:
            httpx2.get(f"{service.url}/v1/slates/secret-user?exclude=secret-item")
            httpx2.get(f"{service.url}/v1/slates/secret-user?n=0")
            httpx2.get(f"{service.url}/secret-path")
            wait_until(lambda: "none 404" in service.logged())
            logged = service.logged()
        assert f"GET slate {pseudonym('secret-user', b'')} 200 in " in logged
        assert f"GET slate {pseudonym('secret-user', b'')} 400 in " in logged
        assert "secret-" not in logged
    finally:
        server.stop()


def test_what_the_page_shows_runs(tmp_path: Path, broker: KafkaBroker) -> None:
    page = (ROOT / "docs" / "serve.md").read_text("utf-8")
    blocks = re.findall(r"^```bash\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    commands = [
        line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.startswith("curl ")
    ]
    assert len(commands) > 8
    server = Server()
    try:
        put(server, "slate:u-17", slate_of("u-17"))
        put(server, "popular", slate_of("popular"))
        for key in ("similar:i-3", "together:i-3", "trending"):
            put(server, key, list_body(key))
        for topic in ("events", "items"):
            broker.create_topic(f"shown-{topic}")
        config = "[kafka]\nevents = 'shown-events'\nitems = 'shown-items'\n"
        with serving(tmp_path, "--redis", server.url, "--kafka", broker.bootstrap, config=config) as service:
            wait_until(lambda: httpx2.get(f"{service.url}/readyz").status_code == 200)
            for command in commands:
                shown = command.replace("http://localhost:8000", service.url)
                done = subprocess.run(["bash", "-c", shown], capture_output=True, text=True, timeout=60, check=False)
                assert done.returncode == 0 and done.stdout, f"{shown}\n{done.stdout}\n{done.stderr}"
                if "/v1/previews/" in command:  # there is no job here to ask, and no topic for its answer
                    assert "kafka.previews: previews go to no topic" in done.stdout
                else:
                    assert '"error"' not in done.stdout, done.stdout
    finally:
        server.stop()


def list_body(key: str) -> bytes:
    """A list that the page asks for."""
    name, _, item_id = key.partition(":")
    return list_of(name, item_id or None)
