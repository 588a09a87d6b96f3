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

from kafka import KafkaProducer, errors
from kafka.admin import KafkaAdminClient
from riverrank.jobs.config.consuming import connecting
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.state.records.bounds import MAX_RECORD_BYTES

RETRY_SECONDS = 1.0  # between two looks at a Kafka that is away
LOOK_SECONDS = 5.0  # between two looks at topics of which one takes no records, or at a Kafka that nobody writes to
OVERHEAD_BYTES = 4_096  # of a record's key and what is told of it
TOO_LARGE = (errors.MessageSizeTooLargeError, errors.RecordListTooLargeError)
OF_RECORDS = (  # and of the partitions they go to: other records may be taken all the same
    errors.InvalidRecordError,
    errors.InvalidTimestampError,
    errors.CorruptRecordError,
    errors.PolicyViolationError,
    errors.UnsupportedForMessageFormatError,
    errors.UnsupportedCompressionTypeError,
    errors.NotEnoughReplicasError,
    errors.NotEnoughReplicasAfterAppendError,
    errors.RequestTimedOutError,
    errors.LeaderNotAvailableError,
    errors.NotLeaderForPartitionError,
    errors.KafkaStorageError,
)
MISSING, FORBIDDEN, INVALID = "it is missing", "the right to write it is missing", "that can't be a topic's name"
OF_A_TOPIC = {  # until it, or the rights, change
    errors.UnknownTopicOrPartitionError: MISSING,
    errors.TopicAuthorizationFailedError: FORBIDDEN,
    errors.InvalidTopicError: INVALID,
}

log = logging.getLogger(__name__)


