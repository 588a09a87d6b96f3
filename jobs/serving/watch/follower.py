"""Reads the topics of events, slates and dead letters from some minutes before their end on, into `Seen`. It commits
nothing, and what it can't keep up with it leaves out and says so.
"""

import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from kafka import KafkaConsumer, TopicPartition
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.operators.flink.arrivals import wall_ms

from .minutes import MINUTE_MS
from .seen import Seen

FROM_MINUTES = 15  # before a topic's end
RECORDS_A_SECOND = 2_000  # that are read at most, of all topics: some tenth of a core
MOST_BEHIND = 20_000  # records of a partition; further behind its end, reading goes on at the end
LIVE_RECORDS = 200  # within so many of the end, what is read has just been written
BATCH = 200
ASK_SECONDS = 5.0  # between two looks at partitions and at how far the job is
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)
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
    trouble: str = "the topics have not been reached yet"
    missing: tuple[str, ...] = ()
    job_behind: int | None = None


class Follower(threading.Thread):
    """Follows the topics of `kafka` into `seen`, from `start` to `end`; a broker that is away is tried again."""

    def __init__(self, kafka: KafkaSettings, seen: Seen, records_a_second: int = RECORDS_A_SECOND) -> None:
        super().__init__(name="topic-follower", daemon=True)
        self.progress = Progress()
        self._kafka = kafka
        self._seen = seen
        self._rate = records_a_second
        self._batch = max(1, min(BATCH, records_a_second // 10))
        self._ended = threading.Event()
        self._topics = tuple(topic for topic in (kafka.events, kafka.slates, kafka.dead_letters) if topic)
        self._asked = 0.0

    def end(self) -> None:
        """Stop following, and wait for that, a few seconds at most."""
        self._ended.set()
        if self.is_alive():
            self.join(5)

    def run(self) -> None:
        """Until `end`."""
        failures = 0
        while not self._ended.is_set():
            try:
                self._follow()
                failures = 0
            except Exception as fault:  # whatever a broker or its client does, the page goes on without
                trouble = str(fault) or type(fault).__name__
                if trouble != self.progress.trouble:
                    _log.warning("following the topics of %s: %s", self._kafka.bootstrap, trouble)
                self.progress = replace(self.progress, trouble=trouble, job_behind=None)
                self._ended.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    def _follow(self) -> None:
        """Read until `end`, or until the broker fails."""
        settings = {
            "auto_offset_reset": "latest",
            "bootstrap_timeout_ms": TIMEOUT_MS,
            "check_crcs": False,  # by kafka-python in Python, a byte at a time: it would cost more than all else
            "fetch_max_bytes": 4 * 1024 * 1024,
            "request_timeout_ms": TIMEOUT_MS,
            "max_poll_records": BATCH,
        }
        of_group = {"group_id": self._kafka.group, "bootstrap_timeout_ms": TIMEOUT_MS}
        with consuming(self._kafka, **settings) as consumer, consuming(self._kafka, **of_group) as with_group:
            self._asked = 0.0
            while not self._ended.is_set():
                self._turn(consumer, with_group)

    def _turn(self, consumer: KafkaConsumer, with_group: KafkaConsumer) -> None:
        """One batch, and now and then a look around."""
        began = time.monotonic()
        if began - self._asked >= ASK_SECONDS:
            self._asked = began
            self._assign(consumer)
            self._skip(consumer)
            self._ask_for_the_job(consumer, with_group)
        if not consumer.assignment():
            self._ended.wait(1.0)
            return
        batches = consumer.poll(timeout_ms=200, max_records=self._batch)
        count = sum(map(len, batches.values()))
        for partition, records in batches.items():
            end = consumer.highwater(partition)
            is_live = end is not None and end - records[0].offset <= LIVE_RECORDS
            for record in records:
                self._take(record.topic, record.value, record.key, record.timestamp, wall_ms() if is_live else None)
        if count:
            oldest = min(records[0].timestamp for records in batches.values())
            since = self.progress.since_ms
            self.progress = replace(
                self.progress, read=self.progress.read + count, since_ms=oldest if since is None else min(since, oldest)
            )
        self._ended.wait(max(0.0, count / self._rate - (time.monotonic() - began)))

    def _take(self, topic: str, value: bytes | None, key: bytes | None, at_ms: int, now_ms: int | None) -> None:
        if topic == self._kafka.events:
            self._seen.event(value, at_ms)
        elif topic == self._kafka.slates:
            self._seen.slate(value, key, at_ms, now_ms)
        else:
            self._seen.dead_letter(value)

    def _assign(self, consumer: KafkaConsumer) -> None:
        """Follow each partition that there is, those that are new too."""
        there = {topic: consumer.partitions_for_topic(topic) or set() for topic in self._topics}
        missing = tuple(topic for topic, numbers in there.items() if not numbers)
        found = {TopicPartition(topic, number) for topic, numbers in there.items() for number in numbers}
        new = found - consumer.assignment()
        if new:
            positions = {partition: consumer.position(partition) for partition in consumer.assignment()}
            consumer.assign(sorted(found))
            for partition, offset in {**positions, **_starts(consumer, new)}.items():
                consumer.seek(partition, offset)
        self.progress = replace(self.progress, trouble="", missing=missing)

    def _skip(self, consumer: KafkaConsumer) -> None:
        """Go on at the end of whatever was fallen behind too far."""
        partitions = sorted(consumer.assignment())
        for partition, end in consumer.end_offsets(partitions, timeout_ms=TIMEOUT_MS).items() if partitions else ():
            behind = end - consumer.position(partition)
            if behind > MOST_BEHIND:
                consumer.seek(partition, end)
                self.progress = replace(self.progress, left_out=self.progress.left_out + behind)

    def _ask_for_the_job(self, consumer: KafkaConsumer, with_group: KafkaConsumer) -> None:
        """How many events are beyond what the job's consumer group has committed."""
        partitions = sorted(each for each in consumer.assignment() if each.topic == self._kafka.events)
        try:
            committed = {each: with_group.committed(each, timeout_ms=TIMEOUT_MS) for each in partitions}
        except KafkaError as error:  # such as a group that this user may not look at
            _log.debug("how far the group %s is: %s", self._kafka.group, error)
            committed = {}
        known = {partition: offset for partition, offset in committed.items() if offset is not None}
        behind: int | None = None
        if known:
            ends = consumer.end_offsets(list(known), timeout_ms=TIMEOUT_MS)
            behind = sum(max(0, ends[partition] - offset) for partition, offset in known.items())
        self.progress = replace(self.progress, job_behind=behind)


def _starts(consumer: KafkaConsumer, partitions: Iterable[TopicPartition]) -> dict[TopicPartition, int]:
    """The offset of each partition that is FROM_MINUTES before its end, or MOST_BEHIND records before it if that is
    nearer.
    """
    wanted = sorted(partitions)
    ends = consumer.end_offsets(wanted, timeout_ms=TIMEOUT_MS)
    begins = consumer.beginning_offsets(wanted, timeout_ms=TIMEOUT_MS)
    since = wall_ms() - FROM_MINUTES * MINUTE_MS
    found = consumer.offsets_for_times(dict.fromkeys(wanted, since), timeout_ms=TIMEOUT_MS)
    starts = {}
    for partition in wanted:
        end, at = ends[partition], found.get(partition)
        starts[partition] = max(begins[partition], end - MOST_BEHIND, end if at is None else at.offset)
    return starts
