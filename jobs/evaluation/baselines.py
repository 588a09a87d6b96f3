"""The policies that `riverrank evaluate` puts beside the job's own: each of one idea, learning as the stream goes, and
as strong as that idea allows. None of them is part of the job.
"""

from collections.abc import Callable, Iterable
from typing import Protocol

from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event

from .baselines_factors import BPRMF, IncrementalMF
from .baselines_items import CoVisitation, ItemCosine, Popular
from .baselines_ledger import Ledger

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
        self._learners = [self.popular, *(b for b in self.baselines.values() if b is not self.popular)]

    def answer(self, event: Event, reward: float, *, k: int) -> list[list[str]]:
        """Learn from `event`, an interaction worth `reward` or a request; each baseline's list of up to `k` items."""
        self.ledger.ts = event.ts
        if event.item_id is not None:
            row = self.ledger.row(event.item_id)
            for baseline in self._learners if reward > 0 else ():
                baseline.learn(event, row)
            self.ledger.note(event, row, reward)
        return [baseline.recommend(event.user_id, k) for baseline in self.baselines.values()]

    def forget(self, user_id: str) -> None:
        """Forget the user."""
        self.ledger.forget(user_id)
        for baseline in self._learners:
            baseline.forget(user_id)
