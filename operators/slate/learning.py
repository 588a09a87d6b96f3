"""What a user's learner learns from a feedback, after it predicted it: from outcomes of impressions, and from choices.

A choice is learned from with the features that the user was served by; what was not served is described beside them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.context import NONE, Context, context_of
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.clicks.features import describe_list
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import NO_OFFSET, Learner
from riverrank.operators.models.linear_kernels import probability
from riverrank.operators.models.prior import rating_before
from riverrank.operators.models.ratings import Ratings
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.recent import MOST, MOST_LISTS, MOST_SHOWN, SHARES, Recent, Shares, Shown
from riverrank.operators.session.hiding import Hiding
from riverrank.operators.settings import Behaviour
from riverrank.state.event_types import EVENT_TYPES, INTERACTIONS
from riverrank.state.hashing import random_bits
from riverrank.state.learners import LearnerState
from riverrank.state.messages import Feedback, Outcome
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Prediction

from . import attribution, waiting
from .served import Served
from .waiting import NOTHING_TAUGHT, ShownList

_BITS = np.dtype("<u4")
MOST_LOST = 27.6  # by one item, as if a chance of 1e-12 had been foretold
NOT_THERE = 1 << 31  # the place of an item of which nothing is known
UNKNOWN = 0.5  # the prediction of an item of which nothing is known


class User(NamedTuple):
    """The user of a feedback as a model sees them before it: `state`, the `learner` in it, and the `ranker` of all."""

    state: LearnerState
    learner: Learner
    ranker: RankerWeights

    def serve(self, index: ItemIndex, candidates: Candidates, context: Context) -> Served:
        """The `candidates` for this user, with the learner's logits of them."""
        return Served(candidates, *self.learner.score(index, candidates, self.ranker, context.segment))


@dataclass(slots=True)
class Lesson:
    """A feedback of `user`, to whom `served` was served last, None where that is not known; and what came of learning
    from it: the `predictions` from before it, and the `losses` (see models.drift), 0 or 1 each.
    """

    feedback: Feedback
    user: User
    served: Served | None
    predictions: list[Prediction] = field(default_factory=list)
    losses: list[int] = field(default_factory=list)
    rank: int = 0  # of what was chosen, in the learner's order, NOT_THERE of an unknown item; 0 where nothing was
    shown: int = 0  # items of impressions that are over,
    clicked: int = 0  # those of them that were taken,
    log_loss: float = 0.0  # and minus the sum of the log of what was foretold of each, in nats
    context: Context | None = None  # before the feedback, once it was asked for


