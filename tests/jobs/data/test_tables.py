"""CSV of any make: no row is lost without a word, and what cannot be read is told in one line with the mend."""

import csv
import gzip
import io
from collections.abc import Sequence
from pathlib import Path

import pytest
from converted import Files, rows_of
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from riverrank.jobs.data.convert import Collector
from riverrank.jobs.data.layout import TableFlags
from riverrank.jobs.data.plain_csv import CsvFlags, EventFlags, plain_csv
from riverrank.jobs.errors import Failure, UsageError
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.incoming import Event, Item

HEADER = "user_id,item_id,ts,title\n"
TITLE = ("--map", "title=title")


def table(titles: Sequence[str], between: str = ",") -> str:
    lines = [HEADER, *(f"u{n},i{n},{n},{title}\n" for n, title in enumerate(titles))]
    return "".join(lines).replace(",", between)


def test_with_tabs_a_quote_is_a_character_as_any_other(files: Files) -> None:
    titles = ["Song", '"Heroes', "Song", '12" mix', '"Quoted"']
    for separator in ("tab", r"\t"):
        report = files.command("csv", files.put("plays.tsv", table(titles, "\t")), "--separator", separator, *TITLE)
        assert rows_of(report) == report.events == 5
        assert [item.title for item in files.items().values()] == titles


@pytest.mark.parametrize(
    "titles",
    [
        ["a", '"Heroes', "c", "d", "e", "f"],  # the quote never ends
        ["a", '"Heroes', "c", 'Single 12"', "e", "f"],  # ... ends with another title
        ["a", '"Heroes', "c", '"Go', "e", "f"],  # ... before another title
        ["a", '"Heroes', 'b"', "d", "e", "f"],  # ... in the next line
        ["a", "b", "c", "d", "e", '"Heroes'],  # ... in the last line
    ],
)
def test_a_stray_quote_never_takes_rows_with_it_silently(files: Files, titles: list[str]) -> None:
    source = files.put("log.csv", table(titles))
    report = files.command("csv", source, *TITLE)
    first = next(n for n, title in enumerate(titles) if title.startswith('"'))
    assert rows_of(report) == 6
    assert report.first_bad is not None
    assert report.first_bad.startswith(f"log.csv, line {first + 2}: a quoted cell ")
    assert "(--quote none)" in report.first_bad
    report = files.command("csv", source, *TITLE, "--quote", "none")
    assert report.events == 6
    assert [item.title for item in files.items().values()] == titles


def test_a_quoted_cell_holds_separators_quotes_and_lines(files: Files) -> None:
    titles = ['A, "B"', "two\nlines", "one\n\ntwo, and\nthree\nfour", ""]
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows([f"u{n}", f"i{n}", n, title] for n, title in enumerate(titles))
    report = files.command("csv", files.put("log.csv", HEADER + out.getvalue()), *TITLE)
    assert (report.events, report.bad_rows) == (4, 0)
    assert [item.title or "" for item in files.items().values()] == titles
    assert [event.event_id for event in files.events()] == [f"log-click-{line}" for line in (2, 3, 5, 10)]


def test_a_quote_of_one_line_and_empty_lines_hurt_no_row(files: Files) -> None:
    source = files.put("log.csv", '\n\nuser_id, item_id ,ts\n\nu"1,"i"1,5\r\n\r\nu2,i2,6')
    report = files.command("csv", source)
    assert [(e.user_id, e.item_id, e.event_id) for e in files.events()] == [
        ('u"1', "i1", "log-click-5"),
        ("u2", "i2", "log-click-7"),
    ]
    assert rows_of(report) == 2


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-16-le", "cp1252", "gbk"])
@pytest.mark.parametrize("name", ["log.csv", "log.csv.gz"])
def test_a_file_of_any_encoding_is_read_without_its_byte_order_mark(files: Files, encoding: str, name: str) -> None:
    title = "中" if encoding == "gbk" else "Été"
    mark = "\ufeff" if encoding == "utf-16-le" else ""
    source = files.put(name, mark + table([title, "b"]), encoding)
    flags = () if encoding == "utf-8-sig" else ("--encoding", encoding)
    report = files.command("csv", source, *TITLE, *flags)
    assert (report.events, report.bad_rows) == (2, 0)
    assert files.items()["i0"].title == title


def test_bytes_that_do_not_decode_spoil_their_row_alone(files: Files) -> None:
    source = files.put("log.csv", table(["a", "\udce9t\udce9", "c"]))
    report = files.command("csv", source)
    assert (report.events, report.bad_rows) == (2, 1)
    assert report.first_bad == "log.csv, line 3: it has bytes that are no utf-8 (--encoding NAME)"
    flags = ("--columns", "user,item,ts,_", "--encoding")
    assert "no usable row among " in files.fails(1, source, *flags, "utf-16-le")
    assert "log.csv: cannot read it as utf-16 (" in files.fails(2, source, *flags, "utf-16")


