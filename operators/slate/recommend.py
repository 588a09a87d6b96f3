"""RECOMMEND: learns from a user's feedback, and answers with a ranked slate.

All it knows of a user is in the bytes it is handed and in the feedback; all it knows of items is in its index.
"""

from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.feature_space import NEW, SOURCES
from riverrank.operators.candidates.last_served import LastServed
from riverrank.operators.candidates.retrieve import Context, Retriever, context_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.drift import recent, watch
from riverrank.operators.models.learner import Learner, Learners, LinearLearner
from riverrank.operators.models.linear import probability
from riverrank.operators.models.ratings import Ratings
from riverrank.operators.models.weights import LatestRanker, RankerWeights
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import hash32, uniforms
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import POPULAR, Feedback, Outcome, Seen
from riverrank.state.records import (
    ANSWERED,
    INTERACTIONS,
    Cause,
    Event,
    ModelInfo,
    Prediction,
    Receipt,
    Slate,
    Slot,
    to_json,
)

from .explain import Explainer, parts_of
from .rerank import Reranker, novelty
from .rules import Rules
from .served import Served


class Answer(NamedTuple):
    """What came of a feedback. `state` None: nothing is kept. `slate` is None where the event is not answered."""

    state: bytes | None
    slate: bytes | None = None
    version: int = 0
    predictions: tuple[bytes, ...] = ()
    erased: bool = False


