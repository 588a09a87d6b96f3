"""Writing to Kafka for many requests: a thread of its own sends, and who asked hears once all replicas have it.

What is written has been checked: nothing here looks at a record.
"""

import asyncio
import contextlib
import logging
import queue
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError, MessageSizeTooLargeError, RecordListTooLargeError
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.tokens import TokenError
from riverrank.state.records.bounds import MAX_RECORD_BYTES

RETRY_SECONDS = 1.0  # between two looks at a Kafka that is away
OVERHEAD_BYTES = 4_096  # of a record's key and what is told of it
FAULTS = (KafkaError, OSError, TokenError)
REFUSALS = (MessageSizeTooLargeError, RecordListTooLargeError)

log = logging.getLogger(__name__)


class KafkaAway(Exception):
    """Kafka does not take records now, or did not say that it did: where and why. What was sent may still arrive."""


class RecordTooLarge(Exception):
    """The broker takes no record of that size."""


class Record(NamedTuple):
    """A record of a topic."""

    key: bytes
    value: bytes


class _Sent:
    """Some records, and who waits until they are written."""

    def __init__(self, topic: str, records: Sequence[Record], until: float) -> None:
        self.topic, self.records, self.until = topic, records, until
        self.loop = asyncio.get_running_loop()
        self.written: asyncio.Future[None] = self.loop.create_future()
        self._left = len(records)  # counted down by the producer's one thread

    def note(self, _: object) -> None:
        """One more is written."""
        self._left -= 1
        if not self._left:
            self.loop.call_soon_threadsafe(self._settle, None)

    def fail(self, error: Exception) -> None:
        """They are not; from any thread."""
        self.loop.call_soon_threadsafe(self._settle, error)

    def _settle(self, error: Exception | None) -> None:
        if self.written.done():  # the request has ended, or another of the records failed before
            return
        if error is None:
            self.written.set_result(None)
        else:
            self.written.set_exception(error)


class Writes:
    """Writes to the Kafka of `settings`, none of which takes longer than `timeout_ms`, but for what is under way.

    While Kafka is away nobody waits for it: the thread looks for it again, and `write` raises at once. `topics` are
    those that must be there.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], timeout_ms: int) -> None:
        self._settings, self._topics, self._timeout_ms = settings, topics, timeout_ms
        self._sent: queue.SimpleQueue[_Sent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writes-kafka", daemon=True)
        self._producer: KafkaProducer | None = None
        self.away: KafkaAway | None = KafkaAway(f"Kafka at {settings.bootstrap} was not reached yet")

    @property
    def ready(self) -> bool:
        """Whether records are taken now."""
        return self.away is None and self._thread.is_alive()

    def start(self) -> None:
        """Begin: the first thing is to look for Kafka."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, once what it does is done."""
        self._sent.put(None)
        self._thread.join()

    async def write(self, topic: str, records: Sequence[Record]) -> None:
        """Write all of `records`; returns once they are written.

        Raises:
            KafkaAway: some are not, or nobody knows.
            RecordTooLarge: the broker's own limit is less than ours.
        """
        if self.away is not None:
            raise KafkaAway(*self.away.args)  # one that is raised twice grows
        sent = _Sent(topic, records, time.monotonic() + self._timeout_ms / 1000)
        self._sent.put(sent)
        try:
            await asyncio.wait_for(sent.written, self._timeout_ms / 1000)
        except TimeoutError:
            raise self._away(f"no answer in {self._timeout_ms} ms") from None

    def _work(self) -> None:
        self._look()
        while True:
            try:
                sent = self._sent.get(timeout=RETRY_SECONDS)  # the producer's thread may have found that it is away
            except queue.Empty:
                if self.away is not None:
                    self._look()
                continue
            if sent is None:
                self._forget()
                return
            self._send(sent)

    def _send(self, sent: _Sent) -> None:
        producer = self._producer
        if producer is None or self.away is not None or time.monotonic() > sent.until:
            sent.fail(KafkaAway(*self.away.args) if self.away else self._away("it took too long"))
            return
        try:
            for record in sent.records:
                future = producer.send(sent.topic, key=record.key, value=record.value)
                future.add_callback(sent.note)
                future.add_errback(self._refused, sent)
        except FAULTS as error:
            self._refused(sent, error)

    def _refused(self, sent: _Sent, error: Exception) -> None:
        """From the thread of the producer too."""
        if isinstance(error, REFUSALS):
            sent.fail(RecordTooLarge(str(error)))
            return
        away = self._away(str(error) or type(error).__name__)
        if self.away is None:
            log.warning("%s", away)
        self.away = away
        sent.fail(KafkaAway(*away.args))

    def _look(self) -> None:
        """Whether Kafka is there, with the topics; by a producer of its own, as one that failed stays so."""
        self._forget()
        try:
            self._producer = self._connected()
        except FAULTS as error:
            self.away = self._away(str(error) or type(error).__name__)
            return
        self.away = None
        log.info("Kafka at %s takes records", self._settings.bootstrap)

    def _connected(self) -> KafkaProducer:
        producer = KafkaProducer(
            **self._settings.python_arguments(),
            acks="all",
            allow_auto_create_topics=False,
            bootstrap_timeout_ms=self._timeout_ms,
            max_block_ms=self._timeout_ms,
            request_timeout_ms=self._timeout_ms,
            delivery_timeout_ms=self._timeout_ms,
            max_request_size=MAX_RECORD_BYTES + OVERHEAD_BYTES,
        )
        self._producer = producer  # to be forgotten, whatever comes
        for topic in self._topics:
            producer.partitions_for(topic)
        return producer

    def _forget(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(KafkaTimeoutError):  # of what was left to send, whoever asked has heard
                producer.close(timeout=0)

    def _away(self, why: str) -> KafkaAway:
        return KafkaAway(f"Kafka at {self._settings.bootstrap} takes no records: {why}")
