"""A real Flink cluster out of the apache-flink wheel: one JobManager and its TaskManagers, each a JVM of its own.

For tests, benchmarks and a look around on one machine, started by the wheel's own scripts with `flink-conf/`. The
installed wheel is left as it is: what belongs in Flink's `lib/` besides stands in a folder of links.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from riverrank.jobs.flink import jars
from riverrank.jobs.flink.keeping import newest
from riverrank.jobs.processes import OwnedProcess, ServiceError, free_port, tail

START_SECONDS = 120.0
POLL_SECONDS = 0.2
CHECKOUT_CONF = Path(__file__).resolve().parents[2] / "flink-conf"
# Small and quick to notice a loss: 1.25 GB of JVM and room for Python beside it make 1.5 GB a TaskManager.
TEST_CONF: dict[str, object] = {
    "jobmanager.memory.process.size": "1024m",
    "taskmanager.memory.process.size": "1280m",
    "taskmanager.memory.network.min": "32m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.managed.size": "32m",
    "metrics.reporters": "none",  # they would listen on every interface
    "cluster.registration.error-delay": "100 ms",  # a TaskManager that was ready first: not the usual 10 s
    # They live for seconds, or do little: the quick compiler saves a fifth of what a submission takes.
    "env.java.opts.client": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "env.java.opts.jobmanager": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC",
    "heartbeat.interval": "2 s",
    "heartbeat.timeout": "20 s",
}

# What the environment says of these, Flink's scripts take in place of what its configuration says.
OF_CONF = dict.fromkeys((f"FLINK_ENV_JAVA_OPTS{whose}" for whose in ("", "_JM", "_TM", "_CLI")), "")


class FlinkCluster:
    """A standalone cluster on 127.0.0.1, to be used in a with statement.

    Args:
        taskmanagers: how many; one slot each is what thread mode wants, for slots of one share an interpreter.
        slots: of each TaskManager.
        conf: Flink options that go over those of `flink-conf/config.yaml`.
        conf_folder: another folder than the checkout's `flink-conf`.
    """

    def __init__(
        self,
        taskmanagers: int = 2,
        slots: int = 1,
        conf: Mapping[str, object] | None = None,
        conf_folder: Path = CHECKOUT_CONF,
    ) -> None:
        self._wanted = taskmanagers
        self._slots = slots
        self._conf = dict(conf or {})
        self._conf_source = conf_folder
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._jobmanager: OwnedProcess | None = None
        self._taskmanagers: list[OwnedProcess] = []
        self._rest_port = 0

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="riverrank-flink-")
        try:
            self._lay_out()
            jobmanager = self._jobmanager = self._script("jobmanager", "jobmanager")
            jobmanager.start()
            started = [self._add_taskmanager() for _ in range(self._wanted)]
            jobmanager.wait_until(lambda: bool(self._registered()), START_SECONDS)
            for process in started:
                process.wait_until(partial(self._knows, process.name), START_SECONDS)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    @property
    def folder(self) -> Path:
        """Its temporary directory: conf, lib, logs, checkpoints."""
        if self._folder is None:
            raise ServiceError("the Flink cluster is a context manager: use it in a with statement")
        return Path(self._folder.name)

    @property
    def rest_url(self) -> str:
        """Where its REST interface and its web page are."""
        return f"http://127.0.0.1:{self._rest_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What Flink's scripts need to work on this cluster, over the environment of this process."""
        flink = jars.flink_home()
        return {
            "JAVA_HOME": str(jars.java_home()),
            "FLINK_HOME": str(flink),
            "FLINK_CONF_DIR": str(self.folder / "conf"),
            "FLINK_LIB_DIR": str(self.folder / "lib"),
            "FLINK_OPT_DIR": str(flink / "opt"),
            "FLINK_PLUGINS_DIR": str(flink / "plugins"),
            "FLINK_LOG_DIR": str(self.folder / "log"),
            "FLINK_PID_DIR": str(self.folder),
            **OF_CONF,
            # pemja starts the first `python` on PATH, whatever python.executable says.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
        }

    @property
    def taskmanagers(self) -> list[int]:
        """The indices of the TaskManagers that run."""
        return [index for index, process in enumerate(self._taskmanagers) if process.pid is not None]

    @property
    def pids(self) -> dict[str, int]:
        """The ids of the processes that run, each a Java, by their names."""
        processes = [each for each in (self._jobmanager, *self._taskmanagers) if each is not None]
        return {process.name: process.pid for process in processes if process.pid is not None}

    def flink(self, *arguments: object, timeout_seconds: float = 180.0) -> str:
        """Run Flink's command line against this cluster; what it printed.

        Raises:
            ServiceError: its exit code is not 0; the message holds the end of what it printed.
        """
        command = [str(jars.flink_home() / "bin" / "flink"), *map(str, arguments)]
        done = subprocess.run(
            command,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=timeout_seconds,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"flink {arguments[0]} failed (exit code {done.returncode}):\n{done.stdout[-6000:]}")
        return done.stdout

    def run(self, *arguments: object, detached: bool = True, timeout_seconds: float = 180.0) -> str:
        """`flink run` with these arguments (`-py FILE`, `-pyfs ZIP`, `-s SAVEPOINT`, `-p N`, ...); the job's id.

        Detached it returns when the job is submitted; `wait_for` says when it runs.
        """
        printed = self.flink("run", *(["-d"] if detached else []), *arguments, timeout_seconds=timeout_seconds)
        if not (found := re.search(r"JobID ([0-9a-f]{32})", printed)):
            raise ServiceError(f"flink run submitted no job:\n{printed[-6000:]}")
        return found[1]

    def status(self, job_id: str) -> str:
        """The job's state, as RUNNING or FINISHED."""
        return str(self.rest(f"/jobs/{job_id}")["state"])

    def wait_for(self, job_id: str, state: str = "RUNNING", timeout_seconds: float = 120.0) -> None:
        """Wait until the job, and with RUNNING all its tasks, are in that state.

        Raises:
            ServiceError: the job ended otherwise, or the time is up; the message holds the root cause.
        """
        deadline = time.monotonic() + timeout_seconds
        while True:
            job = self.rest(f"/jobs/{job_id}")
            if job["state"] == state and (
                state != "RUNNING" or all(vertex["status"] == "RUNNING" for vertex in job["vertices"])
            ):
                return
            if job["state"] in ("FAILED", "CANCELED", "FINISHED") or time.monotonic() > deadline:
                raise ServiceError(f"job {job_id} is {job['state']}, not {state}: {self.root_cause(job_id)}")
            time.sleep(POLL_SECONDS)

    def root_cause(self, job_id: str) -> str:
        """The newest failure of the job and what caused it, a line each; the empty string where there was none."""
        entries = self.rest(f"/jobs/{job_id}/exceptions")["exceptionHistory"]["entries"]
        lines = str(entries[0]["stacktrace"]).splitlines() if entries else []
        return "\n".join(line for line in lines if not line.lstrip().startswith(("at ", "... ")))

    def workers(self, job_id: str) -> set[int]:
        """The TaskManagers that the job's tasks run on, by their indices."""
        vertices = self.rest(f"/jobs/{job_id}")["vertices"]
        subtasks = (
            each for vertex in vertices for each in self.rest(f"/jobs/{job_id}/vertices/{vertex['id']}")["subtasks"]
        )
        return {int(str(each["taskmanager-id"]).rpartition("-")[2]) for each in subtasks}

    def stop_with_savepoint(self, job_id: str, folder: Path, timeout_seconds: float = 120.0) -> str:
        """Stop the job with a savepoint in that folder; the savepoint's path, for `run("-s", path, ...)`.

        By REST: PyFlink's own call is broken.
        """
        target = {"targetDirectory": folder.resolve().as_uri(), "drain": False}
        request = self.rest(f"/jobs/{job_id}/stop", target)["request-id"]
        location = self._saved(job_id, request, timeout_seconds)
        self.wait_for(job_id, "FINISHED")
        return location

    def savepoint(self, job_id: str, folder: Path, timeout_seconds: float = 120.0) -> str:
        """Take a savepoint of the running job in that folder; its path."""
        request = self.rest(f"/jobs/{job_id}/savepoints", {"target-directory": folder.resolve().as_uri()})["request-id"]
        return self._saved(job_id, request, timeout_seconds)

    def _saved(self, job_id: str, request: str, timeout_seconds: float) -> str:
        """The path of the savepoint that was asked for."""
        deadline = time.monotonic() + timeout_seconds
        while time.monotonic() < deadline:
            answer = self.rest(f"/jobs/{job_id}/savepoints/{request}")
            if answer["status"]["id"] == "COMPLETED":
                operation = answer["operation"]
                if "location" not in operation:
                    raise ServiceError(f"no savepoint of job {job_id}: {operation['failure-cause']['stack-trace']}")
                return str(operation["location"])
            time.sleep(POLL_SECONDS)
        raise ServiceError(f"no savepoint of job {job_id} after {timeout_seconds:.0f} s: {self.root_cause(job_id)}")

    def cancel(self, job_id: str) -> None:
        """Cancel the job and wait until it is."""
        self.rest(f"/jobs/{job_id}?mode=cancel", method="PATCH")
        self.wait_for(job_id, "CANCELED")

    def kill_taskmanager(self, index: int) -> None:
        """End that TaskManager as a crash would (kill -9), with its Python workers."""
        self._taskmanagers[index].kill()

    def pause_taskmanager(self, index: int) -> None:
        """Stop that TaskManager where it stands (SIGSTOP), until `resume_taskmanager`."""
        self._signal(self._taskmanagers[index], signal.SIGSTOP)

    def resume_taskmanager(self, index: int) -> None:
        """Let a TaskManager that was paused go on (SIGCONT)."""
        self._signal(self._taskmanagers[index], signal.SIGCONT)

    def start_taskmanager(self) -> int:
        """Start one more TaskManager and wait until the JobManager knows it; its index."""
        added = self._add_taskmanager()
        added.wait_until(partial(self._knows, added.name), START_SECONDS)
        return len(self._taskmanagers) - 1

    def kill_jobmanager(self) -> None:
        """End the JobManager as a crash would (kill -9). Without high availability its jobs are gone with it."""
        assert self._jobmanager is not None, "it is started with the cluster"
        self._jobmanager.kill()

    def start_jobmanager(self) -> None:
        """Start the JobManager anew, at its ports, and wait until all TaskManagers that run are with it again."""
        jobmanager = self._jobmanager
        assert jobmanager is not None, "it is started with the cluster"
        jobmanager.start()
        running = {self._taskmanagers[index].name for index in self.taskmanagers}
        jobmanager.wait_until(lambda: running <= self._registered(), START_SECONDS)

    def last_checkpoint(self, job_id: str) -> str:
        """The newest checkpoint of the job that is whole, for `run("-s", path, ...)`, whether or not the job is known.

        Raises:
            ServiceError: there is none in the cluster's own folder of checkpoints.
        """
        if (last := newest(self.folder / "checkpoints" / job_id)) is None:
            raise ServiceError(f"job {job_id} has no checkpoint in {self.folder / 'checkpoints'}")
        return last.as_uri()

    def logs(self) -> str:
        """The end of each process's log, for an error message."""
        processes = [process for process in (self._jobmanager, *self._taskmanagers) if process]
        return "\n".join(f"--- {process.name}\n{tail(process.log)}" for process in processes)

    def rest(self, path: str, body: Mapping[str, object] | None = None, method: str | None = None) -> Any:
        """One REST call: GET, or POST where there is a body; the answer."""
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(self.rest_url + path, data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return json.load(answer)
        except urllib.error.HTTPError as error:
            raise ServiceError(f"{path} answered {error.code}: {error.read().decode('utf-8', 'replace')}") from error

    def _lay_out(self) -> None:
        if not (self._conf_source / "config.yaml").is_file():
            raise ServiceError(f"no config.yaml in {self._conf_source}: run from a checkout, or give conf_folder")
        for name in ("lib", "log", "checkpoints", "savepoints"):
            (self.folder / name).mkdir()
        link_lib(self.folder / "lib")
        shutil.copytree(self._conf_source, self.folder / "conf")
        self._rest_port = free_port()
        own = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.bind-host": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "taskmanager.host": "127.0.0.1",
            "taskmanager.bind-host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": self._slots,
            "rest.address": "127.0.0.1",
            "rest.bind-address": "127.0.0.1",
            "rest.port": self._rest_port,
            "io.tmp.dirs": self.folder,
            "execution.checkpointing.dir": (self.folder / "checkpoints").as_uri(),
            "execution.checkpointing.savepoint-dir": (self.folder / "savepoints").as_uri(),
            "python.executable": sys.executable,
            "python.client.executable": sys.executable,
        }
        write_conf(self.folder / "conf" / "config.yaml", {**TEST_CONF, **own, **self._conf})

    def _script(self, kind: str, name: str, *arguments: str) -> OwnedProcess:
        """The wheel's script in the foreground: it becomes the JVM, so the process id is the JVM's."""
        command: list[str | Path] = [jars.flink_home() / "bin" / f"{kind}.sh", "start-foreground", *arguments]
        return OwnedProcess(name, command, self.folder / "log" / f"{name}.out", self.environment)

    def _add_taskmanager(self) -> OwnedProcess:
        name = f"taskmanager-{len(self._taskmanagers)}"
        process = self._script("taskmanager", name, "-D", f"taskmanager.resource-id={name}")
        self._taskmanagers.append(process)
        process.start()
        return process

    def _signal(self, process: OwnedProcess, number: signal.Signals) -> None:
        if process.pid is None:
            raise process.error("does not run")
        os.killpg(process.pid, number)

    def _knows(self, name: str) -> bool:
        return name in self._registered()

    def _registered(self) -> set[str]:
        """The names of the TaskManagers that the JobManager knows; none while it does not answer."""
        try:
            return {str(known["id"]) for known in self.rest("/taskmanagers")["taskmanagers"]}
        except (OSError, ServiceError):
            return set()  # it is starting: what waits for it has a limit of time

    def _close(self) -> None:
        for process in (*self._taskmanagers, self._jobmanager):
            if process is not None:
                process.kill()  # nothing of it is kept, so nothing is worth the wait of a clean end
        if self._folder is not None:
            self._folder.cleanup()
        self._taskmanagers, self._jobmanager, self._folder = [], None, None


def link_lib(folder: Path) -> None:
    """Fill a folder for `FLINK_LIB_DIR`: links to Flink's own lib, its Python jar, the Kafka connector, and what that
    reads tokens with.
    """
    for jar in [*jars.flink(), *jars.kafka_connector(), *jars.kafka_tokens()]:
        (folder / jar.name).symlink_to(jar)


def write_conf(path: Path, options: Mapping[str, object]) -> None:
    """Rewrite a config.yaml with these options over its own; one of None is taken out."""
    from ruamel.yaml import YAML  # noqa: PLC0415 (a dependency of apache-flink)

    yaml = YAML(typ="safe")
    yaml.width = 10_000
    yaml.default_flow_style = False
    flat = {**flattened(yaml.load(path.read_text("utf-8"))), **options}
    with path.open("w", encoding="utf-8") as file:
        yaml.dump({key: str(value) for key, value in flat.items() if value is not None}, file)


def flattened(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """The options of a config.yaml by their whole keys."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flattened(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat
