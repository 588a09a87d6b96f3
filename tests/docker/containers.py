"""The image's containers without Docker: a Flink laid out as in the image, started by the image's entry point, with
what compose.yaml and the FlinkDeployment say to start.
"""

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from riverrank.jobs.dev import bundle, image
from riverrank.jobs.dev.cluster import OF_CONF, START_SECONDS, TEST_CONF
from riverrank.jobs.dev.services import free_port
from riverrank.jobs.flink import jars
from riverrank.jobs.processes import OwnedProcess
from watched import ROOT

ENTRY = ROOT / "docker" / "docker-entrypoint.sh"
LOCAL = ("jobmanager.bind-host", "taskmanager.bind-host", "taskmanager.host", "rest.bind-address")
# What stands at another place in the image, by its path there.
PLACES = {"/docker-entrypoint.sh": str(ENTRY), "/opt/riverrank/recommend.py": str(bundle.JOB_FILE)}


def put(text: str, places: Mapping[str, object]) -> str:
    """The text with what it names put where it is here."""
    for name, place in {**PLACES, **places}.items():
        text = text.replace(name, str(place))
    return text


class Containers:
    """A JobManager and TaskManagers, each a process with a Flink's home of its own below `folder`, ended with it.

    Args:
        folder: of all homes.
        options: Flink's, by key, given to each as FLINK_PROPERTIES, over those of tests.
        environment: what else the containers are given.
    """

    def __init__(
        self, folder: Path, options: Mapping[str, object], environment: Mapping[str, str] | None = None
    ) -> None:
        self.folder, self._rest = folder, free_port()
        own = {**dict.fromkeys(LOCAL, "127.0.0.1"), "rest.port": self._rest, "jobmanager.rpc.port": free_port()}
        self._options = {**TEST_CONF, **own, "io.tmp.dirs": folder, **options}
        self._given = environment or {}
        self._processes: list[OwnedProcess] = []

    def start(self, name: str, command: Sequence[str], home: str = "") -> OwnedProcess:
        """Start a container of that name with that command, in the home of another that has ended, if any is named."""
        path = self.laid_out(home or name)
        environment = {
            **OF_CONF,
            "FLINK_HOME": str(path),
            "FLINK_PID_DIR": str(path),
            "JAVA_HOME": str(jars.java_home()),
            "JOB_MANAGER_RPC_ADDRESS": "127.0.0.1",
            "FLINK_PROPERTIES": "\n".join(f"{key}: {value}" for key, value in self._options.items()),
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            **self._given,
        }
        process = OwnedProcess(name, [ENTRY, *command], self.folder / f"{name}.out", environment)
        self._processes.append(process)
        process.start()
        return process

    def laid_out(self, name: str) -> Path:
        """The Flink's home of the container of that name."""
        path = self.folder / name
        if not path.exists():
            image.lay_out(path)
        return path

    def jobs(self) -> list[dict[str, Any]]:
        """What the JobManager knows of its jobs; none while it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._rest}/jobs/overview", timeout=30) as answer:
                found: list[dict[str, Any]] = json.load(answer)["jobs"]
        except OSError:
            return []  # it is starting: what waits for it has a limit of time
        return found

    def wait_for_job(self, jobmanager: OwnedProcess) -> str:
        """Wait until its one job runs whole; the job's id."""

        def runs() -> bool:
            return any(0 < job["tasks"]["total"] == job["tasks"]["running"] for job in self.jobs())

        jobmanager.wait_until(runs, START_SECONDS)
        (job,) = self.jobs()
        return str(job["jid"])

    def kill(self) -> None:
        for process in self._processes:
            process.kill()


@contextmanager
def containers(
    folder: Path, options: Mapping[str, object], environment: Mapping[str, str] | None = None
) -> Iterator[Containers]:
    """Containers, ended at the end."""
    running = Containers(folder, options, environment)
    try:
        yield running
    finally:
        running.kill()
