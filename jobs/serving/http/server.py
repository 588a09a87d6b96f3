"""Running the service: a socket, uvicorn on it, and an end that lets requests finish.

uvicorn's own time-outs begin with the first request of a connection, a head and what is asked ahead have no bound, and
refusals are text: `_Protocol` mends all of it.
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

import uvicorn
from riverrank.jobs.config.edges import ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.state.records.outgoing import to_json
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from .answers import JSON, ErrorCode, Problem
from .app import Pages, application

BACKLOG = 512
HEAD_SPARE_BYTES = 1_024  # of a head, beside the address and the headers that `Guard` counts
MOST_PIPELINED = 32  # requests of a connection that wait for the answers before theirs
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


def _protocol_of(settings: ServeSettings) -> type[HttpToolsProtocol]:
    class Protocol(_Protocol):
        head_seconds = settings.timeout / 1000
        head_bytes = settings.headers + HEAD_SPARE_BYTES
        most_connections = settings.connections

    return Protocol


class _Protocol(HttpToolsProtocol):
    """HTTP/1.1 in which a head has to be whole in time, all that is held of a connection is bounded, and refusals are
    JSON.
    """

    head_seconds: float
    head_bytes: int
    most_connections: int
    _head_timer: asyncio.TimerHandle | None = None
    _is_head_open = True  # the next head is awaited, or has begun
    _is_in_body = False
    _pending_bytes = 0  # since something was whole: a head, or a part of a body; the parser may hold all of them

    def connection_made(self, transport: Any) -> None:
        """Begin to wait for the first head."""
        super().connection_made(transport)
        if len(self.connections) > self.most_connections:
            self._refuse(503, "busy", f"{self.most_connections} connections are open; come again later")
        else:
            self._wait_for_head()

    def data_received(self, data: bytes) -> None:
        """Wait on, unless the head is whole."""
        self._is_head_open = not self._is_in_body
        self._pending_bytes += len(data)
        super().data_received(data)
        if self._pending_bytes > self.head_bytes:
            self.send_400_response("")
        elif self._is_head_open:
            self._wait_for_head()
        else:
            self._stop_waiting()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._stop_waiting()
        super().connection_lost(exc)

    def on_message_begin(self) -> None:
        """A head begins."""
        super().on_message_begin()
        self._is_head_open = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; those that come after a body are of no use."""
        if not self._is_in_body:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """A head is whole. What is raised here is answered with 400."""
        self._is_head_open, self._pending_bytes = False, 0
        version = self.parser.get_http_version()
        hosts = sum(name == b"host" for name, _ in self.headers)
        if version not in ("1.0", "1.1") or hosts > 1 or (version == "1.1" and not hosts) or b"#" in self.url:
            raise ValueError("not HTTP/1.1, or no address, or more than one")
        if len(self.pipeline) >= MOST_PIPELINED:
            raise ValueError("too many requests before their answers")
        super().on_headers_complete()
        self._is_in_body = True

    def on_body(self, body: bytes) -> None:
        """A part of a body."""
        self._pending_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """A request is whole."""
        self._is_in_body, self._pending_bytes = False, 0
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """An answer is whole; who still sends what it is to is not waited for."""
        super().on_response_complete()
        if self._is_in_body and self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP."""
        self._refuse(400, "bad_request", "not HTTP/1.1, or its head is too long")

    def _unsupported_upgrade_warning(self) -> None:
        """The parser reads nothing after it: answer it as HTTP/1.1, and close."""
        self.cycle.keep_alive = False

    def _wait_for_head(self) -> None:
        if self._head_timer is None:
            self._head_timer = self.loop.call_later(self.head_seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _give_up(self) -> None:
        self._head_timer = None
        if self._is_idle():
            self.transport.close()

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _refuse(self, status: int, code: ErrorCode, message: str) -> None:
        """Answer what never became a request, or the body that is none, and close; first come the answers to what was
        asked before.
        """
        if not self._is_idle() and not self._is_in_body:
            self.cycle.keep_alive = False
            return
        if self._is_idle() or not (self.pipeline or self.cycle.response_started):
            problem = Problem(status, code, message)
            body = to_json(problem.body)
            own = {"content-type": JSON, "content-length": str(len(body)), "connection": "close", **problem.headers}
            head = "".join(f"{name}: {value}\r\n" for name, value in own.items())
            reason = "Bad Request" if status == 400 else "Service Unavailable"
            self.transport.write(f"HTTP/1.1 {status} {reason}\r\n{head}\r\n".encode() + body)
        self.transport.close()
