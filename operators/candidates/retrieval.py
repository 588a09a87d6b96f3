"""Candidates for a user, and the features that order them. The same code serves RANKER and RECOMMEND.

What is proposed, and what is known of a candidate, is the business of the sources.
"""

from typing import NamedTuple

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import Feedback

from . import registry
from .context import NONE, Context, context_of
from .features import Shaping, feature_space, shape, shape_found
from .merging import gather, merge
from .plan import FILL, FILLER, Plan, plan_of, starts_of
from .query import Query

NO_SCORES = np.zeros(0)
NOWHERE = np.zeros(0, np.int64)


class Candidates(NamedTuple):
    """`rows` int32 (c,); `features` float32 (c, F); `proposed` uint32 (c,), bit s set by source s of
    `Retriever.source_names`, 0 by none; `best` float64 (s,), the highest of each score that has shapes.
    """

    rows: np.ndarray
    features: np.ndarray
    proposed: np.ndarray
    best: np.ndarray = NO_SCORES

    @property
    def size(self) -> int:
        """How many they are."""
        return len(self.rows)

    def at(self, positions: np.ndarray) -> "Candidates":
        """Those at `positions` alone."""
        return Candidates(self.rows[positions], self.features[positions], self.proposed[positions], self.best)

    def positions(self, rows: np.ndarray) -> np.ndarray:
        """Where `rows`, which are all among the candidates, stand: int64."""
        if not len(rows):
            return NOWHERE
        return (self.rows[:, None] == rows).argmax(axis=0)


class Retriever:
    """Finds candidates in an index. Holds scratch arrays, which are as new between calls."""

    def __init__(self, behaviour: Behaviour, index: ItemIndex) -> None:
        self.behaviour = behaviour
        self.index = index
        self._sources = sources = registry.sources_of(behaviour)
        self._asked = registry.switched_on(behaviour.sources.off, sources)
        self.features = feature_space(sources)
        self.source_names = (*self.features.sources, FILL)
        on = [name for name, asked in zip(self.features.sources, self._asked, strict=True) if asked]
        self._fill_bit = np.uint32(1 << self.source_names.index(FILLER if FILLER in on else FILL))
        scores = [score for source in sources for score in source.scores]
        self._shaping = Shaping.of(scores)
        self._plans: dict[tuple[bool, bool, bool, bool, int], Plan] = {}  # by kind of context, and how many are wanted
        column_scores = [
            number
            for source, at in zip(sources, starts_of(sources), strict=True)
            for number in range(at, at + len(source.reached_scores))
        ]
        self._column_scores = np.array(column_scores, np.int32)
        self.query = Query(index, behaviour.slate.candidates, len(column_scores))
        self._marked = np.zeros(0, np.int32)  # by row, -1 between calls
        self._scores = np.zeros((0, len(scores)), np.float32)

    def find(self, context: Context, seen: np.ndarray | None, always: np.ndarray | None = None) -> Candidates:
        """Candidates for `context`, without those whose hash is in `seen` (uint32, any order).

        `always`, distinct rows, int32, are among them whatever they are, such as what a feedback is about. Those that
        no source proposed stand last, and change nothing for the others.
        """
        plan = self._reach(context, seen)
        rows, proposed, scores = self._merge(plan, NONE if always is None else always)
        count = int(np.count_nonzero(proposed)) if always is not None else len(rows)
        self._describe(plan, rows, count, scores)
        features, best = np.empty((len(rows), self.features.size), np.float32), np.empty(len(self._shaping.shaped))
        shape_found(scores, count, *self._shaping, best, features)
        return Candidates(rows, features, proposed, best)

    def find_shown(self, rows: np.ndarray, ts: int, feedback: Feedback) -> tuple[Context, Candidates]:
        """`rows`, distinct, int32, in that order, as candidates beside all that there are now, and the context that
        they are candidates of: the user of `feedback` as they were when these were shown, at `ts`.
        """
        history, event = feedback.history.before(ts), feedback.event
        shown_in = event.context if event.ts == ts else None  # else the event is what came after
        context = context_of(self.index, history, feedback.attributes, event.user_id, shown_in)
        candidates = self.find(context, None, rows)
        return context, candidates.at(candidates.positions(rows))

    def describe(self, context: Context, rows: np.ndarray, beside: Candidates) -> np.ndarray:
        """The features of `rows`, int32 (n,), distinct, as candidates of `context` `beside` others, which all were
        found for it: float32 (n, F).
        """
        plan, found = self._reach(context, None), beside.size
        every = np.concatenate([beside.rows, rows])
        scores = self._room(len(every))
        gather(every, scores, self._column_scores, *self.query.reached.arrays)
        self.query.reached.n = 0
        self._describe(plan, every, found, scores)
        features = np.empty((len(rows), self.features.size), np.float32)
        shape(scores[found:], beside.best, *self._shaping, features)
        return features

    def unmarked(self) -> np.ndarray:
        """-1 by row: int32, and so it must be left."""
        if len(self._marked) < self.index.table.capacity:
            self._marked = np.full(self.index.table.capacity, -1, np.int32)
        return self._marked

    def _plan(self, context: Context) -> Plan:
        """What is asked for a context of this kind."""
        known = len(context.rows) > 0, bool(context.attributes), len(context.again) > 0, bool(context.said)
        kind = *known, self.query.limit
        plan = self._plans.get(kind)
        if plan is None:
            plan = self._plans[kind] = plan_of(self._sources, self._asked, self.query)
        return plan

    def _reach(self, context: Context, seen: np.ndarray | None) -> Plan:
        """Ask all sources for what they reach; the plan of what else to ask them."""
        query = self.query
        query.begin(context, seen)
        plan = self._plan(context)
        for reach, column in plan.reaching:
            reach(query, column)
        return plan

    def _merge(self, plan: Plan, always: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The proposed rows, each once, and then `always`; the bits of the sources that propose each; and the scores
        that they were reached with. Nothing is reached any more.
        """
        query, reached = self.query, self.query.reached
        room = max(query.limit, self.behaviour.slate.size) + len(always)
        rows, proposed, scores = np.empty(room, np.int32), np.zeros(room, np.uint32), self._room(room)
        n = merge(
            plan.columns,
            plan.quotas,
            plan.bits,
            tuple([rank(query) for rank in plan.ranking]),
            *query.allowed.arrays,
            self.unmarked(),
            query.limit,
            query.popular(),
            self._fill_bit,
            self.behaviour.slate.size,
            always,
            rows,
            proposed,
            scores,
            self._column_scores,
            *reached.arrays,
        )
        reached.n = 0
        return (rows, proposed, scores) if n == room else (rows[:n], proposed[:n], scores[:n])

    def _room(self, n: int) -> np.ndarray:
        """Room for the scores of `n` candidates: float32 (n, S), whatever they were before."""
        if len(self._scores) < n:
            self._scores = np.zeros((n, self._scores.shape[1]), np.float32)
        return self._scores[:n]

    def _describe(self, plan: Plan, rows: np.ndarray, proposed: int, scores: np.ndarray) -> None:
        """Have sources write what they know of `rows`, of which the first `proposed` are proposed, to `scores`."""
        query = self.query
        for describe, column in plan.describing:
            describe(query, rows, proposed, scores, column)
