"""`riverrank evaluate`."""

from pathlib import Path
from typing import Annotated

from riverrank.jobs import standard
from riverrank.jobs.config.schema import Config, load
from riverrank.jobs.errors import UsageError

from .flags import EVENTS, ITEMS, AsJson, Option, configured

BASELINES = "popular,decayed,cosine,covisit,mf,bpr"

Others = Annotated[
    list[Path] | None,
    Option(
        metavar="FILE",
        help="The job again with another configuration, on the same events; again for more. Default: none.",
    ),
]
Exposed = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="Rank-discounted exposure by groups of items, beside their shares of the catalogue and of positive "
        "feedback: an attribute, category, novelty (bands of age) or popularity; again for more. Default: none.",
    ),
]
Cohorts = Annotated[
    list[str] | None,
    Option(
        metavar="NAME",
        help="Quality by cohort of users, with errors: an attribute of their profiles; again for more. None of "
        "fewer users than cohorts.users is told of by itself. Default: none.",
    ),
]


@configured(EVENTS, ITEMS)
def evaluate(
    config: Config,
    baselines: Annotated[
        str,
        Option(metavar="NAMES", help=f"Policies beside the job's own, with commas between. Default: {BASELINES}."),
    ] = BASELINES,
    without: Annotated[
        str,
        Option(
            metavar="NAMES",
            help="The job again without each of these, with commas between: a source of candidates, learner, floors, "
            "or all. A replay for each. Default: none.",
        ),
    ] = "",
    against: Others = None,
    by: Annotated[
        str,
        Option(
            metavar="NAMES",
            help="Segments of the tests, with commas between: type, history, popularity, user.NAME, item.NAME or "
            "context.NAME. Default: none.",
        ),
    ] = "",
    exposure: Exposed = None,
    cohort: Cohorts = None,
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

    standard.require_open(standard.OUTPUT)
    for flag, names in (("--exposure", exposure), ("--cohort", cohort)):
        if not all(names or ()):
            raise UsageError(f"{flag}: expected the name of an attribute, got none")
    preflight.check_files(config)
    preflight.check_behaviour(config)
    variants = evaluating.without_each(config.behaviour, _names(without))
    for path in against or ():
        other = load(path)
        preflight.check_behaviour(other)
        variants[f"{evaluating.AGAINST}{path}"] = other.behaviour
    evaluating.run(
        config, _names(baselines), variants, _names(by), picture, json, exposure=exposure or (), cohorts=cohort or ()
    )


def _names(text: str) -> list[str]:
    return [name.strip() for name in text.split(",") if name.strip()]
