"""`riverrank convert`."""

import sys
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from riverrank.jobs.errors import UsageError

from .flags import AsJson, Option

Columns = Annotated[
    list[str] | None,
    Option(
        "--map",
        metavar="FIELD=COLUMN",
        help="csv: which column holds what; again for more, or with commas between. Fields: user, item, ts, type, "
        "value, event, title, categories. Default: user=user_id,item=item_id,ts=ts.",
    ),
]


def convert(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="movielens-100k, complete-journey, serenade, or csv.")],
    events: Annotated[str, Option(metavar="FILE", help="Events to write; gz by its ending, - standard output.")],
    items: Annotated[str, Option(metavar="FILE", help="Items to write; gz by its ending, - standard output.")],
    source: Annotated[
        Path | None,
        Option(metavar="PATH", help="File or folder of the data set. Default, of movielens-100k: River's own copy."),
    ] = None,
    columns: Columns = None,
    ts_unit: Annotated[
        str, Option(metavar="UNIT", help="csv: what ts is in: s, ms, us, ns since 1970, or iso. Default: s.")
    ] = "s",
    type_: Annotated[
        str, Option("--type", metavar="TYPE", help="csv: of events without a type of their own. Default: click.")
    ] = "click",
    separator: Annotated[
        str, Option(metavar="CHARACTER", help="csv: between two columns. Default: a comma; tab is the word tab.")
    ] = ",",
    json: AsJson = False,
) -> None:
    """Write a public data set, or a plain CSV file, as events in order of time and items. Rows that make no valid
    record are left out and counted.
    """
    from riverrank.jobs.data import convert as converting
    from riverrank.jobs.data import datasets

    if name == "csv":
        separator = "\t" if separator == "tab" else separator
        reader = datasets.plain_csv(datasets.mapping_of(columns or []), ts_unit, type_, separator)
    elif name in datasets.READERS:
        reader = datasets.READERS[name]
        if columns:
            raise UsageError(f"--map: the columns of {name} are known; only csv takes it")
    else:
        raise UsageError(f"no data set {name!r}; there are {', '.join((*datasets.READERS, 'csv'))}")
    if source is None and name != "movielens-100k":
        raise UsageError(f"--source: give the file or folder of {name}")
    if json and "-" in (events, items):
        raise UsageError("--json: standard output already takes records; write these to files")
    report = converting.convert(reader, source or datasets.river_data(), events, items)
    if json:
        print(msgspec.json.encode(report).decode())
    print(f"{report.events} events of {report.users} users, {report.items} items", file=sys.stderr)
    if report.bad_rows:
        print(f"{report.bad_rows} rows left out; the first, {report.first_bad}", file=sys.stderr)
