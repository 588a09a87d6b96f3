"""A learner of any River class, as it is: dicts by name, one candidate at a time."""

import importlib
import inspect
import pickle
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from river import base, compose, linear_model, optim, preprocessing
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import LearnerSettings
from riverrank.state.learners import LearnerState

from .inputs import Inputs
from .weights import RankerWeights

MOST_BYTES = 4 << 20  # of a pickled model; one that grows beyond, as a tree can, begins anew
MADE_WITH = "made_with"  # where the memory of a state says what settings its model was made with


class RiverLearner:
    """Any River classifier. Its log-odds are added to the ranker's logit.

    That content tokens share a number of features bounds a model that keeps something of each.
    """

    def __init__(
        self,
        prototype: base.Classifier,
        mark: int,
        names: Sequence[str],
        buckets: int,
        made_with: int,
        state: LearnerState,
        give_up: Callable[[LearnerState, str], None],
    ) -> None:
        """As `state` has it, else as `prototype`. `mark` says of which class it is, and `made_with` of what
        settings; `names` are those of the features, and `buckets` is how many more all content tokens share. `give_up`
        is told of a state whose model is too large, and why that ends.
        """
        self._prototype, self._give_up = prototype, give_up
        self.model: base.Classifier = pickle.loads(state.model) if state.model else prototype.clone()
        self._mark, self._made_with = mark, made_with
        self._names = names
        self._buckets = buckets
        self._state = state
        self._changed = False

    def score(
        self, index: ItemIndex, candidates: Candidates, ranker: RankerWeights, segment: int
    ) -> tuple[Inputs, np.ndarray]:
        """Candidates as a learner sees them, and its logits of them, float64 (c,)."""
        inputs = Inputs(index, candidates, ranker.logits(candidates.features, segment))
        return inputs, self.logits(inputs)

    def logits(self, inputs: Inputs) -> np.ndarray:
        return inputs.dense[:, 0] + np.array([self._log_odds(self._named(inputs, k)) for k in range(len(inputs))])

    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None:
        """One `learn_one`; the weight is left out, since not every River class takes one."""
        self._changed = True
        self.model.learn_one(self._named(inputs, position), label)

    def learn_each(
        self, inputs: Inputs, labels: Sequence[bool], weight: float, offsets: np.ndarray | None = None
    ) -> None:
        """`learn` each; not every River class can leave `offsets` out of what it learns."""
        for position, label in enumerate(labels):
            self.learn(inputs, position, label, weight)

    def prefer(self, inputs: Inputs, weight: float, *, preferred: bool = True, content_only: bool) -> None:
        """A `learn_one` for each: a class of any kind has no use for differences. Others that were preferred to the
        first are only known not to be as bad: nothing is learned of these.
        """
        self.learn(inputs, 0, preferred, weight)
        for other in range(1, 1 if content_only or not preferred else len(inputs)):
            self.learn(inputs, other, False, weight)

    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A model of any kind has no parts but the ranker's logit, and itself, which no column tells."""
        picked = inputs.pick(positions)
        parts = np.zeros((len(picked), 1 + len(self._names)))
        parts[:, 0] = picked.dense[:, 0]
        return parts, np.zeros(picked.tokens.shape)

    def store(self, state: LearnerState) -> None:
        if state is self._state and not self._changed:
            return
        state.model_of, state.memory = self._mark, {MADE_WITH: self._made_with}
        state.model = pickle.dumps(self.model, protocol=5)
        if len(state.model) > MOST_BYTES:
            self._give_up(
                state,
                f"a pickled learner took more than {MOST_BYTES >> 20} MiB, the most that is kept of a user, and begins "
                "anew: set learner.parameters of its class so that it stays smaller",
            )
            self.model = self._prototype.clone()

    def _named(self, inputs: Inputs, position: int) -> dict[str, float]:
        return inputs.named(position, self._names, self._buckets)

    def _log_odds(self, x: dict[str, float]) -> float:
        p = self.model.predict_proba_one(x).get(True, 0.5)
        p = min(max(p, 1e-6), 1 - 1e-6)
        return float(np.log(p / (1 - p)))


def river_of(settings: LearnerSettings) -> Any:
    """The River model that the settings name."""
    kind = _named("learner.model", settings.model, base.Classifier, "linear_model.LogisticRegression")
    parameters = dict(settings.parameters)
    is_linear = issubclass(kind, linear_model.LogisticRegression)
    if is_linear and "optimizer" in inspect.signature(kind).parameters:
        optimizer = _named("learner.optimizer", settings.optimizer, optim.base.Optimizer, "optim.SGD")
        try:
            parameters["optimizer"] = optimizer(settings.rate)
        except TypeError as error:
            raise ValueError(f"learner.optimizer: {settings.optimizer} takes no rate alone: {error}") from None
    try:
        model = kind(**parameters)
    except TypeError as error:
        if not settings.parameters:
            raise ValueError(
                f"learner.model: {settings.model} is made of another model, which no setting can give ({error}); "
                "expected one such as 'linear_model.LogisticRegression'"
            ) from None
        raise ValueError(f"learner.parameters: {settings.model} does not take them: {error}") from None
    if isinstance(model, linear_model.LogisticRegression):
        return model
    return compose.Pipeline(preprocessing.StandardScaler(), model)


def _named(setting: str, name: str, kind: type, example: str) -> Any:
    """River's class of that name, such as `linear_model.ALMAClassifier`."""
    module, _, attribute = name.removeprefix("river.").rpartition(".")
    try:
        found = getattr(importlib.import_module(f"river.{module}"), attribute)
    except (ImportError, AttributeError):
        raise ValueError(f"{setting}: {name!r} is no class of River: expected one such as {example!r}") from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"{setting}: {name!r} is no River {kind.__name__}: expected one such as {example!r}")
    return found


def classes_of(model: Any) -> list[type]:
    """The class of a model, or those of the steps of a pipeline."""
    return [type(step) for step in model.steps.values()] if isinstance(model, compose.Pipeline) else [type(model)]