class KafkaAway(Exception):
    """Kafka, or one topic, takes no records now, or did not say that it did: where and why. What was sent may still
    arrive.
    """


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

    While Kafka is away nobody waits for it: the thread looks for it again, and `write` raises at once. So it is with
    one of `topics` that is missing, or may not be written, while the others go on.
    """

    def __init__(self, settings: KafkaSettings, topics: Sequence[str], timeout_ms: int) -> None:
        self._settings, self._topics, self._timeout_ms = settings, topics, timeout_ms
        self._sent: queue.SimpleQueue[_Sent | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="writes-kafka", daemon=True)
        self._producer: KafkaProducer | None = None
        self.away: KafkaAway | None = KafkaAway(f"Kafka at {settings.bootstrap} was not reached yet")
        self.refused: dict[str, str] = {}  # by topic, why it takes none; replaced whole, never changed

    @property
    def ready(self) -> bool:
        """Whether records are taken now: all topics are there, and one of them may be written."""
        if self.away is not None or not self._thread.is_alive():
            return False
        whys = self.refused.values()
        return not whys or (set(whys) == {FORBIDDEN} and len(whys) < len(self._topics))

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
        if (away := self._away_for(topic)) is not None:
            raise away
        sent = _Sent(topic, records, time.monotonic() + self._timeout_ms / 1000)
        self._sent.put(sent)
        try:
            await asyncio.wait_for(sent.written, self._timeout_ms / 1000)
        except TimeoutError:
            raise self._away(f"no answer in {self._timeout_ms} ms") from None

    def _work(self) -> None:
        self._look()
        looked = given = time.monotonic()  # for what Kafka says, and records
        while True:
            try:
                sent = self._sent.get(timeout=RETRY_SECONDS)  # the producer's thread may have found that it is away
            except queue.Empty:
                pass
            else:
                if sent is None:
                    self._forget()
                    return
                self._send(sent)
                given = time.monotonic()
            now = time.monotonic()
            is_due = self.away is not None or self.refused or now - given >= LOOK_SECONDS
            if is_due and now - looked >= (LOOK_SECONDS if self.away is None else RETRY_SECONDS):
                self._look()
                looked = time.monotonic()

    def _send(self, sent: _Sent) -> None:
        producer, away = self._producer, self._away_for(sent.topic)
        if producer is None or away is not None or time.monotonic() > sent.until:
            sent.fail(away or self._away("it took too long"))
            return
        try:
            for record in sent.records:
                future = producer.send(sent.topic, key=record.key, value=record.value)
                future.add_callback(sent.note)
                future.add_errback(self._failed, sent)
        except Exception as error:  # whatever it is, this thread goes on
            self._failed(sent, error)

    def _failed(self, sent: _Sent, error: Exception) -> None:
        """From the thread of the producer too."""
        if isinstance(error, TOO_LARGE):
            sent.fail(RecordTooLarge(str(error)))
            return
        if isinstance(error, OF_RECORDS) or type(error) is errors.KafkaError:  # in a batch with such a record
            sent.fail(self._away(str(error), sent.topic))
            return
        if type(error) in OF_A_TOPIC:
            self._refuse({**self.refused, sent.topic: OF_A_TOPIC[type(error)]})
            sent.fail(self._away(self.refused[sent.topic], sent.topic))
            return
        sent.fail(self._go_away(error))

    def _go_away(self, error: Exception) -> KafkaAway:
        """From here on all records are refused; what to tell of it."""
        away = self._away(str(error) or type(error).__name__)
        if self.away is None:
            log.warning("%s", away)
        self.away = away
        return KafkaAway(*away.args)  # one that is raised twice grows

    def _look(self) -> None:
        """Whether Kafka is there, by a producer of its own where it was not, as one that failed stays so; and which
        topics take records.
        """
        try:
            was_away = self.away is not None
            if was_away:
                self._forget()
                self._producer = self._connected()
            self._refuse(self._refusals())
        except Exception as error:  # whatever it is, this thread goes on
            self._go_away(error)
            return
        if was_away:  # else the producer's thread may have found that it is by now
            self.away = None
            log.info("Kafka at %s takes records", self._settings.bootstrap)

    def _refusals(self) -> dict[str, str]:
        """By topic why it takes no records, of those that take none, as the broker says without being written to."""
        times = {"bootstrap_timeout_ms": self._timeout_ms, "request_timeout_ms": self._timeout_ms}
        with connecting() as client:
            admin = KafkaAdminClient(**self._settings.python_arguments(), **times, kafka_client=client)
        with admin:
            told = admin.describe_topics(self._topics)
        whys: dict[str, str] = {}
        for topic in told:
            operations = topic.get("authorized_operations")
            why = OF_A_TOPIC.get(errors.for_code(topic["error_code"]))
            if why is None and operations is not None and "WRITE" not in operations:
                why = FORBIDDEN
            if why is not None:
                whys[topic["name"]] = why
        return whys

    def _refuse(self, whys: dict[str, str]) -> None:
        """From here on, the records for these topics."""
        before, self.refused = self.refused, whys
        for topic in self._topics:
            if whys.get(topic) != before.get(topic):
                if topic in whys:
                    log.warning("%s", self._away(whys[topic], topic))
                else:
                    log.info("Kafka at %s takes records of topic %s", self._settings.bootstrap, topic)

    def _connected(self) -> KafkaProducer:
        with connecting() as client:
            return KafkaProducer(
                **self._settings.python_arguments(),
                acks="all",
                enable_idempotence=False,  # else kafka-python fails records of all topics where one topic refuses some
                max_in_flight_requests_per_connection=1,  # so that a retry changes no order
                allow_auto_create_topics=False,
                bootstrap_timeout_ms=self._timeout_ms,
                max_block_ms=self._timeout_ms,
                request_timeout_ms=self._timeout_ms,
                delivery_timeout_ms=self._timeout_ms,
                max_request_size=MAX_RECORD_BYTES + OVERHEAD_BYTES,
                kafka_client=client,
            )

    def _forget(self) -> None:
        producer, self._producer = self._producer, None
        if producer is not None:
            with contextlib.suppress(errors.KafkaTimeoutError):  # of what was left to send, whoever asked has heard
                producer.close(timeout=0)

    def _away_for(self, topic: str) -> KafkaAway | None:
        """Why `topic` takes no records, if it takes none; one that is raised twice grows."""
        if self.away is not None:
            return KafkaAway(*self.away.args)
        why = self.refused.get(topic)
        return None if why is None else self._away(why, topic)

    def _away(self, why: str, topic: str = "") -> KafkaAway:
        of = f" of topic {topic}" if topic else ""
        return KafkaAway(f"Kafka at {self._settings.bootstrap} takes no records{of}: {why}")
