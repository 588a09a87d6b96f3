"""Following topics: a thread that reads them as they grow, and after whatever fault goes on where it was.

Where it begins, and what is done with a record, is for who follows to say. It commits nothing.
"""

import logging
import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.tokens import TokenError

POLL_MS = 200
ASSIGN_SECONDS = 5.0  # between two looks for partitions that are new
RETRY_SECONDS = (1.0, 2.0, 5.0, 10.0)  # after the first fault, the second, ...
LONGEST_BACKOFF_MS = 1_000  # between two attempts to connect
CLOSE_SECONDS = 5.0  # that the end of a thread is waited for
EXPECTED = (KafkaError, OSError, TokenError)

_log = logging.getLogger(__name__)


class TopicFollower(ABC):
    """Follows `topics` of `kafka` by a thread, from `start` to `close`; neither has to be there yet. `settings` are
    further ones of kafka-python's consumer.

    No record is taken twice, whatever fails; one that `take` itself fails at is left out.
    """

    def __init__(
        self, kafka: KafkaSettings, topics: Sequence[str], timeout_ms: int, settings: Mapping[str, object]
    ) -> None:
        self._kafka, self._topics, self._timeout_ms = kafka, topics, timeout_ms
        times = {"bootstrap_timeout_ms": timeout_ms, "reconnect_backoff_max_ms": LONGEST_BACKOFF_MS}
        self._settings = {"group_id": None, **times, **settings}
        self._next: dict[TopicPartition, int] = {}  # the offset to go on at
        self._assigned = -math.inf  # when partitions were looked for last
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"follows-{'-'.join(topics)}", daemon=True)
        self.trouble = "the topics have not been reached yet"  # what is wrong, "" for nothing
        self.missing: tuple[str, ...] = ()  # topics without partitions

    @abstractmethod
    def starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> Mapping[TopicPartition, int]:
        """The offset to begin at, of each of `partitions`, none of which was read yet."""

    @abstractmethod
    def take(self, record: ConsumerRecord, left: int) -> None:
        """A record, and how many offsets there are from it to the end of its partition."""

    def look(self, consumer: KafkaConsumer) -> None:  # noqa: B027 (not all need one)
        """After each turn, when all that was read has been taken."""

    @contextmanager
    def opened(self) -> Iterator[KafkaConsumer]:
        """The consumer to read with, until the end of the context."""
        with consuming(self._kafka, **self._settings) as consumer:
            yield consumer

    def start(self) -> None:
        """Begin to follow."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, and wait for that, CLOSE_SECONDS at most."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._ended.is_set():
            try:
                with self.opened() as consumer:
                    self._assigned = -math.inf
                    while not self._ended.is_set():
                        self._turn(consumer)
                        failures, self.trouble = 0, ""
            except Exception as error:  # whatever a broker, its client or a record does, this thread goes on
                trouble = str(error) or type(error).__name__
                if trouble != self.trouble:
                    where = f"{', '.join(self._topics)} of {self._kafka.bootstrap}"
                    _log.warning("following %s: %s", where, trouble, exc_info=not isinstance(error, EXPECTED))
                self.trouble = trouble
                self._ended.wait(RETRY_SECONDS[min(failures, len(RETRY_SECONDS) - 1)])
                failures += 1

    def _turn(self, consumer: KafkaConsumer) -> None:
        if time.monotonic() - self._assigned >= ASSIGN_SECONDS:
            self._assigned = time.monotonic()
            self._assign(consumer)
        for partition, records in consumer.poll(POLL_MS).items():
            end = consumer.highwater(partition)
            for record in records:
                self._next[partition] = record.offset + 1
                self.take(record, end - record.offset)
        self.look(consumer)

    def _assign(self, consumer: KafkaConsumer) -> None:
        """Follow each partition that there is, those that are new too."""
        there = {topic: consumer.partitions_for_topic(topic) or set() for topic in self._topics}
        self.missing = tuple(topic for topic, numbers in there.items() if not numbers)
        found = {TopicPartition(topic, number) for topic, numbers in there.items() for number in numbers}
        if found - consumer.assignment():
            if unread := sorted(found - self._next.keys()):
                self._next.update(self.starts(consumer, unread))
            consumer.assign(sorted(found))
            for partition in found:
                consumer.seek(partition, self._next[partition])
