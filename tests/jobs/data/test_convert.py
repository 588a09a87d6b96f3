"""What a conversion promises: records that the decoder takes, in order of time, the same bytes every time."""

import gzip
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from converted import Files
from riverrank.jobs.data import datasets
from riverrank.jobs.data.cells import timestamp
from riverrank.jobs.data.convert import Reader, Report, convert
from riverrank.jobs.data.layout import TableFlags
from riverrank.jobs.data.plain_csv import CsvFlags, EventFlags, plain_csv
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.records.incoming import Event, Item

RIVER_HEADER = [
    *("user", "item", "rating", "timestamp", "title", "release_date", "genres"),
    *("age", "gender", "occupation", "zip_code"),
]
RIVER_ROWS = [
    [
        "259",
        "255",
        "4.0",
        "874731910000000000",
        "My Wedding (1997)",
        "866764800000000000",
        "comedy, romance",
        "21",
        "M",
    ],
    ["259", "286", "3.0", "874731927000000000", "Patient (1996)", "848016000000000000", "drama", "21", "M"],
    ["7", "286", "5.0", "874731920000000000", "Patient (1996)", "848016000000000000", "drama", "66", "F"],
    ["7", "267", "1.0", "874731990000000000", "", "-9223372036854775808", "unknown", "66", "F"],
]


def river_table(rows: list[list[str]]) -> str:
    full = [RIVER_HEADER, *([*row, "student", "12345"] for row in rows)]
    return "\n".join("\t".join(row) for row in full) + "\n"


def plain(unit: str = "s", type_: str = "click", **columns: str) -> Reader:
    """A reader of CSV with a header."""
    mapping = [f"{field}={column}" for field, column in columns.items()]
    return plain_csv(CsvFlags(TableFlags(mapping=mapping), EventFlags(type_, ts_unit=unit)))


def test_movielens_in_rivers_format_is_mapped_as_the_quality_protocol_does(files: Files) -> None:
    path = files.put("ml_100k.csv", river_table(RIVER_ROWS))
    assert files.convert(datasets.movielens_100k, path).bad_rows == 0
    rates = [event for event in files.events() if event.type == "rate"]
    assert [(e.event_id, e.user_id, e.item_id, e.value, e.ts) for e in rates] == [
        ("0", "259", "255", 4.0, 874731910000),
        ("2", "7", "286", 5.0, 874731920000),
        ("1", "259", "286", 3.0, 874731927000),
        ("3", "7", "267", 1.0, 874731990000),
    ]
    wedding = Item("255", 0, "My Wedding (1997)", categories=("comedy", "romance"), attributes={"year": 1997})
    assert files.items()["255"] == wedding
    assert files.items()["267"] == Item("267", 0, categories=("unknown",))


def test_what_is_known_of_a_user_comes_right_before_their_first_event(files: Files) -> None:
    files.put("ml_100k.csv", river_table(RIVER_ROWS))
    files.convert(datasets.movielens_100k)
    events = files.events()
    assert [(e.type, e.user_id, e.ts) for e in events[:4]] == [
        ("profile", "259", 874731910000),
        ("rate", "259", 874731910000),
        ("profile", "7", 874731920000),
        ("rate", "7", 874731920000),
    ]
    assert events[0].attributes == {"age_band": "18-24", "gender": "M", "occupation": "student"}
    assert events[2].attributes == {"age_band": "65+", "gender": "F", "occupation": "student"}


def test_movielens_in_grouplens_format_gives_the_same_films_and_ratings(files: Files) -> None:
    genres = {"comedy": "0000010000000000000", "unknown": "1000000000000000000"}
    films = [
        ["255", "My Wedding (1997)", "20-Jun-1997", "", "http://x", *genres["comedy"]],
        ["267", "unknown", "", "", "", *genres["unknown"]],
    ]
    files.put("u.item", "".join("|".join(film) + "\n" for film in films), "latin-1")
    files.put("u.data", "259\t255\t4\t874731910\n259\t267\t1\t874731909\n")
    files.put("u.user", "259|21|M|student|48823\n")
    assert files.convert(datasets.movielens_100k).bad_rows == 0
    assert files.items()["255"] == Item(
        "255", 0, "My Wedding (1997)", categories=("comedy",), attributes={"year": 1997}
    )
    assert files.items()["267"].attributes == {}
    assert [(e.type, e.item_id, e.value, e.ts) for e in files.events()] == [
        ("profile", None, None, 874731909000),
        ("rate", "267", 1.0, 874731909000),
        ("rate", "255", 4.0, 874731910000),
    ]


def test_titles_in_latin_1_are_read(files: Files) -> None:
    files.put("u.item", "1|Les Mis\u00e9rables (1995)|01-Jan-1995|||" + "|".join("0" * 19) + "\n", "latin-1")
    files.put("u.data", "9\t1\t5\t874731910\n")
    files.convert(datasets.movielens_100k)
    assert files.items()["1"].title == "Les Mis\u00e9rables (1995)"


