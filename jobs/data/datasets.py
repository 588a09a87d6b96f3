"""What the rows of each public data set, and of a plain CSV file, mean as events and items."""

import math
import os
from collections import Counter
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal, get_args

from riverrank.jobs.errors import UsageError
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.records import Event, Item

from .convert import Collector, Reader, find, optional, rows

TimeUnit = Literal["s", "ms", "us", "ns", "iso"]
PER_MILLISECOND = {"ms": 1, "us": 1_000, "ns": 1_000_000}

YEAR_NS = 31_557_600_000_000_000  # a Julian year, so that a film of 1 January may count to the year before
NO_DATE_NS = -(1 << 63)  # as River's file writes it
AGE_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
GENRES = (
    *("unknown", "action", "adventure", "animation", "children_s", "comedy", "crime", "documentary", "drama"),
    *("fantasy", "film_noir", "horror", "musical", "mystery", "romance", "sci_fi", "thriller", "war", "western"),
)


def river_data() -> Path:
    """Where River keeps MovieLens 100K: below $RIVER_DATA, else in the home folder."""
    return Path(os.environ.get("RIVER_DATA", Path.home() / "river_data")) / "MovieLens100K" / "ml_100k.csv"


def movielens_100k(source: Path, collector: Collector) -> None:
    """MovieLens 100K, in River's format (ml_100k.csv) or in GroupLens' own (a folder with u.data and u.item)."""
    if source.is_file() and source.name.startswith("u.data"):
        source = source.parent
    if source.is_file():
        _river_movielens(source, collector)
        return
    for folder in (source, source / "ml-100k", source / "MovieLens100K"):
        if table := optional(folder, "ml_100k.csv"):
            return _river_movielens(table, collector)
        if optional(folder, "u.data"):
            return _grouplens_movielens(folder, collector)
    find(source, "ml_100k.csv", "u.data")
    return None


def _river_movielens(path: Path, collector: Collector) -> None:
    people: dict[str, dict[str, str]] = {}
    needed = ("user", "item", "timestamp", "title", "release_date", "genres", "rating")
    for k, (where, row) in enumerate(rows(path, collector, needed, separator="\t")):
        with collector.row(where):
            user, item = row["user"], row["item"]
            ts, value = int(row["timestamp"]) // 1_000_000, _number(row["rating"])
            collector.event(Event(event_id=str(k), type="rate", user_id=user, item_id=item, value=value, ts=ts))
            if item not in collector.items:
                collector.item(_film(item, row["title"], row["genres"].split(", "), int(row["release_date"])))
            people.setdefault(user, row)
    for user, row in people.items():
        collector.profile(user, _person(row))


def _grouplens_movielens(folder: Path, collector: Collector) -> None:
    table = partial(rows, collector=collector, header=False, encoding="latin-1")
    names = ("item", "title", "release_date", "video_date", "url", *GENRES)
    for where, row in table(find(folder, "u.item"), columns=names, separator="|"):
        with collector.row(where):
            date = row["release_date"]
            released = _epoch_ms(date, "%d-%b-%Y") * PER_MILLISECOND["ns"] if date else NO_DATE_NS
            genres = [genre for genre in GENRES if row[genre] == "1"]
            collector.item(_film(row["item"], row["title"], genres, released))
    ratings = ("user", "item", "rating", "timestamp")
    for k, (where, row) in enumerate(table(find(folder, "u.data"), columns=ratings, separator="\t")):
        with collector.row(where):
            ts, value = 1_000 * int(row["timestamp"]), _number(row["rating"])
            user, item = row["user"], row["item"]
            collector.event(Event(event_id=str(k), type="rate", user_id=user, item_id=item, value=value, ts=ts))
    if people := optional(folder, "u.user"):
        person = ("user", "age", "gender", "occupation", "zip_code")
        for where, row in table(people, columns=person, separator="|"):
            with collector.row(where):
                collector.profile(row["user"], _person(row))


