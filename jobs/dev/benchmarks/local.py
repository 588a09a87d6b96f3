"""The operators in this process, without Flink, for what is measured from inside: fed with records as they arrive."""

from collections.abc import Iterable, Mapping, Sequence

from riverrank.jobs.errors import Failure
from riverrank.jobs.local.pipeline import Pipeline, Write
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.outputs import SLATES
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json


class Local(Pipeline):
    """The local pipeline, without a cache; its slates go nowhere unless `outputs` says so.

    >>> local = Local()
    >>> local.load([local.arrival(Item("i-1", 1))])
    >>> local.run([local.arrival(Event("e-1", "click", "u-1", 1, "i-1"))])
    >>> local.slates, sorted(local.sessions), sorted(local.learners)
    (1, ['u-1'], ['u-1'])
    """

    def __init__(self, behaviour: Behaviour | None = None, outputs: Mapping[str, Write] | None = None) -> None:
        super().__init__(behaviour or Behaviour(), outputs or {SLATES.name: lambda key, value: None})
        self.sessions: dict[str, bytes] = self.intake.states
        self.learners: dict[str, bytes] = self.users

    @staticmethod
    def arrival(record: Event | Item) -> Arrival:
        """The record as it comes from outside."""
        return Arrival(0, 0, 0, to_json(record))

    def load(self, arrivals: Iterable[Arrival]) -> None:
        """Take items of the catalogue."""
        for arrival in arrivals:
            self.item(arrival)

    def run(self, arrivals: Iterable[Arrival]) -> None:
        """Take events, each of which must be answered. Raises `Failure` where one is not."""
        before, count = self.slates, 0
        for arrival in arrivals:
            self.event(arrival)
            count += 1
        if self.slates - before != count:
            raise Failure(f"{self.slates - before} of {count} events were answered: their time means nothing")

    def clone_users(self, originals: Sequence[str], users: Sequence[str]) -> None:
        """Let each of `users` have been here before, as one of `originals` in turn was."""
        for number, user in enumerate(users):
            original = originals[number % len(originals)]
            self.sessions[user] = self.sessions[original]
            self.learners[user] = self.learners[original]