TRANSACTIONS = (
    "household_id,store_id,basket_id,product_id,quantity,sales_value,week,transaction_timestamp\n"
    "9,319,31198,200,1.0,1.5,1,2017-01-01 12:30:27\n"
    "8,319,31199,100,2.0,3,1,2017-01-01 12:30:27\n"
    "9,319,31198,200,1.0,1.5,1,2017-01-01 12:30:27\n"
    "8,319,31197,300,1.0,0.5,1,2017-01-01 09:00:00\n"
)
PRODUCTS = (
    "product_id,manufacturer_id,department,brand,product_category,product_type,package_size\n"
    '100,69,GROCERY,Private,EGGS,"EGGS, X-LARGE",\n200,2,PRODUCE,National,PRODUCE,NA,16 OZ\n'
)


def test_a_purchase_holds_its_context_and_those_of_one_time_keep_the_order_of_the_file(files: Files) -> None:
    files.put("transactions.csv.gz", TRANSACTIONS)
    files.put("products.csv", PRODUCTS)
    files.put("demographics.csv", "household_id,age,income,home_ownership\n9,65+,35-49K,\n8,NA,,\n7,25-34,,\n")
    report = files.convert(datasets.complete_journey)
    assert report == Report(events=5, items=2, users=2, bad_rows=0, first_bad=None)
    events = files.events()
    assert [e.event_id for e in events] == ["31197-300", "profile-9", "31198-200", "31199-100", "31198-200-2"]
    assert events[1].attributes == {"age_band": "65+", "income": "35-49K"}
    assert events[2] == Event(
        event_id="31198-200",
        type="purchase",
        user_id="9",
        item_id="200",
        ts=1483273827000,
        context={
            "store_id": "319",
            "basket_id": "31198",
            "week": 1,
            "hour": 12,
            "quantity": 1.0,
            "sales_value": 1.5,
        },
    )


def test_a_product_has_its_levels_as_distinct_categories_and_only_what_is_known(files: Files) -> None:
    files.put("transactions.csv", TRANSACTIONS)
    files.put("products.csv.gz", PRODUCTS)
    files.convert(datasets.complete_journey)
    assert files.items() == {
        "100": Item(
            "100",
            0,
            categories=("GROCERY", "EGGS", "EGGS, X-LARGE"),
            attributes={"brand": "Private", "manufacturer": "69"},
        ),
        "200": Item(
            "200",
            0,
            categories=("PRODUCE",),
            attributes={"brand": "National", "manufacturer": "2", "package_size": "16 OZ"},
        ),
    }


def test_a_session_of_serenade_is_a_user_and_every_item_is_there(files: Files) -> None:
    files.put("clicks.csv.gz", "SessionId,ItemId,Time\n5,a,1590884413\n6,b,1590884410.5\n5,a,1590884426\n")
    assert files.convert(datasets.serenade).events == 3
    assert [(e.event_id, e.type, e.user_id, e.item_id, e.ts) for e in files.events()] == [
        ("6-1", "click", "6", "b", 1590884410500),
        ("5-1", "click", "5", "a", 1590884413000),
        ("5-2", "click", "5", "a", 1590884426000),
    ]
    assert files.items() == {"a": Item("a", 0), "b": Item("b", 0)}


def test_a_plain_csv_file_is_mapped_by_its_columns(files: Files) -> None:
    path = files.put(
        "log.csv",
        "who,what,when,kind,stars,name,tags\nu,i,2020-05-31T00:20:13Z,rate,4,Alien,a|b\nu,j,2020-05-31,view,,,\n",
    )
    reader = plain(
        "iso", user="who", item="what", ts="when", type="kind", value="stars", title="name", categories="tags"
    )
    files.convert(reader, path)
    assert files.events() == [
        Event(event_id="log-view-3", type="view", user_id="u", item_id="j", ts=1590883200000),
        Event(event_id="log-rate-2", type="rate", user_id="u", item_id="i", ts=1590884413000, value=4.0),
    ]
    assert files.items() == {"i": Item("i", 0, "Alien", categories=("a", "b")), "j": Item("j", 0)}


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        *(("s", "1590884413"), ("s", "1590884413.0"), ("ms", "1590884413000"), ("us", "1590884413000999")),
        *(("ns", "1590884413000999999"), ("iso", "2020-05-31 00:20:13"), ("iso", "2020-05-31T02:20:13+02:00")),
    ],
)
def test_a_time_of_any_unit_is_epoch_milliseconds(unit: str, text: str) -> None:
    assert timestamp(text, unit) == 1590884413000


BAD_ROWS = [
    "u,i",
    "u,i,1,2",
    ",i,1",
    "u,,1",
    "u,i,soon",
    "u,i,nan",
    "u,i,inf",
    "u,i,-5",
    "u,i,9e99",
    f"{'u' * 300},i,1",
]


