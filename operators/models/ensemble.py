"""Models that differ in how fast they learn, as one. Knows nothing of what a coordinate means."""

import math

import numpy as np
from numba import njit

from .linear_kernels import dots

RATE_MULTIPLIERS = (0.4, 1.0, 3.0)  # learning rates, as multiples of the one that is set
INITIAL_LOSSES = (3.0, 0.0, 30.0)  # losses to begin with: the rate that is set is what the others must beat
HALF_LIFE = 500  # choices after which a loss counts half
_DECAY = 0.5 ** (1.0 / HALF_LIFE)
BIAS_RATE = 0.01
_EVERY = np.arange(4096)


class Ensemble:
    """Linear models with learning rates of their own: each has the greater share, the less it lost of late.

    Each learns by plain SGD, as River's, up the log probability that, of several, one is chosen: the softmax of their
    logits (Cao et al., ListNet, 2007). How fast tastes and signals change, and so which rate is best, differs from data
    to data and from year to year. A model's loss at a choice is that of the weights that were last published, as that
    is what is gone by: one that learns fast knows the user of the last few choices, which helps nobody else. Hedge
    (Freund and Schapire, A decision-theoretic generalization of on-line learning, 1997) with losses that are forgotten.
    A mean of linear models is linear: its weights are all that anyone else needs.

    >>> ensemble = Ensemble(0.001, np.zeros(2))
    >>> for _ in range(2000):
    ...     ensemble.choose(np.array([[1.0, 0.0], [0.0, 1.0]]), 0)
    ...     weights = ensemble.publish()
    >>> ensemble.shares().round(1).tolist(), bool(weights[0] > 1.0)  # what never changes is best learned fast
    ([0.0, 0.0, 1.0], True)
    """

    def __init__(self, rate: float, prior: np.ndarray) -> None:
        """`rate` is set; `prior` float64 (d,)."""
        self.rates = rate * np.array(RATE_MULTIPLIERS)
        self.weights = np.tile(prior, (len(RATE_MULTIPLIERS), 1))
        self.losses = np.array(INITIAL_LOSSES)
        self._publish()

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """The logits of `inputs`, float64 (n, d), by the models last published and their shares now: float64 (n,)."""
        return dots(inputs, self._mean(), 0.0)

    def shares(self) -> np.ndarray:
        """Of each model: float64 (len(RATE_MULTIPLIERS),), with sum 1."""
        return shares(self.losses)

    def choose(self, inputs: np.ndarray, position: int, w: float = 1.0) -> None:
        """Learn that, of `inputs`, float64 (n, d), the one at `position` was chosen, which counts as `w` choices."""
        n = len(inputs)
        choose(inputs, _EVERY[:n] if n <= len(_EVERY) else np.arange(n), position, w, *self._arrays())

    def learn_shown(self, inputs: np.ndarray, positions: np.ndarray, labels: np.ndarray, bias: float) -> float:
        """Learn that, of what was shown together, the rows of `inputs` at `positions`, int64 (m,), those with a label,
        bool (m,), were each chosen among those without. Returns the new `bias`: a logit and it are that of a label.
        """
        return float(learn_shown(inputs, positions, labels, bias, *self._arrays()))

    def publish(self) -> np.ndarray:
        """The weights to go by from now on: float64 (d,)."""
        self._publish()
        return self._mean()

    def dump(self) -> tuple[np.ndarray, np.ndarray]:
        """The weights of all models, float64 (len(RATE_MULTIPLIERS), d), and their losses."""
        return self.weights.copy(), self.losses.copy()

    def load(self, weights: np.ndarray, losses: np.ndarray) -> None:
        """Put back what `dump` gave."""
        self.weights[:], self.losses[:] = weights, losses
        self._publish()

    def _arrays(self) -> tuple[np.ndarray, ...]:
        return self._published, self.weights, self.losses, self.rates

    def _publish(self) -> None:
        self._published = self.weights.copy()

    def _mean(self) -> np.ndarray:
        return mean(self._published, self.losses)


@njit(cache=True)
def position_of(row, rows):  # type: ignore[no-untyped-def]
    """Where `row` stands in `rows`, int32 (n,), first; -1 where it does not."""
    for position in range(len(rows)):
        if rows[position] == row:
            return position
    return -1


@njit(cache=True)
def shares(losses):  # type: ignore[no-untyped-def]
    """See Ensemble."""
    least = losses.min()
    found = np.array([math.exp(least - loss) for loss in losses])
    return found / found.sum()


