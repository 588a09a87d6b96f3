"""`riverrank estimate`: what another configuration would have earned."""

from pathlib import Path
from typing import Annotated

import msgspec
from riverrank.jobs import standard
from riverrank.jobs.config.schema import Config, load

from .compare import Seen, Window, duration_of
from .flags import EVENTS, ITEMS, KAFKA, SLATES, AsJson, Option, configured


@configured(EVENTS, ITEMS, SLATES, KAFKA)
def estimate(
    config: Config,
    policy: Annotated[
        Path, Option("--policy", metavar="FILE", help="The other configuration, TOML. It has to be given.")
    ],
    window: Window = "30m",
    seen: Seen = False,
    depth: Annotated[
        int, Option(metavar="N", min=1, max=200, help="Ranks of a slate that count, from the first. Default: 10.")
    ] = 10,
    json: AsJson = False,
) -> None:
    """Estimate what the configuration of --policy would have earned, from slates that were logged with propensities
    (read here from --slates), the events that led to them and what followed: docs/experiments.md.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.experiments import estimate as estimating
    from riverrank.jobs.experiments import text

    standard.require_open(standard.OUTPUT)
    preflight.check_logged(config)
    other = load(policy)
    preflight.check_behaviour(other)
    report = estimating.run(config, other.behaviour, duration_of(window), depth, seen=seen)
    if json:
        print(msgspec.json.encode(report).decode())
    else:
        text.show(*text.estimation(report), report.warnings)
