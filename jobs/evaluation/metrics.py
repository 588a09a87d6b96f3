"""Figures of `riverrank evaluate`: of tests (where on its slate each policy had what the user did next), of what was
shown, and of predictions. Knows nothing of policies but their number.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from scipy.stats import rankdata

MISS = 65_535  # the rank of what is not on the slate
CURVE_POINTS = 20
NEW_USER = 5  # positive interactions of a user, up to here it is new
OLD_USER = 20  # and from here on old
EVERY = slice(None)  # test
SHOWN = 10  # places of a slate that count as shown
AT = {"hr10": "hr@10", "hr20": "hr@20", "ndcg10": "ndcg@10", "mrr20": "mrr@20"}  # field names as JSON has them


class Hits(msgspec.Struct, frozen=True, rename=AT):
    """Of `n` tests. One item is relevant in each, so the hit rate is the recall; None where there is no test."""

    n: int
    hr10: float | None = None
    hr20: float | None = None
    ndcg10: float | None = None
    mrr20: float | None = None


class Difference(msgspec.Struct, frozen=True):
    """The mean of paired differences over tests, and its standard error, clustered by user."""

    mean: float
    error: float

    @property
    def errors(self) -> float:
        """The difference in standard errors."""
        return self.mean / self.error if self.error else 0.0


class Less(msgspec.Struct, frozen=True, rename=AT):
    """The job's own policy less another, by test."""

    hr10: Difference
    ndcg10: Difference


class Showing(msgspec.Struct, frozen=True):
    """What the first ten places of all slates were like.

    `coverage` is the share of the items that could be shown which were. `gini` is over the items that were shown: 0
    each as often. `novelty` is the mean self-information in bits: -log2 of an item's share of the positive interactions
    so far. `diversity` is the mean of 1 - cosine over the pairs of a slate, of items that say something of themselves.
    """

    items_shown: int
    coverage: float | None
    gini: float
    novelty: float | None
    diversity: float | None


class Ratings(msgspec.Struct, frozen=True):
    """Of predicted ratings; `auc` tells those that are positive from the rest."""

    n: int
    mae: float
    mse: float
    rmse: float
    auc: float | None


class Clicks(msgspec.Struct, frozen=True):
    """Of predicted probabilities of a positive reward. Accuracy and recall at one half; `cross_entropy` in nats,
    normalised by that of always predicting the mean label; `calibration` is the sum of predictions over that of labels.
    """

    n: int
    mean: float
    accuracy: float
    recall: float | None
    auc: float | None
    cross_entropy: float
    normalised_entropy: float | None
    calibration: float


class Tests:
    """Each test, as it comes: the user, the user's how-manyeth positive interaction it is, each policy's rank."""

    def __init__(self, policies: int) -> None:
        self.policies = policies
        self._ranks = array("H")
        self._users = array("i")
        self._nth = array("i")
        self._user_numbers: dict[str, int] = {}

    def add(self, user_id: str, nth: int, ranks: Sequence[int]) -> None:
        """A test: `ranks` of each policy, from 1, MISS for none; `nth` from 0."""
        self._users.append(self._user_numbers.setdefault(user_id, len(self._user_numbers)))
        self._nth.append(nth)
        self._ranks.extend(ranks)

    def __len__(self) -> int:
        return len(self._users)

    @property
    def users(self) -> int:
        """How many users had a test."""
        return len(self._user_numbers)

    def of(self, policy: int) -> "Judged":
        """The tests of one policy."""
        ranks = np.array(self._ranks, np.uint16).reshape(len(self), self.policies)[:, policy]
        return Judged(ranks, np.array(self._nth, np.int32), np.array(self._users, np.int32))


class Judged:
    """The tests of one policy in order: `ranks` uint16 (n,), `nth` int32 (n,), `users` int32 (n,)."""

    def __init__(self, ranks: np.ndarray, nth: np.ndarray, users: np.ndarray) -> None:
        self.ranks, self.nth, self.users = ranks, nth, users
        self.hits = (ranks <= 10).astype(np.float64)
        self.gains = discounted(ranks, 10)

    def less(self, other: "Judged", tests: np.ndarray | slice = EVERY) -> "Less":
        """This policy less another, by `tests`: a mask, or their numbers; all of them unless given."""
        users = self.users[tests]
        hits, gains = (paired(getattr(self, of)[tests], getattr(other, of)[tests], users) for of in ("hits", "gains"))
        return Less(hits, gains)

    def all(self) -> Hits:
        return hits_of(self.ranks)

    def last_fifth(self) -> Hits:
        return hits_of(self.ranks[int(0.8 * len(self.ranks)) :])

    def first_5(self) -> Hits:
        return hits_of(self.ranks[self.nth < NEW_USER])

    def from_20th(self) -> Hits:
        return hits_of(self.ranks[self.nth >= OLD_USER])

    def curve(self) -> list[float]:
        """HR@10 of consecutive stretches of equal length, CURVE_POINTS where there are as many tests."""
        stretches = np.array_split(self.hits, max(1, min(CURVE_POINTS, len(self.hits))))
        return [round(float(stretch.mean()), 5) for stretch in stretches if len(stretch)]


