"""The per-user learner: a River classifier as a residual on the ranker's logit.

Its coordinates are the ranker's logit (whose weight starts at 1), the features, and the content tokens that the user
met. A linear learner runs on numpy vectors and equals River's own; any other River class runs as it is.
"""

import importlib
import pickle
from typing import Any, Protocol

import numpy as np
from river import base, compose, linear_model, optim, preprocessing
from riverrank.operators.candidates.feature_space import FEATURES, F
from riverrank.operators.candidates.retrieve import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import LearnerSettings
from riverrank.state.hashing import hash32
from riverrank.state.learners import LearnerState

from .linear import Linear, probability

DENSE = F + 1  # the ranker's logit, then the features
_DENSE_NAMES = ("ranker", *FEATURES)
PRIOR_PRECISION = 1.0  # of a weight that nothing was learned of


class Inputs:
    """Candidates as a learner sees them: `dense` float64 (c, DENSE), and the token numbers int32 (c, t) of each."""

    def __init__(self, index: ItemIndex, candidates: Candidates, logits: np.ndarray) -> None:
        self.index = index
        self.dense = np.concatenate([logits[:, None], candidates.features], axis=1)
        self.tokens = index.tokens[candidates.rows]

    def pick(self, positions: list[int]) -> "Inputs":
        """Those at `positions` alone."""
        return self._of(self.dense[positions], self.tokens[positions])

    def against(self, row: int, positions: np.ndarray) -> "Inputs":
        """An item of which no more than its content is known, by its row, and after it those at `positions`."""
        dense = np.concatenate([np.zeros((1, DENSE)), self.dense[positions]])
        return self._of(dense, np.concatenate([self.index.tokens[row][None], self.tokens[positions]]))

    def _of(self, dense: np.ndarray, tokens: np.ndarray) -> "Inputs":
        made = Inputs.__new__(Inputs)
        made.index, made.dense, made.tokens = self.index, dense, tokens
        return made

    def named(self, position: int, buckets: int) -> dict[str, float]:
        """One candidate as River's classes take it; its tokens share `buckets` features."""
        x = dict(zip(_DENSE_NAMES, self.dense[position].tolist(), strict=True))
        names = self.index.token_names
        held = (number for number in self.tokens[position].tolist() if number >= 0)
        return x | {f"token {hash32(names[number]) % buckets}": 1.0 for number in held}


class Learner(Protocol):
    """One user's model, taken out of the user's state, and put back by `store`."""

    def logits(self, inputs: Inputs) -> np.ndarray: ...
    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None: ...
    def prefer(self, inputs: Inputs, weight: float, *, content_only: bool) -> None: ...
    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
    def store(self, state: LearnerState) -> None: ...


class Learners:
    """Makes the learner of a user from settings and state; raises ValueError where a name is not one of River's.

    `measured`: whether learners keep how sure they are of each weight, which only linear ones can.
    """

    def __init__(self, settings: LearnerSettings, *, measured: bool = False) -> None:
        self.settings = settings
        self.measured = measured
        self.prototype = _river(settings)
        self.linear = isinstance(self.prototype, linear_model.LogisticRegression) and _has_vector_form(self.prototype)
        self.plain_sgd = self.linear and type(self.prototype.optimizer) is optim.SGD
        if measured and not self.linear:
            raise ValueError(
                f'exploration.kind = "thompson" needs a linear learner, and {settings.model} (with its optimizer and '
                "parameters) has no linear form: set exploration.kind to epsilon or softmax"
            )

    def of(self, state: LearnerState) -> Learner:
        """The learner that `state` holds; a new one where it holds none."""
        if self.linear:
            river = self.prototype if self.plain_sgd else self.prototype.clone()
            return LinearLearner(self.settings, state, river, measured=self.measured)
        model = pickle.loads(state.model) if state.model else self.prototype.clone()
        return RiverLearner(model, max(1, self.settings.tokens))


