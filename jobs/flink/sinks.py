"""Where results go: files, by Flink's FileSink and an assembler of its parts, or Kafka through Flink's Table API.

A file target is written in parts beside it, each finished by a checkpoint or by the end of the input; `Assembly`
appends finished parts to the target, those of one subtask in their order, so that a user's results stay in order.
"""

import gzip
import logging
import os
import re
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from pyflink.common import Encoder
from pyflink.datastream import DataStream, StreamExecutionEnvironment
from pyflink.datastream.connectors.file_system import BucketAssigner, FileSink, OutputFileConfig, RollingPolicy
from pyflink.table import DataTypes, Schema, StreamTableEnvironment
from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.reading import STANDARD
from riverrank.jobs.local.writing import unwritten
from riverrank.operators.flink.channels import LINE_ENCODING, Outputs
from riverrank.state import uids
from riverrank.state.outputs import OUTPUTS

from .java import flink_path
from .sources import table_options, with_clause

log = logging.getLogger(__name__)

PART = re.compile(r"part-(?P<writer>[0-9a-f-]{36})-(?P<number>\d+)")
SWEEP_SECONDS = 1.0
TRANSACTION_TIMEOUT_MS = 600_000  # below the 900,000 that a broker allows unless told otherwise
LINGER_MS = 20  # the longest that a record waits for others, so that not each is a request of its own to the broker


def targets(config: Config) -> dict[str, str]:
    """The file of each output that has one, by the output's name."""
    paths = {name: config.files.of(output) for name, output in OUTPUTS.items()}
    return {name: path for name, path in paths.items() if path}


def topics(config: Config) -> dict[str, str]:
    """The topic of each output that has one and is not written to a file, by the output's name."""
    return {stream: topic for stream, topic in topics_of(config).items() if stream in OUTPUTS}


def outputs(config: Config, tallies: str = "") -> Outputs:
    """What operators have to emit for this configuration; `tallies` is the folder for their counts, if any."""
    return Outputs(frozenset(targets(config)), frozenset(topics(config)), tallies)


def to_parts(lines: DataStream, directory: Path, output: str) -> None:
    """Write lines, of characters that are a byte each, as part files to `directory`, one writer a subtask."""
    sink = (
        FileSink.for_row_format(flink_path(directory), Encoder.simple_string_encoder(LINE_ENCODING))
        .with_bucket_assigner(BucketAssigner.base_path_bucket_assigner())
        .with_rolling_policy(RollingPolicy.on_checkpoint_rolling_policy())
        .with_output_file_config(OutputFileConfig.builder().with_part_prefix("part").build())
        .build()
    )
    uid = uids.SINK.format(output=output, kind="file")
    lines.sink_to(sink).name(uid).uid(uid)


def to_topic(tables: StreamTableEnvironment, records: DataStream, config: Config, output: str, topic: str) -> None:
    """Write records of a key and a value to `topic`."""
    usual = {"properties.linger.ms": str(LINGER_MS)}
    if config.kafka.delivery == "exactly-once":
        usual["properties.transaction.timeout.ms"] = str(TRANSACTION_TIMEOUT_MS)
    options = {**usual, **table_options(config)} | {
        "topic": topic,
        "key.format": "raw",
        "key.fields": "message_key",
        "value.format": "raw",
        "value.fields-include": "EXCEPT_KEY",
        "sink.delivery-guarantee": config.kafka.delivery,
    }
    if config.kafka.delivery == "exactly-once":
        options["sink.transactional-id-prefix"] = f"{config.kafka.transaction_prefix}-{output}"
    table = f"{output}_sink".replace("-", "_")
    tables.execute_sql(
        f"CREATE TEMPORARY TABLE {table} (message_key STRING, message_value BYTES) {with_clause(options)}"
    )
    schema = Schema.new_builder().column("f0", DataTypes.STRING()).column("f1", DataTypes.BYTES()).build()
    newest = records._j_data_stream.getTransformation().getId()
    statements = tables.create_statement_set()
    statements.add_insert(table, tables.from_data_stream(records, schema))
    statements.attach_as_datastream()
    _name_sinks(records.get_execution_environment(), newest, uids.SINK.format(output=output, kind="topic"))


