"""`riverrank check` and `topics`: what there is before a run."""

from typing import Annotated

import msgspec
import typer
from riverrank.jobs.config import text
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError

from .flags import EVENTS, ITEMS, KAFKA, REDIS, AsJson, Option, configured


@configured(EVENTS, ITEMS, KAFKA, REDIS)
def check(
    config: Config,
    sample: Annotated[
        int, Option(metavar="N", min=1, help="Records to read of each input, at most. Default: 100000.")
    ] = 100_000,
    json: AsJson = False,
) -> None:
    """Print the effective configuration (TOML, each key with meaning, unit and default), then what both inputs hold:
    what would be dead letters and why, late events, items that the catalogue lacks. Without an input, only the former.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.data import check as checking

    preflight.check_files(config)
    preflight.check_behaviour(config)
    if not json:
        print(text.render(config), flush=True)
    preflight.check_services(config, outputs=False)
    findings = checking.sample(config, sample)
    if json:
        document = {"config": text.as_document(config), **msgspec.to_builtins(findings)}
        print(msgspec.json.encode(document).decode())
    else:
        print("\n".join(f"# {line}" for line in checking.describe(findings)))


@configured(KAFKA)
def topics(
    config: Config,
    *,
    create: Annotated[bool, Option("--create", help="Make those that are missing.")] = False,
    partitions: Annotated[int, Option(metavar="N", min=1, help="Of each that is made. Default: 1.")] = 1,
    replication: Annotated[int, Option(metavar="N", min=1, help="Copies of each that is made. Default: 1.")] = 1,
    json: AsJson = False,
) -> None:
    """Print the topics that a run reads and writes, with their partitions, 0 for one that is missing. Exit code 1 where
    one is.
    """
    from riverrank.jobs.serving import topics as serving

    if not config.kafka.bootstrap:
        raise UsageError("kafka.bootstrap: no broker is configured; give --kafka HOST:PORT")
    found = serving.found(config)
    if create and (missing := [topic for topic in found if not topic.partitions]):
        serving.create(config, missing, partitions, replication)
        found = serving.found(config)
    if json:
        print(msgspec.json.encode(found).decode())
    else:
        for topic in found:
            print(f"{topic.stream}\t{topic.name}\t{topic.partitions}")
    if not all(topic.partitions for topic in found):
        raise typer.Exit(1)
