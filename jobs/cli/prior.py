"""`riverrank prior`."""

from riverrank.jobs.config.schema import Config

from .flags import EVENTS, ITEMS, KAFKA, PRIOR_OUT, configured


@configured(EVENTS, ITEMS, KAFKA, PRIOR_OUT)
def prior(config: Config) -> None:
    """Learn from what the input holds now, as a replay does, and write what another shop can start from (its
    prior.file): how candidates are ordered and what ratings are like, nothing of any user, and no id.
    """
    from riverrank.jobs.config import preflight
    from riverrank.jobs.data import prior as writing

    preflight.check_inputs(config)
    preflight.check_files(config)
    preflight.check_behaviour(config)
    preflight.check_services(config, outputs=False)
    writing.run(config)
