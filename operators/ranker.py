"""RANKER: the global model that orders candidates for everyone, learned from what was chosen among them, and the
vectors of items that one of its sources goes by.

It finds candidates as RECOMMEND does, and learns that what a user took belongs above what it did not take. A user's or
an item's id is never a feature.
"""

from collections.abc import Sequence

import msgspec
import numpy as np
from river import linear_model, optim

from ..state.items import VectorTable
from ..state.journal import Journal
from ..state.wire import Feedback, VectorUpdate, Weights, decode_feedback, encode
from .embedding import Embedding
from .features import PRIOR
from .linear import Linear, probability
from .retrieve import Context, Retriever, context_of
from .session import drawn
from .settings import Behaviour
from .view import View

_MODEL = "model"
LAYOUT = 1
BLOCK = 16  # feedbacks that the vectors are learned from at once
BIAS_RATE = 0.01  # of the bias that makes logits those of clicks on shown items


class RankerState(msgspec.Struct, array_like=True):
    """A shard's ranker, kept under `model`: layout 1, a MessagePack array; `weights` float64 (SEGMENTS, F)."""

    layout: int = LAYOUT
    version: int = 0
    weights: bytes = b""
    bias: float = 0.0


class Ranker:
    """The learner of one shard, over a view of all items. River's model, and the loss of a choice."""

    def __init__(self, behaviour: Behaviour, view: View, shard: int = 0, journal: Journal | None = None) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.ranker
        self.view = view
        self.shard = shard
        self.journal = journal
        self.retriever = Retriever(behaviour, view)
        self.version = 0
        river = linear_model.LogisticRegression(optim.SGD(self.settings.rate), intercept_lr=0.0)
        self.models = [Linear(river, prior.copy()) for prior in PRIOR]  # by segment
        self.bias = 0.0
        self.embedding = Embedding(behaviour, VectorTable(behaviour.embedding.dimensions))
        self._block: list[Feedback] = []  # what the embedding has yet to learn from
        self._pending = 0
        self._compact = False

    @classmethod
    def restore(cls, behaviour: Behaviour, view: View, shard: int, journal: Journal) -> "Ranker":
        """The ranker as it was when the journal was last written."""
        ranker = cls(behaviour, view, shard)
        base, log = journal.load()
        if _MODEL in base:
            ranker._recall(msgspec.msgpack.decode(base[_MODEL], type=RankerState))
        ranker.embedding.table.load(base)
        for record in log:
            ranker.learn(decode_feedback(record))
        ranker.embedding.tell_all()
        ranker.journal = journal
        return ranker

    def learn(self, feedback: Feedback) -> None:
        """Learn from one feedback: an interaction against sampled candidates, an impression against itself."""
        self.version += 1
        if drawn(self.settings, self.version, self.behaviour.seed, f"ranked:{feedback.event.event_id}"):
            self._learn_order(feedback)
        self._block.append(feedback)
        if len(self._block) == BLOCK:
            self._learn_block()
        self._pending += 1
        if self.journal is not None:
            self._compact = self.journal.append(encode(feedback)) or self._compact

    def due(self) -> bool:
        """Whether enough was learned since the last weights for new ones."""
        return self._pending >= self.settings.flush_events

    def flush(self) -> list[bytes]:
        """The encoded weights and vectors that changed since the last ones; none where nothing was learned.

        The shard's own view takes them at once.
        """
        if not self._pending:
            return []
        self._pending = 0
        updates: list[Weights | VectorUpdate] = [Weights(self.shard, self.version, self._weights(), self.bias)]
        if self._compact:
            self._learn_block()  # what is kept of it is the table
        moved = self.embedding.moved(self.shard)
        if moved is not None:
            updates.append(moved)
            self.view.apply(moved)
        if self.journal is not None and self._compact:
            state = RankerState(LAYOUT, self.version, self._weights(), self.bias)
            self.journal.compact({_MODEL: encode(state), **self.embedding.table.dump()})
            self._compact = False
        return [encode(update) for update in updates]

    def _learn_order(self, feedback: Feedback) -> None:
        """Learn to order candidates from one feedback."""
        context = context_of(self.view, feedback.history, feedback.attributes, feedback.event.user_id)
        for outcome in feedback.outcomes:
            self._learn_shown(context, outcome.items, outcome.labels)
        row = self.view.row(feedback.event.item_id or "")
        if feedback.reward <= 0 or row < 0:
            return
        known = self.view.table.rows_of(seen.item_id for seen in feedback.history)
        seen = None if self.behaviour.slate.repeat else self.view.hash[known]
        candidates = self.retriever.find(context, seen, np.array([row], np.int32))
        place = int(candidates.places(np.array([row]))[0])
        # What no source proposed was not there to be ordered: against candidates, which sources score high by choice,
        # it would only teach that a high score is bad.
        if candidates.proposed[place]:
            self.models[context.segment].choose(candidates.features, place, min(1.0, feedback.reward))

    def _learn_block(self) -> None:
        self.embedding.learn(self._block)
        self._block = []

    def _recall(self, state: RankerState) -> None:
        if state.layout != LAYOUT:
            raise ValueError(f"ranker state of layout {state.layout}: this version reads {LAYOUT}")
        if len(state.weights) == 8 * PRIOR.size:  # else the features are others now: begin anew
            self.version, self.bias = state.version, state.bias
            held = np.frombuffer(state.weights, "<f8").reshape(PRIOR.shape)
            for model, weights in zip(self.models, held, strict=True):
                model.weights = weights.copy()

    def _learn_shown(self, context: Context, items: Sequence[str], labels: Sequence[int]) -> None:
        find = self.view.table.rows.get
        known = {row: label for i, label in zip(items, labels, strict=True) if (row := find(i)) is not None}
        shown = np.fromiter(known, np.int32, len(known))
        candidates = self.retriever.find(context, None, shown)
        truth = np.fromiter(known.values(), np.int64, len(known))
        if not len(shown):
            return
        places = candidates.places(shown)
        logits = self.models[context.segment].logits(candidates.features[places]).tolist()
        for logit, label in zip(logits, truth, strict=True):
            self.bias += BIAS_RATE * (float(label) - probability(logit + self.bias))
        refused = places[truth == 0]
        for place in places[truth == 1].tolist():
            self.models[context.segment].choose(candidates.features[[place, *refused]], 0)

    def _weights(self) -> bytes:
        return np.concatenate([model.weights for model in self.models]).astype("<f8").tobytes()