class LinearLearner:
    """River's logistic regression, on vectors.

    Where it is `measured`, the posterior of its weights is kept as well: independent Gaussians, whose precision grows
    by p (1 - p) x^2 with each step. Chapelle and Li, An empirical evaluation of Thompson sampling (2011), algorithm 3.
    """

    def __init__(
        self, settings: LearnerSettings, state: LearnerState, river: linear_model.LogisticRegression, *, measured: bool
    ) -> None:
        self.limit = settings.tokens
        self.tokens = np.frombuffer(state.tokens, "<u4").tolist()
        weights = np.zeros(DENSE + len(self.tokens))
        if len(state.weights) == 4 * DENSE:
            weights[:DENSE] = np.frombuffer(state.weights, "<f4")
            weights[DENSE:] = np.frombuffer(state.token_weights, "<f4")
        else:  # new, or from a version with other features: start from the ranker alone
            weights[0] = 1.0
        self.model = Linear(river, weights, state.intercept)
        self.model.recall({"n_iterations": 0} | state.memory)
        self.precision: np.ndarray | None = None
        if measured:
            kept = np.frombuffer(state.precision, "<f4").astype(float)
            self.precision = kept if len(kept) == len(weights) else np.full(len(weights), PRIOR_PRECISION)

    def logits(self, inputs: Inputs) -> np.ndarray:
        dense = inputs.dense @ self.model.weights[:DENSE] + self.model.intercept
        return dense + self._token_parts(inputs).sum(axis=1) if self.tokens else dense

    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None:
        """One step on the candidate at `position`; where the label is positive its tokens become coordinates."""
        if label:
            self._meet(self._hashes(inputs, position))
        self._step(self._vectors(inputs.pick([position]))[0], label, weight)

    def prefer(self, inputs: Inputs, weight: float, *, content_only: bool) -> None:
        """One step for each candidate but the first, on the difference between the first and it.

        With `content_only` the signals' coordinates are left out: what no source proposed was never theirs to order.
        """
        self._meet(self._hashes(inputs, 0))
        x = self._vectors(inputs)
        differences = x[0] - x[1:]
        if content_only:
            differences[:, :DENSE] = 0.0
        intercept = self.model.intercept
        for difference in differences:
            self._step(difference, True, weight)
        self.model.intercept = intercept  # a difference has none

    def deviations(self, inputs: Inputs, positions: np.ndarray) -> np.ndarray:
        """The standard deviation of the logits of the candidates at `positions`: float64 (p,).

        Of their difference from the average of them, since what all have in common orders nothing.
        """
        if self.precision is None:
            raise ValueError("how sure this learner is was not kept: make it with measured=True")
        variance = 1.0 / self.precision
        dense = inputs.dense[positions]
        spread = (dense - dense.mean(axis=0)) ** 2 @ variance[:DENSE]
        tokens = inputs.tokens[positions]
        by_token = self._by_token(inputs.index, variance[DENSE:], 1.0 / PRIOR_PRECISION)
        return np.sqrt(spread + np.where(tokens >= 0, by_token[tokens], 0.0).sum(axis=1))

    def _step(self, x: np.ndarray, label: bool, weight: float) -> None:
        if self.precision is not None:
            p = probability(float(x @ self.model.weights) + self.model.intercept)
            self.precision += weight * p * (1.0 - p) * x * x
        self.model.learn(x, label, weight)

    def _hashes(self, inputs: Inputs, position: int) -> list[int]:
        return inputs.index.token_hashes[inputs.tokens[position][inputs.tokens[position] >= 0]].tolist()

    def _vectors(self, inputs: Inputs) -> np.ndarray:
        """Each candidate in the learner's coordinates: float64 (c, DENSE + tokens)."""
        x = np.zeros((len(inputs.dense), DENSE + len(self.tokens) + 1))  # the last is for tokens without a coordinate
        x[:, :DENSE] = inputs.dense
        coordinates = self._by_token(inputs.index, np.arange(DENSE, x.shape[1] - 1), x.shape[1] - 1)
        x[np.arange(len(x))[:, None], coordinates[inputs.tokens]] = 1.0
        return x[:, :-1]

    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each coordinate adds to the logit of the candidates at `positions`: (p, DENSE), and by token (p, t)."""
        by_token = self._by_token(inputs.index, self.model.weights[DENSE:], 0.0)
        return inputs.dense[positions] * self.model.weights[:DENSE], by_token[inputs.tokens[positions]]

    def store(self, state: LearnerState) -> None:
        state.intercept = float(self.model.intercept)
        state.weights = self.model.weights[:DENSE].astype("<f4").tobytes()
        state.tokens = np.array(self.tokens, "<u4").tobytes()
        state.token_weights = self.model.weights[DENSE:].astype("<f4").tobytes()
        state.memory = self.model.memory()
        state.precision = b"" if self.precision is None else self.precision.astype("<f4").tobytes()

    def _token_parts(self, inputs: Inputs) -> np.ndarray:
        """The weight of each candidate's tokens, float64 (c, t), 0 for what the learner has no weight for."""
        return self._by_token(inputs.index, self.model.weights[DENSE:], 0.0)[inputs.tokens]

    def _by_token(self, index: ItemIndex, values: np.ndarray, default: float) -> np.ndarray:
        """`values` of the learner's tokens by the index's numbers, `default` for all others and, at the end, for -1."""
        lookup = np.full(len(index.token_names) + 1, default, values.dtype)
        for token, value in zip(self.tokens, values.tolist(), strict=True):
            for number in index.tokens_of_hash.get(token, ()):
                lookup[number] = value
        return lookup

    def _meet(self, hashes: list[int]) -> None:
        """Give new tokens a coordinate; where there is no room, in place of the one with the smallest weight."""
        for token in hashes[: self.limit]:
            if token in self.tokens:
                continue
            if len(self.tokens) >= self.limit:
                weakest = int(np.abs(self.model.weights[DENSE:]).argmin())
                del self.tokens[weakest]
                self.model.drop(DENSE + weakest)
                if self.precision is not None:
                    self.precision = np.delete(self.precision, DENSE + weakest)
            self.tokens.append(token)
            self.model.extend(1)
            if self.precision is not None:
                self.precision = np.append(self.precision, PRIOR_PRECISION)


