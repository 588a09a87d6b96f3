"""Candidates for a user, and the features that order them. The same code serves RANKER and RECOMMEND.

Every source gives candidates a score, and proposes those that it scores best; a feature is a score in one shape.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from riverrank.operators.catalogue.tokens import cohorts, preferences
from riverrank.operators.catalogue.vectors import direction
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.embedding import recency
from riverrank.state.item_tables import AFTER, NEGATIVES, POSITIVES, TOGETHER
from riverrank.state.messages import Seen

from .feature_space import feature_space
from .features import (
    COHORT,
    COLD,
    CONTENT,
    COSINE,
    COVISIT,
    EMBEDDING,
    LIKES,
    NEW,
    NEWNESS,
    POPULAR,
    REPEAT,
    SCORED,
    SCORES,
    SESSIONS,
    SOURCE_OF_SCORE,
    SOURCES,
    TRENDING,
    WARM,
    F,
)

SHARES = {  # of the candidates, by source, in the order in which they are taken; many are proposed by several
    NEW: 0.05,
    TRENDING: 0.05,
    POPULAR: 0.1,
    COHORT: 0.1,
    CONTENT: 0.08,
    REPEAT: 0.3,
    EMBEDDING: 0.35,
    SESSIONS: 0.2,
    COVISIT: 0.35,  # of what came after, and as much again of what came before
    COSINE: 0.15,
}
PAIR_RECENCY = 0.7  # weight of an interaction beside the next newer one, for what came after and before it
HISTORY_RECENCY = 0.9  # the same for its content
REPEAT_RECENCY = 0.9  # the same for what may be taken again
COSINE_SHRINKAGE = 3.0
WANTED = 4  # tokens whose best items are proposed
PRIOR_LIKES, PRIOR_DISLIKES = 3.0, 1.0
PRIOR_VARIANCE = 0.05  # variance of an interest in content before any was seen, in each dimension times DIMENSIONS
LEAST_SHARE = 0.01  # what the logarithm of a share is cut off at
_IN_PAIRS = [SCORES.index(name) for name in ("after", "before", "cosine", "cohort", "repeat", "sessions")]
_AFTER, _BEFORE, _COSINE, _COHORT, _REPEAT, _SESSIONS = range(len(_IN_PAIRS))
_EMBEDDING, _CONTENT, _TEXT, _INTEREST, _POPULAR, _TRENDING = (
    SCORES.index(name) for name in ("embedding", "content", "text", "interest", "popular", "trending")
)
_NONE = np.zeros(0, np.int32)


class Context(NamedTuple):
    """What a user is asked with: the history rows, distinct, newest first, int32 (h,), their weights, float32 (h,) of
    sum 1, and the types of the interactions, as `Seen` has them.

    `again` are the rows of the whole history, newest first, with repetitions, where those may be recommended. `own` is
    the slot of the user's own session, -1 where there is none.
    """

    rows: np.ndarray
    weights: np.ndarray
    attributes: dict[str, Any]
    kinds: tuple[int, ...] = ()
    again: np.ndarray = _NONE
    own: int = -1

    @property
    def segment(self) -> int:
        """COLD or WARM: whose weights of the ranker are asked."""
        return WARM if len(self.rows) else COLD


class Candidates(NamedTuple):
    """`rows` int32 (c,); `features` float64 (c, F); `proposed` uint16 (c,), bit s set by source s, 0 by none."""

    rows: np.ndarray
    features: np.ndarray
    proposed: np.ndarray

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows`, which are all among the candidates, stand: int64."""
        return (self.rows[:, None] == rows).argmax(axis=0)


