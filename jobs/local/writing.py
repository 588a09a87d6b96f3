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
from .reading import BUFFER_BYTES, STANDARD

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

    producer = KafkaProducer(**config.kafka.python_arguments())
    stack.callback(producer.close)

    def write(key: str, value: bytes | None) -> None:
        producer.send(topic, value, key.encode() or None)

    return write


def _created(path: str) -> IO[bytes]:
    try:
        if path.endswith(".gz"):
            return io.BufferedWriter(gzip.open(path, "wb", GZIP_LEVEL), BUFFER_BYTES)
        return Path(path).open("wb", BUFFER_BYTES)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder that is there") from error
