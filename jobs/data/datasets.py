"""What the rows of each public data set mean as events and items."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from riverrank.state.records.incoming import Event, Item

from .cells import PER_MILLISECOND, distinct, epoch_ms, number, timestamp
from .convert import Collector, Reader
from .tables import Format, find, optional, rows

YEAR_NS = 31_557_600_000_000_000  # a Julian year, so that a film of 1 January may count to the year before
NO_DATE_NS = -(1 << 63)  # as River's file writes it
AGE_BANDS = ((18, "under 18"), (25, "18-24"), (35, "25-34"), (45, "35-44"), (55, "45-54"), (65, "55-64"))
GENRES = (
    *("unknown", "action", "adventure", "animation", "children_s", "comedy", "crime", "documentary", "drama"),
    *("fantasy", "film_noir", "horror", "musical", "mystery", "romance", "sci_fi", "thriller", "war", "western"),
)

NEWS = ("item", "category", "subcategory", "title", "abstract", "url", "title_entities", "abstract_entities")
BEHAVIORS = ("impression", "user", "time", "history", "shown")


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
    for k, (where, row) in enumerate(rows(path, collector, needed, Format(separator="\t"))):
        with collector.row(where):
            user, item = row["user"], row["item"]
            ts, value = int(row["timestamp"]) // 1_000_000, number(row["rating"])
            collector.event(Event(event_id=str(k), type="rate", user_id=user, item_id=item, value=value, ts=ts))
            if item not in collector.items:
                collector.item(_film(item, row["title"], row["genres"].split(", "), int(row["release_date"])))
            people.setdefault(user, row)
    for user, row in people.items():
        collector.profile(user, _person(row))


def _grouplens_movielens(folder: Path, collector: Collector) -> None:
    def table(path: Path, separator: str, columns: tuple[str, ...]) -> Iterator[tuple[str, dict[str, str]]]:
        form = Format(separator=separator, quoted=False, encoding="latin-1", columns=columns)
        return rows(path, collector, columns, form)

    names = ("item", "title", "release_date", "video_date", "url", *GENRES)
    for where, row in table(find(folder, "u.item"), "|", names):
        with collector.row(where):
            date = row["release_date"]
            released = _epoch_ms(date, "%d-%b-%Y") * PER_MILLISECOND["ns"] if date else NO_DATE_NS
            genres = [genre for genre in GENRES if row[genre] == "1"]
            collector.item(_film(row["item"], row["title"], genres, released))
    ratings = ("user", "item", "rating", "timestamp")
    for k, (where, row) in enumerate(table(find(folder, "u.data"), "\t", ratings)):
        with collector.row(where):
            ts, value = 1_000 * int(row["timestamp"]), number(row["rating"])
            user, item = row["user"], row["item"]
            collector.event(Event(event_id=str(k), type="rate", user_id=user, item_id=item, value=value, ts=ts))
    if people := optional(folder, "u.user"):
        person = ("user", "age", "gender", "occupation", "zip_code")
        for where, row in table(people, "|", person):
            with collector.row(where):
                collector.profile(row["user"], _person(row))


def _film(item_id: str, title: str, genres: list[str], released_ns: int) -> Item:
    attributes = {} if released_ns == NO_DATE_NS else {"year": 1970 + released_ns // YEAR_NS}
    return Item(item_id=item_id, ts=0, title=title or None, categories=distinct(genres), attributes=attributes)


def _person(row: Mapping[str, str]) -> dict[str, str]:
    attributes = {key: row[key] for key in ("gender", "occupation") if row.get(key)}
    if row.get("age"):
        attributes["age_band"] = next((band for below, band in AGE_BANDS if number(row["age"]) < below), "65+")
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
            context |= {"hour": ts // 3_600_000 % 24} | {name: number(row[name]) for name in numbers}
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
            categories = distinct([row[level] for level in levels if _is_known(row[level])])
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


def mind(source: Path, collector: Collector) -> None:
    """Microsoft's MIND: a folder with behaviors.tsv and, if at hand, news.tsv. What was shown is an impression, and of
    it what was taken a click, a millisecond later. The history beside them has no times, and is left out.
    """
    folder = source.parent if source.is_file() else source
    behaviors = source if source.is_file() else find(source, "behaviors.tsv", "behaviours.tsv")
    if news := optional(folder, "news.tsv"):
        for where, row in rows(news, collector, NEWS, Format(separator="\t", quoted=False, columns=NEWS)):
            with collector.row(where):
                levels = distinct([row["category"], row["subcategory"]])
                title, text = row["title"] or None, row["abstract"] or None
                collector.item(Item(item_id=row["item"], ts=0, title=title, text=text, categories=levels))
    form = Format(separator="\t", quoted=False, columns=BEHAVIORS)
    for where, row in rows(behaviors, collector, BEHAVIORS, form):
        with collector.row(where):
            events = _impression(row["impression"], row["user"], row["time"], row["shown"].split())
            new = [item for item in dict.fromkeys(events[0].items or ()) if item not in collector.items]
            collector.take(events, [Item(item_id=item, ts=0) for item in new])


def _impression(name: str, user: str, time: str, shown: list[str]) -> list[Event]:
    """What was shown, as `ITEM-LABEL` each or, in a test set, `ITEM`, and the clicks on it."""
    labelled = [(each.rpartition("-") if "-" in each else (each, "-", "0"))[::2] for each in shown]
    if odd := [label for _, label in labelled if label not in ("0", "1")]:
        raise ValueError(f"impressions: expected ITEM-0 or ITEM-1, got the label {odd[0]!r}")
    ts = _epoch_ms(time, "%m/%d/%Y %I:%M:%S %p")
    slate_id = f"{user}-{ts}-{name}"  # the names begin anew in each part of the data set
    items = tuple(item for item, _ in labelled)
    clicks = (
        Event(event_id=f"{slate_id}-{at}", type="click", user_id=user, item_id=item, ts=ts + 1, slate_id=slate_id)
        for at, (item, label) in enumerate(labelled, 1)
        if label == "1"
    )
    return [Event(slate_id, "impression", user, ts, items=items, slate_id=slate_id), *clicks]


def _epoch_ms(text: str, form: str) -> int:
    return epoch_ms(datetime.strptime(text, form).replace(tzinfo=UTC))


def _is_known(value: str) -> bool:
    """Whether a cell says anything: R writes NA for what is missing."""
    return value not in ("", "NA")


READERS: Mapping[str, Reader] = {
    "movielens-100k": movielens_100k,
    "complete-journey": complete_journey,
    "serenade": serenade,
    "mind": mind,
}
