"""Models that differ in how fast they learn, as one. Knows nothing of what a coordinate means."""

import numpy as np
from river import linear_model, optim

from .linear import Linear

RATE_MULTIPLIERS = (0.4, 1.0, 3.0)  # learning rates, as multiples of the one that is set
INITIAL_LOSSES = (3.0, 0.0, 30.0)  # losses to begin with: the rate that is set is what the others must beat
HALF_LIFE = 500  # choices after which a loss counts half
_DECAY = 0.5 ** (1.0 / HALF_LIFE)


class Ensemble:
    """Linear models with learning rates of their own: each has the greater share, the less it lost of late.

    How fast tastes and signals change, and so which rate is best, differs from data to data and from year to year.
    A model's loss at a choice is that of the weights that were last told, as that is what is gone by: one that learns
    fast knows the user of the last few choices, which helps nobody else. Hedge (Freund and Schapire, A
    decision-theoretic generalization of on-line learning, 1997) with losses that are forgotten. A mean of linear models
    is linear: its weights are all that anyone else needs.

    >>> ensemble = Ensemble(0.001, np.zeros(2))
    >>> for _ in range(2000):
    ...     ensemble.choose(np.array([[1.0, 0.0], [0.0, 1.0]]), 0)
    ...     weights = ensemble.publish()
    >>> ensemble.shares().round(1).tolist(), bool(weights[0] > 1.0)  # what never changes is best learned fast
    ([0.0, 0.0, 1.0], True)
    """

    def __init__(self, rate: float, prior: np.ndarray) -> None:
        """`rate` is set; `prior` float64 (d,)."""
        self.models = [
            Linear(linear_model.LogisticRegression(optim.SGD(pace * rate), intercept_lr=0.0), prior.copy())
            for pace in RATE_MULTIPLIERS
        ]
        self.losses = np.array(INITIAL_LOSSES)
        self._published = np.stack([prior] * len(RATE_MULTIPLIERS))

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """The logits of `inputs`, float64 (n, d): float64 (n,)."""
        return inputs @ (self.shares() @ self._published)

    def shares(self) -> np.ndarray:
        """Of each model: float64 (len(RATE_MULTIPLIERS),), with sum 1."""
        shares = np.exp(self.losses.min() - self.losses)
        return shares / shares.sum()

    def choose(self, inputs: np.ndarray, position: int, w: float = 1.0) -> None:
        """Learn that, of `inputs`, float64 (n, d), the one at `position` was chosen."""
        logits = self._published @ inputs.T
        logits -= logits.max(axis=1, keepdims=True)
        self.losses *= _DECAY
        self.losses += w * (np.log(np.exp(logits).sum(axis=1)) - logits[:, position])
        for model in self.models:
            model.choose(inputs, position, w)

    def publish(self) -> np.ndarray:
        """The weights to go by from now on: float64 (d,)."""
        self._published = np.stack([model.weights for model in self.models])
        return self.shares() @ self._published

    def dump(self) -> tuple[bytes, bytes]:
        """The weights of all models, and their losses, each float64."""
        every = np.concatenate([model.weights for model in self.models])
        return every.astype("<f8").tobytes(), self.losses.astype("<f8").tobytes()

    def load(self, weights: bytes, losses: bytes) -> None:
        """Put back what `dump` gave; what was kept of other coordinates or other models changes nothing."""
        size = 8 * len(RATE_MULTIPLIERS)
        if len(weights) == 8 * self._published.size and len(losses) == size:
            held = np.frombuffer(weights, "<f8").reshape(len(RATE_MULTIPLIERS), -1)
            for model, kept in zip(self.models, held, strict=True):
                model.weights = kept.copy()
            self.losses = np.frombuffer(losses, "<f8").copy()
            self.publish()
