"""What everything that the input holds teaches, without answering anyone: a fraction of a replay."""

from collections.abc import Iterable, Iterator

from riverrank.jobs.config.schema import Config
from riverrank.operators.flink.arrivals import event_of, item_of
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event, Item

from .pipeline import Intake, Lessons
from .reading import read


def catalogue(config: Config) -> Iterator[Item]:
    """The items of the input, without those that cannot be used."""
    for arrival in read(config, "items"):
        item = item_of(arrival, config.behaviour)
        if isinstance(item, Item):
            yield item


def taught(config: Config, behaviour: Behaviour, items: Iterable[Item]) -> Lessons:
    """What the events of the input teach of these items, with such settings; all of it is in the index."""
    intake = Intake(behaviour)
    lessons = Lessons(behaviour, intake.session)
    for item in items:
        lessons.item(item)
    for arrival in read(config, "events"):
        event = event_of(arrival, behaviour)
        feedback = intake.accept(event).feedback if isinstance(event, Event) else None
        if feedback is not None:
            lessons.learn(feedback)
    for _ in lessons.finish():
        pass  # it is in the index
    return lessons
