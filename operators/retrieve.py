"""Candidates for a user, and the features that order them. The same code serves RANKER and RECOMMEND.

Every source gives each candidate a score; a feature is a score, its square root, or its reciprocal rank.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..state.items import NEGATIVES, POSITIVES
from ..state.wire import Seen
from .content import direction, preferences
from .settings import Behaviour
from .signals import cohorts
from .view import View

SOURCES = ("covisit", "cosine", "transition", "content", "cohort", "popular", "new")
COVISIT, COSINE, TRANSITION, CONTENT, COHORT, POPULAR, NEW = range(len(SOURCES))
_SHAPED = 6  # the sources, all but the last, whose score is a feature in three shapes
FEATURES = tuple(
    [*SOURCES[:_SHAPED]]
    + [f"{name}:root" for name in SOURCES[:_SHAPED]]
    + [f"{name}:rank" for name in SOURCES[:_SHAPED]]
    + ["likes", "new"]
)
F = len(FEATURES)
SOURCE_OF_FEATURE = tuple(SOURCES.index(name.partition(":")[0]) if name != "likes" else POPULAR for name in FEATURES)
PRIOR = np.zeros(F)
PRIOR[_SHAPED : 2 * _SHAPED] = (2.0, 1.0, 0.5, 0.5, 1.0, 0.5)  # before anything is learned: a plain mix of the roots
SHARES = {COVISIT: 0.45, COSINE: 0.2, CONTENT: 0.15, COHORT: 0.15, NEW: 0.05}  # of the candidates; popular ones fill up
RECENCY = 0.9  # weight of an interaction beside the next newer one
PRIOR_LIKES, PRIOR_DISLIKES = 3.0, 1.0


class Context(NamedTuple):
    """What a user is asked with: the history rows, newest first, int32 (h,), their weights, float64 (h,), sum 1."""

    rows: np.ndarray
    weights: np.ndarray
    attributes: dict[str, Any]


class Candidates(NamedTuple):
    """`rows` int32 (c,); `features` float64 (c, F); `proposed` uint8 (c,), bit s set by source s."""

    rows: np.ndarray
    features: np.ndarray
    proposed: np.ndarray


def context_of(view: View, history: Sequence[Seen], attributes: dict[str, Any], window: int) -> Context:
    """The context from a history (newest last): its last `window` distinct positive items that the view knows."""
    find = view.table.rows.get
    rows: dict[int, None] = {}
    for seen in reversed(history):
        if seen.reward > 0 and (row := find(seen.item_id)) is not None:
            rows[row] = None
            if len(rows) == window:
                break
    weights = RECENCY ** np.arange(len(rows))
    return Context(np.fromiter(rows, np.int32, len(rows)), weights / max(weights.sum(), 1e-9), attributes)


class Retriever:
    """Finds candidates in a view. Holds scratch arrays, which are zero between calls."""

    def __init__(self, behaviour: Behaviour, view: View) -> None:
        self.behaviour = behaviour
        self.view = view
        self._pairs = np.zeros((0, 4))  # by row: covisit, cosine, transition, cohort
        self._mark = np.zeros(0, np.int64)

    def find(self, context: Context, seen: np.ndarray | None, always: np.ndarray | None = None) -> Candidates:
        """Candidates for `context`, without those whose hash is in `seen` (uint32, any order).

        `always`, distinct rows, int32, come first whatever they are: what a feedback is about.
        """
        view, limit = self.view, self.behaviour.slate.candidates
        self._fit()
        touched = self._score_pairs(context)
        interest, wanted = self._interest(context)
        proposals = [
            (COVISIT, self._top(touched, 0, limit)),
            (COSINE, self._top(touched, 1, limit)),
            (CONTENT, np.concatenate([view.best_of(token) for token in wanted]) if wanted else _NONE),
            (COHORT, self._top(touched, 3, limit)),
            (NEW, view.newest()),
            (POPULAR, view.popular()),
        ]
        rows, proposed = self._merge(proposals, seen, limit, always)
        features = self._features(rows, interest)
        self._pairs[touched] = 0.0
        return Candidates(rows, features, proposed)

    def _fit(self) -> None:
        capacity = self.view.table.capacity
        if len(self._pairs) < capacity:
            self._pairs = np.zeros((capacity, 4))
            self._mark = np.zeros(capacity, np.int64)

    def _score_pairs(self, context: Context) -> np.ndarray:
        """Spread the lists of the history and of the cohorts over the scratch; the distinct rows that got a score."""
        table, pairs = self.view.table, self._pairs
        reached = []
        if len(context.rows):
            neighbours, held, weights = self._lists(context.rows)
            total = weights[:, :, 0].sum(axis=1) + 1.0
            spread = weights[:, :, 0] * (context.weights / total)[:, None]
            likes = table.stats[:, POSITIVES]
            norm = np.sqrt(np.maximum(likes[context.rows], 1.0))[:, None] * np.sqrt(np.maximum(likes[neighbours], 1.0))
            cosine = weights[:, :, 1] / (norm + 1.0) / len(context.rows)
            last = held[0]
            pairs[neighbours[0][last], 2] = weights[0, last, 0] / total[0]
            flat = neighbours[held]
            np.add.at(pairs[:, 0], flat, spread[held])
            np.add.at(pairs[:, 1], flat, cosine[held])
            reached.append(flat)
        members = table.rows_of(cohorts(context.attributes))
        if len(members):
            neighbours, held, weights = self._lists(members)
            share = weights[:, :, 0] / (weights[:, :, 0].sum(axis=1) + 1.0)[:, None] / len(members)
            flat = neighbours[held]
            np.add.at(pairs[:, 3], flat, share[held])
            reached.append(flat)
        return self._distinct(np.concatenate(reached)) if reached else _NONE

    def _lists(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        neighbours = self.view.table.neighbours[rows]
        return neighbours, neighbours >= 0, self.view.table.weights[rows].astype(np.float64)

    def _distinct(self, rows: np.ndarray) -> np.ndarray:
        """The distinct values of `rows`, in the order of their last places."""
        order = np.arange(len(rows))
        self._mark[rows] = order
        return rows[self._mark[rows] == order]

    def _top(self, touched: np.ndarray, column: int, limit: int) -> np.ndarray:
        score = self._pairs[touched, column]
        kept = score > 0
        rows, score = touched[kept], score[kept]
        if len(rows) > limit:
            top = np.argpartition(-score, limit)[:limit]
            rows, score = rows[top], score[top]
        return rows[np.lexsort((rows, -score))]

    def _interest(self, context: Context) -> tuple[np.ndarray, list[int]]:
        """The user's content vector (unit length or zero), and the tokens whose best items are worth a look."""
        view = self.view
        interest = context.weights @ view.content[context.rows].astype(np.float64)
        wanted: dict[int, float] = {}
        if len(context.rows):
            tokens = view.tokens[context.rows]
            numbers, place = np.unique(tokens, return_inverse=True)
            share = np.bincount(place.ravel(), weights=np.repeat(context.weights, tokens.shape[1]))
            wanted = {n: s for n, s in zip(numbers.tolist(), share.tolist(), strict=True) if n >= 0}
        for value in sorted(preferences(context.attributes)):
            for number in view.tokens_of_value.get(value, ())[:4]:
                stated = 0.5 if len(context.rows) else 1.0
                interest = interest + stated * direction(view.token_names[number]) / np.sqrt(len(interest))
                wanted[number] = wanted.get(number, 0.0) + stated
        length = float(np.sqrt(interest @ interest))
        rarity = {n: s / (1.0 + len(view.token_rows[n])) ** 0.5 for n, s in wanted.items()}
        best = sorted(rarity, key=lambda n: (-rarity[n], n))[:4]
        return (interest / length if length > 0 else interest), best

    def _merge(
        self, proposals: list[tuple[int, np.ndarray]], seen: np.ndarray | None, limit: int, always: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Each source's share of the candidates, in turn, without repeats; the last source fills up."""
        view = self.view
        sizes = [len(rows) for _, rows in proposals]
        everything = np.concatenate([rows for _, rows in proposals])
        fit = view.servable[everything]
        if seen is not None and len(seen):
            fit &= ~np.isin(view.hash[everything], seen)
        chosen: dict[int, int] = {} if always is None else dict.fromkeys(always.tolist(), 0)
        start = 0
        for (source, _), size in zip(proposals, sizes, strict=True):
            part = everything[start : start + size][fit[start : start + size]]
            start += size
            quota = max(1, round(SHARES.get(source, 1.0) * limit))
            bit = 1 << source
            for row in part[:quota].tolist():
                if row in chosen:
                    chosen[row] |= bit
                elif len(chosen) < limit:
                    chosen[row] = bit
        if len(chosen) < self.behaviour.slate.size:
            self._fill(chosen, seen)
        n = len(chosen)
        return np.fromiter(chosen, np.int32, n), np.fromiter(chosen.values(), np.uint8, n)

    def _fill(self, chosen: dict[int, int], seen: np.ndarray | None) -> None:
        """Where the sources gave too little for a slate: all that may be served, by popularity."""
        view = self.view
        rows = np.flatnonzero(view.servable[: len(view.table)])
        if seen is not None and len(seen):
            rows = rows[~np.isin(view.hash[rows], seen)]
        for row in rows[np.argsort(-view.popularity(rows), kind="stable")].tolist():
            if len(chosen) >= self.behaviour.slate.size:
                return
            chosen[row] = chosen.get(row, 0) | 1 << POPULAR

    def _features(self, rows: np.ndarray, interest: np.ndarray) -> np.ndarray:
        view, n = self.view, len(rows)
        scores = np.zeros((_SHAPED, n))
        scores[[COVISIT, COSINE, TRANSITION, COHORT]] = self._pairs[rows].T
        scores[CONTENT] = np.maximum(view.content[rows] @ interest.astype(np.float32), 0.0)
        popular = view.popular()[:1]
        most = float(view.popularity(popular)[0]) if len(popular) else 0.0
        scores[POPULAR] = view.popularity(rows) / max(most, 1.0)
        features = np.zeros((n, F))
        features[:, :_SHAPED] = scores.T
        features[:, _SHAPED : 2 * _SHAPED] = np.sqrt(scores).T
        order = np.argsort(-scores, axis=1, kind="stable")
        ranks = np.empty_like(order)
        np.put_along_axis(ranks, order, np.arange(n)[None, :], axis=1)
        features[:, 2 * _SHAPED : 3 * _SHAPED] = np.where(scores > 0, 1.0 / (1.0 + ranks), 0.0).T
        stats = view.table.stats[rows]
        liked = stats[:, POSITIVES] + PRIOR_LIKES
        features[:, F - 2] = liked / (liked + stats[:, NEGATIVES] + PRIOR_DISLIKES)
        features[:, F - 1] = 1.0 / (1.0 + stats[:, POSITIVES])
        return features


_NONE = np.zeros(0, np.int32)
