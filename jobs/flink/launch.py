"""Runs the job: on a Flink embedded in this process, or as the client of a cluster's `flink run`.

A failure is told as one line, its root cause.
"""

import logging
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from riverrank.jobs.config.preflight import check_inputs, check_readable, check_state
from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.interruptions import terminable, uninterrupted
from riverrank.jobs.local.reading import plain_copy
from riverrank.operators.tally import Tally, read_tally
from riverrank.state.outputs import OUTPUTS

from .announcing import announced
from .embedded import EmbeddedFlink, separated
from .java import flink_path, java_failures, mend_of_settings, mend_of_state, prepare_environment, root_cause
from .keeping import Keeping, kept_in

if TYPE_CHECKING:
    from pyflink.common import JobClient
    from pyflink.datastream import StreamExecutionEnvironment

    from .topology import Operators

MODE = "python.execution-mode"
POLL_SECONDS = 0.1
STOP_SECONDS = 30

log = logging.getLogger(__name__)


def run(config: Config, operators: "Operators | None" = None) -> None:
    """Run the job of `config`, which `preflight` passed, on an embedded Flink until its input ends, or until it is
    interrupted.

    `operators` are the adapters to run in place of the job's own, for a measurement.

    Raises:
        UsageError: what was asked for cannot be run as it is said.
        Failure: the job could not start, or failed; the message is the root cause.
    """
    check_state(config)
    with ExitStack() as stack:
        stack.enter_context(terminable())
        with uninterrupted():
            prepare_environment(config.kafka.java_options())
        topics = {stream: topic for stream, topic in topics_of(config).items() if stream not in OUTPUTS}
        keeping = stack.enter_context(kept_in(config.job.state, topics))
        if config.kafka.bootstrap:
            log.info(keeping or "state: nothing outlives this run; --state DIR keeps it for the next")
        for line in announced(config, goes_on=keeping is not None and keeping.last is not None):
            log.info(line)
        config = stack.enter_context(_spooled(config))
        take_interruption = stack.enter_context(uninterrupted())  # all that is below imports modules or asks Java
        scratch = Path(stack.enter_context(_scratch()))
        os.environ.setdefault("FLINK_LOG_DIR", str(scratch))
        tallies = scratch / "tallies"
        tallies.mkdir()
        take_interruption()
        try:
            _execute(config, scratch, operators, keeping, take_interruption)
        finally:
            tally = _tally(tallies)
            if any(tallies.iterdir()):
                log.info("%d events accepted, %d slates", tally.accepted, tally.slates)
            for line in tally.told():
                log.info(line)
        if config.files.events and operators is None and (fault := tally.fault):
            raise Failure(fault)


def submit(config: Config) -> None:
    """Hand the job of `config` to the cluster that this process was started for by `flink run`; raises as `run` does.

    A file target is a folder there, of Flink's part files. Parallelism is Flink's (`-p`) unless the configuration has
    one above 1; checkpoints are Flink's where its configuration has an interval.
    """
    check_inputs(config)
    check_readable(config)
    check_state(config)
    if "-" in msgspec.structs.astuple(config.files):
        raise UsageError("a job on a cluster has no standard input and output: give files, or topics")
    with java_failures(partial(mend_of_settings, instead="start without this savepoint")):
        env = _environment()
        if config.job.parallelism == 1:
            job = msgspec.structs.replace(config.job, parallelism=max(1, env.get_parallelism()))
            config = msgspec.structs.replace(config, job=job)
        if env.get_checkpoint_interval() <= 0:
            env.enable_checkpointing(config.job.checkpoint_every)
        _build(env, config, {output: Path(path) for output, path in _targets(config).items()})
        env.execute(config.job.name)


def _execute(
    config: Config,
    scratch: Path,
    operators: "Operators | None",
    keeping: Keeping | None,
    take_interruption: Callable[[], None],
) -> None:
    config = separated(config)
    # Flink is the first of all: it takes seconds to start.
    with java_failures(partial(mend_of_state, keeping=keeping)), EmbeddedFlink(config, scratch, keeping) as flink:
        from .sinks import Assembly  # noqa: PLC0415 (as below)

        with Assembly(_targets(config)) as assembly:
            env = _environment(flink.options)
            _build(env, config, assembly.directories, operators, scratch / "tallies")
            flink.wait()
            take_interruption()
            client = env.execute_async(config.job.name)
            log.info("running; Flink's page is %s", flink.page)
            with _refusals_told(flink):
                required = take_interruption, flink.tell, flink.require_running, assembly.require_written
                drain_ms = config.cache.drain if config.redis.url else 0
                _run_to_end(client, required, partial(_stop, keeping=keeping, drain_ms=drain_ms))


# Flink's modules start Java when they are imported or first used: only once all is prepared.


def _environment(options: Mapping[str, str] | None = None) -> "StreamExecutionEnvironment":
    """That of the Flink that `options` lead to; without them, of the cluster that this process is the client of."""
    from pyflink.common import Configuration  # noqa: PLC0415
    from pyflink.datastream import StreamExecutionEnvironment  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    if options is None:
        env = StreamExecutionEnvironment.get_execution_environment()
    else:
        settings = Configuration()
        for key, value in options.items():
            settings.set_string(key, value)
        # PyFlink's own way makes an environment that starts a Flink in this Java, whatever the options say.
        java = get_gateway().jvm.org.apache.flink.streaming.api.environment.StreamExecutionEnvironment
        env = StreamExecutionEnvironment(java(settings._j_configuration))
    _require_thread_mode(env)
    return env


