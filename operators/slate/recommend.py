"""RECOMMEND: learns from a user's feedback, and answers with a ranked slate.

All it knows of a user is in the bytes it is handed and in the feedback; all it knows of items is in its index.
"""

import math
from copy import copy
from typing import Literal, NamedTuple

import msgspec
import numpy as np
from riverrank.operators.arms import arms_of
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.query import servable_for
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.coverage import Coverage
from riverrank.operators.experiment import CONTROL, Assignment
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.metrics import Counts
from riverrank.operators.models.drift import watch, with_history_since
from riverrank.operators.models.learner import Learner
from riverrank.operators.models.prior import weights_before
from riverrank.operators.models.weights import LatestRanker
from riverrank.operators.published.popular import PopularSlate
from riverrank.operators.recent import Recent, Shares
from riverrank.operators.session.hiding import Hiding
from riverrank.operators.session.session import reward_of
from riverrank.operators.settings import Behaviour
from riverrank.state.event_types import ANSWERED, INTERACTIONS, PREVIEW, PREVIEWED
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CacheWrite, Feedback, History
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import ModelInfo, Receipt, Slate, to_json

from . import attribution
from .fairness.floors import Floors
from .learning import Learning, Lesson, Memory, User
from .policy import NO_ITEMS, Policy

HIT = 10  # places of the learner's order, in which what was chosen is a hit


class Answer(NamedTuple):
    """What came of a feedback. `state` None: nothing is kept. `slate` is None where the event is not answered, and
    `preview` where it is none, or shows nothing to anyone; `deeper` is the slate with more slots below, None where
    there are none.
    """

    state: bytes | None
    slate: bytes | None = None
    version: int = 0
    predictions: tuple[bytes, ...] = ()
    erased: bool = False
    preview: bytes | None = None
    deeper: bytes | None = None

    @property
    def cached(self) -> bytes | None:
        """The slate as it is cached."""
        return self.deeper or self.slate


