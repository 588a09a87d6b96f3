"""Another policy, asked what it would have done: the job's own operators with another configuration, over the same
events, and its reranker asked for the chance of the slate that was logged.
"""

from collections.abc import Callable, Iterable, Iterator

import numpy as np
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.chances import chances
from riverrank.operators.slate.explore import NONE
from riverrank.operators.slate.fairness.floors import Owed
from riverrank.operators.slate.rerank import Pool, Ranked, Reranker
from riverrank.state.messages import Feedback
from riverrank.state.records.decoding import Reject
from riverrank.state.records.incoming import Event, Item

from .estimators import Asked
from .items import ItemsInTime
from .log import LoggedSlate


class AskedReranker(Reranker):
    """A reranker that is asked, as it makes a slate, for the chance of another: of the items of `logged`, by rank.
    `asked` is what it said last.
    """

    def __init__(self, reranker: Reranker) -> None:
        vars(self).update(vars(reranker))
        self.logged: tuple[str, ...] = ()
        self.asked: Asked | None = None

    def rerank(
        self,
        event_id: str,
        rows: np.ndarray,
        logits: np.ndarray,
        proposed: np.ndarray,
        history: np.ndarray,
        examples: int,
        deviations: Callable[[np.ndarray], np.ndarray],
        owed: Owed | None = None,
    ) -> Ranked:
        """The slate, as ever."""
        if self.logged:
            pool = self.pool(rows, logits, proposed, history, examples, owed)
            self.asked = self._ask(pool, rows, logits, deviations)
        return super().rerank(event_id, rows, logits, proposed, history, examples, deviations, owed)

    def _ask(
        self, pool: Pool, rows: np.ndarray, logits: np.ndarray, deviations: Callable[[np.ndarray], np.ndarray]
    ) -> Asked:
        size, kind, pinned = self.behaviour.slate.size, self.behaviour.exploration.kind, pool.pins.positions
        worth = 1.0 / (1.0 + np.exp(-logits))
        at = _positions(self.index.table.rows.find(self.logged[:size]), rows)
        chance, mean = np.zeros(len(self.logged)), np.zeros(len(self.logged))
        first = min(len(pinned), len(at))
        chance[:first], mean[:first] = at[:first] == pinned[:first], worth[pinned[:first]]
        wanted, drawn_from = _positions(at[first:], pool.positions), pool.positions
        chance[first : len(at)], mean[first : len(at)] = chances(
            pool.values, kind, pool.rate, wanted, worth[drawn_from], pool.caps,
            lambda some: deviations(drawn_from[some]), pool.due,
        )  # fmt: skip
        known = np.zeros(len(self.logged))
        known[: len(at)] = np.where(at >= 0, worth[at], 0.0)
        return Asked(chance, mean, known)


class OtherPolicy:
    """The job with another configuration, over the events that the logged slates answered; of `items` it knows what
    was known then.
    """

    def __init__(self, behaviour: Behaviour, items: ItemsInTime) -> None:
        self.pipeline, self._items = Pipeline(behaviour), items
        self._learn(items.at_first())
        self._rerankers: list[AskedReranker] = []
        for policy in self.pipeline.recommend.policies.values():
            policy.reranker = reranker = AskedReranker(policy.reranker)
            self._rerankers.append(reranker)

    def events(
        self,
        events: Iterator[tuple[Arrival, Event | Reject]],
        slate_of: Callable[[Event], LoggedSlate | None],
        depth: int,
    ) -> Iterator[tuple[Feedback, LoggedSlate | None, Asked]]:
        """Each feedback, with the logged slate that answers its event, and what the policy says of its first `depth`
        ranks. Who goes on has it learn from the feedback.
        """
        for arrival, event in events:
            if isinstance(event, Event):
                self._learn(self._items.until(event.ts))
            for message in self.pipeline.messages(event, arrival):
                if not isinstance(message, Feedback):
                    self.pipeline.hear(message)
                    continue
                slate = slate_of(message.event)
                logged = () if slate is None else tuple(slot.item_id for slot in slate.items[:depth])
                yield message, slate, self._ask(message, logged)

    def _learn(self, items: Iterable[Item]) -> None:
        for item in items:
            self.pipeline.lessons.item(item)

    def _ask(self, feedback: Feedback, logged: tuple[str, ...]) -> Asked:
        for reranker in self._rerankers:
            reranker.logged, reranker.asked = logged, None
        self.pipeline.hear(feedback)
        said = [reranker.asked for reranker in self._rerankers if reranker.asked is not None]
        nothing = np.zeros(len(logged))
        return said[0] if said else Asked(nothing, nothing, nothing)


def _positions(of: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Where each of `of`, whole numbers (k,), is among `among`, distinct: int64 (k,), NONE for what is not there, and
    for what is below 0 or was there before.
    """
    places = {number: place for place, number in enumerate(among.tolist())}
    return np.array([places.pop(number, NONE) if number >= 0 else NONE for number in of.tolist()], np.int64)
