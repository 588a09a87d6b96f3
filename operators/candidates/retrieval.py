"""Candidates for a user, and the features that order them. The same code serves RANKER and RECOMMEND.

What is proposed, and what is known of a candidate, is the business of the sources.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour

from . import registry
from .context import NONE, Context
from .features import SHAPES, feature_space, shape, shape_found
from .merging import gather, merge
from .query import Query
from .source import Source
from .sources.covisit import Covisit

NO_SCORES = np.zeros(0)
FILLER = "popular"  # the source whose list is taken on with where the others leave room


class Candidates(NamedTuple):
    """`rows` int32 (c,); `features` float64 (c, F); `proposed` uint32 (c,), bit s set by source s, 0 by none; `best`
    float64 (S,), the highest of each score.
    """

    rows: np.ndarray
    features: np.ndarray
    proposed: np.ndarray
    best: np.ndarray = NO_SCORES

    def at(self, positions: np.ndarray) -> "Candidates":
        """Those at `positions` alone."""
        return Candidates(self.rows[positions], self.features[positions], self.proposed[positions], self.best)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows`, which are all among the candidates, stand: int64."""
        return (self.rows[:, None] == rows).argmax(axis=0)


class Retriever:
    """Finds candidates in an index. Holds scratch arrays, which are as new between calls."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex) -> None:
        self.behaviour = behaviour
        self.index = index
        self.limit = behaviour.slate.candidates
        sources = registry.SOURCES
        self.features = feature_space(sources)
        self._plan(sources)
        self.query = Query(index, self.limit, len(self._column_scores))
        self._marked = np.zeros(0, np.int32)  # by row, -1 between calls

    def find(self, context: Context, seen: np.ndarray | None, always: np.ndarray | None = None) -> Candidates:
        """Candidates for `context`, without those whose hash is in `seen` (uint32, any order).

        `always`, distinct rows, int32, are among them whatever they are, such as what a feedback is about. Those that
        no source proposed stand last, and change nothing for the others.
        """
        self._reach(context, seen)
        rows, proposed = self._merge(NONE if always is None else always)
        count = int(np.count_nonzero(proposed)) if always is not None else len(rows)
        features, best = self._features(rows, count, None)
        self.query.reached.clear()
        return Candidates(rows, features, proposed, best)

    def describe(self, context: Context, rows: np.ndarray, best: np.ndarray) -> np.ndarray:
        """The features of `rows`, int32 (n,), distinct, as candidates of `context` beside those with the `best` scores:
        float64 (n, F).
        """
        self._reach(context, None)
        features, _ = self._features(rows, len(rows), best)
        self.query.reached.clear()
        return features

    def strongest_history(self, context: Context, rows: np.ndarray) -> np.ndarray:
        """For each of `rows`, int32 (p,), distinct, the position in `context.rows` of the item whose list gives it the
        most, -1 where none gives anything: int64 (p,).
        """
        if not len(context.rows):
            return np.full(len(rows), -1, np.int64)
        self.query.ask(context, None)
        return self._covisit.strongest(self.query, rows)

    def _plan(self, sources: tuple[Source, ...]) -> None:
        """Say once which source is asked what, and in which columns its scores stand."""
        asked = registry.asked(self.behaviour.sources.off)
        starts = np.cumsum([0, *(len(source.scores) for source in sources)]).tolist()
        self._relative = np.array([score.relative for source in sources for score in source.scores])
        self._covisit = next((source for source in sources if isinstance(source, Covisit)), Covisit())
        self._reaching: list[tuple[Source, int]] = []
        self._describing: list[tuple[Source, int]] = []
        self._filling: list[tuple[Callable[[Query, np.ndarray, np.ndarray, int], None], int]] = []
        self._ranking: list[tuple[Source, int]] = []  # with the number of its proposal
        column_scores: list[int] = []
        proposals: list[tuple[int, int, int]] = []  # column of the reached or -1, quota, bit
        extra = len(SHAPES) * starts[-1]
        filler = 0  # its bit
        for number, source in enumerate(sources):
            for feature in source.features:
                self._filling.append((feature.fill, extra))
                extra += 1
            if not asked[number]:
                continue
            quota, bit = max(1, round(source.quota * self.limit)) if source.quota else 0, 1 << number
            if source.ranks and quota:
                self._ranking.append((source, len(proposals)))
                proposals.append((-1, quota, bit))
            if source.reaches:
                self._reaching.append((source, len(column_scores)))
                for score in range(starts[number], starts[number + 1]):
                    if quota:
                        proposals.append((len(column_scores), quota, bit))
                    column_scores.append(score)
            if source.describes:
                self._describing.append((source, starts[number]))
            if source.name == FILLER:
                filler = bit
        if filler:
            proposals.append((-1, self.limit, filler))
        self._column_scores = np.array(column_scores, np.int32)
        self._columns, self._quotas, bits = (
            np.array(part, np.int64) for part in zip(*(proposals or [(-1, 1, 0)]), strict=True)
        )
        self._bits = bits.astype(np.uint32)
        self._begins, self._ends = np.zeros(len(bits), np.int64), np.zeros(len(bits), np.int64)

    def _reach(self, context: Context, seen: np.ndarray | None) -> None:
        query = self.query
        query.ask(context, seen)
        for source, column in self._reaching:
            if source.applies(query):
                source.reach(query, column)

    def _merge(self, always: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The proposed rows, each once, and the bits of the sources that propose each."""
        query, reached = self.query, self.query.reached
        begins, ends = self._begins, self._ends
        begins[:] = ends[:] = 0
        lists: list[np.ndarray] = [NONE]
        end = 0
        for source, number in self._ranking:
            if source.applies(query):
                ranked = source.rank(query)
                lists.append(ranked)
                begins[number], end = end, end + len(ranked)
                ends[number] = end
                if source.name == FILLER:
                    begins[-1], ends[-1] = begins[number], end
        if len(self._marked) < self.index.table.capacity:
            self._marked = np.full(self.index.table.capacity, -1, np.int32)
        rows, proposed = merge(
            self._columns,
            self._quotas,
            self._bits,
            np.concatenate(lists),
            begins,
            ends,
            reached.rows,
            reached.scores,
            reached.n,
            *query.allowed.arrays,
            self._marked,
            self.limit,
            always,
        )
        if len(rows) - len(always) < self.behaviour.slate.size:
            return self._filled(rows, proposed)
        return rows, proposed

    def _filled(self, rows: np.ndarray, proposed: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the sources gave too little for a slate: with all that may be served beside it, by popularity."""
        index, n = self.index, int(np.count_nonzero(proposed))
        wanted = self.behaviour.slate.size - n
        rest = index.by_popularity()
        rest = rest[index.servable[rest]]
        seen = self.query.allowed
        if seen.mask:
            rest = rest[~np.isin(index.hash[rest], seen.table[: seen.mask + 1])]
        rest = rest[~np.isin(rest, rows)][: max(0, wanted)]
        bit = 1 << self.features.sources.index(FILLER)
        rows = np.concatenate([rows[:n], rest, rows[n:]])
        return rows, np.concatenate([proposed[:n], np.full(len(rest), bit, np.uint32), proposed[n:]])

    def _features(self, rows: np.ndarray, proposed: int, best: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The features of `rows`, of which the first `proposed` have the `best` of each score, if none is given."""
        query, reached = self.query, self.query.reached
        scores = gather(rows, reached.slot, reached.scores, self._column_scores, len(self._relative))
        for source, column in self._describing:
            if source.applies(query):
                source.describe(query, rows, proposed, scores, column)
        features = np.empty((len(rows), self.features.size))
        if best is None:
            best = shape_found(scores, proposed, self._relative, features)
        else:
            shape(scores, best, self._relative, features)
        for fill, column in self._filling:
            fill(query, rows, features, column)
        return features, best
