"""RANKER: the global model that orders candidates for everyone, learned from what was chosen among them, and the
vectors of items that one of its sources goes by.

It finds candidates as RECOMMEND does, and learns that what a user took belongs above what it did not take. A user's or
an item's id is never a feature.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from riverrank.operators.candidates.feature_space import PRIOR, SEGMENTS
from riverrank.operators.candidates.last_served import LastServed
from riverrank.operators.candidates.retrieve import Candidates, Context, Retriever, context_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import drawn
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.embedding import Embedding
from riverrank.state.item_tables import VectorTable
from riverrank.state.journal import Journal
from riverrank.state.messages import Feedback, Seen, VectorUpdate, Weights, decode_feedback, encode

from .ensemble import Ensemble
from .linear import probability

_MODEL = "model"
LAYOUT = 1
EVENTS_PER_UPDATE_STEP = 16  # feedbacks by which the next weights are one later, until `flush_events`
AVERAGED = 1000  # feedbacks, by which rewards are averaged
MOST_WEIGHT = 3.0  # of a choice, that is worth as many of the usual
BIAS_RATE = 0.01  # of the bias that makes logits those of clicks on shown items


class RankerState(msgspec.Struct, array_like=True):
    """A shard's ranker, kept under `model`: layout 1, a MessagePack array.

    `weights` float64 (SEGMENTS, models, F) and `losses` float64 (SEGMENTS, models) are those of each ensemble;
    `reward` is what is usual.
    """

    layout: int = LAYOUT
    version: int = 0
    weights: bytes = b""
    bias: float = 0.0
    losses: bytes = b""
    reward: float = 1.0


class Ranker:
    """The learner of one shard, over a index of all items. River's model, and the loss of a choice."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex, shard: int = 0, journal: Journal | None = None) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.ranker
        self.index = index
        self.shard = shard
        self.journal = journal
        self.retriever = Retriever(behaviour, index)
        self.served: LastServed[tuple[int, Candidates]] = LastServed(index)
        self.version = 0
        self.models = [Ensemble(self.settings.rate, prior) for prior in PRIOR]  # by segment
        self.bias = 0.0
        self.reward = 1.0  # the mean of those above 0
        self.embedding = Embedding(behaviour, VectorTable(behaviour.embedding.dimensions))
        self._pending = 0
        self._compact = False

    @classmethod
    def restore(cls, behaviour: Behaviour, index: ItemIndex, shard: int, journal: Journal) -> "Ranker":
        """The ranker as it was when the journal was last written."""
        ranker = cls(behaviour, index, shard)
        base, log = journal.load()
        if _MODEL in base:
            ranker._recall(msgspec.msgpack.decode(base[_MODEL], type=RankerState))
        ranker.embedding.table.load(base)
        for record in log:
            ranker.learn(decode_feedback(record))
        ranker.embedding.publish_all()
        ranker.journal = journal
        return ranker

    def learn(self, feedback: Feedback) -> None:
        """Learn from one feedback: an interaction against what there was to choose, an impression against itself."""
        self.version += 1
        self._learn_order(feedback)
        self.embedding.take(feedback)
        self._pending += 1
        if self.journal is not None:
            self._compact = self.journal.append(encode(feedback)) or self._compact

    def due(self) -> bool:
        """Whether enough was learned since the last weights for new ones: while there is little, each bit counts."""
        return self._pending >= min(self.settings.flush_events, 1 + self.version // EVENTS_PER_UPDATE_STEP)

    def flush(self) -> list[bytes]:
        """The encoded weights and vectors that changed since the last ones; none where nothing was learned.

        The shard's own index takes them at once.
        """
        if not self._pending:
            return []
        self._pending = 0
        updates: list[Weights | VectorUpdate] = [Weights(self.shard, self.version, self._weights(), self.bias)]
        if self._compact:
            self.embedding.settle()  # what is kept of it is the table
        moved = self.embedding.moved(self.shard)
        if moved is not None:
            updates.append(moved)
            self.index.apply(moved)
        if self.journal is not None and self._compact:
            weights, losses = (b"".join(parts) for parts in zip(*(m.dump() for m in self.models), strict=True))
            state = RankerState(LAYOUT, self.version, weights, self.bias, losses, self.reward)
            self.journal.compact({_MODEL: encode(state), **self.embedding.table.dump()})
            self._compact = False
        return [encode(update) for update in updates]

    def _learn_order(self, feedback: Feedback) -> None:
        """Learn to order candidates from one feedback, and keep those that the next may be a choice from."""
        event = feedback.event
        sampled = drawn(self.settings, self.version, self.behaviour.seed, f"ranked:{event.event_id}")
        if feedback.outcomes and sampled:
            context = context_of(self.index, feedback.history, feedback.attributes, event.user_id)
            for outcome in feedback.outcomes:
                self._learn_shown(context, outcome.items, outcome.labels)
        if feedback.reward <= 0:
            return
        self.reward += (feedback.reward - self.reward) / min(self.version, AVERAGED)
        weight = min(MOST_WEIGHT, feedback.reward / self.reward)
        user = f"{event.user_id}:{feedback.epoch}"  # who was erased has chosen from nothing
        taken = self.served.take(user)
        if taken is None and sampled and not feedback.history:
            taken = self._find(feedback, ())
        if taken is not None:
            segment, candidates = taken
            # What no source proposed was not there to be ordered: against candidates, which sources score high by
            # choice, it would only teach that a high score is bad.
            positions = (candidates.rows == self.index.row(event.item_id or "")).nonzero()[0]
            if len(positions):
                self.models[segment].choose(candidates.features, int(positions[0]), weight)
        # As RECOMMEND finds them now: what is fresher later, it cannot go by, and would be taught to trust.
        if sampled:
            self.served.put(user, self._find(feedback, feedback.history_after()))

    def _find(self, feedback: Feedback, history: Sequence[Seen]) -> tuple[int, Candidates]:
        """What RECOMMEND, with this index, chooses from for the user with that history, and the segment."""
        context = context_of(self.index, history, feedback.attributes, feedback.event.user_id)
        known = self.index.table.rows_of(seen.item_id for seen in history)
        seen = None if self.behaviour.slate.repeat else self.index.hash[known]
        return context.segment, self.retriever.find(context, seen)

    def _recall(self, state: RankerState) -> None:
        if state.layout != LAYOUT:
            raise ValueError(f"ranker state of layout {state.layout}: this version reads {LAYOUT}")
        self.version, self.bias, self.reward = state.version, state.bias, state.reward
        weights, losses = len(state.weights) // SEGMENTS, len(state.losses) // SEGMENTS
        for k, model in enumerate(self.models):
            model.load(state.weights[k * weights : (k + 1) * weights], state.losses[k * losses : (k + 1) * losses])

    def _learn_shown(self, context: Context, items: Sequence[str], labels: Sequence[int]) -> None:
        find = self.index.table.rows.get
        known = {row: label for i, label in zip(items, labels, strict=True) if (row := find(i)) is not None}
        shown = np.fromiter(known, np.int32, len(known))
        candidates = self.retriever.find(context, None, shown)
        truth = np.fromiter(known.values(), np.int64, len(known))
        if not len(shown):
            return
        positions = candidates.positions(shown)
        logits = self.models[context.segment].logits(candidates.features[positions]).tolist()
        for logit, label in zip(logits, truth, strict=True):
            self.bias += BIAS_RATE * (float(label) - probability(logit + self.bias))
        refused = positions[truth == 0]
        for position in positions[truth == 1].tolist():
            self.models[context.segment].choose(candidates.features[[position, *refused]], 0)

    def _weights(self) -> bytes:
        return np.concatenate([model.publish() for model in self.models]).astype("<f8").tobytes()
