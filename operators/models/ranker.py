"""RANKER: the global model that orders candidates for everyone, learned from what was chosen among them, and the
vectors of items that one of its sources goes by.

It finds candidates as RECOMMEND does, and learns that what a user took belongs above what it did not take. A user's or
an item's id is never a feature.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.clicks.features import describe_list
from riverrank.operators.clicks.model import ClickModel
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.recent import ListMark, Recent, Shown
from riverrank.operators.session.hiding import Hiding
from riverrank.operators.session.session import drawn
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.autoencoder import Autoencoder
from riverrank.operators.signals.embedding import Embedding
from riverrank.state.codec import StateRefused
from riverrank.state.item_tables import VectorTable
from riverrank.state.journal import NOISED, Journal
from riverrank.state.learners import RANKER, RankerState, by_name
from riverrank.state.messages import Feedback, History, Learned, Weights, decode_feedback, encode, told_last
from riverrank.state.prior import Prior

from . import prior
from .ensemble import INITIAL_LOSSES, RATE_MULTIPLIERS, position_of
from .weights import SHARD

_MODEL = "model"  # all of it, as the log was last made short
_LATEST = "latest"  # as it was last told, without the choices that nets keep
EVENTS_PER_UPDATE_STEP = 16  # feedbacks by which the next weights are one later, until `flush_events`
AVERAGED = 1000  # positive feedbacks, by which rewards are averaged
MOST_WEIGHT = 3.0  # of a choice, that is worth as many of the usual

log = logging.getLogger(__name__)


class ShownList(NamedTuple):
    """The items of an impression: those that are `known`, bool (n,), as `candidates` of a context of `segment`, and
    what the list tells of clicks on all of them, `described` float32 (n, clicks.features.SIZE).
    """

    segment: int
    candidates: Candidates
    known: np.ndarray
    described: np.ndarray

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.known)


class Choice(NamedTuple):
    """What a user took: the candidate at `position`, in a segment of the context."""

    segment: int
    candidates: Candidates
    position: int


class Ranker:
    """The one learner of all users' choices, over an index of all items. River's model, and the loss of a choice."""

    noised = False  # whether what it tells carries noise

    def __init__(self, behaviour: Behaviour, index: ItemIndex, journal: Journal | None = None) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.ranker
        self.index = index
        self.journal = journal
        self.retriever = Retriever(behaviour, index)
        self.hiding = Hiding(behaviour.slate)
        self.served: Recent[tuple[int, Candidates]] = Recent()
        self.shown: Shown[ShownList] = Shown()
        self.chosen: Recent[Choice] = Recent()  # of each user the last
        self.stories = False  # whether any choice was gone on with
        self.version = 0
        self.models, self.bias = prior.begun(behaviour, self.retriever.features)  # models by segment
        self.clicks = ClickModel()
        self.reward, self.rewarded = 1.0, 0  # the mean of those above 0, and how many there were
        self.embedding = Embedding(behaviour, VectorTable(behaviour.embedding.dimensions))
        self.autoencoder = Autoencoder(behaviour)
        self._pending = 0
        self._compact = False
        self._is_to_forget = False  # whether the log names a user who was erased

    @classmethod
    def restore(cls, behaviour: Behaviour, index: ItemIndex, journal: Journal) -> "Ranker":
        """The ranker as it was when the journal was last written, which also holds the prior that it began with.

        But for the order of candidates, which is as it was last told: the index knows what came after the choices since
        then, and would teach to trust that. Nets go on with the choices that they kept when the log was made short.
        """
        base, records = journal.load()
        is_new = not base and not records
        if base and (NOISED in base) is not cls.noised:
            raise StateRefused(
                f"state was made {'without' if cls.noised else 'with'} noise, and noise.epsilon says otherwise now: "
                "set it as it was, or start without this savepoint"
            )
        ranker = cls(behaviour if is_new else prior.without_prior(behaviour), index)
        if is_new and behaviour.prior.learned:
            journal.compact({_MODEL: RANKER.encode(ranker._state())})
        if _MODEL in base:
            ranker._recall(RANKER.decode(base[_MODEL]))
        ranker.embedding.table.load(base)
        ranker.autoencoder.load(base)
        was_told = _LATEST in base  # else by a version that wrote the log alone
        for feedback in map(decode_feedback, records):
            of_all = feedback.event.type == "erase" or not was_told
            (ranker.learn if of_all else ranker._take)(feedback)
        if was_told:
            ranker._recall(RANKER.decode(base[_LATEST]))
        if gone := ranker._unknown(base):
            log.warning(
                "the weights of what no source tells any more (%s) are given up, and begin anew", ", ".join(gone)
            )
        ranker.embedding.publish_all()
        ranker.journal = journal
        return ranker

    def _unknown(self, base: dict[str, bytes]) -> list[str]:
        """The features that are kept and are none now, as those of domains where no setting says what they are."""
        kept = RANKER.decode(base.get(_LATEST, base.get(_MODEL)))
        return [name for name in kept.names if name not in self.retriever.features.names]

    def learn(self, feedback: Feedback, encoded: bytes | None = None) -> None:
        """Learn from one feedback: an interaction against what there was to choose, an impression against itself.

        `encoded` is the feedback as it came, if it did. Of an erasure there is nothing to learn: the user is known no
        more, nor named by the log once the next weights are told.
        """
        if feedback.event.type == "erase":
            self._forget(feedback.event.user_id)
        else:
            self._take(feedback)
            self._learn_order(feedback)
        if self.journal is not None:
            self._compact = self.journal.append(encoded or encode(feedback)) or self._compact

    def _take(self, feedback: Feedback) -> None:
        """Learn from it what no index has a part in."""
        self.version += 1
        self.embedding.take(feedback)
        self.autoencoder.take(feedback)
        self._pending += 1

    def _forget(self, user_id: str) -> None:
        self.served.forget(user_id)
        self.chosen.forget(user_id)
        self.shown.forget_user(user_id)
        self._is_to_forget = True

    def due(self) -> bool:
        """Whether enough was learned since the last weights for new ones: while there is little, each bit counts."""
        return self._pending >= min(self.settings.flush_events, 1 + self.version // EVENTS_PER_UPDATE_STEP)

    def flush(self, *, last: bool = False) -> list[bytes]:
        """The encoded `updates`; its own index takes the vectors at once. Those of the `last` are for no event
        that is on its way.
        """
        updates = self.updates()
        for update in updates:
            if isinstance(update, Learned):
                self.index.apply(update)
        return [encode(told_last(update) if last else update) for update in updates]

    def updates(self) -> list[Weights | Learned]:
        """The weights and vectors that changed since the last ones; none where nothing was learned."""
        forgets, self._is_to_forget = self._is_to_forget and self.journal is not None, False
        if not (self._pending or forgets):
            return []
        self._pending, self._compact = 0, self._compact or forgets
        features, clicks = self.retriever.features, self.clicks.publish()
        weights = prior.told(self.models, features, self.bias, self.version, clicks)
        updates: list[Weights | Learned] = [weights]
        if self._compact:
            self.embedding.settle()  # what is kept of it is the table
        moved = self.embedding.moved(SHARD)
        if moved is not None:
            updates.append(moved)
        if self.autoencoder.due() and (fitted := self.autoencoder.refit(SHARD, self._popular())) is not None:
            updates.append(fitted)
        if self.journal is not None:
            self._write(self.journal)
        return updates

    def prior(self) -> Prior:
        """What this one leaves to the ranker of another shop."""
        return prior.prior_of(self._state(alone=True), self.index)

    def _write(self, journal: Journal) -> None:
        """Write how candidates are ordered now, and where it is time all of it, in place of the log."""
        journal.put({_LATEST: RANKER.encode(self._state(alone=True))})
        if self._compact:
            kept = {**self.embedding.table.dump(), **self.autoencoder.dump()}
            journal.compact({_MODEL: RANKER.encode(self._state()), **kept})
            self._compact = False

    def _popular(self) -> list[str]:
        """The ids of the most popular items, most popular first."""
        ids = self.index.table.ids
        return [ids[row] for row in self.index.popular().tolist()]

    def _learn_order(self, feedback: Feedback) -> None:
        """Learn to order candidates from one feedback, and keep those that the next may be a choice from."""
        event = feedback.event
        sampled = drawn(self.settings, self.version, self.behaviour.seed, f"ranked:{event.event_id}")
        if feedback.outcomes:
            self._learn_shown(feedback)
        if event.type == "impression" and sampled:
            self._show(feedback)
        user, made_from = event.user_id, (self.index.releases, feedback.epoch)  # who was erased chose from nothing
        if event.type == "request" and event.context and sampled:  # what is chosen next is chosen from its answer
            self.served.put(user, made_from, self._find(feedback, feedback.history, event.context))
        if feedback.reward <= 0:
            return
        counted = 0 if feedback.story_reward else 1  # that of a story grows, and is no further one
        self.rewarded += counted
        self.reward += (feedback.gain - counted * self.reward) / min(max(1, self.rewarded), AVERAGED)
        # What was there after things that happened later says nothing of a choice from before them.
        served = None if feedback.is_behind else self.served.pop(user, made_from)
        if served is None and sampled and not feedback.history:  # with no context: its own came with the choice
            served = self._find(feedback, feedback.history)
        if feedback.story_reward:
            self._raise(feedback)
        elif served is not None:
            segment, candidates = served
            # What no source proposed was not there to be ordered: against candidates, which sources score high by
            # choice, it would only teach that a high score is bad.
            position = position_of(self.index.row(event.item_id or ""), candidates.rows)
            self.chosen.forget(user)
            if position >= 0:
                self._choose(feedback, segment, candidates, position)
                if self.stories:
                    self.chosen.put(user, (event.item_id, *made_from), Choice(segment, candidates, position))
        # As RECOMMEND finds them now: what is fresher later, it cannot go by, and would be taught to trust.
        if sampled:
            self.served.put(user, made_from, self._find(feedback, feedback.history_after(), event.context))

    def _choose(self, feedback: Feedback, segment: int, candidates: Candidates, position: int) -> None:
        """Learn that the candidate at `position` was taken."""
        self.models[segment].choose(candidates.features, position, self._weight(feedback.reward))

    def _raise(self, feedback: Feedback) -> None:
        """Learn the choice that a story began with again, for what the story is worth more now."""
        self.stories = True
        user, of = feedback.event.user_id, (feedback.event.item_id, self.index.releases, feedback.epoch)
        chosen = self.chosen.pop(user, of)
        weight = self._weight(feedback.reward) - self._weight(feedback.story_reward)
        if chosen is not None and weight > 0:
            self.models[chosen.segment].choose(chosen.candidates.features, chosen.position, weight)
            self.chosen.put(user, of, chosen)

    def _weight(self, reward: float) -> float:
        """How many of the usual choices one of `reward` counts as."""
        return min(MOST_WEIGHT, reward / self.reward)

    def _find(
        self, feedback: Feedback, history: History, event_context: dict[str, Any] | None = None
    ) -> tuple[int, Candidates]:
        """What RECOMMEND, with this index, chooses from for the user with that history, asked in that context of an
        event, and the segment.
        """
        event = feedback.event
        context = context_of(self.index, history, feedback.attributes, event.user_id, event_context)
        hidden = self.index.table.rows_of(self.hiding.among(history, event.ts))
        return context.segment, self.retriever.find(context, self.index.hash[hidden])

    def _learn_shown(self, feedback: Feedback) -> None:
        """Learn from the impressions that the feedback resolved, of those that were drawn when they came: as they look
        now, they know what followed.
        """
        user_id = feedback.event.user_id
        for outcome in feedback.outcomes:
            mark = ListMark(self.index.releases, feedback.epoch, outcome.ts, outcome.items)
            shown = self.shown.get(user_id, outcome.event_id, mark)
            if shown is None:
                continue
            self.shown.forget(user_id, outcome.event_id)
            clicked = np.array(outcome.labels) > 0
            self.clicks.learn(shown.described, clicked)
            taken, features = clicked[shown.known], shown.candidates.features
            if len(taken):
                rarity = self.clicks.rarity(shown.described)[shown.known]
                self.bias = self.models[shown.segment].learn_shown(features, taken, self.bias, rarity)

    def _show(self, feedback: Feedback) -> None:
        """Keep what the items of an impression look like now, for when it is resolved."""
        event = feedback.event
        items = event.shown
        rows = self.index.table.rows.find(items)
        known, logits = rows >= 0, np.zeros(len(rows))
        context, candidates = self.retriever.find_shown(rows[known], event.ts, feedback)
        logits[known] = self.models[context.segment].logits(candidates.features) + self.bias
        history = feedback.history.before(event.ts)
        described = describe_list(items, rows, logits, self.index, history, event.ts)
        shown = ShownList(context.segment, candidates, known, described)
        mark = ListMark(self.index.releases, feedback.epoch, event.ts, items)
        self.shown.put(event.user_id, event.event_id, mark, shown)

    def _state(self, *, alone: bool = False) -> RankerState:
        """What is kept of it, of nets `alone` or with the choices that they keep."""
        weights, losses, nets = zip(*(model.dump(alone=alone) for model in self.models), strict=True)
        linear, of_net = (array.tobytes() for array in np.split(np.stack(losses), [len(RATE_MULTIPLIERS)], axis=1))
        names = self.retriever.features.names
        return RankerState(
            self.version,
            np.stack(weights).tobytes(),
            self.bias,
            linear,
            self.reward,
            names,
            RATE_MULTIPLIERS,
            of_net,
            nets,
            self.clicks.dump(),
            self.rewarded,
        )

    def _recall(self, state: RankerState) -> None:
        """Put back what `_state` gave: a weight where its feature and its model are, others begin as new ones do."""
        self.version, self.bias = max(self.version, state.version), state.bias
        self.reward = state.reward
        self.rewarded = state.version if state.rewarded < 0 else state.rewarded
        self.clicks.load(state.clicks)
        features, shape = self.retriever.features, (len(self.models), len(state.rates), len(state.names))
        if len(state.weights) != 8 * math.prod(shape) or not state.weights:
            return
        weights = np.frombuffer(state.weights, "<f8").reshape(shape)
        losses = np.frombuffer(state.losses, "<f8").reshape(shape[:2])
        of_nets = np.frombuffer(state.net_losses, "<f8").reshape(-1, 1)
        was = by_name(np.arange(len(state.names)), state.names, features.names, np.array(-1))
        for segment, (model, start) in enumerate(zip(self.models, features.prior, strict=True)):
            named = by_name(weights[segment], state.names, features.names, start)
            rated = by_name(named.T, state.rates, RATE_MULTIPLIERS, start[:, None]).T
            lost = by_name(losses[segment], state.rates, RATE_MULTIPLIERS, np.array(INITIAL_LOSSES[:-1]))
            net = state.nets[segment] if state.nets else None
            model.load(rated, np.append(lost, of_nets[segment]) if net else lost, net, was)
