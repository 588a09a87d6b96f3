"""Reads the topics of events, slates and dead letters from some minutes before their end on, into `Seen`. It commits
nothing, and what it can't keep up with it leaves out and says so.
"""

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.serving.following import TopicFollower
from riverrank.operators.flink.arrivals import wall_ms

from .minutes import MINUTE_MS
from .seen import Seen

FROM_MINUTES = 15  # before a topic's end
RECORDS_A_SECOND = 2_000  # that are read at most, of all topics: some tenth of a core
MOST_BEHIND = 20_000  # records of a partition; further behind its end, reading goes on at the end
LIVE_RECORDS = 200  # within so many of the end, what is read has just been written
BATCH = 200
ASK_SECONDS = 5.0  # between two looks at how far it, and the job, are behind
TIMEOUT_MS = 10_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Progress:
    """How far following is: since when (epoch milliseconds of the oldest record), how many records were read and left
    out, what is wrong ("" for nothing), which topics are missing, and how many events the job has not committed yet,
    None where its consumer group has committed none.
    """

    since_ms: int | None = None
    read: int = 0
    left_out: int = 0
    trouble: str = ""
    missing: tuple[str, ...] = ()
    job_behind: int | None = None


class WatchFollower(TopicFollower):
    """Follows the topics of `kafka` into `seen`."""

    def __init__(self, kafka: KafkaSettings, seen: Seen, records_a_second: int = RECORDS_A_SECOND) -> None:
        topics = tuple(topic for topic in (kafka.events, kafka.slates, kafka.dead_letters) if topic)
        settings = {
            "auto_offset_reset": "latest",
            "check_crcs": False,  # by kafka-python in Python, a byte at a time: it would cost more than all else
            "fetch_max_bytes": 4 * 1024 * 1024,
            "max_poll_records": max(1, min(BATCH, records_a_second // 10)),
            "request_timeout_ms": TIMEOUT_MS,
        }
        super().__init__(kafka, topics, TIMEOUT_MS, settings)
        self._seen, self._rate = seen, records_a_second
        self._read = self._paced = self._left_out = 0
        self._since_ms: int | None = None
        self._job_behind: int | None = None
        self._looked = self._asked = 0.0

    @property
    def progress(self) -> Progress:
        """How far it is now."""
        job_behind = None if self.trouble else self._job_behind
        return Progress(self._since_ms, self._read, self._left_out, self.trouble, self.missing, job_behind)

    @contextmanager
    def opened(self) -> Iterator[KafkaConsumer]:
        """With a second one, that is of the job's group."""
        of_group = {"group_id": self._kafka.group, "bootstrap_timeout_ms": TIMEOUT_MS}
        with super().opened() as consumer, consuming(self._kafka, **of_group) as self._with_group:
            self._asked = 0.0
            yield consumer

    def starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """FROM_MINUTES before the end, or MOST_BEHIND records before it if that is nearer."""
        ends = consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS)
        begins = consumer.beginning_offsets(partitions, timeout_ms=TIMEOUT_MS)
        since = wall_ms() - FROM_MINUTES * MINUTE_MS
        found = consumer.offsets_for_times(dict.fromkeys(partitions, since), timeout_ms=TIMEOUT_MS)
        starts = {}
        for partition in partitions:
            end, at = ends[partition], found.get(partition)
            starts[partition] = max(begins[partition], end - MOST_BEHIND, end if at is None else at.offset)
        return starts

    def take(self, record: ConsumerRecord, left: int) -> None:
        """Count it, and keep it a while."""
        self._read += 1
        self._since_ms = min(self._since_ms or record.timestamp, record.timestamp)
        if record.topic == self._kafka.events:
            self._seen.event(record.value, record.timestamp)
        elif record.topic == self._kafka.slates:
            now_ms = wall_ms() if left <= LIVE_RECORDS else None
            self._seen.slate(record.value, record.key, record.timestamp, now_ms)
        else:
            self._seen.dead_letter(record.value)

    def look(self, consumer: KafkaConsumer) -> None:
        """Be no faster than it may; now and then skip what can't be kept up with, and ask how far the job is."""
        pause = (self._read - self._paced) / self._rate - (time.monotonic() - self._looked)
        self._paced = self._read
        if time.monotonic() - self._asked >= ASK_SECONDS:
            self._asked = time.monotonic()
            self._skip(consumer)
            self._ask_for_the_job(consumer)
        self._ended.wait(max(0.0, pause))
        self._looked = time.monotonic()

    def _skip(self, consumer: KafkaConsumer) -> None:
        """Go on at the end of whatever was fallen behind too far."""
        partitions = sorted(consumer.assignment())
        for partition, end in consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS).items() if partitions else ():
            behind = end - consumer.position(partition)
            if behind > MOST_BEHIND:
                consumer.seek(partition, end)
                self._next[partition] = end
                self._left_out += behind

    def _ask_for_the_job(self, consumer: KafkaConsumer) -> None:
        """How many events are beyond what the job's consumer group has committed."""
        partitions = sorted(each for each in consumer.assignment() if each.topic == self._kafka.events)
        try:
            committed = {each: self._with_group.committed(each, timeout_ms=TIMEOUT_MS) for each in partitions}
        except KafkaError as error:  # such as a group that this user may not look at
            _log.debug("how far the group %s is: %s", self._kafka.group, error)
            committed = {}
        known = {partition: offset for partition, offset in committed.items() if offset is not None}
        ends = consumer.end_offsets(list(known), timeout_ms=TIMEOUT_MS) if known else {}
        self._job_behind = sum(max(0, ends[each] - offset) for each, offset in known.items()) if known else None
