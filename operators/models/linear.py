"""River's logistic regression over a fixed order of coordinates: weights in one numpy vector, equal to River's own.

The optimiser and the loss are River's objects; only the dicts are gone. Nothing here knows what a coordinate means.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from river import linear_model, optim


class Linear:
    """`linear_model.LogisticRegression` for inputs that have every coordinate, float64 (d,).

    >>> model = Linear(linear_model.LogisticRegression(optim.SGD(0.1)), np.zeros(2))
    >>> model.learn(np.array([1.0, 0.0]), True)
    >>> model.weights.tolist()
    [0.05, 0.0]
    """

    def __init__(self, river: linear_model.LogisticRegression, weights: np.ndarray, intercept: float = 0.0) -> None:
        """`river` gives optimiser, loss and the rest, as new; raises ValueError for what has no vector form."""
        if type(river.optimizer)._step_with_vector is optim.base.Optimizer._step_with_vector:
            raise ValueError(f"optim.{type(river.optimizer).__name__} has no vector form in River")
        if river.l1:
            raise ValueError("l1 has no vector form: set learner.parameters.l2 instead")
        self.optimizer = river.optimizer
        self.loss = river.loss
        self.l2 = river.l2
        self.clip = river.clip_gradient
        self.intercept_lr = river.intercept_lr
        self.weights = weights
        self.intercept = intercept

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """The logits of `inputs`, float64 (n, d): float64 (n,)."""
        return inputs @ self.weights + self.intercept

    def learn(self, x: np.ndarray, y: bool, w: float = 1.0) -> None:
        """One step on `x`, float64 (d,), as River's `learn_one`."""
        self.optimizer.look_ahead(w=self.weights)
        slope = self.loss.gradient(y_true=y, y_pred=float(x @ self.weights) + self.intercept) * w
        slope = max(-self.clip, min(self.clip, slope))
        gradient = slope * x
        if self.l2:
            gradient += self.l2 * self.weights
        self.intercept -= self.intercept_lr.get(self.optimizer.n_iterations) * slope
        self.weights = self.optimizer.step(w=self.weights, g=gradient)

    def recall(self, steps: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Go on from where the optimiser had made `steps`, with the arrays that it kept, float64 (d,), by name."""
        self.optimizer.n_iterations = steps
        for name, values in arrays.items():
            setattr(self.optimizer, name, values.copy())


def arrays_of(river: linear_model.LogisticRegression) -> tuple[str, ...]:
    """The names of the arrays that the optimiser keeps, one number a weight: those it has after a step.

    >>> arrays_of(linear_model.LogisticRegression(optim.Adam()))
    ('m', 'v')
    """
    model = Linear(river.clone(), np.zeros(1))
    model.learn(np.zeros(1), True)
    return tuple(name for name, value in vars(model.optimizer).items() if isinstance(value, np.ndarray))


def is_plain(river: Any) -> bool:
    """Whether it is plain SGD on the log loss, which nearly always runs, and `linear_kernels` has compiled."""
    return (
        type(river.optimizer) is optim.SGD
        and type(river.loss) is optim.losses.Log
        and river.loss.weight_pos == river.loss.weight_neg == 1.0
        and not (river.l1 or river.l2)
    )


def constant_rates(river: Any) -> tuple[np.ndarray, np.ndarray] | None:
    """The rate of all steps, and that of the intercept, each float64 (1,); None where one of them changes."""
    schedules = river.optimizer.lr, river.intercept_lr
    if any(type(schedule) is not optim.schedulers.Constant for schedule in schedules):
        return None
    rate, intercept_rate = (np.array([float(schedule.get(0))]) for schedule in schedules)
    return rate, intercept_rate


def has_vector_form(model: linear_model.LogisticRegression) -> bool:
    """Whether `Linear` takes it."""
    try:
        Linear(model, np.zeros(1))
    except ValueError:
        return False
    return True
