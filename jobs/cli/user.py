"""`riverrank get`, `explain`, `erase` and `export`: what is asked about one user."""

from typing import Annotated

import msgspec
import typer
from riverrank.jobs.config.schema import Config

from .flags import ITEMS, KAFKA, REDIS, AsJson, Option, User, configured


@configured(REDIS)
def get(config: Config, user: User) -> None:
    """Print the slate (JSON) that Redis holds for USER, else the popular one. Exit code 1 where there is neither."""
    from riverrank.jobs.serving import slates

    slate = slates.get(config, user)
    if slate is None:
        raise typer.Exit(1)
    print(slate.decode())


@configured(REDIS, ITEMS, KAFKA)
def explain(config: Config, user: User, json: AsJson = False) -> None:
    """Print why each item is on the slate that Redis holds for USER, else on the popular one; weights are in units of
    the score. Items have their titles where --items, or the items topic of --kafka, says them.
    """
    from riverrank.jobs.serving import slates

    slates.explain(config, user, as_json=json)


@configured(KAFKA)
def erase(config: Config, user: User, json: AsJson = False) -> None:
    """Ask for the erasure of USER: an event on the events topic, its id printed. Without Kafka, print the event."""
    from riverrank.jobs.serving import slates

    event_id = slates.erase(config, user)
    if config.kafka.bootstrap:
        print(msgspec.json.encode({"event_id": event_id}).decode() if json else event_id)


@configured(KAFKA, REDIS)
def export(
    config: Config,
    user: User,
    wait: Annotated[int, Option(metavar="N", min=1, help="Seconds to wait for it, at most. Default: 60.")] = 60,
) -> None:
    """Print all that is kept of USER (JSON), by the job and in Redis. Without Kafka, print the event that asks."""
    from riverrank.jobs.serving import exports

    exports.export(config, user, wait)