class Recommend:
    """The logic of RECOMMEND for any user, over a index of all items.

    >>> from riverrank.state.records import Event, Item
    >>> from riverrank.state.messages import CatalogueUpdate
    >>> index = ItemIndex(Behaviour())
    >>> index.apply(CatalogueUpdate(Item("i-1", 1)))
    True
    >>> answer = Recommend(Behaviour(), index).answer(Feedback(Event("e", "request", "u", 1), 0.0, ()), None)
    >>> answer.version, b'"item_id":"i-1"' in answer.slate
    (1, True)
    """

    def __init__(
        self, behaviour: Behaviour, index: ItemIndex, *, predict: bool = True, popular_every: int = 10_000
    ) -> None:
        """`predict`: whether anyone reads the predictions; `popular_every` in milliseconds of event time."""
        self.behaviour = behaviour
        self.index = index
        self.predict = predict
        self.popular_every = popular_every
        self.retriever = Retriever(behaviour, index)
        self.ranker = LatestRanker(index.weights, self.retriever.features)
        self.learners = Learners(
            behaviour.learner, self.retriever.features, measured=behaviour.exploration.kind == "thompson"
        )
        self.rules = Rules(behaviour.rules, index)
        self.reranker = Reranker(behaviour, index, self.rules)
        self.explainer = Explainer(index, self.rules)
        self.served: LastServed[Served] = LastServed(index)
        self._popular_at: tuple[int, int] | None = None

    def answer(self, feedback: Feedback, state: bytes | None) -> Answer:
        """Learn from `feedback` and, where its event asks for it, answer it."""
        event = feedback.event
        if event.type == "erase":
            self.served.take(event.user_id)
            return Answer(None, erased=True)
        user = decode_learner(state)
        feedback = recent(feedback, user.since)
        learner = self.learners.of(user)
        ranker = self.ranker.read()
        predictions: list[Prediction] = []
        losses: list[int] = []
        if feedback.outcomes:
            context = self._context(feedback, feedback.history)
            for outcome in feedback.outcomes:
                predictions += self._learn_outcome(outcome, event.user_id, context, ranker, learner)
                losses += [1 - label for label in outcome.labels]
                user.examples += len(outcome.items)
        took = event.type in INTERACTIONS
        if took:
            predictions.append(self._learn_interaction(feedback, ranker, learner, user, losses))
            user.examples += 1
            self._remember(user, event.item_id or "")
        if watch(user, losses, feedback.history_after(), took=took, significance=self.behaviour.learner.drift):
            learner, feedback = self.learners.of(LearnerState()), recent(feedback, user.since)
        slate = None
        if event.type in ANSWERED:
            user.version += 1
            slate = self._slate(feedback, ranker, learner, user)
        learner.store(user)
        encoded = tuple(to_json(p) for p in predictions) if self.predict else ()
        return Answer(encode_learner(user), slate, user.version, encoded)

    def popular(self, ts: int) -> bytes | None:
        """The slate for whoever has none, as JSON, where one is due at event time `ts`.

        Its version is one more than the events that the signals have learned from, so it grows over restarts too.
        """
        events = self.index.events
        if self._popular_at is not None:
            at, then = self._popular_at
            if events <= then or ts < at + self.popular_every:
                return None
        rows = self.index.popular()
        rows = rows[self.index.servable[rows]][: self.behaviour.slate.size]
        if not len(rows):
            return None
        self._popular_at = (ts, events)
        most = max(float(self.index.popularity(rows[:1])[0]), 1.0)
        slots = tuple(
            Slot(self.index.table.ids[row], rank, round(score / most, 5), 1.0, ("popular",), (_POPULAR_CAUSE,))
            for rank, (row, score) in enumerate(
                zip(rows.tolist(), self.index.popularity(rows).tolist(), strict=True), start=1
            )
        )
        info = ModelInfo(0, self.ranker.read().version)
        version = events + 1
        slate = Slate(f"{POPULAR}:{version}", POPULAR, version, ts, POPULAR, "cold", "control", info, slots)
        return to_json(slate)

    def _learn_outcome(
        self, outcome: Outcome, user_id: str, context: Context, ranker: RankerWeights, learner: Learner
    ) -> list[Prediction]:
        """Predict, then learn from, each item of a resolved impression."""
        event_id, items, labels = outcome.event_id, outcome.items, outcome.labels
        rows = np.array([self.index.row(item_id) for item_id in items], np.int32)
        known = rows[rows >= 0]
        if not len(known):
            p = 0.5
            return [Prediction(event_id, user_id, i, p, float(y), "click") for i, y in zip(items, labels, strict=True)]
        candidates = self.retriever.find(context, None, known)
        inputs, logits = learner.score(self.index, candidates, ranker, context.segment)
        predictions = []
        positions = iter(candidates.positions(known).tolist())
        steps, taken = [], []
        for item_id, row, label in zip(items, rows.tolist(), labels, strict=True):
            p = 0.5
            if row >= 0:
                position = next(positions)
                p = probability(float(logits[position]))
                steps.append(position)
                taken.append(bool(label))
            predictions.append(Prediction(event_id, user_id, item_id, round(p, 6), float(label), "click"))
        learner.learn_each(inputs.pick(steps), taken, 1.0)
        return predictions

    def _learn_interaction(
        self, feedback: Feedback, ranker: RankerWeights, learner: Learner, user: LearnerState, losses: list[int]
    ) -> Prediction:
        """Predict, then learn from, an interaction: its item, and for a positive one a few it was preferred to.

        `losses` gets one more where the item was taken: whether it was missed.
        """
        event, label = feedback.event, feedback.reward > 0
        row = self.index.row(event.item_id or "")
        rated = event.type == "rate" and event.value is not None
        served = self.served.take(event.user_id)
        p = 0.5
        if row >= 0:
            position = served.position(row) if served is not None else -1
            if served is None or (position < 0 and not label):
                served = self._find_again(row, feedback, ranker, learner, user)
                position = served.position(row)
            if self.predict and not rated:
                tried = served if position >= 0 else self._find_again(row, feedback, ranker, learner, user)
                p = probability(float(learner.logits(tried.inputs.pick([tried.position(row)]))[0]))
            if label and not (feedback.history and feedback.history[-1].item_id == event.item_id):  # else it is one act
                losses.append(int(served.missed(position, self.behaviour.slate.size)))
            self._learn_choice(feedback, row, served, position, learner)
        if event.type == "rate" and event.value is not None:
            ratings = Ratings(self.index, user, self.behaviour.reward.rate_from - 0.5)
            rating = round(ratings.learn(row, event.value), 6)
            ratings.store(user)
            return Prediction(event.event_id, event.user_id, event.item_id or "", rating, event.value, "rating")
        return Prediction(event.event_id, event.user_id, event.item_id or "", round(p, 6), float(label), "click")

    def _context(self, feedback: Feedback, history: tuple[Seen, ...]) -> Context:
        return context_of(self.index, history, feedback.attributes, feedback.event.user_id)

    def _find_again(
        self, row: int, feedback: Feedback, ranker: RankerWeights, learner: Learner, user: LearnerState
    ) -> Served:
        """Candidates as they are now, `row` among them."""
        context = self._context(feedback, feedback.history)
        seen = None if self.behaviour.slate.repeat else np.frombuffer(user.seen, "<u4")
        candidates = self.retriever.find(context, seen, np.array([row], np.int32))
        return Served(candidates, *learner.score(self.index, candidates, ranker, context.segment))

    def _learn_choice(self, feedback: Feedback, row: int, served: Served, position: int, learner: Learner) -> None:
        """Learn that the item of `row`, at `position` in what was served (-1: not in it), was taken or refused."""
        settings, weight = self.behaviour.learner, min(1.0, abs(feedback.reward))
        others = len(served.candidates.rows) - (position >= 0)
        if feedback.reward <= 0:
            learner.learn(served.inputs, position, False, weight)
        elif not others:
            learner.learn(served.inputs, position, True, weight)
        else:
            draws = uniforms(self.behaviour.seed, f"against:{feedback.event.event_id}", settings.negatives)
            against = np.unique((draws * others).astype(np.int64))
            against += (against >= position) & (position >= 0)
            known = position >= 0 and bool(served.candidates.proposed[position])
            inputs = served.inputs.pick([position, *against]) if known else served.inputs.against(row, against)
            learner.prefer(inputs, weight, content_only=not known)

    def _remember(self, user: LearnerState, item_id: str) -> None:
        """Note that the user interacted with the item; the oldest is forgotten where there is no room."""
        mark = hash32(item_id).to_bytes(4, "little")
        seen = np.frombuffer(user.seen, "<u4")
        if not (seen == hash32(item_id)).any():
            user.seen = (user.seen + mark)[-4 * self.behaviour.slate.seen :]

    def _slate(self, feedback: Feedback, ranker: RankerWeights, learner: Learner, user: LearnerState) -> bytes:
        event, behaviour, index = feedback.event, self.behaviour, self.index
        context = self._context(feedback, feedback.history_after())
        seen = None if behaviour.slate.repeat else np.frombuffer(user.seen, "<u4")
        candidates = self.retriever.find(context, seen, self.rules.pinnable(seen))
        slots: tuple[Slot, ...] = ()
        if len(candidates.rows):
            served = Served(candidates, *learner.score(index, candidates, ranker, context.segment))
            self.served.put(event.user_id, served.proposed())
            slots = self._slots(event.event_id, served, context, ranker, learner, user.examples)
        slate = Slate(
            slate_id=f"{event.user_id}:{user.version}",
            user_id=event.user_id,
            version=user.version,
            ts=event.ts,
            trigger=event.event_id,
            strategy="warm" if user.seen else "cold",
            arm="control",
            model=ModelInfo(user.examples, ranker.version),
            items=slots,
        )
        return to_json(slate)

    def _slots(
        self,
        event_id: str,
        served: Served,
        context: Context,
        ranker: RankerWeights,
        learner: Learner,
        examples: int,
    ) -> tuple[Slot, ...]:
        """Score, rerank and explore, explain."""
        index, inputs, rows = self.index, served.inputs, served.candidates.rows
        rule, bonus = self.rules.added(rows), self._novelty(rows)
        logits, new = served.logits + rule + bonus, served.candidates.proposed >> NEW & 1 > 0

        def deviations(positions: np.ndarray) -> np.ndarray:
            assert isinstance(learner, LinearLearner)  # as Learners made sure of
            return learner.deviations(inputs, positions)

        drawn, pins = self.reranker.position(event_id, rows, logits, new, context.rows, examples, deviations)
        positions = drawn.positions
        parts = parts_of(
            *learner.contributions(inputs, positions),
            inputs,
            positions,
            ranker.weights[context.segment],
            logits[positions],
            rule[positions],
            bonus[positions],
        )
        rows = rows[positions]
        causes = self.explainer.causes(context, rows, parts.weights, drawn.explored, list(pins.values()))
        return tuple(
            map(
                Slot,
                [index.table.ids[row] for row in rows.tolist()],
                range(1, len(rows) + 1),
                np.exp(-np.logaddexp(0.0, -logits[positions])).round(5).tolist(),
                [float(f"{p:.6g}") for p in drawn.propensity.tolist()],
                [_SOURCES[bits] for bits in served.candidates.proposed[positions].tolist()],
                causes,
            )
        )

    def _novelty(self, rows: np.ndarray) -> np.ndarray:
        """What the setting adds to the logits of `rows`: float64 (c,)."""
        amount = self.behaviour.diversity.novelty
        if not amount:
            return np.zeros(len(rows))
        return amount * novelty(self.index.popularity(rows), self.index.highest_popularity())


def receipt_of(event: Event, *, cached: bool) -> bytes:
    """The receipt of an erasure, as JSON; `cached`: there was a cache to erase from as well."""
    parts = ("sessions", "learner", "slates", *(("cache",) if cached else ()))
    return to_json(Receipt(event.event_id, event.user_id, event.ts, parts))


_POPULAR_CAUSE = Cause("popular")
_SOURCES = [tuple(name for bit, name in enumerate(SOURCES) if bits >> bit & 1) for bits in range(1 << len(SOURCES))]
_SOURCES[0] = ("rule",)  # nobody proposed it, but it has a pinned attribute
