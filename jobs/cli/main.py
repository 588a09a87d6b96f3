"""The console script `riverrank`: what each command takes, and how whatever goes wrong is told.

A command only turns its flags into a `Config` and calls the module that does the work, which it loads no earlier.
"""

import logging
import os
import sys
from collections.abc import Callable
from functools import partial, wraps
from inspect import signature
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer
from riverrank.jobs.config.schema import Config, load
from riverrank.jobs.errors import Failure, UsageError

DEBUG_VARIABLE = "RIVERRANK_DEBUG"
INTERRUPTED = 130

Option = partial(typer.Option, show_default=False)  # each help says its default, with its unit

app = typer.Typer(
    name="riverrank",
    help="Recommendations that learn from the last click. What is printed is on standard output, all else on standard "
    "error. Exit codes: 0 success, 1 failure, 2 a usage or configuration error.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

ConfigFile = Annotated[
    Path | None,
    Option("--config", metavar="FILE", help="TOML; `riverrank check` prints all keys. Default: none, all defaults."),
]
Events = Annotated[str | None, Option(metavar="FILE", help="Events to read: .jsonl or .jsonl.gz, - is standard input.")]
Items = Annotated[str | None, Option(metavar="FILE", help="Items to read: .jsonl or .jsonl.gz, - is standard input.")]
Slates = Annotated[str | None, Option(metavar="FILE", help="Slates to write; - is standard output.")]
Predictions = Annotated[
    str | None, Option(metavar="FILE", help="Predictions to write, made before learning; - is standard output.")
]
DeadLetters = Annotated[
    str | None, Option(metavar="FILE", help="Records that cannot be used, to write; - is standard output.")
]
Receipts = Annotated[str | None, Option(metavar="FILE", help="Receipts of erasures, to write; - is standard output.")]
Kafka = Annotated[
    str | None, Option(metavar="HOST:PORT", help="Broker; its topics serve for every stream that has no file.")
]
Redis = Annotated[
    str | None,
    Option(metavar="URL", help="Cache, such as redis://HOST:PORT/0; a password better in $RIVERRANK_REDIS_URL."),
]
Parallelism = Annotated[
    int | None, Option(metavar="N", help="Parallel instances of the per-user operators. Default: 1.")
]
AsJson = Annotated[bool, Option("--json", help="Print JSON, for a program.")]
User = Annotated[str, typer.Argument(metavar="USER", help="A user id.")]


def _job(
    *,
    config: ConfigFile = None,
    events: Events = None,
    items: Items = None,
    slates: Slates = None,
    predictions: Predictions = None,
    dead_letters: DeadLetters = None,
    receipts: Receipts = None,
    kafka: Kafka = None,
    redis: Redis = None,
    parallelism: Parallelism = None,
) -> Config:
    """The flags of `run` and `replay`, and what they make of the configuration once all that it names is in place."""
    files = _files(
        events=events,
        items=items,
        slates=slates,
        predictions=predictions,
        dead_letters=dead_letters,
        receipts=receipts,
    )
    effective = load(config, files | _services(kafka, redis) | {"job.parallelism": parallelism})
    _preflight(effective)
    return effective


def _takes_job(command: Callable[[Config], None]) -> Callable[..., None]:
    """`command` with the flags of `_job` in place of the `Config` that they make."""

    @wraps(command)
    def with_flags(**flags: Any) -> None:
        command(_job(**flags))

    vars(with_flags)["__signature__"] = signature(_job)  # what typer goes by
    return with_flags


@app.command()
@_takes_job
def run(effective: Config) -> None:
    """Run the job on an embedded Flink, until its input ends or Ctrl-C. Flags go before the configuration."""
    from riverrank.jobs.flink import launch  # noqa: PLC0415  Flink

    launch.run(effective)


@app.command()
@_takes_job
def replay(effective: Config) -> None:
    """Run the job's operators in this process, without Flink, over what the input holds now. One process, whatever
    --parallelism says. Flags go before the configuration.
    """
    from riverrank.jobs.local import replay as replaying  # noqa: PLC0415  River

    replaying.run(effective)


@app.command()
def evaluate(
    *,
    config: ConfigFile = None,
    events: Events = None,
    items: Items = None,
    baselines: Annotated[
        str,
        Option(
            metavar="NAMES",
            help="Policies beside the job's own, with commas between. Default: popular,decayed,cosine,covisit,mf,bpr.",
        ),
    ] = "popular,decayed,cosine,covisit,mf,bpr",
    without: Annotated[
        bool, Option("--without", help="The job again with each source of candidates left out: a replay for each.")
    ] = False,
    picture: Annotated[
        Path | None, Option(metavar="FILE", help="Where to draw the learning curves, .svg. Default: nowhere.")
    ] = None,
    json: AsJson = False,
) -> None:
    """Judge the job's slates by what the same user does next, in one pass, beside baselines on the same events; and
    its predictions by what came. Flags go before the configuration.
    """
    effective = load(config, _files(events=events, items=items))
    from riverrank.jobs.config import preflight  # noqa: PLC0415
    from riverrank.jobs.evaluation import evaluate as evaluating  # noqa: PLC0415  River

    preflight.check_files(effective)
    preflight.check_learner(effective)
    names = [name.strip() for name in baselines.split(",") if name.strip()]
    evaluating.run(effective, names, without=without, picture=picture, as_json=json)


@app.command()
def get(*, user: User, config: ConfigFile = None, redis: Redis = None) -> None:
    """Print the slate (JSON) that Redis holds for USER, else the popular one. Exit code 1 where there is neither."""
    from riverrank.jobs.serving import slates as serving  # noqa: PLC0415  clients of Redis and Kafka

    slate = serving.get(load(config, _services(None, redis)), user)
    if slate is None:
        raise typer.Exit(1)
    print(slate.decode())


@app.command()
def explain(*, user: User, config: ConfigFile = None, redis: Redis = None, json: AsJson = False) -> None:
    """Print why each item is on the slate that Redis holds for USER; weights are in units of the score."""
    from riverrank.jobs.serving import slates as serving  # noqa: PLC0415  clients of Redis and Kafka

    serving.explain(load(config, _services(None, redis)), user, as_json=json)


@app.command()
def erase(*, user: User, config: ConfigFile = None, kafka: Kafka = None, json: AsJson = False) -> None:
    """Ask for the erasure of USER: an event on the events topic, its id printed. Without Kafka, print the event."""
    from riverrank.jobs.serving import slates as serving  # noqa: PLC0415  clients of Redis and Kafka

    effective = load(config, _services(kafka, None))
    event_id = serving.erase(effective, user)
    if effective.kafka.bootstrap:
        print(msgspec.json.encode({"event_id": event_id}).decode() if json else event_id)


@app.command()
def check(
    *,
    config: ConfigFile = None,
    events: Events = None,
    items: Items = None,
    kafka: Kafka = None,
    redis: Redis = None,
    sample: Annotated[
        int, Option(metavar="N", min=1, help="Records to read of each input, at most. Default: 100000.")
    ] = 100_000,
    json: AsJson = False,
) -> None:
    """Print the effective configuration (TOML, each key with meaning, unit and default), then what both inputs hold:
    what would be dead letters and why, late events, items that the catalogue lacks. Without an input, only the former.
    """
    from riverrank.jobs.config import preflight  # noqa: PLC0415
    from riverrank.jobs.config import text as config_text  # noqa: PLC0415
    from riverrank.jobs.data import check as checking  # noqa: PLC0415  numpy

    effective = load(config, _files(events=events, items=items) | _services(kafka, redis))
    preflight.check_files(effective)
    preflight.check_learner(effective)
    if not json:
        print(config_text.render(effective), flush=True)
    preflight.check_services(effective)
    findings = checking.sample(effective, sample)
    if json:
        document = {"config": config_text.as_document(effective), **msgspec.to_builtins(findings)}
        print(msgspec.json.encode(document).decode())
    else:
        print("\n".join(f"# {line}" for line in checking.describe(findings)))


@app.command()
def convert(
    *,
    name: Annotated[str, typer.Argument(metavar="NAME", help="movielens-100k, complete-journey, serenade, or csv.")],
    events: Annotated[str, Option(metavar="FILE", help="Events to write; gz by its ending, - standard output.")],
    items: Annotated[str, Option(metavar="FILE", help="Items to write; gz by its ending, - standard output.")],
    source: Annotated[
        Path | None,
        Option(metavar="PATH", help="File or folder of the data set. Default, of movielens-100k: River's own copy."),
    ] = None,
    columns: Annotated[
        list[str] | None,
        Option(
            "--map",
            metavar="FIELD=COLUMN",
            help="csv: which column holds what; again for more, or with commas between. Fields: user, item, ts, type, "
            "value, event, title, categories. Default: user=user_id,item=item_id,ts=ts.",
        ),
    ] = None,
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
    from riverrank.jobs.data import convert as converting  # noqa: PLC0415
    from riverrank.jobs.data import datasets  # noqa: PLC0415

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
    report = converting.convert(reader, source or datasets.river_data(), events, items)
    if json:
        if "-" in (events, items):
            raise UsageError("--json: standard output already takes records; write these to files")
        print(msgspec.json.encode(report).decode())
    print(f"{report.events} events of {report.users} users, {report.items} items", file=sys.stderr)
    if report.bad_rows:
        print(f"{report.bad_rows} rows left out; the first, {report.first_bad}", file=sys.stderr)


@app.command()
def demo(
    *,
    seconds: Annotated[
        float, Option(metavar="S", help="How long customers shop from the first slate on, in seconds. Default: 60.")
    ] = 60.0,
    plain: Annotated[
        bool, Option("--plain", help="Lines in place of a live display, as where there is no terminal.")
    ] = False,
) -> None:
    """Run a simulated shop on a real Kafka broker, the job and a real Redis, all started and ended here."""
    from riverrank.jobs.demo import demo as demonstration  # noqa: PLC0415  all of the above

    demonstration.demo(seconds, plain=plain)


@app.command()
def starters(
    *,
    config: ConfigFile = None,
    events: Events = None,
    items: Items = None,
    number: Annotated[int, Option("-n", metavar="N", min=1, help="How many items. Default: 10.")] = 10,
    json: AsJson = False,
) -> None:
    """Name items to ask a new user about, best first: many know them, and together they tell of all others."""
    effective = load(config, _files(events=events, items=items))
    from riverrank.jobs.config import preflight  # noqa: PLC0415
    from riverrank.jobs.data import starters as starting  # noqa: PLC0415  numpy

    preflight.check_files(effective)
    starting.run(effective, number, as_json=json)


@app.command()
def drift(
    *,
    config: ConfigFile = None,
    customers: Annotated[int, Option(metavar="N", min=2, help="Customers of each shop. Default: 60.")] = 60,
    shops: Annotated[int, Option(metavar="N", min=1, help="Shops, which differ by seed. Default: 3.")] = 3,
    json: AsJson = False,
) -> None:
    """Measure how soon slates follow when all customers of a simulated shop come to like other things: docs/drift.md.
    The job's operators run in this process, with nothing else.
    """
    effective = load(config, {})
    from riverrank.jobs.config import preflight  # noqa: PLC0415
    from riverrank.jobs.evaluation import drift as drifting  # noqa: PLC0415  River

    preflight.check_learner(effective)
    drifting.run(effective, customers, shops, as_json=json)


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the exit code."""
    debug = bool(os.environ.get(DEBUG_VARIABLE))
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING, format="%(message)s")
    logging.getLogger("riverrank").setLevel(logging.DEBUG if debug else logging.INFO)
    try:
        code = typer.main.get_command(app).main(args=arguments, prog_name="riverrank", standalone_mode=False)
        sys.stdout.flush()
        return code or 0
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # whoever read standard output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        if debug:
            raise
        code, line = _published(error)
        print(f"riverrank: {line}", file=sys.stderr)
        return code


def _published(error: Exception) -> tuple[int, str]:
    """The exit code and the one line that an exception is worth."""
    if isinstance(error, UsageError):
        return 2, " ".join(str(error).split())
    if isinstance(error, Failure):
        return 1, " ".join(str(error).split())
    if callable(formatted := getattr(error, "format_message", None)):  # typer's own, whose base class is not public
        context = getattr(error, "ctx", None)
        command = context.command_path if context else "riverrank"
        return 2, f"{' '.join(formatted().split())} ({command} --help says what there is)"
    first = next(iter(str(error).strip().splitlines()), "")
    return 1, f"{type(error).__name__}: {first} ({DEBUG_VARIABLE}=1 shows where)"


def _preflight(config: Config) -> None:
    from riverrank.jobs.config.preflight import preflight  # noqa: PLC0415  River

    preflight(config)


def _files(
    *,
    events: str | None,
    items: str | None,
    slates: str | None = None,
    predictions: str | None = None,
    dead_letters: str | None = None,
    receipts: str | None = None,
) -> dict[str, object]:
    """The flags that stand for a key of [files]."""
    flags = {
        "events": events,
        "items": items,
        "slates": slates,
        "predictions": predictions,
        "dead_letters": dead_letters,
        "receipts": receipts,
    }
    return {f"files.{name}": path for name, path in flags.items()}


def _services(kafka: str | None, redis: str | None) -> dict[str, object]:
    return {"kafka.bootstrap": kafka, "redis.url": redis}
