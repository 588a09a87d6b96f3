"""Models that differ in how fast they learn, as one. Knows nothing of what a coordinate means."""

import math

import numpy as np
from numba import njit
from riverrank.state.learners import NetState

from .linear_kernels import probability
from .net import Net, logits_of, loss_of

RATE_MULTIPLIERS = (0.4, 1.0, 3.0)  # learning rates, as multiples of the one that is set
NET_RATE = 0.04  # of the net, beside the rate that is set
# Losses to begin with: the rate that is set is what the others must beat. The last is the net's.
INITIAL_LOSSES = (3.0, 0.0, 30.0, 3.0)
HALF_LIFE = 500  # choices after which a loss counts half
_DECAY = 0.5 ** (1.0 / HALF_LIFE)
BIAS_RATE = 0.01
_EVERY = np.arange(4096)


class Ensemble:
    """Linear models with learning rates of their own, and a net: each has the greater share, the less it lost of late.

    A linear model learns by plain SGD, as River's, up the log probability that, of several, one is chosen: the softmax
    of their logits (Cao et al., ListNet, 2007). How fast tastes and signals change, and so which rate is best, differs
    from data to data and from year to year. A model's loss at a choice is that of the weights that were last published,
    as that is what is gone by: one that learns fast knows the user of the last few choices, which helps nobody else.
    Hedge (Freund and Schapire, A decision-theoretic generalization of on-line learning, 1997) with losses that are
    forgotten. A mean of linear models is linear: its weights, and the units of the net by its share, are all that
    anyone needs.

    >>> ensemble = Ensemble(0.001, np.zeros(2))
    >>> for _ in range(2000):
    ...     ensemble.choose(np.array([[1.0, 0.0], [0.0, 1.0]]), 0)
    ...     weights, units = ensemble.publish()
    >>> ensemble.shares().round(1).tolist(), bool(weights[0] > 1.0)  # what never changes is best learned fast
    ([0.0, 0.0, 1.0, 0.0], True)
    """

    def __init__(self, rate: float, prior: np.ndarray) -> None:
        """`rate` is set; `prior` float64 (d,)."""
        self.rates = rate * np.array(RATE_MULTIPLIERS)
        self.weights = np.tile(prior, (len(RATE_MULTIPLIERS), 1))
        self.losses = np.array(INITIAL_LOSSES)
        self.net = Net(NET_RATE * rate, prior)
        self._publish()

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        """The logits of `inputs`, float (n, d), by the models last published and their shares now: float64 (n,)."""
        return logits_of(inputs, *self._mean(), 0.0)

    def shares(self) -> np.ndarray:
        """Of each linear model, and of the net: float64 (len(INITIAL_LOSSES),), with sum 1."""
        return shares(self.losses)

    def choose(self, inputs: np.ndarray, position: int, w: float = 1.0) -> None:
        """Learn that, of `inputs`, float (n, d), the one at `position` was chosen, which counts as `w` choices."""
        n = len(inputs)
        self._choose(inputs, _EVERY[:n] if n <= len(_EVERY) else np.arange(n), position, w)

    def learn_shown(self, inputs: np.ndarray, labels: np.ndarray, bias: float, worth: np.ndarray) -> float:
        """Learn that, of what was shown together, the rows of `inputs`, float (n, d), those with a label, bool (n,),
        were each chosen among those without, which counts as so many choices as it is `worth`, float64 (n,).
        Returns the new `bias`: a logit and it are that of a label.
        """
        for logit, label in zip(self.logits(inputs).tolist(), labels.tolist(), strict=True):
            bias += BIAS_RATE * (label - probability(logit + bias))
        refused = np.flatnonzero(~labels)
        for position in np.flatnonzero(labels).tolist():
            self._choose(inputs, np.append(position, refused), 0, float(worth[position]))
        return bias

    def publish(self) -> tuple[np.ndarray, np.ndarray]:
        """What to go by from now on: the linear weights, float64 (d,), and the units, float32 (d + 2, WIDTH)."""
        self._publish()
        return self._mean()

    def dump(self, *, alone: bool = False) -> tuple[np.ndarray, np.ndarray, NetState]:
        """The weights of the linear models, float64 (len(RATE_MULTIPLIERS), d), all losses, and the net, which may be
        `alone`, without the choices that it keeps.
        """
        return self.weights.copy(), self.losses.copy(), self.net.dump(alone=alone)

    def load(self, weights: np.ndarray, losses: np.ndarray, net: NetState | None, was: np.ndarray) -> None:
        """Put back what `dump` gave: without a net and its loss, which is the last, that begins anew. `was` int64 (d,)
        says where each coordinate of the net stood then, -1 for one that is new.
        """
        self.weights[:], self.losses[: len(losses)] = weights, losses
        if net is not None:
            self.net.load(net, was)
        self._publish()

    def _choose(self, inputs: np.ndarray, picks: np.ndarray, chosen: int, w: float) -> None:
        linear = len(self.rates)
        choose(inputs, picks, chosen, w, self._published, self.weights, self.losses[:linear], self.rates)
        self.losses[linear] = self.losses[linear] * _DECAY + w * self.net.choose(inputs, picks, chosen, w)

    def _publish(self) -> None:
        self._published = self.weights.copy()
        self.net.publish()

    def _mean(self) -> tuple[np.ndarray, np.ndarray]:
        return mean(self._published, self.net.published, self.losses)


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
def mean(published, net, losses):  # type: ignore[no-untyped-def]
    """The models' weights, float64 (k, d), and those of the `net`, float32 (d + 2, WIDTH), by their shares: the linear
    weights, float64 (d,), and the units, float32 (d + 2, WIDTH).
    """
    size, by_model, units = published.shape[1], shares(losses), net.copy()
    weights = by_model[-1] * net[:size, 0].astype(np.float64)
    for j in range(len(losses) - 1):
        weights += by_model[j] * published[j]
    units[:, 0] = np.float32(0.0)
    units[size + 1] *= np.float32(by_model[-1])
    return weights, units


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
def choose(inputs, picks, chosen, w, published, weights, losses, rates):  # type: ignore[no-untyped-def]
    """Learn that, of the rows of `inputs`, float (n, d), at `picks`, int64 (m,), that at `picks[chosen]` was chosen.

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
        losses[j] = losses[j] * _DECAY + w * loss_of(logits, chosen)
        _logits(columns, weights[j], chances[j, :m])
        loss_of(chances[j, :m], chosen)
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
