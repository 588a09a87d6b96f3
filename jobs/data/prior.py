"""`riverrank prior`: a file of what events and items teach that another shop can start from.

No user is answered, so it takes a fraction of a replay; what is learned is the same.
"""

import logging

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.local.pipeline import Intake, Lessons
from riverrank.jobs.local.reading import read
from riverrank.operators.flink.arrivals import event_of, item_of
from riverrank.state.prior import to_file, write_file
from riverrank.state.records.incoming import Event, Item

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
    prior = learned(config).ranker.prior()
    if not prior.learned_from:
        raise Failure("no event that teaches anything; `riverrank check` says what there is")
    try:
        write_file(path, prior)
    except OSError as error:
        raise Failure(f"cannot write {path}: {error.strerror}") from error
    log.info("learned from %d feedbacks, %d bytes written to %s", prior.learned_from, len(to_file(prior)), path)


def learned(config: Config) -> Lessons:
    """What everything that the input holds teaches."""
    behaviour = config.behaviour
    intake = Intake(behaviour)
    lessons = Lessons(behaviour, intake.session)
    for arrival in read(config, "items"):
        item = item_of(arrival, behaviour)
        if isinstance(item, Item):
            lessons.item(item)
    for arrival in read(config, "events"):
        event = event_of(arrival, behaviour)
        feedback = intake.accept(event).feedback if isinstance(event, Event) else None
        if feedback is not None:
            lessons.learn(feedback)
    for _ in lessons.finish():
        pass  # it is in the index
    return lessons
