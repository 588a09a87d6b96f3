"""`riverrank prior`: a file of what events and items teach that another shop can start from.

No user is answered, so it takes a fraction of a replay; what is learned is the same.
"""

import logging
from pathlib import Path

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.lessons import catalogue, taught
from riverrank.state.prior import write_file

log = logging.getLogger(__name__)


def run(config: Config) -> None:
    """Learn, and write the file that `prior.out` names.

    Raises:
        UsageError: it names none.
        Failure: there was nothing to learn from, or the file could not be written.
    """
    path = config.behaviour.prior.out
    if not path:
        raise UsageError("prior.out: no file to write; give --out FILE")
    prior = taught(config, config.behaviour, catalogue(config)).ranker.prior()
    if not prior.learned_from:
        raise Failure("no event that teaches anything; `riverrank check` says what there is")
    try:
        write_file(path, prior)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error
    log.info("learned from %d feedbacks, %d bytes written to %s", prior.learned_from, Path(path).stat().st_size, path)
