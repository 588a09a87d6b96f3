"""Connections to Redis: to one server, to the one that Sentinels name, or to the nodes of a cluster; and one pipelined
round trip over them, whose time is limited. What fails is not tried again: who asks knows when to.
"""

import contextlib
import time
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

import redis
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel, SentinelConnectionPool

from .urls import DEFAULT_TIMEOUT_MS, FORMS, Address, RedisUrl, masked, parsed

HOPS = 5  # along which a command is followed, from node to node of a cluster that moves its keys about
FAULTS = (redis.RedisError, OSError, ValueError)  # the last of options that do not go together

Words = tuple[str | bytes | int, ...]


class Command(NamedTuple):
    """A command, and the key that says which node of a cluster it is for."""

    key: str
    words: Words


class NodeAway(Exception):
    """In place of a reply: the node was not reached, or did not answer; the cause says why."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


_OF_POOLS = ("max_connections", "timeout", "connection_class")
Reply = Any  # what redis-py makes of it, a redis.ResponseError, or a NodeAway
_Target = tuple[redis.ConnectionPool, bool]  # and whether ASKING goes before


class Connections:
    """To the Redis at `url`; made by the first command, and anew by the one after a failure. For one thread at a time.

    Raises:
        ValueError: `url` is none; the message shows no password.
    """

    def __init__(self, url: str, timeout_ms: int = DEFAULT_TIMEOUT_MS) -> None:
        self.url = parsed(url)
        self.where = masked(url)
        self._timeout_seconds = timeout_ms / 1000
        try:
            self._nodes = _nodes_of(self.url, timeout_ms)
        except (ValueError, TypeError) as error:
            why = f" ({error})" if isinstance(error, TypeError) else ""
            raise ValueError(f"expected {FORMS}, got {self.where!r}{why}") from error

    def deadline(self) -> float:
        """Until when what begins now may take."""
        return time.monotonic() + self._timeout_seconds

    def run(self, commands: Sequence[Command], deadline: float, first: Words | None = None) -> list[Reply]:
        """The reply to each of `commands`, by one round trip to all nodes that they are for, and more where a cluster
        moves their keys. `first` is a command that each node is given before; where a node refuses that, the refusal
        stands for its replies.
        """
        try:
            self._nodes.find(deadline)
        except FAULTS as error:
            return [NodeAway(error)] * len(commands)
        replies: list[Reply] = [None] * len(commands)
        targets: dict[int, _Target] = {}
        for number, command in enumerate(commands):
            pool = self._nodes.pool_of(command.key)
            if pool is None:
                replies[number] = NodeAway(redis.ConnectionError("no node of the cluster has the key"))
            else:
                targets[number] = pool, False
        for _ in range(HOPS):
            for number, reply in self._exchange(commands, targets, first, deadline):
                replies[number] = reply
            moved = {number: self._nodes.moved_to(replies[number], pool) for number, (pool, _) in targets.items()}
            targets = {number: target for number, target in moved.items() if target is not None}
            if not targets:
                break
        return replies

    def everywhere(self, words: Words, deadline: float) -> list[tuple[str, Reply]]:
        """What each server that keys are on replies to the same command, with HOST:PORT where there are several."""
        try:
            self._nodes.find(deadline)
        except FAULTS as error:
            return [("", NodeAway(error))]
        told: list[tuple[str, Reply]] = []
        for name, pool in self._nodes.pools():
            told += [
                (name, reply) for _, reply in self._exchange([Command("", words)], {0: (pool, False)}, None, deadline)
            ]
        return told

    def close(self) -> None:
        """Close all of them; a later command opens new ones, to whoever Sentinel or the cluster names then."""
        self._nodes.forget()

    def _exchange(
        self, commands: Sequence[Command], targets: dict[int, _Target], first: Words | None, deadline: float
    ) -> Iterable[tuple[int, Reply]]:
        """Send all, then hear all."""
        groups: dict[redis.ConnectionPool, list[int]] = {}
        for number, (pool, _) in targets.items():
            groups.setdefault(pool, []).append(number)
        calls: list[tuple[_Call, list[int]]] = []
        told: list[tuple[int, Reply]] = []
        try:
            for pool, numbers in groups.items():
                lines: list[Words] = [first] if first else []
                for number in numbers:
                    lines += [("ASKING",)] * targets[number][1] + [commands[number].words]
                try:
                    calls.append((_Call(pool, lines, self._timeout_seconds), numbers))
                except FAULTS as error:
                    told += [(number, NodeAway(error)) for number in numbers]
            for call, numbers in calls:
                try:
                    heard = iter(call.replies(deadline))
                except FAULTS as error:
                    told += [(number, NodeAway(error)) for number in numbers]
                    continue
                refusal = next(heard) if first else None
                for number in numbers:
                    if targets[number][1]:
                        next(heard)
                    reply = next(heard)
                    told.append((number, refusal if isinstance(refusal, redis.ResponseError) else reply))
        finally:
            for call, _ in calls:
                call.end()
        return told


class _Call:
    """Some commands on their way to a server, whose replies are still to be read."""

    def __init__(self, pool: redis.ConnectionPool, lines: list[Words], timeout_seconds: float) -> None:
        self._pool, self._left, self._timeout_seconds = pool, len(lines), timeout_seconds
        self._connection: Any = pool.get_connection()
        try:
            self._connection.send_packed_command(self._connection.pack_commands(lines), check_health=False)
        except BaseException:
            self.end()
            raise

    def replies(self, deadline: float) -> list[Reply]:
        """All of them. Raises one of FAULTS where the server ends the connection, or time is up."""
        replies: list[Reply] = []
        while self._left:
            if not self._connection.can_read(max(0.0, deadline - time.monotonic())):
                raise redis.TimeoutError(f"no answer in {self._timeout_seconds:g} s")
            try:
                replies.append(self._connection.read_response(disconnect_on_error=True))
            except redis.ResponseError as error:
                replies.append(error)
            self._left -= 1
        return replies

    def end(self) -> None:
        """Give the connection back, closed where replies are left: else they would be taken for those of the next."""
        if self._connection is not None:
            if self._left:
                self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None


class _Nodes(Protocol):
    """Which server has a key."""

    def find(self, deadline: float) -> None:
        """Know where keys are. Raises one of FAULTS where nobody says."""

    def pool_of(self, key: str) -> redis.ConnectionPool | None: ...

    def pools(self) -> list[tuple[str, redis.ConnectionPool]]:
        """One of each server, with its HOST:PORT where there are several."""

    def moved_to(self, reply: Reply, asked: redis.ConnectionPool) -> _Target | None:
        """Whom to ask instead, where `reply` says that the key is elsewhere."""

    def forget(self) -> None:
        """Close all connections, and forget where keys are."""


class _Single:
    """All keys are on one server, as its pool finds it."""

    def __init__(self, pool: redis.ConnectionPool) -> None:
        self._pool = pool

    def find(self, deadline: float) -> None:
        pass

    def pool_of(self, key: str) -> redis.ConnectionPool | None:
        return self._pool

    def pools(self) -> list[tuple[str, redis.ConnectionPool]]:
        return [("", self._pool)]

    def moved_to(self, reply: Reply, asked: redis.ConnectionPool) -> _Target | None:
        return None

    def forget(self) -> None:
        self._pool.disconnect()


class _Cluster:
    """Keys are on the nodes that the first of the `addresses`, or of the nodes known, to answer says."""

    def __init__(self, addresses: Sequence[Address], options: dict[str, Any], timeout_seconds: float) -> None:
        self._begin, self._options, self._timeout_seconds = tuple(addresses), options, timeout_seconds
        self._holders: list[Address | None] = []  # by slot; empty until asked
        self._pools: dict[Address, redis.ConnectionPool] = {}

    def find(self, deadline: float) -> None:
        faults: list[Exception] = []
        for address in () if self._holders else dict.fromkeys((*self._begin, *self._pools)):
            if faults and time.monotonic() > deadline:
                break
            call = None
            try:
                call = _Call(self._pool(address), [("CLUSTER", "SLOTS")], self._timeout_seconds)
                (reply,) = call.replies(deadline)
                if isinstance(reply, Exception):
                    raise reply
            except FAULTS as error:
                faults.append(error)
            else:
                self._take(reply, address)
                return
            finally:
                if call is not None:
                    call.end()
        if faults:
            raise _telling(faults)

    def pool_of(self, key: str) -> redis.ConnectionPool | None:
        address = self._holders[key_slot(key.encode())]
        return None if address is None else self._pool(address)

    def pools(self) -> list[tuple[str, redis.ConnectionPool]]:
        holders = {address: self._pool(address) for address in self._holders if address is not None}
        return [(f"{host}:{port}", pool) for (host, port), pool in holders.items()]

    def moved_to(self, reply: Reply, asked: redis.ConnectionPool) -> _Target | None:
        code, _, rest = str(reply).partition(" ") if isinstance(reply, redis.ResponseError) else ("", "", "")
        if code not in ("MOVED", "ASK"):
            return None
        slot, _, node = rest.partition(" ")
        host, _, port = node.rpartition(":")
        address = host or asked.connection_kwargs["host"], int(port)
        if code == "MOVED":
            self._holders[int(slot)] = address
        return self._pool(address), code == "ASK"

    def forget(self) -> None:
        for pool in self._pools.values():
            pool.disconnect()
        self._holders = []

    def _take(self, ranges: list[list[Any]], asked: Address) -> None:
        """What CLUSTER SLOTS says: first slot, last slot, the primary (host, or nothing for whom was asked; port)."""
        self._holders = [None] * REDIS_CLUSTER_HASH_SLOTS
        for start, end, (host, port, *_), *_ in ranges:
            named = (host or b"").decode()
            address = (asked[0] if named in ("", "?") else named), int(port)
            self._holders[start : end + 1] = [address] * (end + 1 - start)
        for address in self._pools.keys() - {*self._begin, *self._holders}:
            self._pools.pop(address).disconnect()

    def _pool(self, address: Address) -> redis.ConnectionPool:
        if address not in self._pools:
            host, port = address
            self._pools[address] = redis.ConnectionPool(**self._options | {"host": host, "port": port})
        return self._pools[address]


class _Sentinels(Sentinel):
    """Asks one after another where the primary is, with one right, and says why none told it."""

    def discover_master(self, service_name: str) -> Address:
        faults: list[Exception] = []
        for at, sentinel in enumerate(self.sentinels):
            try:
                address = sentinel.sentinel_get_master_addr_by_name(service_name)
            except FAULTS as error:
                faults.append(error)
                continue
            if address is not None:  # that one is asked first from now on
                self.sentinels[0], self.sentinels[at] = sentinel, self.sentinels[0]
                host, port = address
                return host.decode() if isinstance(host, bytes) else host, port
        if not faults:
            raise MasterNotFoundError(f"no Sentinel knows a service {service_name!r}")
        fault = _telling(faults)
        raise MasterNotFoundError(f"no Sentinel says where {service_name!r} is: {fault}") from fault


def _telling(faults: list[Exception]) -> Exception:
    """The one that says most: that somebody refused us, before that nobody was there."""
    refusals = (redis.ResponseError, redis.AuthenticationError)
    return next((fault for fault in faults if isinstance(fault, refusals)), faults[0])


def _nodes_of(url: RedisUrl, timeout_ms: int) -> _Nodes:
    """Over TLS they speak only to who has a certificate for that host, unless the URL says `ssl_check_hostname=false`
    or `ssl_cert_reqs=none`.
    """
    limits = {
        "socket_connect_timeout": timeout_ms / 2000,
        "socket_timeout": timeout_ms / 2000,
        "retry": Retry(NoBackoff(), 0),
        "lib_name": None,  # else two more round trips a connection
        "lib_version": None,
    }
    checked = {"ssl_check_hostname": True} if url.tls and "ssl_cert_reqs=none" not in url.single else {}
    options = checked | limits | parse_url(url.single)
    with contextlib.suppress(*FAULTS):  # which are told of when it connects; TypeError is of an option that is none
        kind = options.get("connection_class", redis.Connection)
        kind(**{name: value for name, value in options.items() if name not in _OF_POOLS})
    if url.kind == "server":
        return _Single(redis.ConnectionPool(**options))
    if url.kind == "cluster":
        return _Cluster(url.addresses, options, timeout_ms / 1000)
    tls = {"ssl": True} if options.pop("connection_class", None) else {}
    a_share = timeout_ms / 2000 / len(url.addresses)  # all that are away are asked in the time of one
    own = {name.removeprefix("sentinel_"): value for name, value in url.sentinels}
    of_tls = tls | {name: value for name, value in options.items() if name.startswith("ssl_")}
    shared = limits | {"socket_connect_timeout": a_share, "socket_timeout": a_share}
    sentinels = _Sentinels(url.addresses, sentinel_kwargs=shared | of_tls | own)
    pool_options = {name: value for name, value in options.items() if name not in ("host", "port")}
    return _Single(SentinelConnectionPool(url.service, sentinels, **pool_options, **tls))
