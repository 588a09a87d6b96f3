"""Records as they arrive, on their way to an operator: events get their key, items become catalogue updates."""

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from pyflink.common import Row
from pyflink.datastream import ProcessFunction, RuntimeContext
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import CatalogueUpdate, encode
from riverrank.state.records.decoding import Reject, decode_event

from .arrivals import Arrival, item_of
from .channels import Letters, Outputs
from .shipped import Shipped

Read = Callable[[Any], Arrival | None]


class _Keyed(msgspec.Struct):
    """Of an event, what it is keyed by."""

    user_id: str


_key_of = msgspec.json.Decoder(_Keyed).decode


class ParseEvents(Shipped, ProcessFunction):
    """Keys each event by the pseudonym of its user, made with `key`. SESSION decodes and checks it; what has no key
    becomes a dead letter here. The user is that of the whole record where the key alone can't be told, as of one that
    says it twice.
    """

    def __init__(self, read: Read, topic: str, outputs: Outputs, key: bytes) -> None:
        self.read, self.topic, self.outputs, self.key = read, topic, outputs, key

    def open(self, runtime_context: RuntimeContext) -> None:
        self.letters = Letters(self.outputs, uids.EVENTS_PARSE, runtime_context)

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Any]:
        arrival = self.read(value)
        if arrival is None:
            return
        try:
            event: Any = _key_of(arrival.value or b"")
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            event = decode_event(arrival.value)
        if isinstance(event, Reject):
            yield from self.letters.refuse(arrival, event, self.topic)
        else:
            yield Row(pseudonym(event.user_id, self.key), encode(arrival))


class ParseItems(Shipped, ProcessFunction):
    """Makes a catalogue update of each item; what is none becomes a dead letter."""

    def __init__(self, behaviour: Behaviour, read: Read, topic: str, outputs: Outputs, *, updates: bool) -> None:
        """`updates`: whether catalogue updates are wanted, not the dead letters alone."""
        self.behaviour = behaviour
        self.read, self.topic, self.outputs, self.updates = read, topic, outputs, updates

    def open(self, runtime_context: RuntimeContext) -> None:
        self.letters = Letters(self.outputs, uids.ITEMS_PARSE, runtime_context)

    def process_element(self, value: Any, ctx: ProcessFunction.Context) -> Iterator[Any]:
        arrival = self.read(value)
        if arrival is None:
            return
        item = item_of(arrival, self.behaviour)
        if isinstance(item, Reject):
            yield from self.letters.refuse(arrival, item, self.topic)
        elif self.updates:
            yield encode(CatalogueUpdate(item))
