"""Waiting for previews: the topic that the job tells them on is followed from its end on, for many who wait for one.

Who asks writes the event itself; how a slate is shown is not known here.
"""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.config.tokens import TokenError
from riverrank.state.records.outgoing import Slate

POLL_MS = 500
RETRY_SECONDS = 1.0  # between two attempts to follow a topic that is not there
LONGEST_BACKOFF_MS = 1_000

log = logging.getLogger(__name__)


class _Head(msgspec.Struct):
    """As much of a preview as tells who waits for it."""

    trigger: str
    user_id: str


Expected = asyncio.Future[Slate]
_head = msgspec.json.Decoder(_Head).decode
_slate = msgspec.json.Decoder(Slate).decode


class Previews:
    """The previews on `topic` of the Kafka of `settings`, by a thread that reads from where the topic ended at first.
    Nobody shares what it reads: of several processes each finds its own among those of all.

    It reads what is not yet committed too: with transactions that would be a checkpoint later, and a preview that is
    told again changes nothing.
    """

    def __init__(self, settings: KafkaSettings, topic: str, timeout_ms: int) -> None:
        self._settings, self._topic, self._timeout_ms = settings, topic, timeout_ms
        self._expected: dict[tuple[str, str], Expected] = {}  # by event and user, of the event loop's thread alone
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="follows-previews", daemon=True)
        self.ready = False  # whether what is asked for from now on is found

    def start(self) -> None:
        """Begin to follow; the topic need not be there yet."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def __len__(self) -> int:
        """How many are waited for."""
        return len(self._expected)

    @contextmanager
    def expected(self, event_id: str, user_id: str) -> Iterator[Expected]:
        """What the answer to that event will be, to be asked for before the event is written. For one event loop."""
        self._loop = asyncio.get_running_loop()
        future: Expected = self._loop.create_future()
        self._expected[event_id, user_id] = future
        try:
            yield future
        finally:
            del self._expected[event_id, user_id]
            future.cancel()

    def take(self, record: bytes | None) -> None:
        """A record of the topic, by whoever wrote it; one that nobody waits for is left. From any thread."""
        loop = self._loop
        if loop is None:
            return
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            head = _head(record or b"")
            if (head.trigger, head.user_id) in self._expected:
                slate = _slate(record or b"")
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who waited
                    loop.call_soon_threadsafe(self._settle, slate)

    def _settle(self, slate: Slate) -> None:
        future = self._expected.get((slate.trigger, slate.user_id))
        if future is not None and not future.done():
            future.set_result(slate)

    def _work(self) -> None:
        while not self._ending.is_set():
            try:
                self._follow()
            except (KafkaError, OSError, TokenError) as error:
                log.warning("Kafka at %s does not give topic %s: %s", self._settings.bootstrap, self._topic, error)
            self.ready = False
            self._ending.wait(RETRY_SECONDS)

    def _follow(self) -> None:
        options = {
            "group_id": None,
            "isolation_level": "read_uncommitted",
            "auto_offset_reset": "latest",
            "bootstrap_timeout_ms": self._timeout_ms,
            "reconnect_backoff_max_ms": LONGEST_BACKOFF_MS,
            "check_crcs": False,  # in Python it costs more than all else
        }
        with consuming(self._settings, self._topic, **options) as consumer:
            while not self._ending.is_set():
                for records in consumer.poll(POLL_MS).values():
                    for record in records:
                        self.take(record.value)
                if not self.ready and (partitions := consumer.assignment()):
                    for partition in partitions:
                        consumer.position(partition, timeout_ms=self._timeout_ms)
                    self.ready = True
