"""Flink on this machine alone: a JobManager in the Java that serves this process, and TaskManagers beside it.

The slots of a TaskManager share one Python interpreter and its lock, so each TaskManager is a process of its own, and
keeps what runs Python on a core of its own, as far as there are cores.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.jobs.processes import OwnedProcess, free_port, tail
from riverrank.operators.flink.shipped import REFUSED, TOLD
from riverrank.state.runtime.environment import CORE, cores
from riverrank.state.runtime.logs import record_of

from . import jars
from .java import flink_path, java_options
from .keeping import Keeping

log = logging.getLogger(__name__)

LOCALHOST = "127.0.0.1"
LAST_LINES = 5  # of the log of a TaskManager that ended
RUNNER = "org.apache.flink.runtime.taskexecutor.TaskManagerRunner"
# What is between operators is what signals can run ahead by, and what a checkpoint has to wait for: little is enough.
SHORT_BUFFERS = {
    "taskmanager.memory.segment-size": "16 kb",
}
# Without Flink's scripts a TaskManager has to be told all of them. Java's heap is as large as Java makes it.
SIZES = {
    "taskmanager.cpu.cores": "1",
    "taskmanager.memory.framework.heap.size": "128 mb",
    "taskmanager.memory.framework.off-heap.size": "128 mb",
    "taskmanager.memory.task.heap.size": "1 gb",
    "taskmanager.memory.task.off-heap.size": "0",
    "taskmanager.memory.managed.size": "0",
    "taskmanager.memory.network.min": "64 mb",
    "taskmanager.memory.network.max": "64 mb",
    "taskmanager.memory.jvm-metaspace.size": "256 mb",
    "taskmanager.memory.jvm-overhead.min": "192 mb",
    "taskmanager.memory.jvm-overhead.max": "192 mb",
}


class EmbeddedFlink:
    """A Flink with room for the job of `config`, its files in the folder `scratch`; in a with statement, which ends it.

    `options` are what a client needs to hand it the job. What it keeps goes to `keeping`, or ends with it.
    """

    def __init__(self, config: Config, scratch: Path, keeping: Keeping | None = None) -> None:
        slots = config.job.parallelism * (2 if config.job.separate else 1)
        count = min(slots, len(cores()))
        self.options = {**_options(config, scratch, slots=-(-slots // count)), **_kept(config, scratch, keeping)}
        self._scratch = scratch
        command = [*_java(config.kafka.java_options()), RUNNER, "--configDir", str(scratch)]
        self._taskmanagers = [
            OwnedProcess(
                f"taskmanager-{number}",
                command,
                scratch / f"taskmanager-{number}.log",
                {CORE: os.environ.get(CORE, str(number))},
            )
            for number in range(count)
        ]
        self.refusal = ""  # what an operator can't go on from its state for, the first that was told
        self._read = {taskmanager.log: 0 for taskmanager in self._taskmanagers}  # of each log, bytes
        self._jobmanager: Any = None
        self._starter = ThreadPoolExecutor(1, thread_name_prefix="flink-starter")
        self._started: Future[None] = Future()

    def __enter__(self) -> Self:
        lines = [f"{key}: {msgspec.json.encode(value).decode()}\n" for key, value in self.options.items()]
        (self._scratch / "config.yaml").write_text("".join(lines), "utf-8")
        for taskmanager in self._taskmanagers:
            taskmanager.start()
        self._started = self._starter.submit(self._start_jobmanager)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        from py4j.protocol import Py4JError  # noqa: PLC0415

        for taskmanager in self._taskmanagers:
            taskmanager.kill()  # nothing of it is kept
        self._starter.shutdown()
        if self._jobmanager is not None:
            with suppress(Py4JError):  # it is in the Java that may have ended
                self._jobmanager.closeAsync()

    @property
    def page(self) -> str:
        """Where Flink shows the job."""
        return f"http://{LOCALHOST}:{self.options['rest.port']}"

    def wait(self) -> None:
        """Wait for the JobManager, which starts while the job is built; raises what its start did."""
        self._started.result()

    def require_running(self) -> None:
        """Raises `Failure`, with the end of its log, where a TaskManager has ended."""
        for taskmanager in self._taskmanagers:
            if taskmanager.pid is None:
                said = [line for line in tail(taskmanager.log).splitlines() if " INFO " not in line]
                why = ": ".join(["see whether the machine was out of memory", *said[-LAST_LINES:]])
                raise Failure(f"{taskmanager.name}, a process of this run, ended ({taskmanager.ending}); {why}")

    def tell(self) -> None:
        """Log what operators logged since the last call; a refusal is kept in place of that."""
        for path, begin in self._read.items():
            if not path.is_file():
                continue
            with path.open("rb") as file:
                file.seek(begin)
                whole, end, _ = file.read().rpartition(b"\n")
            self._read[path] = begin + len(whole + end)
            for line in whole.decode("utf-8", "replace").split("\n"):
                record = _told(line)
                if record is None:
                    continue
                if (said := record.getMessage()).startswith(REFUSED):
                    self.refusal = self.refusal or said.removeprefix(REFUSED)
                else:
                    logging.getLogger(record.name).handle(record)

    def _start_jobmanager(self) -> None:
        """Over a connection of its own. PyFlink has Java look for the job's jars in the one thread that serves the
        connection which it told of them: this thread, had it the same gateway, could take that connection.
        """
        from py4j.java_gateway import JavaGateway  # noqa: PLC0415
        from pyflink.java_gateway import get_gateway  # noqa: PLC0415 (it starts Java)

        flink = JavaGateway(gateway_parameters=get_gateway().gateway_parameters).jvm.org.apache.flink
        loaded = flink.configuration.GlobalConfiguration.loadConfiguration(str(self._scratch))
        self._jobmanager = flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint(loaded)
        self._jobmanager.startCluster()


def _told(line: str) -> logging.LogRecord | None:
    """What an operator logged as this line, as text or as JSON; None for a line of Flink's."""
    if line.startswith(TOLD):
        return logging.makeLogRecord(
            {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": line.removeprefix(TOLD)}
        )
    return record_of(line)


def separated(config: Config) -> Config:
    """`config` with slots of their own for answers, where there is more than one core."""
    job = msgspec.structs.replace(config.job, separate=config.job.separate or len(cores()) > 1)
    return msgspec.structs.replace(config, job=job)


def _java(options: Sequence[str]) -> list[str]:
    """The command of a TaskManager's Java, up to the class that it runs, with further `options`."""
    logs = f"-Dlog4j.configurationFile={(jars.flink_home() / 'conf' / 'log4j-console.properties').as_uri()}"
    java = jars.java_home() / "bin" / "java"
    return [str(java), *java_options(), *options, logs, "-cp", os.pathsep.join(map(str, jars.flink()))]


def _options(config: Config, scratch: Path, slots: int) -> Mapping[str, str]:
    options = {
        "jobmanager.rpc.address": LOCALHOST,
        "jobmanager.rpc.port": str(free_port()),
        "jobmanager.bind-host": LOCALHOST,
        "taskmanager.host": LOCALHOST,
        "taskmanager.bind-host": LOCALHOST,
        "taskmanager.numberOfTaskSlots": str(slots),
        "rest.address": LOCALHOST,
        "rest.bind-address": LOCALHOST,
        "rest.port": str(free_port()),
        "web.submit.enable": "false",  # nobody uploads a job there: this one is submitted by its graph
        "cluster.registration.error-delay": "100 ms",  # a TaskManager that was ready before: not the usual 10 s
        "io.tmp.dirs": str(scratch),
        "execution.target": "remote",
        "python.executable": sys.executable,
        "restart-strategy.type": "none",
        "execution.buffer-timeout.interval": "2 ms",  # as in flink-conf
        **SHORT_BUFFERS,
        **SIZES,
    }
    if config.kafka.bootstrap:
        needed = [*jars.kafka_connector(), *(jars.kafka_tokens() if config.kafka.java_options() else ())]
        options["pipeline.jars"] = ";".join(path.as_uri() for path in needed)
    return options


def _kept(config: Config, scratch: Path, keeping: Keeping | None) -> Mapping[str, str]:
    """The options of checkpoints, where there are any: of a run that reads topics."""
    if not config.kafka.bootstrap:
        return {}
    options = {
        "execution.checkpointing.interval": f"{config.job.checkpoint_every} ms",
        "execution.checkpointing.dir": flink_path(keeping.checkpoints if keeping else scratch / "checkpoints"),
        "execution.checkpointing.storage": "filesystem",
    }
    if keeping:
        options["execution.checkpointing.externalized-checkpoint-retention"] = "RETAIN_ON_CANCELLATION"
    if keeping and keeping.last:
        options["execution.state-recovery.path"] = flink_path(keeping.last)
    return options