class RiverLearner:
    """Any River classifier. Its log-odds are added to the ranker's logit."""

    def __init__(self, model: base.Classifier, buckets: int) -> None:
        """`buckets`: how many features all content tokens share, which bounds a model that keeps something of each."""
        self.model = model
        self.buckets = buckets

    def logits(self, inputs: Inputs) -> np.ndarray:
        return inputs.dense[:, 0] + np.array(
            [self._log_odds(inputs.named(k, self.buckets)) for k in range(len(inputs.dense))]
        )

    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None:
        """One `learn_one`; the weight is left out, since not every River class takes one."""
        self.model.learn_one(inputs.named(position, self.buckets), label)

    def prefer(self, inputs: Inputs, weight: float, *, content_only: bool) -> None:
        """A `learn_one` for each: a class of any kind has no use for differences."""
        self.learn(inputs, 0, True, weight)
        for other in range(1, 1 if content_only else len(inputs.dense)):
            self.learn(inputs, other, False, weight)

    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """A model of any kind has no parts but the ranker's logit, and itself, which stands in the last column."""
        parts = np.zeros((len(positions), DENSE))
        parts[:, 0] = inputs.dense[positions, 0]
        return parts, np.zeros((len(positions), inputs.tokens.shape[1]))

    def store(self, state: LearnerState) -> None:
        state.model = pickle.dumps(self.model, protocol=5)

    def _log_odds(self, x: dict[str, float]) -> float:
        p = self.model.predict_proba_one(x).get(True, 0.5)
        p = min(max(p, 1e-6), 1 - 1e-6)
        return float(np.log(p / (1 - p)))


def _river(settings: LearnerSettings) -> Any:
    """The River model that the settings name."""
    kind = _named(settings.model, base.Classifier)
    parameters = dict(settings.parameters)
    if issubclass(kind, linear_model.LogisticRegression):
        optimizer = _named(settings.optimizer, optim.base.Optimizer)
        parameters["optimizer"] = optimizer(settings.rate)
    try:
        model = kind(**parameters)
    except TypeError as error:
        raise ValueError(f"learner.parameters: {settings.model} does not take them: {error}") from None
    if isinstance(model, linear_model.LogisticRegression):
        return model
    return compose.Pipeline(preprocessing.StandardScaler(), model)


def _named(name: str, kind: type) -> Any:
    """River's class of that name, such as `linear_model.ALMAClassifier`."""
    module, _, attribute = name.removeprefix("river.").rpartition(".")
    try:
        found = getattr(importlib.import_module(f"river.{module}"), attribute)
    except (ImportError, AttributeError):
        raise ValueError(
            f"{name!r} is no class of River: expected one such as 'linear_model.LogisticRegression'"
        ) from None
    if not (isinstance(found, type) and issubclass(found, kind)):
        raise ValueError(f"{name!r} is no River {kind.__name__}")
    return found


def _has_vector_form(model: linear_model.LogisticRegression) -> bool:
    try:
        Linear(model, np.zeros(1))
    except ValueError:
        return False
    return True
