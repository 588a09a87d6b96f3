"""What stands before every operation: who may call, how many at once, how long, and how any error is told.

Knows no operation but by its name.
"""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from riverrank.jobs.config.edges import LEAST_SECRET, ServeSettings
from riverrank.jobs.errors import UsageError
from riverrank.state.records.printable import printable
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .answers import ErrorCode, Problem
from .backend import Backend
from .operations import KNOWN, problem_of
from .routing import OPERATION, USER

SECURITY_HEADERS = {  # where an answer does not say otherwise
    b"cache-control": b"no-store",
    b"content-security-policy": b"default-src 'none'; frame-ancestors 'none'",
    b"referrer-policy": b"no-referrer",
    b"x-content-type-options": b"nosniff",
    b"x-frame-options": b"DENY",
}
OF_STATUS: dict[int, tuple[ErrorCode, str]] = {
    404: ("not_found", "there is nothing at that address; /docs lists what there is"),
    405: ("method_not_allowed", "not by that method; the header Allow says by which"),
}

log = logging.getLogger(__name__)


class Keys:
    """The keys that callers may give, kept as hashes."""

    def __init__(self, keys: Collection[str]) -> None:
        self._hashes = [_hash(key.encode()) for key in keys]

    def __contains__(self, given: bytes) -> bool:
        """Whether that is one of them; in a time that does not tell how much of it is right."""
        hashed = _hash(given)
        return sum([hmac.compare_digest(hashed, each) for each in self._hashes]) > 0

    def __bool__(self) -> bool:
        return bool(self._hashes)


def read_keys(path: str) -> Keys:
    """The keys of a file, one a line; what begins with # is none. No file, no keys.

    Raises:
        UsageError: the file can't be read, or holds none, or one that is too short to be a secret.
    """
    if not path:
        return Keys(())
    try:
        lines = Path(path).read_text("utf-8").splitlines()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8, or no path"
        raise UsageError(f"serve.keys_file: cannot read the file that it names ({why}); give the path of one") from None
    keys = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    if not keys:
        raise UsageError("serve.keys_file: the file that it names holds no key; `openssl rand -hex 32` makes one")
    for number, key in enumerate(keys, start=1):
        if len(key) < LEAST_SECRET or not key.isascii() or not key.isprintable():
            raise UsageError(
                f"serve.keys_file: expected keys of {LEAST_SECRET} ASCII characters or more, got {len(key)} of key "
                f"{number}; `openssl rand -hex 32` makes one"
            )
    return Keys(keys)


class Guard:
    """Wraps an application. `open_paths` are for whoever comes, and do not count among those that are under way."""

    def __init__(self, app: ASGIApp, backend: Backend, keys: Keys, open_paths: Collection[str]) -> None:
        self._app, self._backend, self._keys, self._open_paths = app, backend, keys, open_paths
        self._settings: ServeSettings = backend.config.serve
        self._under_way = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request; an error is an answer as well."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sending, started, counted = _Sending(send), time.perf_counter(), 0
        self._backend.metrics.begin()
        try:
            self._check(scope)
            counted = scope["path"] not in self._open_paths
            self._under_way += counted
            async with asyncio.timeout((self._settings.timeout + self._settings.wait) / 1000):
                await self._app(scope, receive, sending)
        except TimeoutError:
            late = f"no answer in {(self._settings.timeout + self._settings.wait) / 1000:g} s; come again later"
            await sending.give(Problem(503, "timed_out", late).response(), scope, receive)
        except Problem as problem:
            await sending.give(problem.response(), scope, receive)
        except Exception:
            log.exception("%s failed", scope.get(OPERATION, "a request"))
            failed = Problem(500, "internal", "this is our fault, and in the log")
            await sending.give(failed.response(), scope, receive)
        finally:
            self._under_way -= counted
            seconds = time.perf_counter() - started
            self._backend.metrics.end(scope.get(OPERATION, "none"), sending.status, seconds)
            if self._settings.log:
                self._log(scope, sending.status, seconds)

    def _check(self, scope: Scope) -> None:
        """Raises Problem where the request goes no further."""
        size = len(scope.get("raw_path") or b"") + len(scope["query_string"])
        size += sum(len(name) + len(value) + 4 for name, value in scope["headers"])
        if size > self._settings.headers:
            most = self._settings.headers
            raise Problem(431, "headers_too_large", f"address and headers: expected at most {most} bytes, got {size}")
        if scope["path"] in self._open_paths:
            return
        if self._keys and not self._may(scope):
            raise _Unauthorized
        is_open = not self._keys and scope["path"].startswith("/v1/")  # a page of others has no key
        if is_open and is_foreign(Headers(scope=scope), self._settings.cors):
            raise Problem(403, "forbidden", "a page of another origin may not ask; name it in serve.cors", "origin")
        if self._under_way >= self._settings.requests:
            raise Problem(503, "busy", f"{self._settings.requests} requests are under way; come again later")

    def _may(self, scope: Scope) -> bool:
        """By `Authorization: Bearer KEY`, or `X-API-Key: KEY`."""
        given = [value for name, value in scope["headers"] if name == b"x-api-key"]
        for name, value in scope["headers"]:
            kind, _, key = value.partition(b" ")
            if name == b"authorization" and kind.lower() == b"bearer":
                given.append(key.strip())
        return len(given) == 1 and given[0] in self._keys

    def _log(self, scope: Scope, status: int, seconds: float) -> None:
        user = f" {self._backend.pseudonym(scope[USER])}" if USER in scope else ""
        named = scope.get(OPERATION, "none")
        log.info("%s %s%s %d in %.1f ms", printable(scope["method"]), named, user, status, 1000 * seconds)


