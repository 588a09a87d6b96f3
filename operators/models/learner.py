"""The per-user learner: a River classifier as a residual on the ranker's logit.

Its coordinates are the ranker's logit (whose weight starts at 1), the features, and the content tokens that the user
met. A linear learner runs on arrays and equals River's own; any other River class runs as it is.
"""

import logging
import pickle
from collections.abc import Sequence
from typing import Protocol

import numpy as np
from river import linear_model
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.features import FeatureSpace, feature_space
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import LearnerSettings
from riverrank.state.hashing import hash32
from riverrank.state.learners import LearnerState, by_name

from . import linear_kernels as kernels
from .inputs import RANKER, Inputs
from .linear import Linear, arrays_of, constant_rates, has_vector_form, is_plain
from .linear_kernels import probability
from .river_learner import MADE_WITH, RiverLearner, classes_of, river_of
from .weights import RankerWeights

_FLOAT, _MARK, _DOUBLE = np.dtype("<f4"), np.dtype("<u4"), np.dtype("<f8")
NO_OFFSET = np.zeros(1)

log = logging.getLogger(__name__)


class Learner(Protocol):
    """One user's model, taken out of the user's state, and put back by `store`."""

    def score(
        self, index: ItemIndex, candidates: Candidates, ranker: RankerWeights, segment: int
    ) -> tuple[Inputs, np.ndarray]: ...
    def logits(self, inputs: Inputs) -> np.ndarray: ...
    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None: ...
    def learn_each(
        self, inputs: Inputs, labels: Sequence[bool], weight: float, offsets: np.ndarray = NO_OFFSET
    ) -> None: ...
    def prefer(self, inputs: Inputs, weight: float, *, preferred: bool = True, content_only: bool) -> None: ...
    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]: ...
    def store(self, state: LearnerState) -> None: ...


class Learners:
    """Makes the learner of a user from settings and state; raises ValueError where a name is not one of River's.

    `features` are those that candidates come with. `measured`: whether learners keep how sure they are of each weight,
    which only linear ones can.
    """

    def __init__(
        self, settings: LearnerSettings, features: FeatureSpace | None = None, *, measured: bool = False
    ) -> None:
        self.settings = settings
        self.measured = measured
        self.prototype = river_of(settings)
        self.names = (features or feature_space(registry.SOURCES)).names
        self.marks = np.array([hash32(name) for name in (RANKER, *self.names)], _MARK).tobytes()
        self.linear = isinstance(self.prototype, linear_model.LogisticRegression) and has_vector_form(self.prototype)
        self.plain = self.linear and is_plain(self.prototype)
        self.arrays = arrays_of(self.prototype) if self.linear else ()
        self.clip = float(self.prototype.clip_gradient) if self.linear else 0.0
        self.constant = constant_rates(self.prototype) if self.plain else None
        optimizer = settings.optimizer.removeprefix("river.")
        model = settings.model.removeprefix("river.")
        self.buckets = max(1, settings.tokens)  # that content tokens share where the model is pickled
        self.optimizer_mark = hash32(optimizer)
        self.model_mark = hash32(f"linear {model}" if self.linear else f"pickled {model} {optimizer}")
        # What a pickled model holds of the settings, beside its class: one made with others does not go on with these.
        rate = settings.rate if hasattr(self.prototype, "optimizer") else None
        self.made_with = hash32(repr((sorted(settings.parameters.items()), rate, self.buckets)))
        self._told: set[str] = set()  # of settings, once each
        if measured and not self.linear:
            raise ValueError(
                f'exploration.kind = "thompson" needs a linear learner, and {settings.model} (with its optimizer and '
                "parameters) has no linear form: set exploration.kind to epsilon or softmax"
            )

    def of(self, state: LearnerState) -> Learner:
        """The learner that `state` holds, a new one where it holds none. One that can't follow the settings is given
        up, and with it the count of what it learned from: that is told once, of the first.
        """
        if state.model_of != self.model_mark and not (state.model_of == 0 and self._reads(state)):
            self._give_up(
                state,
                f"learner.model is {self.settings.model} now: users whose learners are of another class, or of an "
                "optimizer without a linear form, begin with new ones; set it as it was to keep those of users who did "
                "not come since",
            )
        if self.linear:
            if self.measured and state.weights and not state.precision:
                self._tell(
                    "exploration.kind is thompson now: learners that did not keep how sure they are of their weights "
                    "begin as unsure as new ones"
                )
            return LinearLearner(self, state)
        if state.memory.get(MADE_WITH, self.made_with) != self.made_with:
            self._give_up(
                state,
                "learner.parameters, rate or tokens are others now, which a pickled model can't follow: users whose "
                "learners were made with others begin with new ones; set them as they were to keep those of users who "
                "did not come since",
            )
        made_with = self.names, self.buckets, self.made_with
        return RiverLearner(self.prototype, self.model_mark, *made_with, state, self._give_up)

    def _give_up(self, state: LearnerState, why: str) -> None:
        if state.examples:
            self._tell(why)
        state.forget_learner()

    def _tell(self, what: str) -> None:
        if what not in self._told:
            self._told.add(what)
            log.warning(what)

    def _reads(self, state: LearnerState) -> bool:
        """Whether a state that does not say what wrote it, as those of layout 1, can be this class's."""
        if self.linear:
            return bool(state.weights) or not state.model
        return not state.model or classes_of(pickle.loads(state.model)) == classes_of(self.prototype)