class Memory:
    """What is kept in memory of the users of a share, beside their states: what they were served last, and what is on
    their slates, by slate id. `joins`: whether any of them says what it was shown, by impressions or slate ids, as only
    then slates are kept.
    """

    def __init__(self) -> None:
        self.served: Recent[Served] = Recent(MOST // SHARES)
        self.slates: Shown[Served] = Shown(MOST_SHOWN // SHARES, MOST_LISTS // SHARES)
        self.joins = False

    def apart(self, user_id: str) -> "Memory":
        """A copy of what is kept of the user: what becomes of it changes nothing here."""
        memory = Memory()
        memory.served, memory.slates = self.served.apart(user_id), self.slates.apart(user_id)
        memory.joins = self.joins
        return memory

    def forget(self, user_id: str) -> None:
        """Keep nothing of the user."""
        self.served.forget(user_id)
        self.slates.forget_user(user_id)


class Learning:
    """Predicts, then learns, over the items of `index`. `predict`: whether anyone reads the predictions. `memory` is
    what is kept of users beside their states.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        index: ItemIndex,
        retriever: Retriever,
        hiding: Hiding,
        memory: Shares[Memory],
        *,
        predict: bool,
    ) -> None:
        self.behaviour = behaviour
        self.hiding = hiding
        self.index = index
        self.retriever = retriever
        self.predict = predict
        self.memory = memory
        self._unrated = rating_before(behaviour)

    def offer(self, slate_id: str, user_id: str, served: Served, rows: np.ndarray) -> None:
        """Keep what is on a slate, `rows` of what was served, for the impression that is to name it."""
        memory = self.memory.of(user_id)
        if memory.joins:
            on_it = served.at(served.candidates.positions(rows))
            memory.slates.put(user_id, slate_id, self.index.releases, on_it)

    def show(self, lesson: Lesson) -> None:
        """Keep what the items of an impression look like to the user's learner now, for when it is resolved."""
        event = lesson.feedback.event
        memory = self.memory.of(event.user_id)
        memory.joins = True
        state, items = lesson.user.state, event.shown
        taught, kept = NONE, attribution.find(state, event.user_id, event.slate_id)
        if kept is not None:
            taught = kept.items["row"][: kept.taught]
            attribution.forget(state, kept)  # the impression teaches the rest
        slate = memory.slates.get(event.user_id, event.slate_id or "", self.index.releases)
        shown = self._shown(items, lesson, event.ts, slate)
        if shown.inputs is not None:
            shown = shown._replace(taught=np.isin(shown.inputs.rows, taught))
        most = self.behaviour.impression.max_open
        waiting.keep(state, self.index, (event.event_id, event.ts, items), shown, most)

    def learn(self, lesson: Lesson) -> None:
        """Predict, then learn from, each item of the outcomes, then the interaction."""
        state, event = lesson.user.state, lesson.feedback.event
        for outcome in lesson.feedback.outcomes:
            self._learn_outcome(outcome, lesson)
            state.examples += len(outcome.items)
        if event.type in INTERACTIONS:
            self._learn_interaction(lesson)
            state.examples += 1

    def _learn_outcome(self, outcome: Outcome, lesson: Lesson) -> None:
        """Predict, then learn from, each item of a resolved impression."""
        shown = self._as_shown(outcome, lesson)
        labels = [label > 0 for label in outcome.labels]
        lesson.shown += len(labels)
        lesson.clicked += sum(labels)
        if shown.inputs is not None:
            known = np.array(labels)[shown.known]
            new = np.flatnonzero(~shown.taught)
            inputs = shown.inputs.pick(new)
            lesson.user.learner.learn_each(inputs, known[new].tolist(), 1.0, shown.offsets[new])
        lesson.losses += [1 - label for label in outcome.labels]
        against = np.where(labels, -shown.logits, shown.logits)
        lesson.log_loss += float(np.minimum(np.logaddexp(0.0, against), MOST_LOST).sum())
        if self.predict:
            event = lesson.feedback.event
            for item_id, logit, label in zip(outcome.items, shown.logits.tolist(), outcome.labels, strict=True):
                lesson.predictions.append(_of_click(outcome.event_id, event, item_id, probability(logit), label))

    def _learn_interaction(self, lesson: Lesson) -> None:
        """Predict, then learn from, an interaction: that its item was preferred to a few, or a few to it.

        There is a loss where the item was taken: whether it was missed.
        """
        feedback, user = lesson.feedback, lesson.user
        event, label = feedback.event, feedback.reward > 0
        row = self.index.row(event.item_id or "")
        rated = EVENT_TYPES[event.type].is_rating and event.value is not None
        chance = UNKNOWN
        is_choice = feedback.is_choice and feedback.history_before().items[-1:] != (event.item_id,)  # or it is one act
        if is_choice:
            lesson.rank = NOT_THERE
        if row >= 0:
            served = self._served(lesson)
            position, above = served.standing(row)
            asked = self.predict and not rated
            tried, at = served, position
            if position < 0 and (asked or not served.size):
                tried, at = self._described(np.array([row], np.int32), lesson), 0
            if asked:
                chance = probability(float(user.learner.logits(tried.inputs.pick([at]))[0]))
            if is_choice:
                lesson.losses.append(int(above >= self.behaviour.slate.size))
                lesson.rank = above + 1
            weight, n = _weight(feedback.reward), self.behaviour.learner.negatives
            if feedback.story_reward:  # for what it is worth more now; what was served knows what was taken
                weight -= _weight(feedback.story_reward)
                if weight > 0 and served.size > 1:
                    self._prefer(lesson, row, position, weight, n, content_only=True)
            elif served.size > (position >= 0):
                n -= self._above(lesson, row)
                self._prefer(lesson, row, position, weight, n, content_only=position < 0)
            else:
                user.learner.learn(tried.inputs, at, label, weight)
        if event.value is not None and rated:
            ratings = Ratings(self.index, user.state, *self._unrated)
            scale = self.behaviour.reward
            rating = round(min(max(ratings.learn(row, event.value), scale.rate_least), scale.rate_most), 6)
            ratings.store(user.state)
            lesson.predictions.append(
                Prediction(event.event_id, event.user_id, event.item_id or "", rating, event.value, "rating")
            )
        elif self.predict:
            lesson.predictions.append(_of_click(event.event_id, event, event.item_id or "", chance, label))

    def _above(self, lesson: Lesson, row: int) -> int:
        """Where the interaction names a slate of the user's last, and its item was taken: learn that the item of `row`
        was preferred to those above it that were passed over, and say how many. Users read from the top (Joachims,
        Optimizing search engines using clickthrough data, 2002), and what stands higher had the better place.
        """
        feedback, user = lesson.feedback, lesson.user
        event = feedback.event
        slate = attribution.find(user.state, event.user_id, event.slate_id)
        if slate is None or feedback.reward <= 0:
            return 0
        memory = self.memory.of(event.user_id)
        memory.joins = True
        above = attribution.passed_over(user.state, self.index, slate, row)
        since = feedback.history.since(slate.ts)
        above = above[~np.isin(above, self.index.table.rows.find(since.items))]
        above = above[above != row][: self.behaviour.learner.negatives]
        if not len(above):
            return 0
        rows = np.append(np.int32(row), above)
        held = memory.slates.get(event.user_id, event.slate_id or "", self.index.releases)
        shown = held.of(rows) if held is not None else None
        if shown is None:
            context, candidates = self.retriever.find_shown(rows, slate.ts + 1, feedback)
            shown = user.serve(self.index, candidates, context)
        user.learner.prefer(shown.inputs, _weight(feedback.reward), content_only=False)
        return len(above)

    def _prefer(self, lesson: Lesson, row: int, position: int, weight: float, n: int, *, content_only: bool) -> None:
        """Learn that the item of `row`, at `position` in what was served (-1: not in it), was preferred to `n` others
        that are drawn from it, or each of these to it where the feedback is negative.
        """
        if n > 0:
            feedback = lesson.feedback
            draws = np.frombuffer(random_bits(self.behaviour.seed, f"against:{feedback.event.event_id}", n), _BITS)
            against = self._served(lesson).inputs.against(row, position, draws)
            preferred = feedback.reward > 0
            lesson.user.learner.prefer(against, weight, preferred=preferred, content_only=content_only)

    def _served(self, lesson: Lesson) -> Served:
        """What the user was served last; where that is not known, what would be served now."""
        if lesson.served is None:
            hidden = self.hiding.hidden(lesson.user.state, lesson.feedback.event.ts)
            context = self._context(lesson)
            lesson.served = lesson.user.serve(self.index, self.retriever.find(context, hidden), context)
        return lesson.served

    def _as_shown(self, outcome: Outcome, lesson: Lesson) -> ShownList:
        """The items of an impression as they were when it was shown; where that is not held, as they are now, but for a
        user who has done nothing since.
        """
        which = outcome.event_id, outcome.ts, outcome.items
        held = waiting.take(lesson.user.state, self.index, which, self.retriever.features.size)
        return self._shown(outcome.items, lesson, outcome.ts, None) if held is None else held

    def _shown(self, items: Sequence[str], lesson: Lesson, ts: int, slate: Served | None) -> ShownList:
        """`items`, distinct, shown at `ts`, as they were on `slate`; what was not on it, beside all that there are now.
        The learner sees the ranker's logit, as where it orders a slate. What the place makes of it beside the others of
        the list is an offset, and no merit of the item; how often the user clicks at all is left to the learner, which
        begins at even odds and so learns most from the first lists. A click is foretold by the model of clicks, and by
        what the learner says of an item beside the others.
        """
        user, history = lesson.user, lesson.feedback.history.before(ts)
        rows = self.index.table.rows.find(items)
        known, logits, offsets = rows >= 0, np.zeros(len(rows)), NO_OFFSET
        served = slate.of(rows[known]) if slate is not None and known.any() else None
        if served is None and known.any():
            context, candidates = self.retriever.find_shown(rows[known], ts, lesson.feedback)
            served = user.serve(self.index, candidates, context)
        if served is not None:
            logits[known] = served.inputs.ranker
        clicks = user.ranker.clicks.logits(describe_list(items, rows, logits, self.index, history, ts))
        if served is not None:
            offsets = _beside_mean(clicks[known] - logits[known])
            clicks[known] += _beside_mean(user.learner.logits(served.inputs) - logits[known])
        if served is None:
            return ShownList(None, known, clicks, offsets, NOTHING_TAUGHT)
        return ShownList(served.inputs, known, clicks, offsets, np.zeros(len(served.inputs.rows), bool))

    def _described(self, rows: np.ndarray, lesson: Lesson) -> Served:
        """`rows`, distinct, int32, as candidates beside what was served."""
        context, beside = self._context(lesson), self._served(lesson).candidates
        features = self.retriever.describe(context, rows, beside)
        described = Candidates(rows, features, np.zeros(len(rows), np.uint32), beside.best)
        return lesson.user.serve(self.index, described, context)

    def _context(self, lesson: Lesson) -> Context:
        if lesson.context is None:
            feedback = lesson.feedback  # with no context of an event: its own came with the choice
            history = feedback.history_before()
            lesson.context = context_of(self.index, history, feedback.attributes, feedback.event.user_id)
        return lesson.context


def _beside_mean(logits: np.ndarray) -> np.ndarray:
    """What each of one list, float64 (n,) of one at least, is more than their mean."""
    return logits - logits.mean()


def _weight(reward: float) -> float:
    return min(1.0, abs(reward))


def _of_click(event_id: str, event: Event, item_id: str, chance: float, label: int) -> Prediction:
    """That of whether the user of `event` takes the item."""
    return Prediction(event_id, event.user_id, item_id, round(chance, 6), float(label), "click")
