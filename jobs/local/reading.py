"""Records of the inputs, read without Flink: lines of files, or topics up to their present end."""

import gzip
import heapq
import io
import re
import sys
import time
import zlib
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from operator import attrgetter
from pathlib import Path
from typing import IO, TYPE_CHECKING

from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.operators.flink.arrivals import Arrival, item_of
from riverrank.state.records.incoming import Item

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

    Fetched = dict[TopicPartition, deque[ConsumerRecord]]
    Ends = dict[TopicPartition, int]

STANDARD = "-"
POLL_MS = 1_000
FETCH_WAIT_MS = 20  # that a broker may wait for records: what is read to its end is there already
AWAY_MS = 30_000  # for which a broker may say nothing
BUFFER_BYTES = 1 << 20
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
LONE_CR = re.compile(rb"\r(?!\n|\Z)")  # one at the end of a block is looked at with the next


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
    with _sound(path) as file:
        for number, line in enumerate(file):
            if value := _line(number, line):
                yield Arrival(0, number, 0, value)


def plain_copy(path: str, copy: IO[bytes]) -> bool:
    """Whether the file has lines that Flink reads otherwise than `read_lines`; then all of it is in `copy`, which both
    read alike. Raises Failure as that does.
    """
    if not _is_torn(path):
        return False
    with _sound(path) as file:
        copy.writelines(_line(number, line) + b"\n" for number, line in enumerate(file))
    copy.flush()
    return True


def _line(number: int, line: bytes) -> bytes:
    """A line without what ends it, and the first without a byte order mark. A CR within it is a blank, as in JSON:
    Flink would see the end of a line there.
    """
    value = line.rstrip(b"\r\n")
    if not number:
        value = value.removeprefix(BYTE_ORDER_MARK)
    return value.replace(b"\r", b" ") if b"\r" in value else value


def _is_torn(path: str) -> bool:
    """Whether a byte order mark begins the file, or a CR in it is not that of a CR LF: 1.8 GB a second."""
    before = b""
    with _sound(path) as file:
        is_torn = file.read(len(BYTE_ORDER_MARK)) == BYTE_ORDER_MARK
        file.seek(0)
        while not is_torn and (block := file.read(BUFFER_BYTES)):
            is_torn = LONE_CR.search(before + block) is not None
            before = b"\r" if block.endswith(b"\r") else b""
    return is_torn or bool(before)


@contextmanager
def _sound(path: str) -> Iterator[IO[bytes]]:
    """The open file. Raises Failure where it is found to be damaged while it is read."""
    with _open(path) as file:
        try:
            yield file
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise Failure(f"{path}: damaged gzip data ({error})") from error


def topic_of(config: Config, name: str) -> str:
    """What dead letters name as the topic of `events` or `items`: a file is called as the stream is."""
    return name if getattr(config.files, name) else str(getattr(config.kafka, name))


def read_topic(kafka: KafkaSettings, topic: str) -> Iterator[Arrival]:
    """The records of a topic from its beginning to its end as it stands now; of transactions, those that were
    committed. Each partition keeps its own order, and partitions are merged by the time that their next record has in
    Kafka, of equal times the first of them first. Of each at most one fetch is held, 1 MB, beside one that kafka-python
    holds. Raises Failure where the broker goes away before the end.
    """
    from kafka import TopicPartition  # noqa: PLC0415 - slow to import, and files need none of it

    settings = {
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": FETCH_WAIT_MS,
        "max_poll_records": sys.maxsize,
    }
    with consuming(kafka, **settings) as consumer:
        partitions = [TopicPartition(topic, n) for n in sorted(consumer.partitions_for_topic(topic) or ())]
        if not partitions:
            return
        consumer.assign(partitions)
        ends = consumer.end_offsets(partitions)
        consumer.seek_to_beginning(*partitions)
        fetched: Fetched = {partition: deque() for partition in partitions}
        yield from heapq.merge(
            *(_read_partition(consumer, partition, fetched, ends, kafka.bootstrap) for partition in partitions),
            key=attrgetter("ts"),
        )


def _read_partition(
    consumer: "KafkaConsumer", partition: "TopicPartition", fetched: "Fetched", ends: "Ends", bootstrap: str
) -> Iterator[Arrival]:
    """The records of one partition. Polls where none is `fetched` of it, and keeps what comes of others for them."""
    own = fetched[partition]
    while True:
        while own:
            record = own.popleft()
            yield Arrival(partition.partition, record.offset, record.timestamp, record.value, record.key)
        heard = time.monotonic()
        while not own:
            before = consumer.position(partition)
            if before >= ends[partition]:  # which may be beyond its last record, as where a transaction was aborted
                return
            if _poll(consumer, fetched, ends) or consumer.position(partition) > before:
                heard = time.monotonic()
            elif time.monotonic() - heard > AWAY_MS / 1000:
                raise Failure(
                    f"kafka: the broker at {bootstrap} has said nothing of topic {partition.topic} for "
                    f"{AWAY_MS / 1000:g} s, and there is more to read; see whether it runs"
                )


def _poll(consumer: "KafkaConsumer", fetched: "Fetched", ends: "Ends") -> bool:
    """Whether records came, of partitions of which none were `fetched`, and more are to come. The others are paused, of
    which kafka-python keeps what it fetched before: whole fetches alone, as 3.0 never gives the rest of one that was
    paused in the middle, so a poll takes all that there is.
    """
    for partition, held in fetched.items():
        is_full = held or consumer.position(partition) >= ends[partition]
        (consumer.pause if is_full else consumer.resume)(partition)
    polled = consumer.poll(POLL_MS)
    for partition, records in polled.items():
        fetched[partition].extend(record for record in records if record.offset < ends[partition])
    return bool(polled)


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