def context_of(
    index: ItemIndex, feedback_history: Sequence[Seen], attributes: dict[str, Any], user_id: str = ""
) -> Context:
    """The context from a history (newest last): its last `signals.window` distinct positive items that are known."""
    find = index.table.rows.get
    window = index.behaviour.signals.window
    rows: dict[int, int] = {}
    for seen in reversed(feedback_history):
        if seen.reward > 0 and (row := find(seen.item_id)) is not None:
            rows.setdefault(row, seen.kind)
            if len(rows) == window:
                break
    again = _NONE
    if index.behaviour.slate.repeat:
        again = index.table.rows_of(seen.item_id for seen in reversed(feedback_history) if seen.reward > 0)
    weights = HISTORY_RECENCY ** np.arange(len(rows), dtype=np.float32)
    weights /= max(weights.sum(), 1e-9)
    own = index.sessions.slot(user_id)
    return Context(np.fromiter(rows, np.int32, len(rows)), weights, attributes, tuple(rows.values()), again, own)


class NeighbourScores(NamedTuple):
    """What lists give: distinct `rows` int32 (m,), `scores` float64 (len(_IN_PAIRS), m + 1), the last column zeros."""

    rows: np.ndarray
    scores: np.ndarray


class Retriever:
    """Finds candidates in a index. Holds scratch arrays, which are as new between calls."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex) -> None:
        self.behaviour = behaviour
        self.index = index
        self.features = feature_space()
        self.limit = behaviour.slate.candidates
        self.asked = np.array([getattr(behaviour.sources, name) for name in SOURCES])
        self.silent = np.flatnonzero(~self.asked[list(SOURCE_OF_SCORE)])  # scores of sources that are not asked
        self._quota = {s: max(1, round(share * self.limit)) for s, share in SHARES.items() if self.asked[s]}
        window = np.arange(behaviour.signals.window)
        self._pair_weights = (PAIR_RECENCY**window).astype(np.float32)
        self._place = np.zeros(0, np.intp)  # by row, in what lists give; -1 for what is not there
        self._mark = np.zeros(0, np.int64)
        self._bits = np.zeros(0, np.uint16)
        self._blocked = np.zeros(0, bool)
        self._share = np.zeros(0)

    def find(self, context: Context, seen: np.ndarray | None, always: np.ndarray | None = None) -> Candidates:
        """Candidates for `context`, without those whose hash is in `seen` (uint32, any order).

        `always`, distinct rows, int32, are among them whatever they are, such as what a feedback is about. Those that
        nobody proposed stand last, and change nothing for the others.
        """
        self._fit()
        blocked = self._block(seen)
        spread = self._spread(context)
        user = recency(len(context.rows)) @ self.index.table.context[context.rows] if len(context.rows) else None
        interest, wanted = self._interest(context)
        rows, proposed = self._merge(self._proposals(context, spread, user, wanted), always)
        features = self._features(rows, int(np.count_nonzero(proposed)), context, spread, user, interest)
        self._place[spread.rows] = -1
        self._blocked[blocked] = False
        return Candidates(rows, features, proposed)

    def strongest_history(self, context: Context, rows: np.ndarray) -> np.ndarray:
        """For each of `rows`, int32 (p,), the position in `context.rows` of the item whose list gives it the most to
        co-visitation's features, -1 where none gives anything: int64 (p,).
        """
        positions = np.full(len(rows), -1, np.int64)
        if not len(context.rows) or not len(rows):
            return positions
        table = self.index.table
        visits = table.weights[context.rows]
        recency = np.float32(PAIR_RECENCY) ** np.arange(len(context.rows), dtype=np.float32)
        shares = recency[:, None] / (np.einsum("hnk->hk", visits) + 1.0)
        shares[:, TOGETHER] = 0.0
        given = np.einsum("hnk,hk->hn", visits, shares)
        for slot, row in enumerate(rows.tolist()):
            by_list = np.where(table.neighbours[context.rows] == row, given, 0.0).sum(axis=1)
            if by_list.any():
                positions[slot] = int(by_list.argmax())
        return positions

    def _fit(self) -> None:
        capacity, tokens = self.index.table.capacity, len(self.index.token_names)
        if len(self._place) < capacity:
            self._place = np.full(capacity, -1, np.intp)
            self._mark = np.zeros(capacity, np.int64)
            self._bits = np.zeros(capacity, np.uint16)
            self._blocked = np.zeros(capacity, bool)
        if len(self._share) <= tokens:
            self._share = np.zeros(2 * tokens + 2)

    def _spread(self, context: Context) -> NeighbourScores:
        """The scores that the lists of the history and of the cohorts give."""
        table = self.index.table
        parts: list[tuple[np.ndarray, tuple[tuple[int, np.ndarray], ...]]] = []  # rows, and what columns give them
        if n := len(context.rows):
            neighbours, weights = table.neighbours[context.rows], table.weights[context.rows]
            held = neighbours >= 0
            recent = self._pair_weights[:n, None]
            totals = np.einsum("hnk->hk", weights)  # as a sum would be, but sooner
            shares = recent / ((totals[:, :TOGETHER] + 1.0) * recent.sum())
            likes = np.maximum(table.stats[:, POSITIVES][neighbours], 1.0)
            own = np.maximum(table.stats[context.rows, POSITIVES], 1.0)
            cosine = weights[:, :, TOGETHER] / ((np.sqrt(own[:, None] * likes) + COSINE_SHRINKAGE) * n)
            ordered = ((column, weights[:, :, column] * shares[:, column, None]) for column in (_AFTER, _BEFORE))
            given = tuple((column, part[held]) for column, part in (*ordered, (_COSINE, cosine)))
            parts.append((neighbours[held], given))
            if SESSIONS in self._quota:
                near = self.index.sessions.near(context.rows, own, context.own)
                parts.append((near.rows, ((_SESSIONS, near.scores),)))
        members = table.rows_of(cohorts(context.attributes)) if context.attributes else _NONE
        if len(members):
            neighbours, weights = table.neighbours[members], table.weights[members][:, :, AFTER]
            held = neighbours >= 0
            share = weights / ((weights.sum(axis=1) + 1.0) * len(members))[:, None]
            parts.append((neighbours[held], ((_COHORT, share[held]),)))
        if len(context.again):
            parts.append((context.again, ((_REPEAT, REPEAT_RECENCY ** np.arange(len(context.again))),)))
        rows = self._distinct(np.concatenate([_NONE, *(reached for reached, _ in parts)]))
        m = len(rows)
        self._place[rows] = np.arange(m)
        scores = np.zeros((len(_IN_PAIRS), m + 1))  # the last column is that of every other row
        for reached, given in parts:
            positions = self._place[reached]
            for column, part in given:
                scores[column, :m] += np.bincount(positions, part, m)
        return NeighbourScores(rows, scores)

    def _proposals(
        self, context: Context, spread: NeighbourScores, user: np.ndarray | None, wanted: list[int]
    ) -> list[tuple[int, np.ndarray]]:
        """What each source proposes: its number, and rows, in the order in which they are taken."""
        index, quota = self.index, self._quota
        found: dict[int, list[np.ndarray]] = {source: [] for source in quota}
        allowed = self._is_allowed(spread.rows).nonzero()[0]
        fit, scores = spread.rows[allowed], spread.scores[:, allowed]
        of_pairs = ((_AFTER, COVISIT), (_BEFORE, COVISIT), (_COSINE, COSINE), (_COHORT, COHORT), (_SESSIONS, SESSIONS))
        for column, source in of_pairs:
            if source in quota:
                found[source].append(_best(fit, scores[column], quota[source]))
        if REPEAT in quota and len(context.again):
            found[REPEAT].append(_best(fit, scores[_REPEAT], quota[REPEAT]))
        if EMBEDDING in quota and user is not None:
            found[EMBEDDING].append(self._nearest(user, quota[EMBEDDING]))
        lists = {POPULAR: index.popular, TRENDING: index.trending, NEW: index.newest}
        listed = {source: self._allowed(order()) for source, order in lists.items() if source in quota}
        for source, rows in listed.items():
            found[source].append(rows[: quota[source]])
        if CONTENT in quota:
            found[CONTENT].append(self._allowed(self._best_of(wanted))[: quota[CONTENT]])
        proposals = [(source, rows) for source, parts in found.items() for rows in parts if len(rows)]
        if POPULAR in quota:
            proposals.append((POPULAR, listed[POPULAR]))  # what the others leave
        return proposals

    def _nearest(self, user: np.ndarray, most: int) -> np.ndarray:
        """The rows of the pool that the embedding ranks best and that are allowed."""
        pool = self.index.pool()
        if not len(pool.rows):
            return _NONE
        score = pool.target @ user + pool.bias
        score[~self._is_allowed(pool.rows)] = -np.inf
        if len(score) > most:
            best = np.argpartition(-score, most)[:most]
            return pool.rows[best[np.isfinite(score[best])]]
        return pool.rows[np.isfinite(score)]

    def _distinct(self, rows: np.ndarray) -> np.ndarray:
        """The distinct values of `rows`, each where it stands first."""
        order = np.arange(len(rows) - 1, -1, -1)
        self._mark[rows[::-1]] = order
        return rows[self._mark[rows] == order[::-1]]

    def _block(self, seen: np.ndarray | None) -> np.ndarray:
        """Mark the rows whose hash is in `seen`; those rows."""
        if seen is None or not len(seen):
            return _NONE
        find = self.index.row_of_hash.get
        rows = np.array([row for mark in seen.tolist() if (row := find(mark)) is not None], np.int32)
        self._blocked[rows] = True
        return rows

    def _allowed(self, rows: np.ndarray) -> np.ndarray:
        """Those of `rows` that may be served to this user."""
        return rows[self._is_allowed(rows)]

    def _is_allowed(self, rows: np.ndarray) -> np.ndarray:
        return self.index.servable[rows] > self._blocked[rows]

    def _best_of(self, tokens: list[int]) -> np.ndarray:
        return self._distinct(np.concatenate([self.index.best_of(token) for token in tokens])) if tokens else _NONE

    def _interest(self, context: Context) -> tuple[np.ndarray, list[int]]:
        """The user's content vector (unit length or zero), and the tokens whose best items are worth a look."""
        index, share = self.index, self._share
        weights = context.weights
        interest = weights @ index.content[context.rows]
        tokens = index.tokens[context.rows]
        held = tokens >= 0
        numbers = tokens[held]
        np.add.at(share, numbers, np.broadcast_to(weights[:, None], tokens.shape)[held])
        stated = []
        for value in sorted(preferences(context.attributes)) if context.attributes else ():
            for number in index.tokens_of_value.get(value, ())[:4]:
                weight = 0.5 if len(context.rows) else 1.0
                interest = interest + weight * direction(index.token_names[number]) / np.float32(np.sqrt(len(interest)))
                share[number] += weight
                stated.append(number)
        numbers = np.unique(np.append(numbers, np.array(stated, np.int32)) if stated else numbers)
        rarity = share[numbers] / np.sqrt(1.0 + index.token_sizes[numbers])
        share[numbers] = 0.0
        best = numbers[np.argsort(-rarity, kind="stable")[:WANTED]].tolist()
        length = float(np.sqrt(interest @ interest))
        return (interest / length if length > 0 else interest), best

    def _merge(
        self, proposals: list[tuple[int, np.ndarray]], always: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """All proposals, each row once, the first `limit`, and at the end what of `always` is not among these."""
        bits = self._bits
        for source, part in proposals:
            bits[part] |= 1 << source
        every = np.concatenate([_NONE, *(part for _, part in proposals)])
        rows = self._distinct(every)[: self.limit]
        proposed = bits[rows]
        bits[every] = 0
        if len(rows) < self.behaviour.slate.size:
            rest = self._fill(rows)
            rows = np.concatenate([rows, rest])
            proposed = np.concatenate([proposed, np.full(len(rest), 1 << POPULAR, np.uint16)])
        if always is not None:
            bits[rows] = 1
            rest = always[bits[always] == 0]
            bits[rows] = 0
            rows = np.concatenate([rows, rest])
            proposed = np.concatenate([proposed, np.zeros(len(rest), np.uint16)])
        return rows, proposed

    def _fill(self, rows: np.ndarray) -> np.ndarray:
        """Where the sources gave too little for a slate: all that may be served beside `rows`, by popularity."""
        index = self.index
        rest = self._allowed(np.arange(len(index.table), dtype=np.int32))
        rest = rest[~np.isin(rest, rows)]
        order = np.argsort(-index.popularity(rest), kind="stable")
        return rest[order[: self.behaviour.slate.size - len(rows)]]

    def _features(  # noqa: PLR0917 - all that features are made of
        self,
        rows: np.ndarray,
        proposed: int,
        context: Context,
        spread: NeighbourScores,
        user: np.ndarray | None,
        interest: np.ndarray,
    ) -> np.ndarray:
        """The features of `rows`, of which the first `proposed` say what the best of each score is."""
        index, table, n = self.index, self.index.table, len(rows)
        features = np.zeros((F, n))
        scores = np.zeros((SCORED, n))
        scores[_IN_PAIRS] = spread.scores[:, self._place[rows]]
        if user is not None:
            logits = table.target[rows] @ user + table.bias[rows]
            np.exp(np.minimum(logits - logits[:proposed].max(initial=-np.inf), 0.0), out=scores[_EMBEDDING])
        content = index.content[rows]
        np.maximum(content @ interest, 0.0, out=scores[_CONTENT])
        if len(context.rows):
            text = context.weights @ index.text[context.rows]
            np.maximum(index.text[rows] @ text, 0.0, out=scores[_TEXT])
            scores[_INTEREST] = _interest_in(content, index.content[context.rows], context.weights)
        decayed = index.decayed(rows)
        scores[_POPULAR], scores[_TRENDING] = decayed[:, 0], decayed[:, 1]
        scores[self.silent] = 0.0
        best = scores[:, :proposed].max(axis=1, keepdims=True, initial=1e-9)
        scores[[_POPULAR, _TRENDING]] /= best[[_POPULAR, _TRENDING]]
        best[[_POPULAR, _TRENDING]] = 1.0
        root, share, log = features[:SCORED], features[SCORED : 2 * SCORED], features[2 * SCORED : 3 * SCORED]
        np.sqrt(scores, out=root)
        np.minimum(scores / best, 1.0, out=share)
        np.log1p(share * (1.0 / LEAST_SHARE), out=log)
        log *= 1.0 / np.log1p(1.0 / LEAST_SHARE)
        stats = table.stats[rows]
        liked = stats[:, POSITIVES] + PRIOR_LIKES
        features[LIKES] = liked / (liked + stats[:, NEGATIVES] + PRIOR_DISLIKES)
        features[NEWNESS] = 1.0 / (1.0 + stats[:, POSITIVES])
        return features.T


def _best(rows: np.ndarray, scores: np.ndarray, most: int) -> np.ndarray:
    """The `most` of `rows` with the highest scores above 0, in the order of `rows`."""
    if len(rows) > most:
        best = np.argpartition(-scores, most)[:most]
        best.sort()
        rows, scores = rows[best], scores[best]
    return rows[scores > 0]


def _interest_in(content: np.ndarray, history: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """How likely `content`, float32 (c, d), is under a normal density with the mean and the spread of the history's
    content, float32 (h, d), weighed: float32 (c,), 1 at the mean.
    """
    mean = weights @ history
    spread = weights @ np.square(history - mean) + PRIOR_VARIANCE / len(mean)
    return np.exp(-np.square(content - mean) @ (1.0 / spread) / len(mean))
