"""The load: connections that stay open, each of which asks again as soon as it is answered.

One process and one event loop, with next to no work a reply, so that it is not what is measured: what it could do at
most is seen at a server that has no work either. Speaks HTTP/1.1 and Redis' protocol as far as that needs, no further.
"""

import asyncio
import itertools
import time
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

RETRY_SECONDS = 0.1  # until a connection that was closed is made again
GRACE_SECONDS = 15.0  # for what is under way at the end
# What a reply is: a status, more exactly what slate it brings, or what came in place of one.
OK, POPULAR, STALE, UNAVAILABLE = "200", "200 popular", "200 stale", "503"
CLOSED, UNANSWERED, NOTHING = "closed", "no answer", "nothing"

Speech = Literal["http", "redis"]


class Reply(NamedTuple):
    """A reply that is whole: its bytes on the wire, and what it is: a status, or a word above."""

    size: int
    kind: str


class Heard(NamedTuple):
    """What was heard in `seconds`: by reply when it came (on the clock of `time.monotonic`), how long it took in
    seconds, and which of `kinds` it is. What was asked before is in `total` alone.
    """

    total: int
    seconds: float
    kinds: list[str]
    kind: list[int]
    came: list[float]
    took: list[float]

    def counts(self, since: float = -np.inf, until: float = np.inf) -> Counter[str]:
        """Replies by kind, of those that came in that time."""
        which = np.asarray(self.kind, np.int64)[self._within(since, until)]
        found = np.bincount(which, minlength=len(self.kinds))
        return Counter({kind: int(count) for kind, count in zip(self.kinds, found, strict=True) if count})

    def milliseconds(self, percent: float, since: float = -np.inf, until: float = np.inf) -> float:
        """That percentile of how long replies took; not a number where none came.

        >>> Heard(3, 1.0, ["200"], [0, 0, 0], [1.0, 2.0, 3.0], [0.1, 0.2, 0.4]).milliseconds(50, since=2.0)
        300.0
        """
        took = np.asarray(self.took)[self._within(since, until)]
        return float(round(1000 * np.percentile(took, percent), 3)) if len(took) else float("nan")

    def _within(self, since: float, until: float) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        came = np.asarray(self.came)
        return (came >= since) & (came < until)


def load(speech: Speech, ports: Sequence[int], asks: Sequence[str], at_once: int, warm: float, seconds: float) -> Heard:
    """Ask servers of this machine, by so many connections, spread evenly over `ports`: first for `warm` seconds, which
    only `total` tells of.

    Args:
        asks: paths of HTTP, or keys of Redis whose field `slate` is read; taken in turn.
    """
    return asyncio.run(_load(speech, ports, [request_of(speech, ask) for ask in asks], at_once, warm, seconds))


def request_of(speech: Speech, ask: str) -> bytes:
    """A path, or a key, as it is asked for."""
    if speech == "http":
        return f"GET {ask} HTTP/1.1\r\nhost: localhost\r\naccept: */*\r\n\r\n".encode()
    words = ("HGET", ask, "slate")
    return b"".join([b"*3\r\n", *(b"$%d\r\n%b\r\n" % (len(word.encode()), word.encode()) for word in words)])


def reply_of(speech: Speech, held: bytes | bytearray) -> Reply | None:
    """The reply that `held` begins with, or None while it is not whole.

    >>> reply_of("http", b"HTTP/1.1 200 OK\\r\\ncontent-length: 2\\r\\n\\r\\n{}")
    Reply(size=40, kind='200')
    >>> reply_of("redis", b"$2\\r\\n{}"), reply_of("redis", b"$-1\\r\\n")
    (None, Reply(size=5, kind='nothing'))
    """
    return _http(held) if speech == "http" else _redis(held)


def _http(held: bytes | bytearray) -> Reply | None:
    """An answer with a `content-length`, as all of the service's have; what of it is not a user's own says so at its
    end.
    """
    end = held.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(held[:end]).lower()
    length = head.partition(b"\r\ncontent-length:")[2].partition(b"\r\n")[0]
    size = end + 4 + int(length or 0)
    if len(held) < size:
        return None
    last = held[max(end, size - 80) : size]
    status = head[9:12].decode("ascii", "replace")
    if status == OK and b'"fallback":"popular"' in last:
        return Reply(size, STALE if b'"stale":true' in last else POPULAR)
    return Reply(size, status)


