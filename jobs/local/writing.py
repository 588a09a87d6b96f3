"""Where the local pipeline's outputs go: files, standard output, or topics."""

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from riverrank.jobs.config.schema import Config, topics_of
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.outputs import OUTPUTS

from .pipeline import Write
from .reading import AWAY_MS, BUFFER_BYTES, STANDARD

GZIP_LEVEL = 6


@contextmanager
def opened(config: Config) -> Iterator[dict[str, Write]]:
    """How each output that goes anywhere is written to, by its name; all is written out at the end of the context. A
    file holds no tombstone: what is written to one then is nothing.
    """
    with ExitStack() as stack:
        writes: dict[str, Write] = {}
        topics = topics_of(config)
        for name, output in OUTPUTS.items():
            if path := config.files.of(output):
                writes[name] = _to_file(stack, path)
            elif name in topics:
                writes[name] = _to_topic(stack, config, topics[name])
        yield writes


def _to_file(stack: ExitStack, path: str) -> Write:
    file = sys.stdout.buffer if path == STANDARD else _created(path)
    put, end = file.write, file.flush if path == STANDARD else file.close

    def write(key: str, value: bytes | None) -> None:
        if value is None:
            return
        try:
            put(value)
            put(b"\n")
        except OSError as error:
            raise unwritten(path, error) from error

    def finish() -> None:
        try:
            end()
        except OSError as error:
            raise unwritten(path, error) from error

    stack.callback(finish)
    return write


def unwritten(path: str, error: OSError) -> Exception:
    """What is raised for `error`: a reader of standard output that has seen enough is no failure of ours."""
    where = "standard output" if path == STANDARD else path
    return error if isinstance(error, BrokenPipeError) else Failure(f"cannot write {where}: {error.strerror}")


def _to_topic(stack: ExitStack, config: Config, topic: str) -> Write:
    from kafka import KafkaProducer  # noqa: PLC0415 - slow to import, and files need none of it
    from kafka.errors import KafkaError  # noqa: PLC0415 - likewise

    limits = {"delivery_timeout_ms": AWAY_MS, "request_timeout_ms": AWAY_MS // 2, "max_block_ms": AWAY_MS}
    producer = KafkaProducer(**config.kafka.python_arguments(), **limits)
    faults: list[Exception] = []  # of records that the broker did not take

    def write(key: str, value: bytes | None) -> None:
        try:
            producer.send(topic, value, key.encode() or None).add_errback(faults.append)
        except KafkaError as error:
            faults.append(error)
        require_taken()

    def finish() -> None:
        try:
            producer.close(timeout=3 * AWAY_MS / 1000)  # more than it takes until what waits is given up
        except KafkaError as error:
            faults.append(error)
        require_taken()

    def require_taken() -> None:
        if faults:
            raise Failure(
                f"kafka: topic {topic} did not take a record ({faults[0]}); see whether the broker runs, and what the "
                "topic takes (max.message.bytes)"
            ) from faults[0]

    stack.callback(finish)
    return write


def _created(path: str) -> IO[bytes]:
    try:
        if path.endswith(".gz"):
            return io.BufferedWriter(gzip.open(path, "wb", GZIP_LEVEL), BUFFER_BYTES)
        return Path(path).open("wb", BUFFER_BYTES)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder that is there") from error
