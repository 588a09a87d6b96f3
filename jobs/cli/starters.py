"""`riverrank starters`."""

from typing import Annotated

from riverrank.jobs import standard
from riverrank.jobs.config.schema import Config

from .flags import EVENTS, ITEMS, AsJson, Option, configured


@configured(EVENTS, ITEMS)
def starters(
    config: Config,
    number: Annotated[int, Option("-n", metavar="N", min=1, help="How many items. Default: 10.")] = 10,
    json: AsJson = False,
) -> None:
    """Name items to ask a new user about, best first: many know them, and together they tell of all others."""
    from riverrank.jobs.config import preflight
    from riverrank.jobs.data import starters as starting

    standard.require_open(standard.OUTPUT)
    preflight.check_files(config)
    starting.run(config, number, as_json=json)
