"""Where the local pipeline's outputs go: files, standard output, or topics."""

import gzip
import io
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.state.outputs import OUTPUTS

from .pipeline import Write
from .reading import BUFFER_BYTES, STANDARD

GZIP_LEVEL = 6


@contextmanager
def opened(config: Config) -> Iterator[dict[str, Write]]:
    """How each output that goes anywhere is written to, by its name; all is written out at the end of the context."""
    with ExitStack() as stack:
        writes: dict[str, Write] = {}
        for name, output in OUTPUTS.items():
            path, topic = config.files.of(output), config.kafka.of(output)
            if path:
                writes[name] = _to_file(stack, path)
            elif config.kafka.bootstrap and topic:
                writes[name] = _to_topic(stack, config, topic)
        yield writes


def _to_file(stack: ExitStack, path: str) -> Write:
    if path == STANDARD:
        file: IO[bytes] = sys.stdout.buffer
        stack.callback(file.flush)
    else:
        file = stack.enter_context(_created(path))
    put = file.write

    def write(key: str, value: bytes) -> None:
        put(value)
        put(b"\n")

    return write


def _to_topic(stack: ExitStack, config: Config, topic: str) -> Write:
    from kafka import KafkaProducer  # noqa: PLC0415 - slow to import, and files need none of it

    producer = KafkaProducer(**config.kafka.python_arguments())
    stack.callback(producer.close)

    def write(key: str, value: bytes) -> None:
        producer.send(topic, value, key.encode() or None)

    return write


def _created(path: str) -> IO[bytes]:
    try:
        if path.endswith(".gz"):
            return io.BufferedWriter(gzip.open(path, "wb", GZIP_LEVEL), BUFFER_BYTES)
        return Path(path).open("wb", BUFFER_BYTES)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}; name a file in a folder that is there") from error
