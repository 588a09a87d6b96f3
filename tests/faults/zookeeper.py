"""The store by which a JobManager's successor knows the jobs: the ZooKeeper that is in Flink's own jar."""

import os
import socket
from pathlib import Path

from riverrank.jobs.dev.services import Service
from riverrank.jobs.flink import jars
from riverrank.jobs.processes import OwnedProcess

MAIN = "org.apache.flink.shaded.zookeeper3.org.apache.zookeeper.server.ZooKeeperServerMain"


class ZooKeeper(Service):
    """One ZooKeeper server on 127.0.0.1."""

    name = "zookeeper"

    def conf(self, folder: Path) -> dict[str, object]:
        """The Flink options with which a cluster keeps its jobs by it, and in that folder what is too large for it."""
        return {
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"127.0.0.1:{self.port}",
            "high-availability.storageDir": folder.as_uri(),
        }

    def _prepare(self, folder: Path) -> OwnedProcess:
        settings = {
            "dataDir": folder / "data",
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "tickTime": 500,  # ms, of which a session has at least two
        }
        file = folder / "zoo.cfg"
        file.write_text("\n".join(f"{key}={value}" for key, value in settings.items()), "utf-8")
        java = jars.java_home() / "bin" / "java"
        options = ("-Xmx64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        classes = os.pathsep.join(map(str, jars.flink()))
        return OwnedProcess(self.name, [java, *options, "-cp", classes, MAIN, file], folder / "zookeeper.log")

    def _serves(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as connection:
                connection.sendall(b"srvr")
                return connection.recv(64).startswith(b"Zookeeper version")
        except OSError:
            return False  # not listening yet