class Recommend:
    """The logic of RECOMMEND for any user, over an index of all items.

    >>> from riverrank.state.records.incoming import Event, Item
    >>> from riverrank.state.messages import CatalogueUpdate
    >>> index = ItemIndex(Behaviour())
    >>> index.apply(CatalogueUpdate(Item("i-1", 1)))
    True
    >>> answer = Recommend(Behaviour(), index).answer(Feedback(Event("e", "request", "u", 1), 0.0, ()), None)
    >>> answer.version, b'"item_id":"i-1"' in answer.slate
    (1, True)
    """

    def __init__(
        self,
        behaviour: Behaviour,
        index: ItemIndex,
        *,
        predict: bool = True,
        preview: bool = True,
        popular_every: int = 10_000,
        depth: int = 0,
    ) -> None:
        """`predict`, `preview`: whether anyone reads the predictions, the previews; `popular_every` in milliseconds
        (see PopularSlate); `depth`: places of a slate as it is cached, 0 for those of the slate.
        """
        self.behaviour = behaviour
        self.index = index
        self.predict, self.preview, self.depth = predict, preview, depth
        self.retriever = Retriever(behaviour, index)
        features = self.retriever.features
        self.ranker = LatestRanker(index.weights, features, weights_before(behaviour, features))
        self.hiding = Hiding(behaviour.slate)
        self.memory = Shares(Memory)
        self.arm_of = Assignment(behaviour.experiment.salt, behaviour.experiment.shares())
        self.policies = {arm: self._policy(arm, settings) for arm, settings in arms_of(behaviour).items()}
        self.control = self.policies[CONTROL]
        self._check_learners()
        self.decoded: Recent[tuple[LearnerState, Learner]] = Recent()
        self.popular_slate = PopularSlate(index, self.ranker, max(behaviour.slate.size, depth), popular_every)
        self.counts, self.coverage = Counts(), Coverage()

    def answer(self, feedback: Feedback, state: bytes | None) -> Answer:
        """Learn from `feedback` and, where its event asks for it, answer it."""
        event = feedback.event
        if event.type == "erase":
            self.decoded.forget(event.user_id)
            self.memory.of(event.user_id).forget(event.user_id)
            return Answer(None, erased=True)
        if event.type == PREVIEW:
            return Answer(state, preview=self._imagine(feedback, state) if self.preview else None)
        policy = self.policies[self.arm_of(event.user_id)]
        stored, learner = self.decoded.pop(event.user_id, state) or _decode(state, policy)
        is_cold = not feedback.history and event.type not in INTERACTIONS
        feedback = with_history_since(feedback, stored.since)
        user, examples = User(stored, learner, self.ranker.read()), stored.examples
        lesson = self._learn(feedback, user, policy)
        self._count(lesson, stored.examples - examples, policy.arm)
        took = event.type in INTERACTIONS
        significance = policy.behaviour.learner.drift
        history = feedback.history_after()
        if watch(stored, lesson.losses, history, took=took, significance=significance):
            self.counts.add("drift")
            user = user._replace(learner=policy.learners.of(LearnerState()))
            history = with_history_since(feedback, stored.since).history_after()
        slate = deeper = None
        if event.type in ANSWERED:
            stored.version += 1
            strategy: Literal["cold", "warm"] = "cold" if is_cold else "warm"
            slate, deeper = self._slate(feedback, history, user, policy, strategy)
            self.counts.add("slates", strategy)
        user.learner.store(stored)
        predictions = tuple(to_json(p) for p in lesson.predictions) if self.predict else ()
        raw = encode_learner(stored)
        if policy.learners.linear:
            self.decoded.put(event.user_id, raw, (stored, user.learner))
        return Answer(raw, slate, stored.version, predictions, deeper=deeper)

    def popular(self, ts: int, *, last: bool = False) -> CacheWrite | None:
        """The slate for whoever has none, where it is time for one at event time `ts`, or this is the `last` one."""
        return self.popular_slate.at(ts, last=last)

    def measure(self) -> None:
        """Set the levels among its counts."""
        servable = int(self.index.servable[: len(self.index.table)].sum())
        self.counts.set("catalogue", servable)
        self.counts.set("coverage_thousandths", round(1000 * self.coverage.distinct() / servable) if servable else 0)

    def _imagine(self, feedback: Feedback, state: bytes | None) -> bytes | None:
        """The slate that would answer what a preview is of. It is answered by another over the same index, whose states
        and memory are copies of this user's: nothing is left of it here. Costs as much as an answer.
        """
        event = msgspec.structs.replace(feedback.event, type=PREVIEWED)
        reward = reward_of(event, self.behaviour.reward)
        memory = self.memory.of(event.user_id).apart(event.user_id)
        other = copy(self)
        other.memory = Shares(lambda: memory)
        other.policies = {name: policy.over(other.memory) for name, policy in self.policies.items()}
        other.decoded, other.counts, other.coverage, other.depth = Recent(), Counts(), Coverage(), 0
        return other.answer(msgspec.structs.replace(feedback, event=event, reward=reward), state).slate

    def _policy(self, arm: str, settings: Behaviour) -> Policy:
        learning = Learning(settings, self.index, self.retriever, self.hiding, self.memory, predict=self.predict)
        return Policy(arm, settings, self.retriever, learning)

    def _check_learners(self) -> None:
        """Raises ValueError where an arm changes what a pickled learner was made with, which would give it up."""
        for name, policy in self.policies.items():
            learners, kept = policy.learners, self.control.learners
            if not learners.linear and learners.made_with != kept.made_with:
                raise ValueError(
                    f"experiment.arms.{name}: learner.rate, learner.tokens: a {kept.settings.model} was made with "
                    "these, and can't follow others; leave them out"
                )

    def _count(self, lesson: Lesson, learned: int, arm: str) -> None:
        """Count what came of a lesson, and how many feedbacks the learner learned from."""
        add = self.counts.add
        if learned:
            add("learned", n=learned)
        if lesson.rank:
            add("choices", arm)
            if lesson.rank <= HIT:
                add("hits", arm)
                add("gain_millionths", arm, round(1e6 / math.log2(lesson.rank + 1)))
        if lesson.shown:
            add("shown", arm, lesson.shown)
            add("clicked", arm, lesson.clicked)
            add("loss_millionths", arm, round(1e6 * lesson.log_loss))

    def _learn(self, feedback: Feedback, user: User, policy: Policy) -> Lesson:
        """What came of learning from `feedback`; the item that was taken is remembered."""
        event = feedback.event
        took = event.type in INTERACTIONS
        if not (took or feedback.outcomes or event.type == "impression"):
            return Lesson(feedback, user, None)
        # What was served after things that happened later says nothing of a choice from before them.
        served = self.memory.of(event.user_id).served
        known = None if feedback.is_behind else served.pop(event.user_id, self.index.releases)
        lesson = Lesson(feedback, user, known)
        policy.learning.learn(lesson)
        if event.type == "impression":
            policy.learning.show(lesson)
        if took:
            word = 0.0 if _spoke_since(feedback) else feedback.reward
            self.hiding.remember(user.state, event.item_id or "", event.type, event.ts, word)
        elif lesson.served is not None:
            served.put(event.user_id, self.index.releases, lesson.served)
        return lesson

    def _slate(
        self, feedback: Feedback, history: History, user: User, policy: Policy, strategy: Literal["cold", "warm"]
    ) -> tuple[bytes, bytes | None]:
        """The slate that answers `feedback`, after which `history` tells of the user, as JSON: find candidates, score
        them, and make slots of the best. And the same with more of them, where there are.
        """
        event, state = feedback.event, user.state
        context = context_of(self.index, history, feedback.attributes, event.user_id, event.context)
        hidden = self.hiding.hidden(state, event.ts)
        always = policy.always(hidden, servable_for(context, self.index))
        candidates = self.retriever.find(context, hidden, always)
        if not candidates.size and len(hidden):
            popular = self.retriever.query.popular()  # of the domain that was asked for
            candidates = self.retriever.find(context, self._without_oldest(state, event.ts, hidden, popular))
        slate = Slate(
            slate_id=f"{event.user_id}:{state.version}",
            user_id=event.user_id,
            version=state.version,
            ts=event.ts,
            trigger=event.event_id,
            strategy=strategy,
            arm=policy.arm,
            model=ModelInfo(state.examples, user.ranker.version),
            items=(),
        )
        empty = to_json(slate)
        if not len(candidates.rows):
            return empty, None
        served = user.serve(self.index, candidates, context)
        kept = served if always is None else served.proposed()
        self.memory.of(event.user_id).served.put(event.user_id, self.index.releases, kept)
        scored = policy.scored(served, context, user)
        slots, reasons, positions = policy.slots(event, scored)
        self.coverage.show(slots.rows)
        self._count_exposure(slots.rows, policy.floors)
        policy.learning.offer(slate.slate_id, event.user_id, served, slots.rows)
        if policy.behaviour.learner.rate:  # else nothing is learned from it
            attribution.keep(state, self.index, state.version, event.ts, slots.rows)
        written = policy.writer.write(slots, reasons, empty[: -len(NO_ITEMS)], b"}")
        if len(positions) >= self.depth:
            return written, None
        return written, policy.deeper(written, positions, self.depth, scored)

    def _count_exposure(self, rows: np.ndarray, floors: Floors) -> None:
        """Count what a slate of `rows` gives to what `floors` name, and in all."""
        if floors:
            for token, exposure in floors.exposure(rows):
                self.counts.add("exposure_millionths", token, round(1e6 * exposure))

    def _without_oldest(self, state: LearnerState, ts: int, hidden: np.ndarray, popular: np.ndarray) -> np.ndarray:
        """Of what is `hidden`, uint32, all but a slate's worth of what was hidden longest among the most `popular`
        rows, which is all that a slate is filled up with: nobody is to see an empty shelf.
        """
        marks = self.index.hash[popular]
        marks = marks[np.isin(marks, hidden)]
        back = self.hiding.oldest(state, ts, marks, self.behaviour.slate.size)
        return hidden[~np.isin(hidden, marks[back])]


def _decode(state: bytes | None, policy: Policy) -> tuple[LearnerState, Learner]:
    """What `state` holds, and the learner in it."""
    stored = decode_learner(state)
    return stored, policy.learners.of(stored)


def _spoke_since(feedback: Feedback) -> bool:
    """Whether the user had a later word on the item, which came sooner: then this one is not the last."""
    event = feedback.event
    return feedback.is_behind and any(
        seen.item_id == event.item_id and seen.reward for seen in feedback.history.since(event.ts + 1)
    )


def receipt_of(event: Event, *, told: bool, cached: bool) -> bytes:
    """The receipt of an erasure, as JSON. `told`: slates go to a topic, which was told by a tombstone; `cached`: there
    was a cache to erase from as well.
    """
    parts = ("sessions", "learner", *(("slates",) if told else ()), *(("cache",) if cached else ()))
    return to_json(Receipt(event.event_id, event.user_id, event.ts, parts))