@njit(cache=True)
def mean(published, losses):  # type: ignore[no-untyped-def]
    """The models' weights, float64 (k, d), by their shares: float64 (d,)."""
    by_model, weights = shares(losses), np.zeros(published.shape[1])
    for j in range(len(losses)):
        weights += by_model[j] * published[j]
    return weights


@njit(cache=True)
def _logits(columns, weights, logits):  # type: ignore[no-untyped-def]
    """The sums over d of `weights` float64 (d,) times `columns` float64 (d, m), into `logits` float64 (m,)."""
    size, m = columns.shape
    whole = size - size % 4
    logits[:] = 0.0
    for f in range(0, whole, 4):
        x0, x1, x2, x3 = columns[f], columns[f + 1], columns[f + 2], columns[f + 3]
        w0, w1, w2, w3 = weights[f], weights[f + 1], weights[f + 2], weights[f + 3]
        for i in range(m):
            logits[i] += (w0 * x0[i] + w1 * x1[i]) + (w2 * x2[i] + w3 * x3[i])
    for f in range(whole, size):
        for i in range(m):
            logits[i] += weights[f] * columns[f, i]


@njit(cache=True)
def _softmax(logits):  # type: ignore[no-untyped-def]
    """Put exp(logit - the highest) in place of each of `logits`, float64 (m,); the highest, and the sum of these."""
    most, total = logits[0], 0.0
    for logit in logits:
        most = max(most, logit)
    for i in range(len(logits)):
        logits[i] = math.exp(logits[i] - most)
        total += logits[i]
    return most, total


@njit(cache=True)
def choose(inputs, picks, chosen, w, published, weights, losses, rates):  # type: ignore[no-untyped-def]
    """Learn that, of the rows of `inputs`, float64 (n, d), at `picks`, int64 (m,), that at `picks[chosen]` was chosen.

    `published` and `weights` are float64 (k, d), `losses` and `rates` float64 (k,). 15 us for 120 of 38, three models.
    """
    m, size = len(picks), inputs.shape[1]
    columns = np.empty((size, m))  # sums over rows then need not wait for each other
    for f in range(size):
        for i in range(m):
            columns[f, i] = inputs[picks[i], f]
    logits, slopes = np.empty(m), np.zeros((len(rates), size))
    chances = np.zeros((len(rates), m + 3))  # the last are for what is missing to four
    for j in range(len(rates)):
        _logits(columns, published[j], logits)
        own = logits[chosen]
        most, total = _softmax(logits)
        losses[j] = losses[j] * _DECAY + w * (math.log(total) + most - own)
        _logits(columns, weights[j], chances[j, :m])
        _, total = _softmax(chances[j, :m])
        for i in range(m):
            chances[j, i] /= total
    for i in range(0, m, 4):
        x0, x1 = inputs[picks[i]], inputs[picks[min(i + 1, m - 1)]]
        x2, x3 = inputs[picks[min(i + 2, m - 1)]], inputs[picks[min(i + 3, m - 1)]]
        for j in range(len(rates)):
            c0, c1, c2, c3 = chances[j, i], chances[j, i + 1], chances[j, i + 2], chances[j, i + 3]
            for f in range(size):
                slopes[j, f] += (c0 * x0[f] + c1 * x1[f]) + (c2 * x2[f] + c3 * x3[f])
    for j in range(len(rates)):
        for f in range(size):
            weights[j, f] -= rates[j] * (w * (slopes[j, f] - inputs[picks[chosen], f]))


@njit(cache=True)
def learn_shown(inputs, positions, labels, bias, published, weights, losses, rates):  # type: ignore[no-untyped-def]
    """See Ensemble. 4 us for ten."""
    current = mean(published, losses)
    refused = np.empty(len(positions) + 1, np.int64)
    n = 1  # the first is for what was taken
    for i in range(len(positions)):
        logit = bias
        for f in range(inputs.shape[1]):
            logit += current[f] * inputs[positions[i], f]
        bias += BIAS_RATE * (labels[i] - 1.0 / (1.0 + math.exp(-logit)))
        if not labels[i]:
            refused[n] = positions[i]
            n += 1
    for i in range(len(positions)):
        if labels[i]:
            refused[0] = positions[i]
            choose(inputs, refused[:n], 0, 1.0, published, weights, losses, rates)
    return bias