@pytest.mark.parametrize(
    ("raw", "code", "told"),
    [
        (b"", 1, "it is empty; expected a header with user_id, item_id, ts, and rows"),
        (b"user_id,item_id,ts\n", 1, "it has no row; expected at least one"),
        (b"user_id,item_id,ts,ts\nu,i,1,2\n", 2, "its header has the column ts more than once"),
        (b"a,b\nu,i\n", 2, "no column user_id, item_id, ts; its header has a, b (--map FIELD=COLUMN or --separator"),
        ("user_id,item_id,ts\nu,i,1\n".encode("utf-16"), 2, "its header has bytes that are no utf-8; expected text"),
        ("user_id,item_id,ts\nu,i,1\n".encode("utf-16-le"), 2, "its header has bytes that are no utf-8; expected text"),
        (b"PK\x03\x04zip", 2, "expected text, and it is a zip archive or an Excel sheet; unpack it"),
        (gzip.compress(b"x"), 2, "expected text, and it is gzip data; give it a name that ends in .gz"),
        (b"user_id,item_id,ts\nu,i,soon\n", 1, "no usable row among 1 (log.csv, line 2: ts: expected a finite number"),
        (b"user_id,item_id,ts\nu,i,1764000000000\n", 1, "ts: expected a time from 1970 to 9999"),
    ],
)
def test_a_file_that_cannot_be_used_is_told_in_one_line(files: Files, raw: bytes, code: int, told: str) -> None:
    source = files.folder / "log.csv"
    source.write_bytes(raw)
    line = files.fails(code, source)
    assert f"{source}: " in line and told in line
    assert not files.events_path.exists()


def test_damaged_gzip_data_names_the_file_it_is_in(files: Files) -> None:
    source = files.put("log.csv", table(["a"]))
    products = files.put("goods.csv.gz", "item_id,title\n" + "i,t\n" * 9999)
    products.write_bytes(products.read_bytes()[:-20])
    told = files.fails(1, source, "--products", str(products))
    assert f"{products}: damaged gzip data (" in told and "fetch the file again" in told


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--encoding", "klingon"), "--encoding: expected an encoding such as"),
        (("--encoding", "hex"), "--encoding: expected an encoding such as"),
        (("--timezone", "Europe/Atlantis", "--ts-unit", "iso"), "--timezone: expected a name such as Europe/Paris"),
        (("--timezone", "Europe/Paris"), "--timezone: numbers have none; it needs --ts-unit iso"),
        (("--quote", "single"), "--quote: expected none or double"),
        (("--quote", "double", "--separator", "::"), "--quote: with the separator '::' there are no quotes"),
        (("--separator", ""), "--separator: expected characters of one line"),
        (("--columns", "user,item,when"), "no field 'when'"),
        (("--columns", "user,item,_,item,ts"), "--columns: item is there twice"),
        (("--columns", "user,_,ts"), "--columns: expected item among them too"),
        (("--columns", "user,item,ts", "--map", "user=a"), "--map, --columns: give one of them"),
        (("--map", "user=a,user=b"), "--map: user is there twice"),
        (("--types", "pv=view"), "--types: no column has types"),
        (("--map", "type=title", "--types", "pv=look"), "--types: expected one of view"),
        (("--map", "type=title", "--types", "pv"), "--types: expected FROM=TO"),
        (("--map", "type=title", "--types", "stars=rate"), "--types: a rate needs its value"),
        (("--map", "type=title", "--types", "pv=view,pv=click"), "--types: pv is there twice"),
        (("--product-map", "item=i"), "--products: expected the FILE"),
        (("--products", "absent.csv"), "absent.csv: cannot read it (No such file or directory)"),
        (("--product-map", "user=i"), "--product-map: no field 'user'; the fields are item, title, text"),
        (("--event-prefix", "x" * 300), "--event-prefix: expected text of at most 200 bytes"),
    ],
)
def test_flags_that_cannot_be_are_a_usage_error(files: Files, flags: tuple[str, ...], told: str) -> None:
    assert told in files.fails(2, files.put("log.csv", table(["a"])), *flags)


def test_a_source_is_never_written_over(files: Files) -> None:
    source = files.put("e.jsonl", table(["a"]))
    assert "it is read, so nothing can be written to it" in files.fails(2, source)
    assert source.read_text("utf-8") == table(["a"])


def test_files_of_one_name_are_told_apart_by_a_prefix(files: Files) -> None:
    source = files.put("log.csv.gz", table(["a"]))
    ids = []
    for flags in ((), ("--event-prefix", "mars")):
        files.command("csv", source, *flags)
        ids += [event.event_id for event in files.events()]
    assert ids == ["log-click-2", "mars-click-2"]


def test_a_catalogue_stands_above_what_events_say_and_of_an_id_its_newest_row(files: Files) -> None:
    source = files.put("log.csv", table(["Of the log", "Other"]))
    goods = files.put(
        "goods.csv",
        "item_id,name,what,price,since,brand\n"
        "i0,New,text,9.5,200,B\ni0,Old,,,100,\ni9,,,much,1,\n,Nameless,,,1,\ni7,Seven,,7,,\n",
    )
    product_map = "title=name,text=what,price=price,ts=since,brand=brand"
    report = files.command("csv", source, *TITLE, "--products", str(goods), "--product-map", product_map)
    assert files.items() == {
        "i0": Item("i0", 200_000, "New", "text", attributes={"price": 9.5, "brand": "B"}),
        "i7": Item("i7", 0, "Seven", attributes={"price": 7.0}),
        "i1": Item("i1", 0, "Other"),
    }
    assert (report.bad_rows, report.repeated_items) == (2, 1)
    assert report.first_bad == "goods.csv, line 4: price: expected a finite number, got 'much'"