def _redis(held: bytes | bytearray) -> Reply | None:
    end = held.find(b"\r\n")
    if end < 0:
        return None
    if not held.startswith(b"$"):
        return Reply(end + 2, bytes(held[:end]).decode("utf-8", "replace"))  # a refusal, in its words
    length = int(held[1:end])
    if length < 0:
        return Reply(end + 2, NOTHING)
    size = end + 4 + length
    return Reply(size, OK) if len(held) >= size else None


class _Notes:
    """What is noted of each reply."""

    def __init__(self, since: float, until: float) -> None:
        self.since, self.until, self.total = since, until, 0
        self.kinds: dict[str, int] = {}
        self.kind, self.came, self.took = array("l"), array("d"), array("d")

    def add(self, kind: str, asked: float, now: float) -> None:
        """One came."""
        self.total += 1
        if asked >= self.since:
            self.kind.append(self.kinds.setdefault(kind, len(self.kinds)))
            self.came.append(now)
            self.took.append(now - asked)

    def heard(self) -> Heard:
        """All of it."""
        kinds, seconds = list(self.kinds), self.until - self.since
        return Heard(self.total, seconds, kinds, self.kind.tolist(), self.came.tolist(), self.took.tolist())


class _Connection(asyncio.Protocol):
    """Asks, hears, asks again, until the time is over; `over` is done then."""

    def __init__(self, speech: Speech, requests: Iterator[bytes], notes: _Notes) -> None:
        self._speech, self._requests, self._notes = speech, requests, notes
        self._held, self._asked = bytearray(), 0.0
        self._transport: asyncio.Transport | None = None
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def ask(self) -> None:
        """Begin."""
        assert self._transport is not None
        self._asked = time.monotonic()
        self._transport.write(next(self._requests))

    def data_received(self, data: bytes) -> None:
        self._held += data
        reply = reply_of(self._speech, self._held)
        if reply is None:
            return
        del self._held[: reply.size]
        now = time.monotonic()
        self._notes.add(reply.kind, self._asked, now)
        if now < self._notes.until:
            self.ask()
        else:
            self._end()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.over.done():
            self._notes.add(CLOSED, self._asked, time.monotonic())
            self.over.set_result(None)

    def give_up(self) -> None:
        """End it without its answer."""
        if not self.over.done():
            self._notes.add(UNANSWERED, self._asked, time.monotonic())
            self._end()

    def _end(self) -> None:
        self.over.set_result(None)
        if self._transport is not None:
            self._transport.close()


async def _load(
    speech: Speech, ports: Sequence[int], requests: Sequence[bytes], at_once: int, warm: float, seconds: float
) -> Heard:
    loop, notes = asyncio.get_running_loop(), _Notes(0.0, 0.0)

    async def opened(number: int) -> _Connection:
        own = itertools.islice(itertools.cycle(requests), number % len(requests), None)
        port = ports[number % len(ports)]
        return (await loop.create_connection(lambda: _Connection(speech, own, notes), "127.0.0.1", port))[1]

    async def work(number: int, connection: _Connection) -> None:
        connection.ask()
        while True:
            left = notes.until - time.monotonic()
            await asyncio.wait([connection.over], timeout=max(0.0, left) + GRACE_SECONDS)
            connection.give_up()
            if time.monotonic() >= notes.until:
                return
            await asyncio.sleep(RETRY_SECONDS)
            try:
                connection = await opened(number)
            except OSError:
                notes.add(CLOSED, time.monotonic(), time.monotonic())
                continue
            connection.ask()

    connections = [await opened(number) for number in range(at_once)]
    notes.since = time.monotonic() + warm
    notes.until = notes.since + seconds
    await asyncio.gather(*(work(number, each) for number, each in enumerate(connections)))
    return notes.heard()
