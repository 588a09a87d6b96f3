"""A recommender in one Python process, for notebooks and tests: the pipeline of `replay`, fed with events and items one
by one, and a cache in memory in place of Redis. It keeps nothing beyond its life.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from riverrank.jobs.config.schema import Config, parse
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import POPULAR, CacheWrite
from riverrank.state.outputs import DEAD_LETTERS, PREDICTIONS
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import DeadLetter, Prediction, Receipt, Slate, to_json

from .pipeline import Pipeline

Record = Mapping[str, Any] | Event | Item | str | bytes

OF_USERS = slate_key("")  # begins the keys of users' slates
_decode_slate = msgspec.json.Decoder(Slate).decode


class Recommender:
    """What a configuration recommends, event by event: the very slates that `replay` and the job give.

    Records are mappings, `Event` and `Item`, or JSON; all are checked as the job checks what it reads. Users and items
    are kept for as long as this lives. Calls are for one thread at a time.

    >>> shop = Recommender()
    >>> shop.items([{"item_id": "tent", "ts": 1, "title": "Light tent"}, {"item_id": "lamp"}])[0].detail
    'ts: a required field, none is there'
    >>> slate = shop.event({"event_id": "e-1", "type": "click", "user_id": "u-17", "item_id": "tent", "ts": 2})
    >>> slate.version, [slot.item_id for slot in slate.items], shop.slate("u-17") == slate
    (1, ['tent'], True)
    """

    def __init__(self, config: Config | Behaviour | Mapping[str, Any] | None = None) -> None:
        """`config` as `riverrank.jobs.config.schema` loads or parses it, or what that parses, sections by name; the
        behaviour alone counts of it. All defaults where there is none. Raises UsageError where it says what is none.
        """
        if isinstance(config, Mapping):
            config = parse(config)
        behaviour = config.behaviour if isinstance(config, Config) else config or Behaviour()
        outputs = {DEAD_LETTERS.name: self._refuse, PREDICTIONS.name: self._predict}
        self._cache = MemoryCache()
        self._letters: list[DeadLetter] = []
        self._predictions: list[Prediction] = []
        self._read = {"events": 0, "items": 0}
        self.pipeline = Pipeline(behaviour, outputs, self._cache, popular_every=0)

    def items(self, records: Iterable[Record]) -> list[DeadLetter]:
        """Take records of the catalogue; a dead letter for each that cannot be used.

        Raises TypeError where a mapping holds what JSON has not.
        """
        self._letters = []
        for record in _several(records):
            self.pipeline.item(self._arrival("items", record))
        self.pipeline.refresh_popular()
        return self._letters

    def event(self, record: Record) -> Slate | Receipt | DeadLetter | None:
        """Take an event: the slate that answers it, the receipt of an erasure, or a dead letter where it cannot be
        used. None for an impression, a profile, and what came before. Raises as `items`.
        """
        self._letters, self._predictions, self._cache.receipt = [], [], None
        answer = self.pipeline.event(self._arrival("events", record))
        if self._letters:
            return self._letters[0]
        if self._cache.receipt is not None:
            return msgspec.json.decode(self._cache.receipt, type=Receipt)
        return None if answer is None or answer.slate is None else _decode_slate(answer.slate)

    def events(self, records: Iterable[Record]) -> list[Slate | Receipt | DeadLetter | None]:
        """Take events in their order; of each what `event` gives."""
        return [self.event(record) for record in _several(records)]

    @property
    def predictions(self) -> tuple[Prediction, ...]:
        """What was foretold of the last event before it was learned from: of it, and of impressions that it closed."""
        return tuple(self._predictions)

    def slate(self, user_id: str) -> Slate | None:
        """What a page would show the user now, as it would read it from Redis: the slate that answered the user's last
        event, or the popular one; None where there is neither. Without what is gone. Writes nothing, and teaches
        nothing: to ask for a new slate is an event, `request`.
        """
        raw = self._cache.slates.get(slate_key(user_id)) or self._cache.slates.get(POPULAR)
        if raw is None:
            return None
        slate = _decode_slate(raw)
        left = tuple(slot for slot in slate.items if not self._is_gone(slot.item_id))
        return msgspec.structs.replace(slate, items=left)

    def finish(self) -> tuple[Prediction, ...]:
        """End the input: impressions that wait are closed and learned from, and what is popular is told. What was
        foretold of them.
        """
        self._predictions = []
        for message in self.pipeline.last_messages():
            self.pipeline.hear(message)
        self.pipeline.refresh_popular(last=True)
        return self.predictions

    def _is_gone(self, item_id: str) -> bool:
        index = self.pipeline.index
        return item_id in index.items and not index.available[index.row(item_id)]

    def _arrival(self, name: str, record: Record) -> Arrival:
        """A record as it would come, with its number."""
        number = self._read[name]
        self._read[name] = number + 1
        return Arrival(0, number, 0, _encoded(record))

    def _refuse(self, key: str, value: bytes | None) -> None:
        assert value is not None, "only slates have tombstones"
        self._letters.append(msgspec.json.decode(value, type=DeadLetter))

    def _predict(self, key: str, value: bytes | None) -> None:
        assert value is not None, "only slates have tombstones"
        self._predictions.append(msgspec.json.decode(value, type=Prediction))


def _several(records: Iterable[Record]) -> Iterable[Record]:
    if isinstance(records, (Mapping, Event, Item, str, bytes)):
        raise TypeError("expected several records, got one; give [record]")
    return records


def _encoded(record: Record) -> bytes:
    """A record's JSON. What is no text in it stays such: it is for the decoder to refuse."""
    if isinstance(record, bytes):
        return record
    try:
        return record.encode() if isinstance(record, str) else to_json(record)
    except UnicodeEncodeError:
        text = record if isinstance(record, str) else json.dumps(msgspec.to_builtins(record), ensure_ascii=False)
        return text.encode("utf-8", "surrogatepass")


class MemoryCache:
    """Slates (JSON) by key, and the `receipt` of the last erasure. What is gone the index knows."""

    def __init__(self) -> None:
        self.slates: dict[str, bytes] = {}
        self.receipt: bytes | None = None

    def put(self, write: CacheWrite) -> None:
        """Take a write: here they come in order."""
        if write.receipt is not None:
            self.receipt = write.receipt
        if write.slate is None:
            self.slates.pop(write.key, None)
        elif write.key == POPULAR or write.key.startswith(OF_USERS):
            self.slates[write.key] = write.slate
