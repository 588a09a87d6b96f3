"""The job's functions in a row, without Java, over stores that outlive them as a savepoint does. What one broadcasts
the others have at once.
"""

import json
from copy import deepcopy
from typing import Any

from adapters import DAY, KEY, parsed
from harness import Harness, Store
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.ranker import RankerFunction
from riverrank.operators.flink.recommend import RecommendFunction
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.flink.signals import SignalsFunction
from riverrank.operators.settings import Behaviour
from riverrank.state import uids
from riverrank.state.hashing import pseudonym
from riverrank.state.learners import LearnerState, decode_learner
from riverrank.state.records.incoming import Item

Record = dict[str, Any]
Stores = dict[str, Store]
SLATES = Outputs(lines=frozenset({"slates"}))


class KeptJob:
    """A job of `behaviour` with that catalogue, begun or restored from `stores`, which a savepoint gave. `slates` are
    those that it answered, by user.
    """

    def __init__(self, behaviour: Behaviour, catalogue: list[Item], stores: Stores | None = None) -> None:
        names = uids.SESSION, uids.SIGNALS, uids.RANKER, uids.RECOMMEND
        self.stores = deepcopy(stores) if stores else {name: Store() for name in names}
        functions = (
            SessionFunction(behaviour, "events", SLATES, DAY, KEY),
            SignalsFunction(behaviour),
            RankerFunction(behaviour, lambda: catalogue),
            RecommendFunction(behaviour, lambda: catalogue, SLATES, DAY, None),
        )
        self.session, self.signals, self.ranker, self.recommend = (
            Harness(function, self.stores[name]) for name, function in zip(names, functions, strict=True)
        )
        self.behaviour = behaviour
        self.slates: dict[str, list[Record]] = {}

    def send(self, records: list[Record]) -> None:
        """Take events, each with all that follows from it."""
        for record in records:
            ((key, value),) = parsed(json.dumps(record))
            self.session.element(value, key)
            for user, feedback in _taken(self.session.main):
                self.recommend.element(feedback, user)
            for shard, feedback in _taken(self.session.sides["sample"]):
                self.ranker.element(feedback, shard)
            for shard, feedback in _taken(self.session.sides["pairs"]):
                self.signals.element(feedback, shard)
            self._tell()
        for slate in map(json.loads, _taken(self.recommend.sides["slates-lines"])):
            self.slates.setdefault(slate["user_id"], []).append(slate)

    @property
    def last(self) -> dict[str, Record]:
        """Each user's last slate."""
        return {user: slates[-1] for user, slates in self.slates.items()}

    def savepoint(self) -> Stores:
        """All that was kept once what was learned is told, as the settings have it."""
        self.signals.advance(min(self.behaviour.signals.flush_every, DAY))
        self.ranker.advance(min(self.behaviour.ranker.flush_every, DAY))
        self._tell()
        return deepcopy(self.stores)

    def learner(self, user_id: str) -> bytes:
        """What RECOMMEND keeps of a user."""
        return self.stores[uids.RECOMMEND].values[uids.LEARNER_VALUE][pseudonym(user_id, KEY)]

    def user(self, user_id: str) -> LearnerState:
        """It as it is read."""
        return decode_learner(self.learner(user_id))

    def session_of(self, user_id: str) -> bytes:
        """What SESSION keeps of a user."""
        return self.stores[uids.SESSION].values[uids.SESSION_VALUE][pseudonym(user_id, KEY)]

    def _tell(self) -> None:
        for update in _taken(self.signals.main):
            self.ranker.broadcast(update)
            self.recommend.broadcast(update)
        for update in _taken(self.ranker.main):
            self.recommend.broadcast(update)


def _taken(emitted: list[Any]) -> list[Any]:
    """What was emitted since the last call."""
    taken = emitted[:]
    emitted.clear()
    return taken
