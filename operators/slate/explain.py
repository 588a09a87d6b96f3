"""Why a slot is on a slate: the largest contributions to its logit, each with what it comes from."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.feature_space import SOURCE_OF_FEATURE, SOURCES, F
from riverrank.operators.candidates.retrieve import PAIR_RECENCY, Context
from riverrank.operators.catalogue.tokens import cohorts
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import DENSE, Inputs
from riverrank.state.item_tables import TOGETHER
from riverrank.state.records import Cause

from .rules import Rules

MOST = 3
HISTORY, CONTENT, COHORT, POPULARITY = "because_of_your_history", "like_your_history", "cohort", "popular"
RULE, NOVELTY, LEARNER = "rule", "novelty", "learner"
TOLD_BY: Mapping[str, str] = {  # the reason that a source's features tell; those of any other tell its own name
    "covisit": HISTORY,
    "cosine": HISTORY,
    "embedding": HISTORY,
    "sessions": HISTORY,
    "content": CONTENT,
    "text": CONTENT,
    "interest": CONTENT,
    "cohort": COHORT,
    "popular": POPULARITY,
}
_OF_FEATURE = [TOLD_BY.get(SOURCES[source], SOURCES[source]) for source in SOURCE_OF_FEATURE]
CODES = (*dict.fromkeys([POPULARITY, *_OF_FEATURE]), RULE, NOVELTY, LEARNER)
_GROUPS = np.zeros((F, len(CODES)))
_GROUPS[range(F), [CODES.index(code) for code in _OF_FEATURE]] = 1.0
Told = tuple[str, str | None, str | None]  # a reason's code, item and value
_UNTOLD: Told = (HISTORY, None, None)
_BECAUSE = tuple(  # in the order of INTERACTIONS
    f"because_you_{verb}" for verb in ("viewed", "clicked", "liked", "disliked", "carted", "bought", "rated")
)
_HISTORY, _CONTENT, _COHORT, _RULE = (CODES.index(code) for code in (HISTORY, CONTENT, COHORT, RULE))


class Parts(NamedTuple):
    """What the logits of p slots are made of: with `rest`, float64 (p,), each row of `weights` sums to the logit.

    `weights` float64 (p, len(CODES) + t): by reason, then by the item's own tokens. What all slots have alike, the
    intercept and the ranker's bias, is in `rest`.
    """

    weights: np.ndarray
    rest: np.ndarray


def parts_of(
    dense: np.ndarray,
    tokens: np.ndarray,
    inputs: Inputs,
    positions: np.ndarray,
    ranker: np.ndarray,
    logits: np.ndarray,
    rule: np.ndarray,
    novelty: np.ndarray,
) -> Parts:
    """The parts of `logits`, float64 (p,), of the slots at `positions` among the candidates.

    `dense` and `tokens` are the learner's (see Learner.contributions); the part of the ranker's logit is spread over
    the features by its weights, `ranker` float64 (F,). `rule` and `novelty`, float64 (p,), are what was added to the
    learner's logits. What no coordinate tells and slots do not have alike is a reason as a whole: that of a learner
    which is not linear.
    """
    x = inputs.dense[positions]
    most = int(np.abs(x[:, 0]).argmax())
    share = dense[most, 0] / x[most, 0] if x[most, 0] else 0.0
    by_feature = dense[:, 1:DENSE] + x[:, 1:] * (share * ranker)
    weights = np.concatenate([by_feature @ _GROUPS, tokens], axis=1)
    weights[:, _RULE] = rule
    weights[:, CODES.index(NOVELTY)] = novelty
    rest = logits - weights.sum(axis=1)
    if np.ptp(rest) > 1e-6:
        weights[:, CODES.index(LEARNER)] = rest
        rest = np.zeros(len(rest))
    return Parts(weights, rest)


class Explainer:
    """Names reasons. Holds a scratch array, which is -1 between calls."""

    def __init__(self, index: ItemIndex, rules: Rules) -> None:
        self.index = index
        self.rules = rules
        self._slot = np.zeros(0, np.int32)  # by row; the last place is for -1

    def causes(
        self, context: Context, rows: np.ndarray, weights: np.ndarray, explored: np.ndarray, pins: list[str]
    ) -> list[tuple[Cause, ...]]:
        """The reasons of the slots of `rows`: the largest of their `weights` (see Parts), MOST at most, one at least.

        What is not above 0 is a reason only where nothing is. `pins` are the rules that pinned the first slots. A slot
        that is pinned or `explored` says that first: it is why it stands there, and no part of its score.
        """
        told = np.where(weights == 0.0, -np.inf, weights)
        told[:, 0] = weights[:, 0]  # that nobody knows it can be said of any item
        strongest = np.argsort(-told, axis=1)[:, :MOST]
        strength = told[np.arange(len(rows))[:, None], strongest].round(4).tolist()
        tokens = self.index.tokens[rows].tolist()
        nearest = self._nearest(context, rows)
        by_code = self._by_code(context)
        causes = []
        for slot, columns in enumerate(strongest.tolist()):
            named = [Cause(RULE, None, pins[slot])] if slot < len(pins) else []
            if explored[slot]:
                named.append(Cause("exploration"))
            for column, weight in zip(columns, strength[slot], strict=True):
                if weight <= 0.0 and named:
                    break
                if column == _HISTORY:
                    code, item_id, value = nearest[slot]
                elif column < len(CODES):
                    code, item_id, value = by_code[column]
                    if column == _RULE:
                        value = self.rules.foremost(int(rows[slot]))
                else:
                    name = self.index.token_names[tokens[slot][column - len(CODES)]]
                    (code, _, value), item_id = name.partition("="), None
                named.append(Cause(code, item_id, value, weight))
            causes.append(tuple(named))
        return causes

    def _by_code(self, context: Context) -> list[Told]:
        told: list[Told] = [(code, None, None) for code in CODES]
        if not len(context.rows):
            told[_CONTENT] = ("stated_preference", None, None)
        if context.attributes:
            told[_COHORT] = (COHORT, None, next((name[1:] for name in cohorts(context.attributes)), None))
        return told

    def _nearest(self, context: Context, rows: np.ndarray) -> list[Told]:
        """For each row, the interaction of the history, with its item, whose list gives it the most, if any does."""
        if not len(context.rows):
            return [_UNTOLD] * len(rows)
        table = self.index.table
        if len(self._slot) <= table.capacity:
            self._slot = np.full(table.capacity + 1, -1, np.int32)
        self._slot[rows] = np.arange(len(rows))
        slots = self._slot[table.neighbours[context.rows]].ravel()
        self._slot[rows] = -1
        visits = table.weights[context.rows]
        recency = np.float32(PAIR_RECENCY) ** np.arange(len(context.rows), dtype=np.float32)
        shares = recency[:, None] / (np.einsum("hnk->hk", visits) + 1.0)
        shares[:, TOGETHER] = 0.0  # only what came after, and before, as Retriever spreads it
        met = (slots >= 0).nonzero()[0]
        lists = met // visits.shape[1]
        given = np.zeros((len(rows), len(context.rows)), np.float32)
        given[slots[met], lists] = np.einsum("hnk,hk->hn", visits, shares).ravel()[met]
        most = given.argmax(axis=1).tolist()
        is_met = given.any(axis=1).tolist()
        ids = [table.ids[row] for row in context.rows.tolist()]
        return [
            (_BECAUSE[context.kinds[k]], ids[k], None) if some else _UNTOLD
            for k, some in zip(most, is_met, strict=True)
        ]
