"""The operators in this process, without Flink, for what is measured from inside: fed with records as they arrive."""

from collections.abc import Iterable
from pathlib import Path

from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure
from riverrank.jobs.local.replay import Replay, Sink, Writer
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.records import Event, Item, to_json


class Nowhere:
    """An output that goes nowhere."""

    def __init__(self, *, wanted: bool = False) -> None:
        self.wanted = wanted

    def write(self, key: str, value: bytes) -> None:
        """Take one record."""


class Local:
    """All operators, one after another, for one event at a time; what they keep of users as bytes, by user.

    >>> local = Local()
    >>> local.load([local.arrival(Item("i-1", 1))])
    >>> local.event(local.arrival(Event("e-1", "click", "u-1", 1, "i-1")))
    >>> local.answered, sorted(local.sessions), sorted(local.learners)
    (1, ['u-1'], ['u-1'])
    """

    def __init__(self, behaviour: Behaviour | None = None, slates: Path | None = None) -> None:
        """`slates`: the file that slates are written to, none unless given."""
        config = Config() if behaviour is None else Config(behaviour=behaviour)
        outputs: dict[str, Writer] = {name: Nowhere() for name in Sink.NAMES}
        outputs["slates"] = Nowhere(wanted=True) if slates is None else Sink(str(slates))
        self._replay = Replay(config, outputs)
        self.event = self._replay.event
        self.sessions: dict[str, bytes] = self._replay.sessions
        self.learners: dict[str, bytes] = self._replay.users

    @staticmethod
    def arrival(record: Event | Item) -> Arrival:
        """The record as it comes from outside."""
        return Arrival(0, 0, 0, to_json(record))

    @property
    def answered(self) -> int:
        """Slates so far."""
        return self._replay.slates

    def load(self, arrivals: Iterable[Arrival]) -> None:
        """Take items of the catalogue."""
        for arrival in arrivals:
            self._replay.item(arrival)

    def run(self, arrivals: Iterable[Arrival]) -> None:
        """Take events, each of which must be answered. Raises `Failure` where one is not."""
        before, count = self.answered, 0
        event = self.event
        for arrival in arrivals:
            event(arrival)
            count += 1
        if self.answered - before != count:
            raise Failure(f"{self.answered - before} of {count} events were answered: their time means nothing")

    def clone_users(self, originals: list[str], users: list[str]) -> None:
        """Let each of `users` have been here before, as one of `originals` in turn was."""
        for number, user in enumerate(users):
            original = originals[number % len(originals)]
            self.sessions[user] = self.sessions[original]
            self.learners[user] = self.learners[original]