class Assembly:
    """Parts of all file targets, and the thread that appends finished ones to them while the job runs.

    As a context it makes the parts' folders, and at the end appends what is finished, also after a failure, and takes
    the folders away: but for that of a target which could not be written.
    """

    def __init__(self, wanted: dict[str, str]) -> None:
        self._wanted = wanted
        self._targets: dict[str, _Target] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._sweep, name="assembly", daemon=True)

    @property
    def directories(self) -> dict[str, Path]:
        """Where each output's parts go."""
        return {output: target.directory for output, target in self._targets.items()}

    def __enter__(self) -> Self:
        try:
            for output, path in self._wanted.items():
                self._targets[output] = _Target(path)
        except Exception:
            for target in self._targets.values():
                target.close()
            raise
        if self._targets:
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        if self._targets:
            self._thread.join()
        for target in self._targets.values():
            target.close()
        if error is None:
            self.require_written()
        for target in self._targets.values():
            if target.fault is not None:  # beside what stopped the run
                log.warning("%s", target.fault)

    def require_written(self) -> None:
        """Raises what a target that could not be written was worth: `Failure`, or BrokenPipeError (`unwritten`)."""
        for target in self._targets.values():
            if target.fault is not None:
                raise target.fault

    def _sweep(self) -> None:
        while not self._stop.wait(SWEEP_SECONDS):
            for target in self._targets.values():
                target.append_finished()


class _Target:
    """One file with the folder of its parts: beside it, so that both are on one file system, if it may be there. After
    a `fault` nothing more is appended.
    """

    def __init__(self, path: str) -> None:
        self._path = path
        self._next: dict[str, int] = {}
        self.fault: Exception | None = None
        target = None if path == STANDARD else Path(path).absolute()
        prefix, beside = "riverrank-", None
        if target is not None and os.access(target.parent, os.W_OK) and (target.is_file() or not target.exists()):
            prefix, beside = f".{target.name}.parts-", target.parent
        try:
            with ExitStack() as undo:
                self.directory = Path(tempfile.mkdtemp(prefix=prefix, dir=beside))
                undo.callback(self.directory.rmdir)
                self._file: BinaryIO = sys.stdout.buffer if target is None else target.open("wb")
                undo.pop_all()
        except OSError as error:
            raise unwritten(path, error) from error

    def append_finished(self) -> None:
        """Append the parts that are finished."""
        if self.fault is None:
            self._try(self._append)

    def close(self) -> None:
        """Append the parts that are finished, and end the file. Its folder stays where it holds what is missing."""
        self.append_finished()
        if self._path != STANDARD:
            self._try(self._end)
        if not isinstance(self.fault, Failure):
            shutil.rmtree(self.directory)

    def _append(self) -> None:
        for part in self._finished():
            with part.open("rb") as source:
                if self._path.endswith(".gz"):
                    with gzip.open(self._file, "wb") as packed:
                        shutil.copyfileobj(source, packed)
                else:
                    shutil.copyfileobj(source, self._file)
            self._file.flush()
            part.unlink()

    def _end(self) -> None:
        with self._file:
            if self._path.endswith(".gz") and not self._file.tell():
                gzip.open(self._file, "wb").close()  # of no bytes at all it would be no gzip

    def _try(self, step: Callable[[], None]) -> None:
        """Do it, and note an OSError, which does not always say of what file it is."""
        try:
            step()
        except OSError as error:
            fault = unwritten(self._path, error)
            if isinstance(fault, Failure):
                fault = Failure(f"{fault}; what it lacks is in {self.directory}")
            self.fault = self.fault or fault

    def _finished(self) -> Iterator[Path]:
        """Finished parts, by number and then by writer, none before the one that its writer wrote before it."""
        found = ((int(m["number"]), m["writer"], p) for p in self.directory.iterdir() if (m := PART.fullmatch(p.name)))
        for number, writer, part in sorted(found):
            if number == self._next.get(writer, 0):
                self._next[writer] = number + 1
                yield part


def _name_sinks(env: StreamExecutionEnvironment, after: int, uid: str) -> None:
    """Give uids to the transformations that came after the one of id `after`: the Table API gives none itself."""
    pending, number = list(env._j_stream_execution_environment.getTransformations()), 0
    while pending:
        transformation = pending.pop(0)
        if transformation.getId() <= after:
            continue
        if transformation.getUid() is None and "Partition" not in transformation.getClass().getSimpleName():
            transformation.setUid(f"{uid}-{number}" if number else uid)
        number += 1
        pending.extend(transformation.getInputs())
