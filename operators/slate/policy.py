"""How one arm's users are answered: from candidates that were scored to slots with their reasons, by its settings."""

from copy import copy
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.context import Context
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.candidates.sources.new import New
from riverrank.operators.models.learner import Learners, LinearLearner
from riverrank.operators.recent import Shares
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event

from .explain import Explainer, Reasons
from .fairness.floors import Floors
from .learning import Learning, Memory, User
from .rerank import Ranked, Reranker, novelty
from .rules import NO_PINS, Rules
from .served import Served
from .writing import Slots, SlotWriter

NO_ITEMS = b"[]}"  # the end of a slate's JSON, whose items are to be put in


class Scored(NamedTuple):
    """What a policy makes a slate of: candidates as they were `served`, for a `user` in a `context`; by candidate,
    float64 (c,) each and not to be written to, the `logits` with all that the settings add to them, of which `rule` is
    what rules add, and `bonus` what is added to what few know.
    """

    served: Served
    context: Context
    user: User
    logits: np.ndarray
    rule: np.ndarray
    bonus: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        """Those of the candidates, int32 (c,)."""
        return self.served.candidates.rows

    @property
    def proposed(self) -> np.ndarray:
        """By which sources, uint32 (c,)."""
        return self.served.candidates.proposed


class Policy:
    """How users of one arm are learned from and answered: all that goes by settings that arms may change."""

    def __init__(self, arm: str, behaviour: Behaviour, retriever: Retriever, learning: Learning) -> None:
        index, features = retriever.index, retriever.features
        self.arm, self.behaviour, self.index, self.learning = arm, behaviour, index, learning
        measured = behaviour.exploration.kind == "thompson"
        self.learners = Learners(behaviour.learner, features, measured=measured)
        self.rules = Rules(behaviour.rules, index)
        names = features.sources
        unseen = 1 << names.index(New.name) if New.name in names else 0  # what waits for a first exposure
        self.reranker = Reranker(behaviour, index, self.rules, unseen)
        self.floors = Floors(behaviour.fairness, index)
        self.explainer = Explainer(index, retriever, self.rules, self.floors.tokens)
        self.writer = SlotWriter(index, retriever.source_names, self.explainer.phrases)
        self._nothing = np.zeros(0)

    def over(self, memory: Shares[Memory]) -> "Policy":
        """The same policy, which keeps in `memory` what is kept of users beside their states."""
        other = copy(self)
        other.learning = copy(self.learning)
        other.learning.memory = memory
        return other

    def always(self, hidden: np.ndarray, servable: np.ndarray) -> np.ndarray | None:
        """Rows that are candidates whatever the sources say: what rules pin, and what floors owe places to."""
        pinnable = self.rules.pinnable(hidden, servable)
        if not self.floors:
            return pinnable
        rows = self.floors.candidates(hidden, servable, self.behaviour.slate.size)
        every = rows if pinnable is None else np.union1d(pinnable, rows)
        return every if len(every) else None

    def scored(self, served: Served, context: Context, user: User) -> Scored:
        """What is served, with what the settings add to its logits."""
        logits, rows, amount = served.logits, served.candidates.rows, self.behaviour.diversity.novelty
        if len(rows) > len(self._nothing):
            self._nothing = np.zeros(2 * len(rows))
        rule = bonus = self._nothing[: len(rows)]
        if self.rules.amounts:
            logits = logits.copy()
            rule = self.rules.add_to(logits, rows)
        if amount:
            bonus = amount * novelty(self.index.popularity(rows), self.index.highest_popularity())
            logits = logits + bonus
        return Scored(served, context, user, logits, rule, bonus)

    def slots(self, event: Event, scored: Scored) -> tuple[Slots, Reasons, np.ndarray]:
        """The slots, best first, and their reasons: rerank and explore, explain; and their positions among the
        candidates, int64 (p,).
        """
        inputs, learner, state = scored.served.inputs, scored.user.learner, scored.user.state
        rows, size = scored.rows, self.behaviour.slate.size

        def deviations(positions: np.ndarray) -> np.ndarray:
            assert isinstance(learner, LinearLearner)  # as Learners made sure of
            return learner.deviations(inputs, positions)

        owed = self.floors.owed(rows, size, event.user_id, state.version) if self.floors else None
        given = event.event_id, rows, scored.logits, scored.proposed, scored.context.rows, state.examples
        ranked = self.reranker.rerank(*given, deviations, owed)
        return *self._explained(ranked, scored), ranked.positions

    def deeper(self, slate: bytes, above: np.ndarray, depth: int, scored: Scored) -> bytes | None:
        """The JSON of a `slate`, whose slots are those at `above`, int64 (p,), with what stands below them, up to
        `depth` slots in all; None where nothing does. What is below is not drawn: given what is above, it is certain.
        """
        given = scored.rows, scored.logits, scored.proposed, scored.context.rows
        positions = self.reranker.below(*given, above, depth)
        if not (n := len(positions)):
            return None
        slots, reasons = self._explained(Ranked(positions, np.ones(n), np.zeros(n, np.bool_), NO_PINS.rules), scored)
        return self.writer.write(slots, reasons, slate[: -len(NO_ITEMS) + 1], b"}", len(above))

    def _explained(self, ranked: Ranked, scored: Scored) -> tuple[Slots, Reasons]:
        """The slots that are `ranked`, with their reasons."""
        chosen, (served, context, user, logits, rule, bonus) = ranked.positions, scored
        own = user.learner.contributions(served.inputs, chosen)
        parts = self.explainer.parts(own, served.inputs, chosen, user.ranker, context.segment, logits, rule, bonus)
        rows, proposed = scored.rows.take(chosen), scored.proposed.take(chosen)
        moved = ranked.explored, ranked.pins, ranked.floors
        reasons = self.explainer.reasons(context, rows, parts.weights, *moved)
        return Slots(rows, logits.take(chosen), ranked.propensity, proposed), reasons