class _Unauthorized(Problem):
    def __init__(self) -> None:
        super().__init__(
            401, "unauthorized", "no key that is known; give one as `Authorization: Bearer KEY` or `X-API-Key: KEY`",
            "authorization",
        )  # fmt: skip
        self.headers = {"www-authenticate": "Bearer"}


class _Sending:
    """Sends an answer with the headers that all have; knows whether it began."""

    def __init__(self, send: Send) -> None:
        self._send, self._begun = send, False
        self.status = 499  # the caller went before there was any

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._begun, self.status = True, message["status"]
            given = {name for name, _ in message["headers"]}
            others = [each for each in SECURITY_HEADERS.items() if each[0] not in given]
            message["headers"] = [*message["headers"], *others]
        await self._send(message)

    async def give(self, response: Response, scope: Scope, receive: Receive) -> None:
        """Answer with that, unless an answer began; then it ends there, and the server closes the connection."""
        if not self._begun:
            await response(scope, receive, self)


async def on_problem(request: Request, error: Exception) -> Response:
    """The answer to what an operation raises."""
    return (error if isinstance(error, Problem) else problem_of(error)).response()


async def on_http(request: Request, error: Exception) -> Response:
    """The answer to what Starlette raises: no such address, or not by that method."""
    assert isinstance(error, HTTPException)
    code, message = OF_STATUS.get(error.status_code, ("bad_request", error.detail))
    problem = Problem(error.status_code, code, message)
    problem.headers = dict(error.headers or {})
    return problem.response()


HANDLERS: dict[Any, Any] = {HTTPException: on_http, Problem: on_problem} | dict.fromkeys(KNOWN, on_problem)


def is_foreign(headers: Mapping[str, str], allowed: Collection[str] = ()) -> bool:
    """Whether a browser says that a page asks which is none of this service, nor of an origin that is `allowed`.

    >>> is_foreign({"host": "a:1", "origin": "https://b"}), is_foreign({"host": "a:1", "sec-fetch-site": "same-origin"})
    (True, False)
    """
    origin = headers.get("origin")
    if origin is None:
        return headers.get("sec-fetch-site", "none") not in ("same-origin", "none")
    return "*" not in allowed and origin not in allowed and host_of(origin) != headers.get("host", "").lower()


def host_of(origin: str) -> str | None:
    """The host of an origin, with its port; None where that is no address.

    >>> host_of("https://Shop.example:8443"), host_of("http://[")
    ('shop.example:8443', None)
    """
    try:
        return urlsplit(origin).netloc.lower()
    except ValueError:
        return None


def _hash(key: bytes) -> bytes:
    return hashlib.blake2b(key, digest_size=32).digest()
