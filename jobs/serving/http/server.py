"""Running the service: a socket, uvicorn on it, and an end that lets requests finish.

uvicorn's own time-outs begin with the first request of a connection, and its refusals are text: `_Protocol` mends both.
"""

import asyncio
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import h11
import uvicorn
from riverrank.jobs.config.edges import ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.state.records.outgoing import to_json
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from .answers import JSON, ErrorCode, Problem
from .app import Pages, application

BACKLOG = 512
KEEP_ALIVE_SECONDS = 65  # longer than proxies keep theirs, which then never send into a connection that closes

log = logging.getLogger(__name__)


def serve(config: Config, pages: Pages | None = None) -> None:
    """Serve until SIGTERM or Ctrl-C; requests that are under way then are finished, for serve.drain at most.

    Raises:
        UsageError: the address can't be listened on, or `application` has a fault to tell.
        KeyboardInterrupt: after the end, where Ctrl-C asked for it.
    """
    settings = config.serve
    app = application(config, pages=pages)
    listener = _listener(settings)
    host, port = listener.getsockname()[:2]
    shown = f"[{host}]" if ":" in host else host
    print(f"riverrank: serving on http://{shown}:{port} (Ctrl-C ends it)", file=sys.stderr, flush=True)
    if not settings.keys_file and not ip_address(host).is_loopback:
        log.warning("serve.keys_file: none, and %s is not this machine alone: who reaches it may write events", host)
    if asyncio.run(_Server(_config(app, settings)).until_told(listener)) == signal.SIGINT:
        raise KeyboardInterrupt


def _listener(settings: ServeSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((settings.host, settings.port), family=family, backlog=BACKLOG)
        # Connections inherit it. asyncio sets it for sockets that say they are of TCP, as this one does not: without it
        # a body waits 40 ms for its head to be acknowledged.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except OSError as error:
        raise UsageError(
            f"serve.port: cannot listen on {settings.host}:{settings.port} ({error.strerror or error}); give another "
            "--port, or mend --host"
        ) from error


def _config(app: ASGIApp, settings: ServeSettings) -> uvicorn.Config:
    logging.getLogger("uvicorn").setLevel(logging.ERROR)  # what it says of its start is not of ours
    return uvicorn.Config(
        app,
        http=_protocol_of(settings),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=max(1, settings.drain // 1000),
        h11_max_incomplete_event_size=settings.headers + 1_024,
    )


class _Server(uvicorn.Server):
    """Ends when it is told to, and says by what."""

    async def until_told(self, listener: socket.socket) -> signal.Signals | None:
        """Serve on `listener`; the signal that ended it."""
        told: list[signal.Signals] = []

        def tell(number: signal.Signals) -> None:
            self.force_exit = bool(told)
            told.append(number)
            self.should_exit = True

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, tell, number)
        try:
            await self.serve(sockets=[listener])
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)
        return told[0] if told else None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """uvicorn's own way raises them again at the end, which would be no clean one."""
        yield


def _protocol_of(settings: ServeSettings) -> type[H11Protocol]:
    class Protocol(_Protocol):
        head_seconds = settings.timeout / 1000
        most_connections = settings.connections

    return Protocol


class _Protocol(H11Protocol):
    """HTTP/1.1 in which a head has to be whole in time, connections are bounded, and refusals are JSON."""

    head_seconds: float
    most_connections: int
    _head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(503, "busy", f"{self.most_connections} connections are open; come again later")
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless the head is whole."""
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(400, "bad_request", "not HTTP/1.1, or its head is too long")

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def _refuse(self, status: int, code: ErrorCode, message: str) -> None:
        """Answer what never became a request, and close."""
        problem = Problem(status, code, message)
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE) and (
            self.cycle is None or self.cycle.response_complete or not self.cycle.response_started
        ):
            body = to_json(problem.body)
            own = {"content-type": JSON, "content-length": str(len(body)), "connection": "close", **problem.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in own.items())
            reason = "Bad Request" if status == 400 else "Service Unavailable"
            self.transport.write(f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body)
        self.transport.close()