def hits_of(ranks: np.ndarray) -> Hits:
    """The figures of tests with these `ranks`, from 1, MISS for none.

    >>> hits_of(np.array([1, 3, 15, MISS]))
    Hits(n=4, hr10=0.5, hr20=0.75, ndcg10=0.375, mrr20=0.35)
    """
    n = len(ranks)
    if not n:
        return Hits(0)
    reciprocal = np.where(ranks <= 20, 1.0 / np.maximum(ranks, 1), 0.0)
    means = (ranks <= 10).mean(), (ranks <= 20).mean(), discounted(ranks, 10).mean(), reciprocal.mean()
    return Hits(n, *(round(float(mean), 5) for mean in means))


def discounted(ranks: np.ndarray, k: int) -> np.ndarray:
    """The discounted cumulative gain in the first `k` of one relevant item at `ranks`: float64 (n,).

    Järvelin and Kekäläinen, Cumulated gain-based evaluation of IR techniques (2002); the ideal is 1.
    """
    return np.where(ranks <= k, 1.0 / np.log2(ranks.astype(np.float64) + 1.0), 0.0)


def paired(one: np.ndarray, other: np.ndarray, users: np.ndarray) -> Difference:
    """The mean of `one - other`, float (n,), and its standard error where the tests of a user, int (n,), go together.

    Liang and Zeger, Longitudinal data analysis using generalized linear models (1986): the variance of the sums over
    users, in place of that over tests.

    >>> paired(np.array([1.0, 1.0, 0.0, 0.0]), np.zeros(4), np.array([0, 0, 1, 1]))
    Difference(mean=0.5, error=0.5)
    """
    n = len(one)
    if not n:
        return Difference(0.0, 0.0)
    gaps = one - other
    mean = float(gaps.mean())
    return _clustered(mean, (gaps - mean) / n, users, np.ones(n, np.bool_))


class Apart(NamedTuple):
    """The mean of some tests, and what it is less that of all others."""

    mean: Difference
    less_rest: Difference


def apart(values: np.ndarray, users: np.ndarray, inside: np.ndarray) -> Apart:
    """Of `values`, float (n,), those `inside`, bool (n,), beside the rest, with errors as those of `paired`: a user may
    have tests of both.

    >>> apart(np.array([1.0, 0.0, 0.0, 0.0]), np.array([0, 1, 2, 3]), np.array([True, True, False, False])).less_rest
    Difference(mean=0.5, error=0.408248)
    """
    mean, rest = (float(values[some].mean()) if some.any() else 0.0 for some in (inside, ~inside))
    moves = np.where(inside, (values - mean) / max(np.count_nonzero(inside), 1), 0.0)
    others = np.where(inside, 0.0, (values - rest) / max(np.count_nonzero(~inside), 1))
    of_inside = _clustered(mean, moves, users, inside)
    if not inside.any() or inside.all():  # nothing to hold it against
        return Apart(of_inside, Difference(0.0, 0.0))
    return Apart(of_inside, _clustered(mean - rest, moves - others, users, np.ones_like(inside)))


def _clustered(mean: float, moves: np.ndarray, users: np.ndarray, some: np.ndarray) -> Difference:
    """A mean with its error: `moves`, float (n,), are what each test moves it by, of the users who have `some`."""
    sums, clusters = np.bincount(users, moves), len(np.unique(users[some]))
    correction = clusters / (clusters - 1) if clusters > 1 else 1.0
    error = float(np.sqrt(correction * (sums @ sums)))
    return Difference(round(mean, 6) + 0.0, round(error, 6))  # not -0.0


