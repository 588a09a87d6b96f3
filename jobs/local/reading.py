"""Records read at once, in plain Python: lines of files, or topics up to their present end. Flink has no part in it."""

import gzip
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import IO

from riverrank.jobs.config.schema import KafkaSettings
from riverrank.operators.flink.arrivals import Arrival

STANDARD = "-"
POLL_MS = 1_000


def read_lines(path: str) -> Iterator[Arrival]:
    """The lines of a file, gz by its ending, `-` standard input. Blank ones are counted and passed over."""
    with _open(path) as file:
        for number, line in enumerate(file):
            value = line.rstrip(b"\r\n")
            if value:
                yield Arrival(0, number, 0, value)


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


def _open(path: str) -> IO[bytes]:
    if path == STANDARD:
        return sys.stdin.buffer
    return gzip.open(path, "rb") if path.endswith(".gz") else Path(path).open("rb")  # type: ignore[return-value]
