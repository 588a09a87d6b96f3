"""Records as they arrive, before anyone knows what they mean, and how each kind of source hands them over."""

import time
from collections.abc import Iterable
from typing import Any

import msgspec
from riverrank.operators.settings import Behaviour
from riverrank.state.records.decoding import Reject, dead_letter, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import DeadLetter


class Arrival(msgspec.Struct, frozen=True, array_like=True):
    """A record as it came: `value` is None for a tombstone, `ts` is Kafka's, 0 for a line of a file."""

    partition: int
    offset: int
    ts: int
    value: bytes | None
    key: bytes | None = None


def wall_ms() -> int:
    """The wall clock in epoch milliseconds."""
    return time.time_ns() // 1_000_000


def event_of(arrival: Arrival, behaviour: Behaviour) -> Event | Reject:
    """The event that came as `arrival`, read now."""
    return decode_event(arrival.value, _latest(behaviour))


def item_of(arrival: Arrival, behaviour: Behaviour) -> Item | Reject:
    """The item that came as `arrival`, read now."""
    return decode_item(arrival.value, arrival.key, arrival.ts, _latest(behaviour))


def _latest(behaviour: Behaviour) -> int:
    """The newest event time that is not ahead, in epoch milliseconds."""
    return wall_ms() + behaviour.allowed_ahead


decode_arrival = msgspec.msgpack.Decoder(Arrival).decode


class Lines:
    """Reads the lines of a file, decoded as ISO-8859-1, back to bytes, and counts them. Blank ones are no record."""

    def __init__(self) -> None:
        self._next = 0

    def __call__(self, line: str) -> Arrival | None:
        offset, self._next = self._next, self._next + 1
        value = line.encode("latin-1")
        return Arrival(0, offset, 0, value) if value else None


def kafka_record(row: Iterable[Any]) -> Arrival:
    """A row of the Kafka table: key, value, partition, offset, timestamp."""
    key, value, partition, offset, ts = row
    return Arrival(partition, offset, ts, value, key)


def letter_of(arrival: Arrival, reject: Reject, topic: str) -> DeadLetter:
    """The dead letter of a record of that topic."""
    return dead_letter(arrival.value, reject, topic, arrival.partition, arrival.offset, arrival.ts)
