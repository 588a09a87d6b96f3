"""Waiting for previews: the topic that the job tells them on is followed from its end on, for many who wait for one.

Who asks writes the event itself; how a slate is shown is not known here.
"""

import asyncio
import contextlib
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from riverrank.jobs.config.edges import KafkaSettings
from riverrank.jobs.serving.following import TopicFollower
from riverrank.state.records.outgoing import Slate


class _Head(msgspec.Struct):
    """As much of a preview as tells who waits for it."""

    trigger: str
    user_id: str


Expected = asyncio.Future[Slate]
_head = msgspec.json.Decoder(_Head).decode
_slate = msgspec.json.Decoder(Slate).decode


class Previews(TopicFollower):
    """The previews on `topic` of `kafka`, by a thread that reads from where the topic ended at first. Nobody
    shares what it reads: of several processes each finds its own among those of all.

    It reads what is not yet committed too: with transactions that would be a checkpoint later, and a preview that is
    told again changes nothing.
    """

    def __init__(self, kafka: KafkaSettings, topic: str, timeout_ms: int) -> None:
        settings = {
            "isolation_level": "read_uncommitted",
            "auto_offset_reset": "latest",
            "check_crcs": False,  # in Python it costs more than all else
        }
        super().__init__(kafka, (topic,), timeout_ms, settings)
        self._expected: dict[tuple[str, str], Expected] = {}  # by event and user, of the event loop's thread alone
        self._loop: asyncio.AbstractEventLoop | None = None

    @property
    def ready(self) -> bool:
        """Whether what is asked for from now on is found."""
        return not self.trouble and not self.missing

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

    def starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """From the end."""
        return dict(consumer.end_offsets(partitions, timeout_ms=self._timeout_ms))

    def take(self, record: ConsumerRecord, left: int) -> None:
        """A preview, by whoever wrote it; one that nobody waits for is left."""
        self.settle(record.value)

    def settle(self, raw: bytes | None) -> None:
        """Give a preview to who waits for it. From any thread."""
        loop = self._loop
        if loop is None:
            return
        with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            head = _head(raw or b"")
            if (head.trigger, head.user_id) in self._expected:
                slate = _slate(raw or b"")
                with contextlib.suppress(RuntimeError):  # the loop has ended, and with it who waited
                    loop.call_soon_threadsafe(self._settle, slate)

    def _settle(self, slate: Slate) -> None:
        future = self._expected.get((slate.trigger, slate.user_id))
        if future is not None and not future.done():
            future.set_result(slate)
