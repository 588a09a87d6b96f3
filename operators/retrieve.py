"""Candidates for a user, and the features that order them. The same code serves RANKER and RECOMMEND.

Every source gives each candidate a score; a feature is a score, its square root, or its reciprocal rank.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from ..state.items import NEGATIVES, POSITIVES
from ..state.wire import Seen
from .content import direction, preferences
from .features import COHORT, COLD, CONTENT, COSINE, COVISIT, NEW, POPULAR, SHAPED, TRANSITION, WARM, F
from .settings import Behaviour
from .signals import cohorts
from .view import View

SHARES = {COVISIT: 0.4, COSINE: 0.15, POPULAR: 0.2, COHORT: 0.1, CONTENT: 0.1, NEW: 0.05}  # of the candidates
RECENCY = 0.9  # weight of an interaction beside the next newer one
WANTED = 4  # tokens whose best items are proposed
PRIOR_LIKES, PRIOR_DISLIKES = 3.0, 1.0


class Context(NamedTuple):
    """What a user is asked with: the history rows, newest first, int32 (h,), their weights, float64 (h,), sum 1.

    `kinds` are the types of the interactions, as `Seen` has them.
    """

    rows: np.ndarray
    weights: np.ndarray
    attributes: dict[str, Any]
    kinds: tuple[int, ...] = ()

    @property
    def segment(self) -> int:
        """COLD or WARM: whose weights of the ranker are asked."""
        return WARM if len(self.rows) else COLD


class Candidates(NamedTuple):
    """`rows` int32 (c,); `features` float64 (c, F); `proposed` uint8 (c,), bit s set by source s."""

    rows: np.ndarray
    features: np.ndarray
    proposed: np.ndarray


def context_of(view: View, history: Sequence[Seen], attributes: dict[str, Any], window: int) -> Context:
    """The context from a history (newest last): its last `window` distinct positive items that the view knows."""
    find = view.table.rows.get
    rows: dict[int, int] = {}
    for seen in reversed(history):
        if seen.reward > 0 and (row := find(seen.item_id)) is not None:
            rows.setdefault(row, seen.kind)
            if len(rows) == window:
                break
    weights = RECENCY ** np.arange(len(rows))
    return Context(
        np.fromiter(rows, np.int32, len(rows)), weights / max(weights.sum(), 1e-9), attributes, tuple(rows.values())
    )


class Retriever:
    """Finds candidates in a view. Holds scratch arrays, which are zero between calls."""

    def __init__(self, behaviour: Behaviour, view: View) -> None:
        self.behaviour = behaviour
        self.view = view
        self.limit = behaviour.slate.candidates
        self._quota = {source: max(1, round(share * self.limit)) for source, share in SHARES.items()}
        self._pairs = np.zeros((4, 0))  # covisit, cosine, transition, cohort, by row
        self._mark = np.zeros(0, np.int64)
        self._bits = np.zeros(0, np.uint8)
        self._blocked = np.zeros(0, bool)
        self._inside = np.zeros(0, bool)
        self._share = np.zeros(0)

    def find(self, context: Context, seen: np.ndarray | None, always: np.ndarray | None = None) -> Candidates:
        """Candidates for `context`, without those whose hash is in `seen` (uint32, any order).

        `always`, distinct rows, int32, come first whatever they are: what a feedback is about.
        """
        view = self.view
        self._fit()
        blocked = self._block(seen)
        touched = self._score_pairs(context)
        fit = self._allowed(touched)
        interest, wanted = self._interest(context)
        proposals = [
            (COVISIT, self._top(fit, 0, COVISIT)),
            (COSINE, self._top(fit, 1, COSINE)),
            (COHORT, self._top(fit, 3, COHORT)),
        ]
        popular = self._allowed(view.popular())
        for source, allowed in (
            (POPULAR, popular),
            (CONTENT, self._allowed(self._best_of(wanted))),
            (NEW, self._allowed(view.newest())),
        ):
            proposals.append((source, allowed[: self._quota[source]]))
        proposals.append((POPULAR, popular))  # what the others leave
        rows, proposed = self._merge(proposals, always)
        features = self._features(rows, interest)
        self._pairs[:, touched] = 0.0
        self._blocked[blocked] = False
        return Candidates(rows, features, proposed)

    def _fit(self) -> None:
        capacity, tokens = self.view.table.capacity, len(self.view.token_names)
        if self._pairs.shape[1] < capacity:
            self._pairs = np.zeros((4, capacity))
            self._mark = np.zeros(capacity, np.int64)
            self._bits = np.zeros(capacity, np.uint8)
            self._blocked = np.zeros(capacity, bool)
            self._inside = np.zeros(capacity, bool)
        if len(self._share) <= tokens:
            self._share = np.zeros(2 * tokens + 2)

    def _score_pairs(self, context: Context) -> np.ndarray:
        """Spread the lists of the history and of the cohorts over the scratch; the distinct rows that got a score."""
        table, pairs = self.view.table, self._pairs
        reached = []
        if len(context.rows):
            neighbours, weights = table.neighbours[context.rows], table.weights[context.rows]
            held = neighbours >= 0
            visits = weights[:, :, 0]
            total = visits.sum(axis=1) + 1.0
            likes = table.stats[:, POSITIVES]
            norm = np.sqrt(np.maximum(likes[context.rows], 1.0)[:, None] * np.maximum(likes[neighbours], 1.0))
            cosine = weights[:, :, 1] / ((norm + 1.0) * len(context.rows))
            first = held[0]
            pairs[2, neighbours[0][first]] = visits[0, first] / total[0]
            flat = neighbours[held]
            np.add.at(pairs[0], flat, (visits * (context.weights / total)[:, None])[held])
            np.add.at(pairs[1], flat, cosine[held].astype(np.float64))
            reached.append(flat)
        members = table.rows_of(cohorts(context.attributes)) if context.attributes else _NONE
        if len(members):
            neighbours, weights = table.neighbours[members], table.weights[members][:, :, 0]
            held = neighbours >= 0
            share = weights / ((weights.sum(axis=1) + 1.0) * len(members))[:, None]
            flat = neighbours[held]
            np.add.at(pairs[3], flat, share[held].astype(np.float64))
            reached.append(flat)
        return self._distinct(np.concatenate(reached)) if reached else _NONE

    def _distinct(self, rows: np.ndarray) -> np.ndarray:
        """The distinct values of `rows`, each where it stands first."""
        order = np.arange(len(rows) - 1, -1, -1)
        self._mark[rows[::-1]] = order
        return rows[self._mark[rows] == order[::-1]]

    def _block(self, seen: np.ndarray | None) -> np.ndarray:
        """Mark the rows whose hash is in `seen`; those rows."""
        if seen is None or not len(seen):
            return _NONE
        find = self.view.row_of_hash.get
        rows = np.array([row for mark in seen.tolist() if (row := find(mark)) is not None], np.int32)
        self._blocked[rows] = True
        return rows

    def _allowed(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that may be served to this user."""
        return rows[self.view.servable[rows] & ~self._blocked[rows]]

    def _top(self, rows: np.ndarray, column: int, source: int) -> np.ndarray:
        """The source's quota of `rows`, best first."""
        score = self._pairs[column, rows]
        order = np.argsort(-score, kind="stable")[: self._quota[source]]
        return rows[order[score[order] > 0]]

    def _best_of(self, tokens: list[int]) -> np.ndarray:
        return self._distinct(np.concatenate([self.view.best_of(token) for token in tokens])) if tokens else _NONE

    def _interest(self, context: Context) -> tuple[np.ndarray, list[int]]:
        """The user's content vector (unit length or zero), and the tokens whose best items are worth a look."""
        view, share = self.view, self._share
        interest = context.weights @ view.content[context.rows].astype(np.float64)
        tokens = view.tokens[context.rows]
        held = tokens >= 0
        numbers = tokens[held]
        np.add.at(share, numbers, np.broadcast_to(context.weights[:, None], tokens.shape)[held])
        stated = []
        for value in sorted(preferences(context.attributes)) if context.attributes else ():
            for number in view.tokens_of_value.get(value, ())[:4]:
                weight = 0.5 if len(context.rows) else 1.0
                interest = interest + weight * direction(view.token_names[number]) / np.sqrt(len(interest))
                share[number] += weight
                stated.append(number)
        numbers = np.unique(np.append(numbers, np.array(stated, np.int32)) if stated else numbers)
        rarity = share[numbers] / np.sqrt(1.0 + view.token_sizes[numbers])
        share[numbers] = 0.0
        best = numbers[np.argsort(-rarity, kind="stable")[:WANTED]].tolist()
        length = float(np.sqrt(interest @ interest))
        return (interest / length if length > 0 else interest), best

    def _merge(
        self, proposals: list[tuple[int, np.ndarray]], always: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All proposals, each row once, the first `limit`; `always` in front, whose bits say if it is among these."""
        parts = [rows for _, rows in proposals]
        rows = self._distinct(np.concatenate(parts))[: self.limit]
        bits, inside = self._bits, self._inside
        for source, part in proposals:
            bits[part] |= 1 << source
        proposed = bits[rows]
        for part in parts:
            bits[part] = 0
        if always is not None:
            bits[rows] = proposed
            inside[always] = True
            rest = ~inside[rows]
            inside[always] = False
            found = bits[always]  # 0 where no source proposed it in time
            bits[rows] = 0
            rows, proposed = np.concatenate([always, rows[rest]]), np.concatenate([found, proposed[rest]])
        if len(rows) < self.behaviour.slate.size:
            rest = self._fill(rows)
            rows = np.concatenate([rows, rest])
            proposed = np.concatenate([proposed, np.full(len(rest), 1 << POPULAR, np.uint8)])
        return rows, proposed

    def _fill(self, rows: np.ndarray) -> np.ndarray:
        """Where the sources gave too little for a slate: all that may be served beside `rows`, by popularity."""
        view = self.view
        rest = self._allowed(np.arange(len(view.table), dtype=np.int32))
        rest = rest[~np.isin(rest, rows)]
        order = np.argsort(-view.popularity(rest), kind="stable")
        return rest[order[: self.behaviour.slate.size - len(rows)]]

    def _features(self, rows: np.ndarray, interest: np.ndarray) -> np.ndarray:
        view, n = self.view, len(rows)
        features = np.empty((F, n))
        scores, roots, ranks = features[:SHAPED], features[SHAPED : 2 * SHAPED], features[2 * SHAPED : 3 * SHAPED]
        scores[_IN_PAIRS] = self._pairs[:, rows]
        np.maximum(view.content[rows] @ interest.astype(np.float32), 0.0, out=scores[CONTENT])
        np.divide(view.popularity(rows), view.highest_popularity(), out=scores[POPULAR])
        np.sqrt(scores, out=roots)
        order = np.argsort(-scores, axis=1, kind="stable")
        ranks[_SHAPED_ROWS, order] = 1.0 / np.arange(1.0, n + 1.0)
        ranks[scores <= 0.0] = 0.0
        stats = view.table.stats[rows]
        liked = stats[:, POSITIVES] + PRIOR_LIKES
        features[F - 2] = liked / (liked + stats[:, NEGATIVES] + PRIOR_DISLIKES)
        features[F - 1] = 1.0 / (1.0 + stats[:, POSITIVES])
        return features.T


_NONE = np.zeros(0, np.int32)
_IN_PAIRS = [COVISIT, COSINE, TRANSITION, COHORT]
_SHAPED_ROWS = np.arange(SHAPED)[:, None]