class Shown:
    """What each policy showed, slate by slate."""

    def __init__(self, policies: int) -> None:
        self.counts = np.zeros((policies, 1024), np.int64)
        self._sums = np.zeros((4, policies))  # bits and items, dissimilarity and slates with any
        self._places = np.arange(policies)[:, None]

    def add(self, rows: np.ndarray, popularity: np.ndarray, interactions: int, vectors: np.ndarray) -> None:
        """The first SHOWN items of a slate of each policy: `rows` int (policies, SHOWN), -1 for none.

        By row, `popularity` holds the positive interactions so far, of `interactions` in all, and `vectors`, float
        (items, dimensions), the items' unit vectors, or zeros.
        """
        held = rows >= 0
        if (highest := int(rows.max(initial=0))) >= self.counts.shape[1]:
            wider = max(2 * self.counts.shape[1], highest + 1)
            self.counts = np.pad(self.counts, ((0, 0), (0, wider - self.counts.shape[1])))
        np.add.at(self.counts, (np.broadcast_to(self._places, rows.shape)[held], rows[held]), 1)
        bits = np.log2((1.0 + interactions) / (1.0 + popularity[rows]))
        content = vectors[rows] * held[:, :, None]
        telling = np.count_nonzero(content.any(axis=2), axis=1)
        together = content.sum(axis=1)
        pairs = telling * (telling - 1.0)
        alike = np.einsum("pd,pd->p", together, together) - telling  # the cosines of all pairs, both ways round
        some = pairs > 0
        self._sums += (
            np.where(held, bits, 0.0).sum(axis=1),
            held.sum(axis=1),
            np.where(some, 1.0 - alike / np.maximum(pairs, 1.0), 0.0),
            some,
        )

    def of(self, policy: int, servable: int) -> Showing:
        """The figures of one policy, where `servable` items could be shown."""
        counts = np.sort(self.counts[policy][self.counts[policy] > 0])
        bits, items, unlike, slates = self._sums[:, policy].tolist()
        return Showing(
            items_shown=len(counts),
            coverage=round(len(counts) / servable, 5) if servable else None,
            gini=gini(counts),
            novelty=round(bits / items, 4) if items else None,
            diversity=round(unlike / slates, 4) if slates else None,
        )


def gini(counts: np.ndarray) -> float:
    """The Gini coefficient of `counts`, int (n,), in ascending order: 0 where all are equal.

    >>> gini(np.array([1, 1, 1])), gini(np.array([0, 0, 3]))
    (0.0, 0.6667)
    """
    n, total = len(counts), int(counts.sum())
    if not total:
        return 0.0
    return round(float(2 * (np.arange(1, n + 1) @ counts) / (n * total) - (n + 1) / n), 4)


def auc(scores: np.ndarray, labels: np.ndarray) -> float | None:
    """The probability that one of the positive `labels`, bool (n,), scores higher than another, ties counted half: the
    statistic of Mann and Whitney (1947), from ranks.

    >>> auc(np.array([0.1, 0.5, 0.5, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    positives = int(labels.sum())
    negatives = len(labels) - positives
    if not positives or not negatives:
        return None
    ranks = rankdata(scores)
    return round(float((ranks[labels].sum() - positives * (positives + 1) / 2) / (positives * negatives)), 5)


def ratings_of(predictions: np.ndarray, values: np.ndarray, like_from: float) -> Ratings | None:
    """The figures of predicted ratings beside the given `values`, both float64 (n,); None for none."""
    n = len(values)
    if not n:
        return None
    gaps = predictions - values
    mae, mse = float(np.abs(gaps).mean()), float((gaps**2).mean())
    return Ratings(n, round(mae, 5), round(mse, 5), round(mse**0.5, 5), auc(predictions, values >= like_from))


def clicks_of(predictions: np.ndarray, labels: np.ndarray) -> Clicks | None:
    """The figures of predicted probabilities beside the `labels` 0 and 1, both float64 (n,); None for none."""
    n = len(labels)
    if not n:
        return None
    clicked = labels > 0
    mean = float(clicked.mean())
    entropy = -float(np.log(np.maximum(np.where(clicked, predictions, 1.0 - predictions), 1e-12)).mean())
    base = -(mean * np.log(mean) + (1 - mean) * np.log(1 - mean)) if 0 < mean < 1 else None
    likely = predictions >= 0.5
    return Clicks(
        n=n,
        mean=round(mean, 5),
        accuracy=round(float((likely == clicked).mean()), 5),
        recall=round(float(likely[clicked].mean()), 5) if mean else None,
        auc=auc(predictions, clicked),
        cross_entropy=round(entropy, 5),
        normalised_entropy=round(entropy / float(base), 5) if base is not None else None,
        calibration=round(float(predictions.sum()) / max(1e-12, float(clicked.sum())), 4),
    )
