"""Records of the inputs, read without Flink: lines of files, or topics up to their present end."""

import gzip
import io
import sys
import zlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from riverrank.jobs.config.schema import Config, KafkaSettings
from riverrank.jobs.errors import Failure
from riverrank.operators.flink.arrivals import Arrival, item_of
from riverrank.state.records.incoming import Item

STANDARD = "-"
POLL_MS = 1_000
BUFFER_BYTES = 1 << 20


def read(config: Config, name: str) -> Iterator[Arrival]:
    """The records of `events` or `items`, in order, from wherever they are configured to come; none where nowhere."""
    path, topic = getattr(config.files, name), getattr(config.kafka, name)
    if path:
        return read_lines(path)
    return read_topic(config.kafka, topic) if config.kafka.bootstrap and topic else iter(())


def read_lines(path: str) -> Iterator[Arrival]:
    """The lines of a file, gz by its ending, `-` standard input. Blank ones are counted and left out.

    Raises Failure where a gz file is damaged.
    """
    with _open(path) as file:
        try:
            for number, line in enumerate(file):
                value = line.rstrip(b"\r\n")
                if value:
                    yield Arrival(0, number, 0, value)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Failure(f"{path}: damaged gzip data ({error})") from error


def read_topic(kafka: KafkaSettings, topic: str) -> Iterator[Arrival]:
    """The records of a topic from its beginning to its end as it stands now, in each partition's order."""
    from kafka import KafkaConsumer, TopicPartition  # noqa: PLC0415 - slow to import, and files need none of it

    with closing(KafkaConsumer(enable_auto_commit=False, **kafka.python_arguments())) as consumer:
        partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            return
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        while any(consumer.position(partition) < ends[partition] for partition in partitions):
            for partition, records in consumer.poll(POLL_MS).items():
                for record in records:
                    if record.offset < ends[partition]:
                        yield Arrival(partition.partition, record.offset, record.timestamp, record.value, record.key)


def read_items(config: Config) -> Iterator[Item]:
    """The catalogue as it stands now, in the order of the file or of each partition; without what is no item.

    An operator on Flink calls it too: what this module imports must not start a Java there, as Flink's client does.
    """
    if config.files.items:
        arrivals = read_lines(config.files.items)
    elif config.kafka.bootstrap and config.kafka.items:
        arrivals = read_topic(config.kafka, config.kafka.items)
    else:
        return
    for arrival in arrivals:
        item = item_of(arrival, config.behaviour)
        if isinstance(item, Item):
            yield item


def _open(path: str) -> IO[bytes]:
    if path == STANDARD:
        return sys.stdin.buffer
    if path.endswith(".gz"):  # in a buffer: its own readline is Python
        return io.BufferedReader(gzip.open(path, "rb"), BUFFER_BYTES)
    return Path(path).open("rb", BUFFER_BYTES)
