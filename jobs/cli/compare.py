"""`riverrank compare`: the arms that ran."""

from typing import Annotated

import msgspec
from riverrank.jobs import standard
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import UsageError
from riverrank.state.runtime.durations import milliseconds

from .flags import EVENTS, KAFKA, SLATES, AsJson, Option, configured

Window = Annotated[
    str, Option(metavar="DURATION", help="How long after a slate what follows is credited to it. Default: 30m.")
]
Seen = Annotated[
    bool, Option("--seen", help="Count only slates that an impression, or what was taken from them, says were seen.")
]


@configured(EVENTS, SLATES, KAFKA)
def compare(config: Config, window: Window = "30m", seen: Seen = False, json: AsJson = False) -> None:
    """Compare the arms that ran, by what followed their slates (read here from --slates): docs/experiments.md.
    Intervals hold however often you look. With the [experiment] of --config, the shares of users are checked too.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.experiments import compare as comparing
    from riverrank.jobs.experiments import text

    standard.require_open(standard.OUTPUT)
    preflight.check_logged(config)
    report = comparing.run(config, duration_of(window), seen=seen)
    if json:
        print(msgspec.json.encode(report).decode())
    else:
        text.show(*text.comparison(report), report.warnings)


def duration_of(given: str) -> int:
    """The milliseconds of --window."""
    try:
        return milliseconds(given)
    except ValueError as error:
        raise UsageError(f"--window: {error}, got {given!r}") from error
