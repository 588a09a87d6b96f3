"""Logged slates, each found again by the event that it answers, in one pass over both; of neither more is held than the
other is behind.
"""

from collections.abc import Iterator
from itertools import islice
from typing import Annotated

import msgspec
from msgspec import Meta
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.jobs.local.reading import STANDARD, read_lines, read_topic
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.records.bounds import MAX_RECORD_BYTES
from riverrank.state.records.incoming import Event

HELD = 20_000  # slates whose events are still to come, at most: some 50 MB
LOOKED_AT = 64  # of these, each time that there is no room


class LoggedSlot(msgspec.Struct, frozen=True, gc=False):
    """What is read of a slot."""

    item_id: str
    propensity: Annotated[float, Meta(gt=0.0, le=1.0)]  # what had no chance was not drawn


class LoggedSlate(msgspec.Struct, frozen=True):
    """What is read of a slate."""

    slate_id: str
    user_id: str
    ts: int
    trigger: str
    arm: Annotated[str, Meta(min_length=1, max_length=256)]
    items: Annotated[tuple[LoggedSlot, ...], Meta(max_length=200)]


_decode = msgspec.json.Decoder(LoggedSlate).decode


class SlateLog:
    """Slates in the order in which they were written, which is that of events but for what goes on at once.

    `unusable` are records that are no slates, `again` those that came before, `unmatched` those whose event did not
    come where it was looked for.

    >>> line = b'{"slate_id":"u:1","user_id":"u","ts":1,"trigger":"e","arm":"a","items":[]}'
    >>> log = SlateLog(iter([Arrival(0, 0, 0, line)]))
    >>> log.answer_to(Event("e", "request", "u", 1)).arm, log.answer_to(Event("e", "request", "u", 1)), log.read
    ('a', None, 1)
    """

    def __init__(self, records: Iterator[Arrival], held: int = HELD) -> None:
        self._records, self._most = records, held
        self._waiting: dict[tuple[str, str], LoggedSlate] = {}
        self._found: dict[tuple[str, str], None] = {}  # the last, as a slate may be delivered twice
        self.read = self.unusable = self.again = self._left_out = 0

    @property
    def unmatched(self) -> int:
        """Slates whose events did not come, by now."""
        return self._left_out + len(self._waiting)

    def answer_to(self, event: Event) -> LoggedSlate | None:
        """The slate that answers the event, None where there is none."""
        self._fill()
        key = event.user_id, event.event_id
        slate = self._waiting.pop(key, None)
        if slate is not None:
            self._found[key] = None
            if len(self._found) > self._most:
                del self._found[next(iter(self._found))]
        elif len(self._waiting) >= self._most:
            self._make_room(event.ts)
        return slate

    def _fill(self) -> None:
        while len(self._waiting) < self._most:
            record = next(self._records, None)
            if record is None:
                return
            if record.value is None:  # a tombstone
                continue
            slate = _slate(record.value)
            if slate is None:
                self.unusable += 1
                continue
            self.read += 1
            key = slate.user_id, slate.trigger
            if key in self._found or key in self._waiting:
                self.again += 1
            else:
                self._waiting[key] = slate

    def _make_room(self, ts: int) -> None:
        """Give up slates that waited longest, of times that have come."""
        for key, slate in list(islice(self._waiting.items(), LOOKED_AT)):
            if slate.ts <= ts:
                del self._waiting[key]
                self._left_out += 1


def _slate(value: bytes) -> LoggedSlate | None:
    if len(value) > MAX_RECORD_BYTES:
        return None
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def slate_log(config: Config) -> SlateLog:
    """The slates of `files.slates`, else of the topic `kafka.slates`. Raises UsageError where there are none."""
    files, kafka = config.files, config.kafka
    if not (files.events or (kafka.bootstrap and kafka.events)):
        raise UsageError("no events to read: give --events FILE, or --kafka HOST:PORT")
    if files.slates:
        if files.slates == files.events == STANDARD:
            raise UsageError("--slates: standard input is taken by --events; give a file")
        return SlateLog(read_lines(files.slates))
    if kafka.bootstrap and kafka.slates:
        return SlateLog(read_topic(kafka, kafka.slates))
    raise UsageError("no slates to read: give --slates FILE, as `riverrank run` wrote it, or --kafka HOST:PORT")
