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
from kafka import TopicPartition
from kafka.errors import KafkaError
from riverrank.jobs.config.consuming import consuming
from riverrank.jobs.config.schema import Config
from riverrank.jobs.config.tokens import TokenError
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.reading import read_items
from riverrank.jobs.serving.groups import ItemGroups
from riverrank.operators.catalogue.tokens import names
from riverrank.operators.flink.arrivals import Arrival, item_of
from riverrank.state.records.incoming import Item

CATEGORY = "category"  # stands for an item's categories, in place of an attribute
MOST_SAID = 2_048  # characters that are kept of an item's title, categories and attributes together
POLL_MS = 500
LONGEST_BACKOFF_MS = 1_000
RETRY_SECONDS = 1.0

log = logging.getLogger(__name__)


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


class Follower:
    """Keeps `catalogue` as the items of `config` are: read once from a file, or followed on the topic, by a thread."""

    def __init__(self, config: Config, catalogue: Catalogue) -> None:
        self._config, self._catalogue = config, catalogue
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="follows-items", daemon=True)

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End the thread."""
        self._ending.set()
        self._thread.join()

    def _work(self) -> None:
        if self._config.files.items:
            self._read_file()
            return
        while not self._ending.is_set():
            try:
                self._follow()
            except (KafkaError, OSError, TokenError) as error:
                kafka = self._config.kafka
                log.warning("Kafka at %s does not give topic %s: %s", kafka.bootstrap, kafka.items, error)
                self._ending.wait(RETRY_SECONDS)

    def _read_file(self) -> None:
        try:
            for item in read_items(self._config):
                self._catalogue.take(item)
                if self._ending.is_set():
                    return
        except (Failure, OSError) as error:
            log.error("files.items: %s; what was read before is served", error)
        self._catalogue.caught_up = True
        log.info("the catalogue holds %d items", len(self._catalogue))

    def _follow(self) -> None:
        """Read from the beginning, and on; what is told again changes nothing."""
        kafka = self._config.kafka
        options = {
            "group_id": None,
            "isolation_level": "read_committed",
            "auto_offset_reset": "earliest",
            "bootstrap_timeout_ms": self._config.serve.timeout,
            "reconnect_backoff_max_ms": LONGEST_BACKOFF_MS,
        }
        with consuming(kafka, kafka.items, **options) as consumer:
            ends: dict[TopicPartition, int] = {}
            while not self._ending.is_set():
                for partition, records in consumer.poll(POLL_MS).items():
                    for record in records:
                        arrival = Arrival(
                            partition.partition, record.offset, record.timestamp, record.value, record.key
                        )
                        item = item_of(arrival, self._config.behaviour)
                        if isinstance(item, Item):
                            self._catalogue.take(item)
                if not self._catalogue.caught_up:
                    ends = ends or consumer.end_offsets(list(consumer.assignment()))
                    if ends and all(consumer.position(each) >= end for each, end in ends.items()):
                        self._catalogue.caught_up = True
                        log.info("the catalogue holds %d items", len(self._catalogue))
