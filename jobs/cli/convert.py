"""`riverrank convert`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer
from riverrank.jobs.errors import UsageError
from riverrank.state.records.printable import printable

from .flags import AsJson, Option

if TYPE_CHECKING:
    from riverrank.jobs.data.convert import Report

ONLY_CSV = "csv: "  # how the help of a flag begins that no public data set takes


def _csv(name: str, metavar: str, meaning: str) -> object:
    return Option(name, metavar=metavar, help=f"{ONLY_CSV}{meaning}")


Name = Annotated[
    str,
    typer.Argument(metavar="NAME", help="movielens-100k, complete-journey, serenade, mind, or csv: docs/convert.md."),
]
EventsFile = Annotated[
    str, Option("--events", metavar="FILE", help="Events to write; gz by its ending, - standard output.")
]
ItemsFile = Annotated[
    str, Option("--items", metavar="FILE", help="Items to write; gz by its ending, - standard output.")
]
Source = Annotated[
    Path | None,
    Option(
        "--source",
        metavar="PATH",
        help="File or folder of the data set; gz by its ending. Default, of movielens-100k: River's own copy.",
    ),
]
Mapping = Annotated[
    list[str] | None,
    _csv(
        "--map",
        "FIELD=COLUMN",
        "which column holds what; again for more, or with commas between. Fields: user, item, ts, type, value, event, "
        "title, categories. Default: user=user_id,item=item_id,ts=ts.",
    ),
]
Columns = Annotated[
    list[str] | None,
    _csv("--columns", "FIELD,...", "of a file without a header, the fields by position; _ skips a column."),
]
Type = Annotated[str | None, _csv("--type", "TYPE", "of events without a type of their own. Default: click.")]
Types = Annotated[
    list[str] | None,
    _csv(
        "--types",
        "FROM=TO",
        "which type of event a word in the column of types means, such as pv=view; FROM= leaves its rows out. Again "
        "for more, or with commas between.",
    ),
]
TsUnit = Annotated[
    str | None, _csv("--ts-unit", "UNIT", "what ts is in: s, ms, us, ns since 1970, or iso. Default: s.")
]
Timezone = Annotated[
    str | None, _csv("--timezone", "ZONE", "of iso times that say none, such as Europe/Paris. Default: UTC.")
]
Separator = Annotated[
    str | None,
    _csv("--separator", "TEXT", "what stands between two columns, of any length; tab is the word. Default: a comma."),
]
Quote = Annotated[
    str | None,
    _csv(
        "--quote",
        "none|double",
        'whether " around a cell quotes it. Default: none with tabs and separators of several characters, else double.',
    ),
]
Encoding = Annotated[str | None, _csv("--encoding", "NAME", "of the file, such as latin-1 or utf-16. Default: utf-8.")]
EventPrefix = Annotated[
    str | None,
    _csv(
        "--event-prefix",
        "TEXT",
        "what event ids begin with, before the type and the line. Default: the file's name, without .gz and .csv. "
        "Where files in different folders have one name, it tells their events apart: give each a text of its own.",
    ),
]
Products = Annotated[
    Path | None, _csv("--products", "FILE", "a catalogue beside the events; gz by its ending. Default: none.")
]
ProductMap = Annotated[
    list[str] | None,
    _csv(
        "--product-map",
        "FIELD=COLUMN",
        "as --map, for the catalogue. Fields: item, title, text, categories (with |, ; or , between), price, brand, "
        "attribute:NAME, ts. Default: item=item_id.",
    ),
]
ProductColumns = Annotated[list[str] | None, _csv("--product-columns", "FIELD,...", "as --columns, for the catalogue.")]
ProductSeparator = Annotated[
    str | None, _csv("--product-separator", "TEXT", "as --separator, for the catalogue. Default: a comma.")
]
ProductQuote = Annotated[str | None, _csv("--product-quote", "none|double", "as --quote, for the catalogue.")]
ProductEncoding = Annotated[
    str | None, _csv("--product-encoding", "NAME", "as --encoding, for the catalogue. Default: utf-8.")
]


def convert(
    context: typer.Context,
    *,
    name: Name,
    events: EventsFile,
    items: ItemsFile,
    source: Source = None,
    mapping: Mapping = None,
    columns: Columns = None,
    type_: Type = None,
    types: Types = None,
    ts_unit: TsUnit = None,
    timezone: Timezone = None,
    separator: Separator = None,
    quote: Quote = None,
    encoding: Encoding = None,
    event_prefix: EventPrefix = None,
    products: Products = None,
    product_map: ProductMap = None,
    product_columns: ProductColumns = None,
    product_separator: ProductSeparator = None,
    product_quote: ProductQuote = None,
    product_encoding: ProductEncoding = None,
    json: AsJson = False,
) -> None:
    """Write a public data set, or CSV of any make, as events in order of time and items. Every row is written whole, or
    left out and counted with its reason.
    """
    from riverrank.jobs.data import convert as converting
    from riverrank.jobs.data import datasets, layout, plain_csv

    if name == "csv":
        table = layout.TableFlags("--", mapping or (), columns or (), separator, quote, encoding)
        catalogue = layout.TableFlags(
            "--product-", product_map or (), product_columns or (), product_separator, product_quote, product_encoding
        )
        of_events = plain_csv.EventFlags(type_, types or (), ts_unit, timezone, event_prefix)
        reader = plain_csv.plain_csv(plain_csv.CsvFlags(table, of_events, products, catalogue))
    elif name in datasets.READERS:
        reader = datasets.READERS[name]
        _refuse_csv_flags(context, name)
    else:
        raise UsageError(f"no data set {name!r}; there are {', '.join((*datasets.READERS, 'csv'))}")
    if source is None and name != "movielens-100k":
        raise UsageError(f"--source: give the file or folder of {name}")
    if json and "-" in (events, items):
        raise UsageError("--json: standard output already takes records; write these to files")
    beside = () if products is None else (products,)
    _tell(converting.convert(reader, source or datasets.river_data(), events, items, *beside), json)


def _tell(report: "Report", json: bool) -> None:
    """The figures on standard error, and with `json` on standard output too."""
    if json:
        print(msgspec.json.encode(report).decode())
    for line in report.told():
        print(printable(line), file=sys.stderr)


def _refuse_csv_flags(context: typer.Context, name: str) -> None:
    """Raises UsageError where a flag was given that only csv takes."""
    for option in context.command.params:
        if (getattr(option, "help", None) or "").startswith(ONLY_CSV) and context.params.get(option.name or ""):
            raise UsageError(f"{option.opts[0]}: how {name} is to be read is known; only csv takes it")