def test_what_is_wrong_with_events_is_told_before_what_is_wrong_with_products(files: Files) -> None:
    source = files.put("log.csv", "user_id,item_id,ts\nu,i,soon\n")
    goods = files.put("goods.csv", "item_id,price\ni,1\nj,much\n")
    told = files.fails(1, source, "--products", str(goods), "--product-map", "price=price")
    assert "no usable row among 2 (log.csv, line 2: ts: " in told


def test_a_row_whose_item_is_no_record_gives_no_event_either(files: Files) -> None:
    report = files.command("csv", files.put("log.csv", table(["x" * (1 << 20), "b"])), *TITLE)
    assert (report.events, report.bad_rows, list(files.items())) == (1, 1, ["i1"])


def converted(path: Path, flags: CsvFlags) -> tuple[int, Collector]:
    """The rows that a conversion accounts for. Whatever it takes decodes."""
    collector = Collector()
    plain_csv(flags)(path, collector)
    assert all(isinstance(decode_event(raw), Event) for raw in collector.events())
    assert all(isinstance(decode_item(raw), Item) for raw in collector.items.values())
    return rows_of(collector.report()), collector


CELLS = st.one_of(
    st.sampled_from(["", "u", "1", "-1", "nan", "pv", "buy", "rate", '"', '"a', 'b"', '""', "1e400", "9" * 30, "\x00"]),
    st.text(st.characters(exclude_characters="\n\r", exclude_categories=["Cs"]), max_size=8),
)
ROWS = st.lists(st.lists(CELLS, min_size=5, max_size=5), max_size=6)
STEADY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
EVENTS = EventFlags(types=("pv=view,buy=purchase,fav=",))
COLUMNS = ("user,item,ts,type,value",)


@STEADY
@given(rows=ROWS, quote=st.sampled_from(["none", "double"]), separator=st.sampled_from([",", "::", "tab", "é"]))
def test_every_line_of_any_text_is_written_or_counted(
    files: Files, rows: list[list[str]], quote: str, separator: str
) -> None:
    between = "\t" if separator == "tab" else separator
    lines = [between.join(row) for row in rows]
    source = files.put("log.csv", "".join(line + "\n" for line in lines))
    quotes = None if separator == "::" else quote
    table = TableFlags(columns=COLUMNS, separator=separator, quote=quotes)
    count, _ = converted(source, CsvFlags(table, EVENTS))
    assert count <= len(rows)
    if quotes != "double":  # else a cell that is quoted as it should be may hold lines
        assert count == len(rows)


@STEADY
@given(rows=ROWS)
def test_every_row_that_is_quoted_as_it_should_be_is_written_or_counted(files: Files, rows: list[list[str]]) -> None:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerows(rows)
    source = files.put("log.csv", out.getvalue())
    count, collector = converted(source, CsvFlags(TableFlags(columns=COLUMNS), EVENTS))
    assert count == len(rows)
    written = [decode_event(raw) for raw in collector.events()]
    assert {event.user_id for event in written if isinstance(event, Event)} <= {row[0] for row in rows}


@STEADY
@given(raw=st.binary(max_size=200), encoding=st.sampled_from(["utf-8", "utf-16", "gbk", "ascii", "utf-7", "shift_jis"]))
def test_no_bytes_at_all_end_in_an_error_that_is_not_told(files: Files, raw: bytes, encoding: str) -> None:
    source = files.folder / "log.csv"
    source.write_bytes(b"\n" + raw)
    try:
        count, collector = converted(source, CsvFlags(TableFlags(columns=COLUMNS, encoding=encoding), EVENTS))
    except UsageError as error:
        assert "cannot read it as utf-16" in str(error)  # which begins with a byte order mark
        return
    assert (count > 0) == (collector.first_bad is not None or bool(collector.events()))


@STEADY
@given(rows=st.lists(st.lists(CELLS, min_size=4, max_size=4), min_size=1, max_size=6))
def test_every_row_of_a_catalogue_is_written_or_counted(files: Files, rows: list[list[str]]) -> None:
    log = files.put("log.csv", "u,i,1,view,\n")
    goods = files.put("goods.tsv", "".join("\t".join(row) + "\n" for row in rows))
    catalogue = TableFlags("--product-", columns=("item,title,price,attribute:made in",), separator="tab")
    collector = Collector()
    try:
        plain_csv(CsvFlags(TableFlags(columns=COLUMNS), EVENTS, goods, catalogue))(log, collector)
    except Failure:
        assert (collector.bad_rows, len(collector.items)) == (len(rows), 0)
        return
    of_catalogue = len(collector.items) - ("i" not in {row[0] for row in rows})
    assert of_catalogue + collector.bad_rows + collector.repeated_items == len(rows)