def _build(
    env: "StreamExecutionEnvironment",
    config: Config,
    parts: dict[str, Path],
    operators: "Operators | None" = None,
    tallies: Path | None = None,
) -> None:
    from .topology import Operators, build  # noqa: PLC0415

    files = config.files  # operators read the items, in processes that have another working directory
    if files.items:
        files = msgspec.structs.replace(files, items=str(Path(files.items).absolute()))
    prior = config.behaviour.prior
    if prior.out:
        prior = msgspec.structs.replace(prior, out=str(Path(prior.out).absolute()))
    behaviour = msgspec.structs.replace(config.behaviour, prior=prior)
    config = msgspec.structs.replace(config, files=files, behaviour=behaviour)
    build(env, config, parts, operators or Operators(), str(tallies or ""))


def _tally(tallies: Path) -> Tally:
    """What all subtasks counted, in the order of the inputs."""
    tally = Tally()
    for path in sorted(tallies.iterdir()):
        tally.add(read_tally(path))
    return tally


def _targets(config: Config) -> dict[str, str]:
    from .sinks import targets  # noqa: PLC0415

    return targets(config)


@contextmanager
def _refusals_told(flink: EmbeddedFlink) -> Iterator[None]:
    """A job that failed since an operator can't go on from its state fails with what that operator told: Flink may not
    know it (see `operators.flink.shipped.refusals_told`).
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415

    try:
        yield
    except Py4JJavaError as error:
        flink.tell()
        if flink.refusal:
            raise Failure(f"the job failed: {flink.refusal}") from error
        raise
    finally:
        flink.tell()


def _run_to_end(
    client: "JobClient", required: Sequence[Callable[[], None]], stop: Callable[["JobClient"], None]
) -> None:
    """Wait for the job, as long as none of `required` raises; who is interrupted calls `stop` first."""
    result = client.get_job_execution_result()
    try:
        while not result.done():
            for require in required:
                require()
            time.sleep(POLL_SECONDS)
    except KeyboardInterrupt:
        stop(client)
        raise
    result.result()


def _stop(client: "JobClient", keeping: Keeping | None, drain_ms: int) -> None:
    """Stop the job, so that all that was read is answered: the last slates go out and sinks commit. Else cancel it.
    Where nothing is kept, it ends as its input would, and may wait for Redis as long; else its savepoint is what the
    next run goes on from.

    `JobClient.stop_with_savepoint` of PyFlink is broken; Java's is not.
    """
    from py4j.protocol import Py4JJavaError  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    jvm = get_gateway().jvm
    log.info("stopping; once more Ctrl-C ends it at once")
    with _scratch() as folder:
        canonical = jvm.org.apache.flink.core.execution.SavepointFormatType.CANONICAL
        try:
            target = keeping.savepoints if keeping else folder
            stopped = client._j_job_client.stopWithSavepoint(keeping is None, flink_path(target), canonical)
            stopped.get(STOP_SECONDS + (0 if keeping else drain_ms // 1000), jvm.java.util.concurrent.TimeUnit.SECONDS)
        except Py4JJavaError as error:
            then = "what was not committed is lost" if keeping is None else keeping.next_run()
            log.warning("it could not be stopped in order (%s): %s", root_cause(error), then)
            client.cancel().result()


def _require_thread_mode(env: "StreamExecutionEnvironment") -> None:
    """Thread mode, unless something else was asked for: state written in the other mode would be dropped unsaid."""
    from pyflink.common import Configuration  # noqa: PLC0415
    from pyflink.java_gateway import get_gateway  # noqa: PLC0415

    configuration = env._j_stream_execution_environment.getConfiguration()
    option = get_gateway().jvm.org.apache.flink.python.PythonOptions.PYTHON_EXECUTION_MODE
    mode = configuration.get(option)
    if configuration.contains(option) and mode != "thread":
        raise UsageError(
            f"{MODE} is {mode}: this job runs in thread mode only, and a savepoint restored in another mode silently "
            f"loses all keyed state; leave it out or set {MODE}: thread"
        )
    thread = Configuration()
    thread.set_string(MODE, "thread")
    env.configure(thread)


@contextmanager
def _spooled(config: Config) -> Iterator[Config]:
    """`config` with temporary files in place of standard input, as Flink reads files only, and of those that Flink
    would read otherwise than `replay` does. A damaged file ends the run here, by its name, which Flink does not tell.
    """
    with ExitStack() as stack:
        files = config.files
        for name in ("events", "items"):
            path = getattr(files, name)
            if path == "-":
                spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="riverrank-stdin-", suffix=".jsonl"))
                shutil.copyfileobj(sys.stdin.buffer, spool)
                spool.flush()
                path = spool.name
            if path:
                spool = stack.enter_context(tempfile.NamedTemporaryFile(prefix="riverrank-lines-", suffix=".jsonl"))
                path = spool.name if plain_copy(path, spool) else path
            files = msgspec.structs.replace(files, **{name: path})
        yield msgspec.structs.replace(config, files=files)


def _scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder for as long as it is used; Flink, on its way out, may still write to it while it is taken away."""
    return tempfile.TemporaryDirectory(prefix="riverrank-", ignore_cleanup_errors=True)
