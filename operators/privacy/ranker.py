"""RANKER with noise: one linear model a segment, that learns of a batch of feedbacks at once. Beside it there is
nothing: no net, no vectors, no autoencoder, no model of clicks.
"""

import numpy as np
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models import prior as priors
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.settings import Behaviour
from riverrank.state.journal import NOISED, Journal
from riverrank.state.messages import Feedback, Learned, Weights

from .bounds import contribution_of
from .budget import budget_of
from .choices import gradient, noise_of, stepped

_NONE_OF_IT = 1e3  # a loss by which no net has a share


class NoisedRanker(Ranker):
    """The one learner of all users' choices, in the place of `Ranker`.

    Choices are found, and kept until the user's next feedback, as there. Of a user one choice a batch is learned from,
    and of a window so many as contribute (see `bounds`).
    """

    noised = True

    def __init__(self, behaviour: Behaviour, index: ItemIndex, journal: Journal | None = None) -> None:
        super().__init__(behaviour, index, journal)
        self.budget = budget_of(behaviour.noise)
        self._prior = self.retriever.features.prior
        self._sum = np.zeros_like(self._prior)
        self._users: set[str] = set()  # of whom the batch has a choice
        self.go_by(self._prior)

    def due(self) -> bool:
        """Whether a batch is whole, or the journal to be made short. Feedbacks are counted, not choices."""
        return self._pending >= self.behaviour.noise.batch or self._compact or self._is_to_forget

    def updates(self) -> list[Weights | Learned]:
        """The weights after the step of a whole batch; none before that. A journal is written either way."""
        told: list[Weights | Learned] = []
        if self._pending >= self.behaviour.noise.batch:
            self._step()
            told.append(priors.told(self.models, self.retriever.features, 0.0, self.version))
        if self.journal is not None and (told or self._compact or self._is_to_forget):
            self._compact, self._is_to_forget = True, False
            self._write(self.journal)
        return told

    def _write(self, journal: Journal) -> None:
        journal.put({NOISED: b"\1"})
        super()._write(journal)

    def _step(self) -> None:
        number, deviation = self.version, self.budget.choices
        summed = self.end_batch()
        summed += noise_of(self.behaviour.noise.key, number, summed, deviation)
        self.go_by(stepped(self.weights, summed, self.settings.rate, self._prior))

    def end_batch(self) -> np.ndarray:
        """The batch's sum of gradients as it is, which nobody may be told: float64 (SEGMENTS, F); another begins."""
        summed, self._sum, self._pending = self._sum, np.zeros_like(self._prior), 0
        self._users.clear()
        return summed

    @property
    def weights(self) -> np.ndarray:
        """Those of the linear models: float64 (SEGMENTS, F)."""
        return np.stack([model.weights[0] for model in self.models])

    def go_by(self, weights: np.ndarray) -> None:
        """Have these `weights`, float64 (SEGMENTS, F)."""
        for model, of_segment in zip(self.models, weights, strict=True):
            model.weights[:] = of_segment
            model.losses[:] = 0.0
            model.losses[-1] = _NONE_OF_IT
            model.publish()

    def _take(self, feedback: Feedback) -> None:
        self.version += 1
        self._pending += 1

    def _choose(self, feedback: Feedback, segment: int, candidates: Candidates, position: int) -> None:
        user = feedback.event.user_id
        contribution = contribution_of(feedback, self.behaviour)
        if contribution is None or not contribution.liked or user in self._users:
            return
        self._users.add(user)
        weights = self.models[segment].weights[0]
        self._sum[segment] += gradient(candidates.features, position, weights, self.behaviour.noise.clip)

    def _raise(self, feedback: Feedback) -> None:
        """A story is one choice, for what it was worth when it began."""

    def _learn_shown(self, feedback: Feedback) -> None:
        """Shown lists teach nothing."""

    def _show(self, feedback: Feedback) -> None:
        """No list is kept."""


def ranker_of(behaviour: Behaviour) -> type[Ranker]:
    """What learns in RANKER: with noise, or without."""
    return NoisedRanker if behaviour.noise.epsilon else Ranker
