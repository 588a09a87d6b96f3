"""`riverrank drift`."""

from typing import Annotated

from riverrank.jobs import standard
from riverrank.jobs.config.schema import Config

from .flags import AsJson, Option, configured


@configured()
def drift(
    config: Config,
    customers: Annotated[int, Option(metavar="N", min=2, help="Customers of each shop. Default: 60.")] = 60,
    shops: Annotated[int, Option(metavar="N", min=1, help="Shops, which differ by seed. Default: 3.")] = 3,
    without: Annotated[
        list[str] | None,
        Option(metavar="TYPE", help="A type of event that the job is not told of, to see what it is worth."),
    ] = None,
    json: AsJson = False,
) -> None:
    """Measure how soon slates follow when all customers of a simulated shop come to like other things: docs/drift.md.
    The job's operators run in this process, with nothing else.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.evaluation import drift as drifting

    standard.require_open(standard.OUTPUT)
    preflight.check_behaviour(config)
    drifting.run(config, customers, shops, without or (), as_json=json)
