"""What the catalogue says of items, in memory: the items topic is followed from its beginning, or a file of items read.

Holds what reads filter and show by, of a bounded number of items; the job's own index knows more.
"""

import logging
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

import msgspec
from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.reading import read_items
from riverrank.jobs.serving.following import TopicFollower
from riverrank.jobs.serving.groups import ItemGroups
from riverrank.operators.catalogue.tokens import names
from riverrank.operators.flink.arrivals import Arrival, item_of
from riverrank.state.records.incoming import Item

CATEGORY = "category"  # stands for an item's categories, in place of an attribute
MOST_SAID = 2_048  # characters that are kept of an item's title, categories and attributes together

_log = logging.getLogger(__name__)


class Entry(msgspec.Struct, frozen=True, gc=False):
    """An item as it was told of last. `attributes` hold text, as a request would name it."""

    ts: int
    available: bool
    title: str | None = None
    categories: tuple[str, ...] = ()
    attributes: dict[str, tuple[str, ...]] = {}
    groups: tuple[int, ...] = ()  # see ItemGroups

    def holds(self, name: str, value: str) -> bool:
        """Whether its attribute `name`, or one of its categories, is `value`.

        >>> entry = entry_of(Item("i", 1, categories=("tents",), attributes={"price": 9.9, "sale": True}))
        >>> entry.holds("category", "tents"), entry.holds("price", "9.9"), entry.holds("sale", "false")
        (True, True, False)
        """
        return value in (self.categories if name == CATEGORY else self.attributes.get(name, ()))


def entry_of(item: Item) -> Entry:
    """What is kept of an item: MOST_SAID characters, and nothing of one that is gone."""
    if item.deleted:
        return Entry(item.ts, False)
    left = MOST_SAID
    title = item.title[:left] if item.title is not None else None
    left -= len(title or "")
    categories: list[str] = []
    for category in filter(names, item.categories):
        if (left := left - len(category)) < 0:
            break
        categories.append(sys.intern(category))  # many items say the same
    attributes: dict[str, tuple[str, ...]] = {}
    for name, value in item.attributes.items():
        values = tuple(_texts(value))
        if (left := left - len(name) - sum(map(len, values))) < 0:
            break
        if values:
            attributes[sys.intern(name)] = values
    return Entry(item.ts, item.available, title, tuple(categories), attributes)


def _texts(value: Any) -> Iterator[str]:
    """The values of an attribute, as a request would name them; no more than fit."""
    for single in value[:MOST_SAID] if isinstance(value, list) else (value,):
        if isinstance(single, str) and names(single):
            yield sys.intern(single)
        elif isinstance(single, bool | int | float):
            yield sys.intern(msgspec.json.encode(single).decode())


class Catalogue:
    """Items by id, `most` at most: the one that was told of longest ago goes. For one thread that writes. Those that
    may be shown are counted by the `groups` they are in, where these are wanted.
    """

    def __init__(self, most: int, groups: ItemGroups | None = None) -> None:
        self._most = most
        self.groups = groups
        self._entries: OrderedDict[str, Entry] = OrderedDict()  # the one told of last stands last
        self._lock = threading.Lock()  # of what changes or copies their order; `of` needs none
        self.caught_up = False  # whether all that was there at the start is in it

    def __len__(self) -> int:
        return len(self._entries)

    def take(self, item: Item) -> None:
        """Keep what an item says, unless something newer is kept. One that is gone is kept too, for its time.

        >>> catalogue = Catalogue(most=2)
        >>> for ts, title in ((2, "new"), (1, "old")):
        ...     catalogue.take(Item("i", ts, title=title))
        >>> catalogue.of("i").title
        'new'
        """
        held = self._entries.get(item.item_id)
        entry = held if held is not None and held.ts > item.ts else self._entry_of(item)
        with self._lock:
            self._entries[item.item_id] = entry  # in one step, so that whoever reads finds the one or the other
            self._entries.move_to_end(item.item_id)
            gone = self._entries.popitem(last=False)[1] if len(self._entries) > self._most else None
        if self.groups is not None:
            for each, sign in ((held, -1), (entry, 1), (gone, -1)):
                if each is not None and each.available:
                    self.groups.count(each.groups, sign)

    def _entry_of(self, item: Item) -> Entry:
        entry = entry_of(item)
        if self.groups is None or item.deleted:
            return entry
        return msgspec.structs.replace(entry, groups=self.groups.of(item))

    def all(self) -> list[tuple[str, Entry]]:
        """Every item as it is now, the one told of longest ago first; from any thread."""
        with self._lock:
            return list(self._entries.items())

    def of(self, item_id: str) -> Entry | None:
        """What is known of an item; from any thread."""
        return self._entries.get(item_id)


class ItemsFollower(TopicFollower):
    """Keeps `catalogue` as the items of `config` are: read once from a file, or followed on the topic, by a thread."""

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        settings = {"isolation_level": "read_committed", "auto_offset_reset": "earliest"}
        super().__init__(config.kafka, (config.kafka.items,), config.serve.timeout, settings)
        self._config, self._catalogue = config, catalogue
        self._ends: dict[TopicPartition, int] = {}  # of what was there at the start

    def starts(self, consumer: KafkaConsumer, partitions: list[TopicPartition]) -> dict[TopicPartition, int]:
        """From the beginning."""
        return dict(consumer.beginning_offsets(partitions, timeout_ms=self._timeout_ms))

    def take(self, record: ConsumerRecord, left: int) -> None:
        """Keep what it says of an item; what is told again changes nothing."""
        arrival = Arrival(record.partition, record.offset, record.timestamp, record.value, record.key)
        item = item_of(arrival, self._config.behaviour)
        if isinstance(item, Item):
            self._catalogue.take(item)

    def look(self, consumer: KafkaConsumer) -> None:
        """Whether it is caught up."""
        if self._catalogue.caught_up:
            return
        if not self._ends:
            self._ends = consumer.end_offsets(sorted(consumer.assignment()), timeout_ms=self._timeout_ms)
        if self._ends and all(consumer.position(each) >= end for each, end in self._ends.items()):
            self._catch_up()

    def _run(self) -> None:
        if self._config.files.items:
            self._read_file()
        else:
            super()._run()

    def _read_file(self) -> None:
        try:
            for item in read_items(self._config):
                self._catalogue.take(item)
                if self._ended.is_set():
                    return
        except (Failure, OSError) as error:
            _log.error("files.items: %s; what was read before is served", error)
        self._catch_up()

    def _catch_up(self) -> None:
        self._catalogue.caught_up = True
        _log.info("the catalogue holds %d items", len(self._catalogue))