@pytest.mark.parametrize("row", [*BAD_ROWS, "\udcff,i,1"])
def test_a_bad_row_is_counted_with_where_and_why_and_the_rest_converted(files: Files, row: str) -> None:
    path = files.put("log.csv", f"user_id,item_id,ts\na,i,1\n{row}\nb,j,2\n")
    report = files.convert(plain(), path)
    assert (report.events, report.bad_rows) == (2, 1)
    assert report.first_bad is not None
    assert report.first_bad.startswith("log.csv, line 3: ")
    assert [e.user_id for e in files.events()] == ["a", "b"]


def test_the_same_source_gives_the_same_bytes_plain_or_gz(files: Files, tmp_path: Path) -> None:
    text = "user_id,item_id,ts\n" + "".join(f"u{n % 7},i{n % 5},{1000 - n % 13}\n" for n in range(200))
    plain_source, packed_source = files.put("log.csv", text), files.put("log.csv.gz", text)
    outputs = []
    for run, source in enumerate((plain_source, packed_source)):
        events, items = tmp_path / f"{run}.e.jsonl.gz", tmp_path / f"{run}.i.jsonl"
        convert(plain(), source, str(events), str(items))
        outputs.append((events.read_bytes(), items.read_bytes()))
    assert outputs[0] == outputs[1]
    assert len(gzip.decompress(outputs[0][0]).splitlines()) == 200


def test_a_source_that_is_absent_or_another_thing_is_told(files: Files) -> None:
    with pytest.raises(UsageError, match=r"expected a folder that holds clicks\.csv, plain or \.gz"):
        files.convert(datasets.serenade)
    with pytest.raises(UsageError, match="No such file"):
        files.convert(plain(), files.folder / "absent.csv")
    files.put("clicks.csv", "a,b\n1,2\n")
    with pytest.raises(UsageError, match="no column SessionId, ItemId, Time; its header has a, b"):
        files.convert(datasets.serenade)


def test_a_source_without_a_usable_row_and_a_damaged_one_fail(files: Files) -> None:
    path = files.put("log.csv", "user_id,item_id,ts\nu,i,soon\n")
    with pytest.raises(Failure, match=r"no usable row among 1 \(log\.csv, line 2: "):
        files.convert(plain(), path)
    packed = files.put("cut.csv.gz", "user_id,item_id,ts\n" + "u,i,1\n" * 999)
    packed.write_bytes(packed.read_bytes()[:-20])
    with pytest.raises(Failure, match="damaged gzip data"):
        files.convert(plain(), packed)
    packed.write_bytes(b"user_id,item_id,ts\nu,i,1\n")
    with pytest.raises(Failure, match="damaged gzip data"):
        files.convert(plain(), packed)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (({"usr": "a"}, "s", "click"), "--map: no field 'usr'"),
        (({}, "min", "click"), "--ts-unit: expected one of s, ms"),
        (({}, "s", "dance"), "--type: expected one of view"),
        (({}, "s", "rate"), "--type: a rate needs its value"),
    ],
)
def test_a_mapping_that_cannot_be_is_told_before_anything_is_read(arguments: tuple[Any, ...], told: str) -> None:
    with pytest.raises(UsageError) as raised:
        columns, unit, type_ = arguments
        plain(unit, type_, **columns)
    assert str(raised.value).startswith(told)


def test_both_outputs_in_one_file_or_in_no_folder_are_refused(files: Files) -> None:
    path = files.put("log.csv", "user_id,item_id,ts\na,i,1\n")
    with pytest.raises(UsageError, match="give each a file of its own"):
        convert(plain(), path, "same", "same")
    with pytest.raises(UsageError, match="cannot write it"):
        convert(plain(), path, str(files.folder / "absent" / "e"), str(files.folder / "i"))


def counted(files: Files) -> Counter[str]:
    events = files.events()
    assert len({e.event_id for e in events}) == len(events)
    times = [e.ts for e in events]
    assert times == sorted(times)
    return Counter(e.type for e in events)


def test_the_whole_of_complete_journey_converts(files: Files, needs_shared: Callable[[str], Path]) -> None:
    report = files.convert(datasets.complete_journey, needs_shared("data/complete_journey"))
    assert (report.bad_rows, report.users, len(files.items())) == (0, 2377, 20897)
    assert counted(files) == {"purchase": 75000, "profile": 801}


def test_the_whole_of_serenade_converts(files: Files, needs_shared: Callable[[str], Path]) -> None:
    report = files.convert(datasets.serenade, needs_shared("data/serenade_clicks"))
    assert (report.bad_rows, report.users, len(files.items())) == (0, 24385, 18009)
    assert counted(files) == {"click": 116285}


def test_the_whole_of_movielens_100k_converts(files: Files) -> None:
    if not datasets.river_data().exists():
        pytest.skip("MovieLens 100K is not there: its licence forbids that it comes with the project")
    report = files.convert(datasets.movielens_100k, datasets.river_data())
    assert (report.bad_rows, report.users, len(files.items())) == (0, 943, 1682)
    assert counted(files) == {"rate": 100000, "profile": 943}
    assert sum((e.value or 0) >= 4 for e in files.events()) == 55375
    assert json.loads(files.events_path.read_bytes().splitlines()[1])["event_id"] == "0"
