"""River's logistic regression over a fixed order of coordinates: weights in one numpy vector, equal to River's own.

The optimiser and the loss are River's objects; only the dicts are gone. Nothing here knows what a coordinate means.
"""

import math
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
        self._plain = (
            type(river.optimizer) is optim.SGD
            and type(river.loss) is optim.losses.Log
            and river.loss.weight_pos == river.loss.weight_neg == 1.0
            and not river.l2
        )

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """The logits of `inputs`, float64 (n, d): float64 (n,)."""
        return inputs @ self.weights + self.intercept

    def learn(self, x: np.ndarray, y: bool, w: float = 1.0) -> None:
        """One step on `x`, float64 (d,), as River's `learn_one`."""
        if self._plain:
            return self._step(x, y, w)
        self.optimizer.look_ahead(w=self.weights)
        slope = self.loss.gradient(y_true=y, y_pred=float(x @ self.weights) + self.intercept) * w
        slope = max(-self.clip, min(self.clip, slope))
        gradient = slope * x
        if self.l2:
            gradient += self.l2 * self.weights
        self.intercept -= self.intercept_lr.get(self.optimizer.n_iterations) * slope
        self.weights = self.optimizer.step(w=self.weights, g=gradient)
        return None

    def choose(self, inputs: np.ndarray, position: int, w: float = 1.0) -> None:
        """One step of the optimiser up the log probability that, of `inputs`, float64 (n, d), the one at `position` is
        chosen: the softmax of their logits (Cao et al., ListNet, 2007). Of two, it is `learn` on their difference.

        >>> chosen, learned = (Linear(linear_model.LogisticRegression(optim.SGD(0.1)), np.ones(2)) for _ in range(2))
        >>> chosen.choose(np.array([[1.0, 0.0], [0.0, 2.0]]), 0), learned.learn(np.array([1.0, -2.0]), True)
        (None, None)
        >>> bool(np.allclose(chosen.weights, learned.weights))
        True
        """
        logits = inputs @ self.weights
        chances = np.exp(logits - logits.max())
        gradient = (chances / chances.sum()) @ inputs - inputs[position]
        self.weights = self.optimizer.step(w=self.weights, g=w * gradient)

    def _step(self, x: np.ndarray, y: bool, w: float) -> None:
        """The same for plain SGD on the log loss, which is what nearly always runs: River's formulas, written out."""
        optimizer = self.optimizer
        z = float(x @ self.weights) + self.intercept
        z = z if y else -z
        slope = (math.exp(-z) if z > 18.0 else 1.0 if z < -18.0 else 1.0 / (math.exp(z) + 1.0)) * (-w if y else w)
        slope = max(-self.clip, min(self.clip, slope))
        self.intercept -= self.intercept_lr.get(optimizer.n_iterations) * slope
        self.weights -= optimizer.lr.get(optimizer.n_iterations) * (slope * x)
        optimizer.n_iterations += 1

    def extend(self, n: int) -> None:
        """Add `n` coordinates of weight 0 at the end."""
        self.weights = np.append(self.weights, np.zeros(n))
        for name, value in self._arrays():
            setattr(self.optimizer, name, np.append(value, np.zeros(n)))

    def drop(self, position: int) -> None:
        """Take out the coordinate at `position`."""
        self.weights = np.delete(self.weights, position)
        for name, value in self._arrays():
            setattr(self.optimizer, name, np.delete(value, position))

    def _arrays(self) -> list[tuple[str, np.ndarray]]:
        return [(name, value) for name, value in vars(self.optimizer).items() if isinstance(value, np.ndarray)]

    def memory(self) -> dict[str, Any]:
        """What the optimiser remembers beside its settings: its step number, and arrays (as bytes) by name."""
        kept: dict[str, Any] = {"n_iterations": self.optimizer.n_iterations}
        for name, value in self._arrays():
            kept[name] = value.astype("<f8").tobytes()
        return kept

    def recall(self, kept: dict[str, Any]) -> None:
        """Put back what `memory` gave."""
        for name, value in kept.items():
            setattr(self.optimizer, name, np.frombuffer(value, "<f8").copy() if isinstance(value, bytes) else value)


def probability(logit: float) -> float:
    """The probability that a logit stands for.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    if logit >= 0:
        return 1.0 / (1.0 + math.exp(-logit))
    raised = math.exp(max(logit, -700.0)) if logit > -700.0 else 0.0
    return raised / (1.0 + raised)