def _film(item_id: str, title: str, genres: list[str], released_ns: int) -> Item:
    attributes = {} if released_ns == NO_DATE_NS else {"year": 1970 + released_ns // YEAR_NS}
    return Item(item_id=item_id, ts=0, title=title or None, categories=_distinct(genres), attributes=attributes)


def _person(row: Mapping[str, str]) -> dict[str, str]:
    attributes = {key: row[key] for key in ("gender", "occupation") if row.get(key)}
    if row.get("age"):
        attributes["age_band"] = next((band for below, band in AGE_BANDS if _number(row["age"]) < below), "65+")
    return attributes


def complete_journey(source: Path, collector: Collector) -> None:
    """The Complete Journey 2.0: a folder with transactions.csv, products.csv and, if at hand, demographics.csv."""
    folder = source.parent if source.is_file() else source
    numbers = ("quantity", "sales_value")
    needed = ("household_id", "store_id", "basket_id", "product_id", "week", "transaction_timestamp", *numbers)
    repeated: Counter[str] = Counter()
    for where, row in rows(find(folder, "transactions.csv"), collector, needed):
        with collector.row(where):
            ts = _epoch_ms(row["transaction_timestamp"], "%Y-%m-%d %H:%M:%S")
            context = {"store_id": row["store_id"], "basket_id": row["basket_id"], "week": int(row["week"])}
            context |= {"hour": ts // 3_600_000 % 24} | {name: _number(row[name]) for name in numbers}
            event_id = f"{row['basket_id']}-{row['product_id']}"
            repeated[event_id] += 1
            if repeated[event_id] > 1:
                event_id += f"-{repeated[event_id]}"
            user, item = row["household_id"], row["product_id"]
            collector.event(
                Event(event_id=event_id, type="purchase", user_id=user, item_id=item, ts=ts, context=context)
            )
    _products(find(folder, "products.csv"), collector)
    if table := optional(folder, "demographics.csv"):
        for where, row in rows(table, collector, ("household_id",)):
            with collector.row(where):
                household = row.pop("household_id")
                attributes = {"age_band" if key == "age" else key: value for key, value in row.items()}
                collector.profile(household, {key: value for key, value in attributes.items() if _is_known(value)})


def _products(path: Path, collector: Collector) -> None:
    levels = ("department", "product_category", "product_type")
    attributes = {"brand": "brand", "manufacturer": "manufacturer_id", "package_size": "package_size"}
    for where, row in rows(path, collector, ("product_id", *levels, *attributes.values())):
        with collector.row(where):
            known = {name: row[column] for name, column in attributes.items() if _is_known(row[column])}
            categories = _distinct([row[level] for level in levels if _is_known(row[level])])
            collector.item(Item(item_id=row["product_id"], ts=0, categories=categories, attributes=known))


def serenade(source: Path, collector: Collector) -> None:
    """The clicks of bol.com's Serenade: clicks.csv or the folder that holds it. A session is a user."""
    clicks: Counter[str] = Counter()
    path = source if source.is_file() else find(source, "clicks.csv")
    for where, row in rows(path, collector, ("SessionId", "ItemId", "Time")):
        with collector.row(where):
            user, item, ts = row["SessionId"], row["ItemId"], timestamp(row["Time"], "s")
            clicks[user] += 1
            event_id = f"{user}-{clicks[user]}"
            collector.event(Event(event_id=event_id, type="click", user_id=user, item_id=item, ts=ts))
            if item not in collector.items:
                collector.item(Item(item_id=item, ts=0))


CSV_FIELDS = ("user", "item", "ts", "type", "value", "event", "title", "categories")
CSV_DEFAULTS = {"user": "user_id", "item": "item_id", "ts": "ts"}


def mapping_of(given: list[str]) -> dict[str, str]:
    """The columns by field that the flags `given` name.

    >>> mapping_of(["user=who,item=what", "ts=when"])
    {'user': 'who', 'item': 'what', 'ts': 'when'}
    """
    mapping: dict[str, str] = {}
    for pair in ",".join(given).split(",") if given else ():
        field, equals, column = pair.strip().partition("=")
        if not (field and equals and column):
            raise UsageError(f"--map: expected FIELD=COLUMN, got {pair!r}")
        mapping[field] = column
    return mapping


def plain_csv(columns: Mapping[str, str], unit: str, type_: str, separator: str) -> Reader:
    """A reader of one CSV file with a header, gz by its ending. `columns` maps `CSV_FIELDS` to its columns.

    Without a column of its own, an event is of the type `type_` and its id is the number of its row, from 0.
    A column of categories holds them with | between.
    """
    if unknown := [name for name in columns if name not in CSV_FIELDS]:
        raise UsageError(f"--map: no field {unknown[0]!r}; the fields are {', '.join(CSV_FIELDS)}")
    if type_ not in EVENT_TYPES:
        raise UsageError(f"--type: expected one of {', '.join(EVENT_TYPES)}, got {type_!r}")
    if unit not in (units := get_args(TimeUnit)):
        raise UsageError(f"--ts-unit: expected one of {', '.join(units)}, got {unit!r}")
    if type_ == "rate" and "value" not in columns:
        raise UsageError("--type: a rate needs its value; add --map value=COLUMN")
    if len(separator) != 1:
        raise UsageError(f"--separator: expected one character, got {separator!r}")
    fields = {**CSV_DEFAULTS, **columns}

    def read(source: Path, collector: Collector) -> None:
        for k, (where, row) in enumerate(rows(source, collector, tuple(fields.values()), separator=separator)):
            with collector.row(where):
                given = {field: row[column] for field, column in fields.items() if row[column] != ""}
                item_id, value = given.get("item"), given.get("value")
                collector.event(
                    Event(
                        event_id=given.get("event", str(k)),
                        type=given.get("type", type_),  # checked with the record
                        user_id=given.get("user", ""),
                        item_id=item_id,
                        ts=timestamp(given.get("ts", ""), unit),
                        value=None if value is None else _number(value),
                    )
                )
                if item_id is not None and item_id not in collector.items:
                    categories = _distinct([c for c in given.get("categories", "").split("|") if c])
                    collector.item(Item(item_id=item_id, ts=0, title=given.get("title"), categories=categories))

    return read


def timestamp(text: str, unit: str) -> int:
    """A time as epoch milliseconds: a number of `unit` (a `TimeUnit`), or ISO 8601, in UTC unless it says otherwise.

    >>> timestamp("1590884413", "s"), timestamp("1590884413.5", "s"), timestamp("2020-05-31T00:20:13", "iso")
    (1590884413000, 1590884413500, 1590884413000)
    """
    if unit == "iso":
        time = datetime.fromisoformat(text)
        return round((time if time.tzinfo else time.replace(tzinfo=UTC)).timestamp() * 1_000)
    try:
        whole = int(text)
    except ValueError:
        number = _number(text)
        return round(number * 1_000 if unit == "s" else number / PER_MILLISECOND[unit])
    return whole * 1_000 if unit == "s" else whole // PER_MILLISECOND[unit]


def _epoch_ms(text: str, form: str) -> int:
    return round(datetime.strptime(text, form).replace(tzinfo=UTC).timestamp() * 1_000)


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"expected a finite number, got {text!r}")
    return number


def _is_known(value: str) -> bool:
    """Whether a cell says anything: R writes NA for what is missing."""
    return value not in ("", "NA")


def _distinct(values: list[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


READERS: Mapping[str, Reader] = {
    "movielens-100k": movielens_100k,
    "complete-journey": complete_journey,
    "serenade": serenade,
}
