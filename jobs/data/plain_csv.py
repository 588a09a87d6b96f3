"""Events and items of a CSV file of any make, and of a file with a catalogue beside it."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, tzinfo
from pathlib import Path
from typing import get_args
from zoneinfo import ZoneInfo

import msgspec
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records.bounds import MAX_TS
from riverrank.state.records.incoming import Event, Item

from .cells import TimeUnit, categories, number, shown, timestamp
from .convert import Collector, Reader
from .layout import ATTRIBUTE, Fields, Layout, TableFlags, parts
from .tables import numbered_rows

EVENT_FIELDS = Fields(
    ("user", "item", "ts", "type", "value", "event", "title", "categories"),
    {"user": "user_id", "item": "item_id", "ts": "ts"},
)
PRODUCT_FIELDS = Fields(
    ("item", "title", "text", "categories", "price", "brand", "ts"), {"item": "item_id"}, attributes=True
)
MAX_PREFIX_BYTES = 200  # of an event's id, which has the type and the line too


class Clock(msgspec.Struct, frozen=True):
    """What the times of a file are: their unit, and the zone of those that say none."""

    unit: str
    zone: tzinfo

    def ms(self, text: str) -> int:
        """A time as epoch milliseconds. Raises ValueError, which says what was expected."""
        try:
            ts = timestamp(text, self.unit, self.zone)
        except (ValueError, ArithmeticError) as error:
            raise ValueError(f"ts: {error} (--ts-unit {self.unit})") from None
        if not 0 <= ts <= MAX_TS:
            raise ValueError(f"ts: expected a time from 1970 to 9999, got {shown(text)} (--ts-unit {self.unit})")
        return ts


class EventFlags(msgspec.Struct, frozen=True):
    """What the flags say of the events in a file, as they were given."""

    type: str | None = None
    types: Sequence[str] = ()
    ts_unit: str | None = None
    timezone: str | None = None
    prefix: str | None = None

    def clock(self) -> Clock:
        """How times are read. Raises UsageError."""
        unit, units = self.ts_unit or "s", get_args(TimeUnit)
        if unit not in units:
            raise UsageError(f"--ts-unit: expected one of {', '.join(units)}, got {unit!r}")
        if self.timezone is None or self.timezone == "UTC":
            return Clock(unit, UTC)
        if unit != "iso":
            raise UsageError("--timezone: numbers have none; it needs --ts-unit iso")
        try:
            return Clock(unit, ZoneInfo(self.timezone))
        except (KeyError, ValueError, OSError):
            raise UsageError(
                f"--timezone: expected a name such as Europe/Paris or UTC, got {self.timezone!r}"
            ) from None

    def meanings(self, columns: Mapping[str, str]) -> dict[str, str]:
        """The type of an event by the text that stands for it, empty where its rows are to be left out; "" has that of
        rows which say none. Raises UsageError.
        """
        found: dict[str, str] = {}
        for pair in parts(self.types, "--types"):
            text, equals, type_ = pair.rpartition("=")
            type_ = type_.strip()
            if not (text and equals):
                raise UsageError(f"--types: expected FROM=TO, or FROM= to leave it out, got {pair!r}")
            if found.get(text, type_) != type_:
                raise UsageError(f"--types: {text} is there twice; expected one type for it")
            found[text] = type_
        if found and "type" not in columns:
            raise UsageError("--types: no column has types; add --map type=COLUMN, or type to --columns")
        for flag, type_ in (*(("--types", each) for each in found.values() if each), ("--type", self.type or "click")):
            if type_ not in EVENT_TYPES:
                raise UsageError(f"{flag}: expected one of {', '.join(EVENT_TYPES)}, got {type_!r}")
            if type_ == "rate" and "value" not in columns:
                raise UsageError(f"{flag}: a rate needs its value; add --map value=COLUMN, or value to --columns")
        return found | {"": self.type or "click"}

    def prefix_for(self, source: Path) -> str:
        """What the ids of events begin with: the flag's text, else the file's name without .gz and .csv."""
        if self.prefix is not None:
            prefix, what = self.prefix, "text"
        else:
            name = source.name.removesuffix(".gz").removesuffix(".csv") or source.name
            prefix, what = os.fsencode(name).decode("utf-8", "replace"), "shorter text: the file's name has too much"
        if len(prefix.encode("utf-8", "replace")) > MAX_PREFIX_BYTES:
            raise UsageError(f"--event-prefix: expected {what} of at most {MAX_PREFIX_BYTES} bytes")
        return prefix


class CsvFlags(msgspec.Struct, frozen=True):
    """All that the flags say of a CSV file and of the catalogue beside it."""

    table: TableFlags = TableFlags()
    events: EventFlags = EventFlags()
    products: Path | None = None
    catalogue: TableFlags = TableFlags("--product-")


def plain_csv(flags: CsvFlags) -> Reader:
    """A reader of one CSV file, gz by its ending, and of its catalogue. Raises UsageError where flags do not agree."""
    events, products = flags.table.layout(EVENT_FIELDS), flags.catalogue.layout(PRODUCT_FIELDS)
    meanings, clock = flags.events.meanings(events.columns), flags.events.clock()
    if flags.products is None and flags.catalogue != TableFlags("--product-"):
        raise UsageError("--products: expected the FILE that --product-map and the like speak of; add it")

    def read(source: Path, collector: Collector) -> None:
        prefix = flags.events.prefix_for(source)
        if flags.products is not None:
            _read_products(flags.products, collector, products, clock)
        of_products, collector.first_bad = collector.first_bad, None  # what is wrong with events is told before that
        _Events(events, meanings, clock, prefix, collector).read(source)
        collector.first_bad = collector.first_bad or of_products

    return read


class _Events:
    """Takes the events of a table, and the items that the catalogue lacks."""

    def __init__(
        self, layout: Layout, meanings: Mapping[str, str], clock: Clock, prefix: str, collector: Collector
    ) -> None:
        self.layout, self.meanings, self.clock, self.prefix = layout, meanings, clock, prefix
        self.collector = collector
        self.catalogue = frozenset(collector.items)
        self.seen: dict[str, Item] = {}

    def read(self, source: Path) -> None:
        """Every row of `source`."""
        columns = self.layout.columns
        needed = tuple(columns.values())
        for line, row in numbered_rows(source, self.collector, needed, self.layout.form):
            with self.collector.row(f"{source.name}, line {line}"):
                given = {field: row[column] for field, column in columns.items() if row[column] != ""}
                event = self._event(given, line)
                if event is None:
                    continue
                item = self._item(given)
                self.collector.take((event,), () if item is None else (item,))
                if item is not None:
                    self.seen[item.item_id] = item

    def _event(self, given: Mapping[str, str], line: int) -> Event | None:
        """The event of a row; None where the row is left out for its type or as a return, which is counted."""
        text = given.get("type", "")
        type_ = self.meanings.get(text, text)
        if not type_:
            self.collector.left_out[text] += 1
            return None
        if type_ not in EVENT_TYPES:
            raise ValueError(
                f"type: expected one of {', '.join(EVENT_TYPES)}, got {shown(text)} (--types FROM=TO says what it is)"
            )
        value = number(given["value"], "value") if "value" in given else None
        if type_ == "purchase" and value is not None and value <= 0:
            self.collector.returns += 1
            return None
        return Event(
            event_id=given.get("event") or f"{self.prefix}-{type_}-{line}",
            type=type_,
            user_id=given.get("user", ""),
            item_id=given.get("item"),
            ts=self.clock.ms(given.get("ts", "")),
            value=value,
        )

    def _item(self, given: Mapping[str, str]) -> Item | None:
        """The item of a row where it is new, or says what no row said before."""
        item_id = given.get("item")
        if item_id is None or item_id in self.catalogue:
            return None
        before = self.seen.get(item_id)
        title, named = given.get("title"), given.get("categories", "")
        if before is not None:
            if (before.title or not title) and (before.categories or not named):
                return None
            return Item(item_id, 0, before.title or title, categories=before.categories or categories(named))
        return Item(item_id, 0, title, categories=categories(named))


def _read_products(path: Path, collector: Collector, layout: Layout, clock: Clock) -> None:
    """Take the items of a catalogue. Raises Failure where there is none."""
    needed = tuple(layout.columns.values())
    for line, row in numbered_rows(path, collector, needed, layout.form):
        with collector.row(f"{path.name}, line {line}"):
            given = {field: row[column] for field, column in layout.columns.items() if row[column] != ""}
            item = _product(given, clock)
            again = item.item_id in collector.items
            collector.item(item)
            collector.repeated_items += again
    if not collector.items:
        raise Failure(f"{path}: no usable row ({collector.first_bad or 'expected rows under its header'})")


def _product(given: Mapping[str, str], clock: Clock) -> Item:
    attributes: dict[str, str | float] = {}
    for field, text in given.items():
        if field == "price":
            attributes[field] = number(text, field)
        elif field == "brand" or field.startswith(ATTRIBUTE):
            attributes[field.removeprefix(ATTRIBUTE)] = text
    return Item(
        item_id=given.get("item", ""),
        ts=clock.ms(given["ts"]) if "ts" in given else 0,
        title=given.get("title"),
        text=given.get("text"),
        categories=categories(given.get("categories", "")),
        attributes=attributes,
    )