class LinearLearner:
    """River's logistic regression, on arrays: with plain SGD all of it compiled, else with River's own optimiser.

    Where it is measured, the posterior of its weights is kept as well: independent Gaussians, whose precision grows
    by p (1 - p) x^2 with each step. Chapelle and Li, An empirical evaluation of Thompson sampling (2011), algorithm 3.
    """

    def __init__(self, made_by: Learners, state: LearnerState) -> None:
        """As `state` has it, by the names of features: a new one starts at 0, the ranker's logit at 1."""
        self._by, self._state, self._changed = made_by, state, False
        self.intercept = state.intercept if state.weights else float(made_by.prototype.intercept)
        self.steps = 0
        self._held, self._dense = len(state.tokens) // 4, 1 + len(made_by.names)
        # Rows: weights, precision where it is measured, then the optimiser's arrays.
        most = made_by.settings.tokens
        room = max(most, self._held)
        self._values = np.zeros((1 + made_by.measured + len(made_by.arrays), self._dense + room))
        self._tokens = np.zeros(room, _MARK)
        if made_by.measured:
            self._values[1] = kernels.PRIOR_PRECISION
        self._values[0, 0] = 1.0
        if state.weights:
            self._load(state)
        if self._held > most:  # the setting was lowered
            kept = kernels.weightiest(self.weights[self._dense :], most)
            self._values = np.hstack((self._values[:, : self._dense], self._values[:, self._dense + kept]))
            self._tokens, self._held, self._changed = self._tokens[kept], most, True

    def _load(self, state: LearnerState) -> None:
        by, held = self._by, self._held
        self._take(0, np.frombuffer(state.weights + state.token_weights, _FLOAT), state.features)
        if held:
            self._tokens[:held] = np.frombuffer(state.tokens, _MARK)
        if by.measured and len(state.precision) == len(state.features) + 4 * held:
            self._take(1, np.frombuffer(state.precision, _FLOAT), state.features)
        if state.memory_of == by.optimizer_mark or (state.memory_of == 0 and _kept(state) == set(by.arrays)):
            self.steps = state.memory.get("n_iterations", 0)
            for row, name in enumerate(by.arrays, 1 + by.measured):
                self._take(row, np.frombuffer(state.memory.get(name, b""), _DOUBLE), state.features)

    def _take(self, row: int, kept: np.ndarray, marks: bytes) -> None:
        """Fill a row of the values with what was kept by the features of `marks`, and after them by token."""
        dense, n = self._dense, len(marks) // 4
        if marks == self._by.marks:
            self._values[row, : len(kept)] = kept
        elif len(kept) >= n:
            wanted = np.frombuffer(self._by.marks, _MARK).tolist()
            prior = self._values[row, :dense]
            self._values[row, :dense] = by_name(kept[:n], np.frombuffer(marks, _MARK).tolist(), wanted, prior)
            self._values[row, dense : dense + len(kept) - n] = kept[n:]

    @property
    def weights(self) -> np.ndarray:
        """Of the ranker's logit, the features, and the tokens: float64 (D + tokens,), with D = 1 + F."""
        return self._values[0, : self._dense + self._held]

    @property
    def precision(self) -> np.ndarray | None:
        """Of each weight, where it is measured."""
        return self._values[1, : self._dense + self._held] if self._by.measured else None

    @property
    def tokens(self) -> np.ndarray:
        """The hashes of the tokens that have a weight: uint32."""
        return self._tokens[: self._held]

    def score(
        self, index: ItemIndex, candidates: Candidates, ranker: RankerWeights, segment: int
    ) -> tuple[Inputs, np.ndarray]:
        """Candidates as a learner sees them, and its logits of them, float64 (c,)."""
        out = np.empty((2, len(candidates.rows)))
        kernels.score(
            candidates.features,
            candidates.rows,
            ranker.weights[segment],
            ranker.units[segment],
            ranker.bias,
            index.tokens,
            index.token_hashes,
            self._values,
            self._tokens,
            self._held,
            self.intercept,
            out,
        )
        return Inputs(index, candidates, out[0]), out[1]

    def logits(self, inputs: Inputs) -> np.ndarray:
        return kernels.logits_of(*inputs.arrays(), self._values, self._tokens, self._held, self.intercept)

    def learn(self, inputs: Inputs, position: int, label: bool, weight: float) -> None:
        """One step on the candidate at `position`; where the label is positive its tokens become coordinates."""
        self.learn_each(inputs.pick([position]), [label], weight)

    def learn_each(
        self, inputs: Inputs, labels: Sequence[bool], weight: float, offsets: np.ndarray = NO_OFFSET
    ) -> None:
        """A step on each of `inputs`, in their order, as `learn`. `offsets` float64 (n,) are what others add to the
        logits, or one that they add to all: what is learned is what these leave open.
        """
        self._changed = True
        if not self._by.plain:
            for position, label in enumerate(labels):
                one = inputs.pick([position])
                if label:
                    self._meet(one)
                offset = float(offsets[min(position, len(offsets) - 1)])
                self.intercept += offset
                self._river_steps(self._vectors(one), label, weight)
                self.intercept -= offset
            return
        rates, intercept_rates = self._rates(len(labels))
        self.intercept, self._held = kernels.learn(
            *inputs.arrays(),
            self._values,
            self._tokens,
            self._held,
            self._by.settings.tokens,
            self._by.measured,
            self.intercept,
            np.array(labels, np.bool_),
            weight,
            self._by.clip,
            rates,
            intercept_rates,
            offsets,
        )
        self.steps += len(labels)

    def prefer(self, inputs: Inputs, weight: float, *, preferred: bool = True, content_only: bool) -> None:
        """One step for each candidate but the first, on the difference between the first and it: the first was
        `preferred` to it, or it to the first.

        With `content_only` the signals' coordinates are left out: what no source proposed was never theirs to order.
        """
        self._changed = True
        others = len(inputs) - 1
        if not self._by.plain:
            self._meet(inputs)
            x = self._vectors(inputs)
            differences = x[0] - x[1:]
            if content_only:
                differences[:, : self._dense] = 0.0
            self._river_steps(differences, preferred, weight, of_differences=True)
            return
        rates, _ = self._rates(others)
        self._held = kernels.prefer(
            *inputs.arrays(),
            self._values,
            self._tokens,
            self._held,
            self._by.settings.tokens,
            self._by.measured,
            content_only,
            preferred,
            weight,
            self._by.clip,
            rates,
        )
        self.steps += others

    def contributions(self, inputs: Inputs, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What each coordinate adds to the logit of the candidates at `positions`: (p, D), and by token (p, t)."""
        index, features = inputs.index, inputs.features
        own = np.zeros((len(positions), self._dense)), np.zeros((len(positions), index.tokens.shape[1]))
        of = index.tokens, index.token_hashes, self._values, self._tokens, self._held
        kernels.contributions(features, inputs.ranker, inputs.rows, inputs.picks[positions], inputs.extra, *of, *own)
        return own

    def deviations(self, inputs: Inputs, positions: np.ndarray) -> np.ndarray:
        """The standard deviation of the logits of the candidates at `positions`: float64 (p,).

        Of their difference from the average of them, since what all have in common orders nothing.
        """
        if not self._by.measured:
            raise ValueError("how sure this learner is was not kept: make it with measured=True")
        picked = inputs.pick(positions)
        return kernels.deviations(*picked.arrays(), self._values[1], self._tokens, self._held)

    def store(self, state: LearnerState) -> None:
        """Put all of it into `state`, and be as one that is taken out again: weights are kept in half the digits.

        Nothing is put where it came from there and learned nothing.
        """
        if state is self._state and not self._changed:
            return
        by, held, size = self._by, self._held, self._dense + self._held
        rounded = np.empty((1 + by.measured, size), _FLOAT)
        kernels.round_off(self._values, rounded)
        weights, split = rounded[0].tobytes(), 4 * self._dense
        state.model_of, state.memory_of, state.features = by.model_mark, by.optimizer_mark, by.marks
        state.intercept = float(self.intercept)
        state.weights, state.token_weights = weights[:split], weights[split:]
        state.tokens = self._tokens[:held].tobytes()
        state.memory = {"n_iterations": self.steps}
        for row, name in enumerate(by.arrays, 1 + by.measured):
            state.memory[name] = self._values[row, :size].tobytes()
        state.precision = rounded[1].tobytes() if by.measured else b""
        self._state, self._changed = state, False

    def _rates(self, steps: int) -> tuple[np.ndarray, np.ndarray]:
        """The rates of the next steps, and those of the intercept; one for all of them where they never change."""
        if self._by.constant is not None:
            return self._by.constant
        river, numbers = self._by.prototype, range(self.steps, self.steps + max(1, steps))
        rates, intercept_rates = (
            np.array([float(schedule.get(n)) for n in numbers]) for schedule in (river.optimizer.lr, river.intercept_lr)
        )
        return rates, intercept_rates

    def _meet(self, inputs: Inputs) -> None:
        c = int(inputs.picks[0])
        row, index, by = int(inputs.rows[c]) if c >= 0 else inputs.extra, inputs.index, self._by
        arrays = index.tokens, index.token_hashes, self._values, self._tokens
        self._held = kernels.meet(row, *arrays, self._held, by.settings.tokens, by.measured)

    def _vectors(self, inputs: Inputs) -> np.ndarray:
        return kernels.vectors(*inputs.arrays(), self._tokens, self._held)

    def _river_steps(self, vectors: np.ndarray, label: bool, weight: float, *, of_differences: bool = False) -> None:
        """A step of River's optimiser on each of `vectors`, float64 (n, D + room), all of the same label. A difference
        has no intercept, and leaves the learner's as it is.
        """
        by = self._by
        rows = range(1 + by.measured, len(self._values))
        model = Linear(by.prototype.clone(), self._values[0].copy(), self.intercept)
        model.recall(self.steps, dict(zip(by.arrays, self._values[rows.start :], strict=True)))
        for x in vectors:
            if of_differences:
                model.intercept = 0.0
            if by.measured:
                p = probability(float(x @ model.weights) + model.intercept)
                self._values[1] += weight * p * (1.0 - p) * x * x
            model.learn(x, label, weight)
        self._values[0] = model.weights
        for row, name in zip(rows, by.arrays, strict=True):
            self._values[row] = getattr(model.optimizer, name)
        self.steps = model.optimizer.n_iterations
        if not of_differences:
            self.intercept = float(model.intercept)


def _kept(state: LearnerState) -> set[str]:
    """The names of the arrays that an optimiser kept."""
    return {name for name, value in state.memory.items() if isinstance(value, bytes)}
