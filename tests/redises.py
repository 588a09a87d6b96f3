"""Valkey as it is run where it must not be away: with TLS and users, watched by a Sentinel, and as a cluster."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

import redis
from redis.backoff import NoBackoff
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot
from redis.retry import Retry
from riverrank.jobs.dev import services
from riverrank.jobs.processes import OwnedProcess
from secured import Authority, in_front_of
from streams import wait_until

SERVICE = "shop"
PRIMARIES = 3


class SecuredValkey(services.Valkey):
    """A Valkey that is spoken to plainly at `port`, and with TLS at `secured_port`, where `certified` by who has a
    certificate of the same authority.
    """

    def __init__(self, authority: Authority, certified: bool = False) -> None:
        super().__init__()
        self.authority, self.certified, self.secured_port = authority, certified, services.free_port()

    @property
    def secured_url(self) -> str:
        """By TLS, and with the certificate that is asked for."""
        own = self.authority
        client = f"&ssl_certfile={own.cert}&ssl_keyfile={own.key}" if self.certified else ""
        return f"rediss://127.0.0.1:{self.secured_port}/0?ssl_ca_certs={own.ca}{client}"

    def __enter__(self) -> Self:
        super().__enter__()
        self._front = in_front_of(self.port, self.authority, own_port=self.secured_port, certified=self.certified)
        self._front.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._front.__exit__(None, None, None)
        finally:
            super().__exit__(kind, error, trace)


class Replica(services.Valkey):
    """Follows another."""

    def __init__(self, primary: services.Valkey) -> None:
        super().__init__()
        self.primary = primary

    def _settings(self, folder: Path) -> dict[str, object]:
        return super()._settings(folder) | {"replicaof": f"127.0.0.1 {self.primary.port}"}

    def _prepare(self, folder: Path) -> OwnedProcess:
        process = super()._prepare(folder)
        at = process.command.index("--replicaof") + 1
        process.command[at : at + 1] = process.command[at].split()
        return process


class Sentinel(services.Valkey):
    """Watches a primary, and has a replica take its place a second after it went."""

    def __init__(self, primary: services.Valkey) -> None:
        super().__init__()
        self.primary = primary

    def _prepare(self, folder: Path) -> OwnedProcess:
        process = super()._prepare(folder)
        settings = folder / "sentinel.conf"
        settings.write_text(
            f"bind 127.0.0.1\nport {self.port}\ndir {folder}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self.primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} 1000\nsentinel failover-timeout {SERVICE} 3000\n",
            "utf-8",
        )
        return OwnedProcess("sentinel", [process.command[0], settings, "--sentinel"], folder / "sentinel.log")


class Watched(NamedTuple):
    """A primary with its replica, and the Sentinel that watches both."""

    primary: services.Valkey
    replica: services.Valkey
    sentinel: services.Valkey

    @property
    def url(self) -> str:
        """By which the job finds the primary."""
        return f"redis+sentinel://127.0.0.1:{self.sentinel.port}/{SERVICE}/0"


@contextmanager
def watched() -> Iterator[Watched]:
    """All three, once the replica follows and the Sentinel knows of it."""
    with services.Valkey() as primary, Replica(primary) as replica, Sentinel(primary) as sentinel:
        asked, follower = redis.Redis(port=sentinel.port), redis.Redis(port=replica.port)
        wait_until(lambda: follower.info("replication")["master_link_status"] == "up")
        wait_until(lambda: [each["is_disconnected"] for each in asked.sentinel_slaves(SERVICE)] == [False])
        yield Watched(primary, replica, sentinel)


class Node(services.Valkey):
    """A primary of a cluster."""

    def __init__(self) -> None:
        super().__init__()
        self.bus_port = services.free_port()

    def _settings(self, folder: Path) -> dict[str, object]:
        return super()._settings(folder) | {
            "cluster-enabled": "yes",
            "cluster-port": self.bus_port,
            "cluster-node-timeout": 2000,
            "cluster-require-full-coverage": "no",
        }


class SecuredNode(SecuredValkey, Node):
    """The same, which says of itself that it is where TLS is spoken."""

    def _settings(self, folder: Path) -> dict[str, object]:
        return super()._settings(folder) | {"cluster-announce-port": self.secured_port}


class Cluster(NamedTuple):
    """Its primaries, each with a third of the slots."""

    nodes: list[Node]

    @property
    def url(self) -> str:
        """By which the job finds them: the first is nobody, the second any of them."""
        nobody = services.free_port()
        return f"redis+cluster://127.0.0.1:{nobody},127.0.0.1:{self.nodes[-1].port}"

    def of(self, key: str) -> Node:
        """Which has the key at the start."""
        return self.nodes[key_slot(key.encode()) * PRIMARIES // REDIS_CLUSTER_HASH_SLOTS]

    def admin(self, node: services.Valkey) -> redis.Redis:
        """A client of one of them."""
        return redis.Redis.from_url(node.url, decode_responses=True)

    def hget(self, key: str, field: str) -> str | None:
        """What the node that has the key holds of it."""
        return self.admin(self.of(key)).hget(key, field)


@contextmanager
def cluster(make: Callable[[], Node] = Node) -> Iterator[Cluster]:
    """A cluster in which each node knows of all slots."""
    with ExitStack() as stack:
        nodes = [stack.enter_context(make()) for _ in range(PRIMARIES)]
        running = Cluster(nodes)
        for number, node in enumerate(nodes):
            # Of each node the first slot that `Cluster.of` counts as its own.
            first, beyond = (-(-REDIS_CLUSTER_HASH_SLOTS * k // PRIMARIES) for k in (number, number + 1))
            admin = running.admin(node)
            admin.execute_command("CLUSTER", "ADDSLOTSRANGE", first, beyond - 1)
            admin.execute_command("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            admin.execute_command("CLUSTER", "MEET", "127.0.0.1", nodes[0].port, nodes[0].bus_port)
        for node in nodes:
            wait_until(lambda node=node: knows_all(running.admin(node)))
        yield running


def knows_all(admin: redis.Redis) -> bool:
    """Whether that node knows who has each slot, and they are all there."""
    told = dict(line.split(":") for line in str(admin.execute_command("CLUSTER", "INFO")).split() if ":" in line)
    return told["cluster_state"] == "ok" and told["cluster_slots_ok"] == str(REDIS_CLUSTER_HASH_SLOTS)


def persistent(port: int) -> redis.Redis:
    """A client that asks again where its connection was ended, as Sentinel does to a server that it reconfigures."""
    again = Retry(NoBackoff(), 3)
    return redis.Redis(port=port, decode_responses=True, retry=again, retry_on_error=[redis.ConnectionError])
