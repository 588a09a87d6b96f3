"""The baselines together: each learns as the stream goes, and is as strong as its idea allows. None of them is part of
the job.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event

from ..costs import Clock, Cost, array_bytes, now
from .factors import BPRMF, IncrementalMF
from .items import CoVisitation, ItemCosine, Popular
from .ledger import Ledger

NAMES = ("popular", "decayed", "cosine", "covisit", "mf", "bpr")
HALF_LIFE_EVENTS = 5_000  # of decayed popularity


class Baseline(Protocol):
    """A policy that is told of each positive interaction, and ranks items for a user."""

    def recommend(self, user_id: str, k: int) -> list[str]:
        """Up to `k` distinct items that may be served to the user, best first. Changes nothing."""

    def learn(self, event: Event, row: int) -> None:
        """Learn from a positive interaction with the item of `row`, before the ledger is told of it."""

    def forget(self, user_id: str) -> None:
        """Forget what was learned of the user alone."""


class Panel:
    """The chosen baselines over one ledger.

    >>> panel = Panel(["popular"], Behaviour())
    >>> panel.answer(Event("e-1", "purchase", "u", 1, "i-1"), 2.0, k=20)
    [[]]
    >>> panel.answer(Event("e-2", "request", "v", 2), 0.0, k=20)
    [['i-1']]
    """

    def __init__(
        self, names: Iterable[str], behaviour: Behaviour, servable: Callable[[str], bool] = lambda item_id: True
    ) -> None:
        """`names` are of `NAMES`; `servable` tells of an item id whether it may be on a slate. Raises ValueError."""
        self.ledger = Ledger(behaviour, servable)
        self.popular = Popular(self.ledger)
        makers: dict[str, Callable[[], Baseline]] = {
            "popular": lambda: self.popular,
            "decayed": lambda: Popular(self.ledger, HALF_LIFE_EVENTS),
            "cosine": lambda: ItemCosine(self.ledger, self.popular),
            "covisit": lambda: CoVisitation(self.ledger, self.popular),
            "mf": lambda: IncrementalMF(self.ledger, self.popular, behaviour.seed),
            "bpr": lambda: BPRMF(self.ledger, self.popular, behaviour.seed),
        }
        self.baselines: dict[str, Baseline] = {}
        for name in names:
            if name not in makers:
                raise ValueError(f"no baseline {name!r}; there are {', '.join(NAMES)}")
            self.baselines[name] = makers[name]()
        self.clocks = {name: Clock() for name in self.baselines}
        alone = self.popular not in self.baselines.values()  # which others fall back on
        self._learners = [*self.baselines.items(), *([("", self.popular)] if alone else [])]
        self._learners.sort(key=lambda learner: learner[1] is not self.popular)

    def answer(self, event: Event, reward: float, *, k: int, choice: bool | None = None) -> list[list[str]]:
        """Learn from `event`, an interaction worth `reward` or a request, if it is a `choice`, which it is unless said
        where the reward is above 0; each baseline's list of up to `k` items.
        """
        self.ledger.ts = event.ts
        if event.item_id is not None:
            row = self.ledger.row(event.item_id)
            for name, baseline in self._learners if (reward > 0 if choice is None else choice) else ():
                began = now()
                baseline.learn(event, row)
                if name:
                    self.clocks[name].learned(began, now())
            self.ledger.note(event, row, reward)
        lists = []
        for name, baseline in self.baselines.items():
            began = now()
            lists.append(baseline.recommend(event.user_id, k))
            self.clocks[name].answered(began, now())
        return lists

    def costs(self) -> dict[str, Cost]:
        """What each baseline cost. What all share, and popularity, which others fall back on, is counted for none but
        itself.
        """
        costs: dict[str, Cost] = {}
        for name, baseline in self.baselines.items():
            apart = [self.ledger, *([self.popular] if baseline is not self.popular else [])]
            costs[name] = self.clocks[name].cost(None, array_bytes(baseline, apart))
        return costs

    def forget(self, user_id: str) -> None:
        """Forget the user."""
        self.ledger.forget(user_id)
        for _, baseline in self._learners:
            baseline.forget(user_id)
