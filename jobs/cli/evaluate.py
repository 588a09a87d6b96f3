"""`riverrank evaluate`."""

from pathlib import Path
from typing import Annotated

from riverrank.jobs.config.schema import Config

from .flags import EVENTS, ITEMS, AsJson, Option, configured

BASELINES = "popular,decayed,cosine,covisit,mf,bpr"


@configured(EVENTS, ITEMS)
def evaluate(
    config: Config,
    baselines: Annotated[
        str,
        Option(metavar="NAMES", help=f"Policies beside the job's own, with commas between. Default: {BASELINES}."),
    ] = BASELINES,
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
    from riverrank.jobs.config import preflight
    from riverrank.jobs.evaluation import evaluate as evaluating

    preflight.check_files(config)
    preflight.check_behaviour(config)
    names = [name.strip() for name in baselines.split(",") if name.strip()]
    evaluating.run(config, names, without=without, picture=picture, as_json=json)
