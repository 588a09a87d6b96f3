"""Why a slot is on a slate: the largest contributions to its logit, each with what it comes from."""

import numpy as np

from ..state.records import Cause
from .learner import DENSE, Inputs
from .retrieve import COHORT, CONTENT, COSINE, COVISIT, POPULAR, SOURCE_OF_FEATURE, TRANSITION, Context, F
from .signals import cohorts
from .view import View

MOST = 3
_PAIRS = (COVISIT, COSINE, TRANSITION)
_VERBS = {
    "view": "viewed",
    "click": "clicked",
    "like": "liked",
    "cart": "carted",
    "purchase": "bought",
    "rate": "rated",
}
_GROUPS = np.zeros((F, 5))  # features by what they tell: the history, content, cohort, popularity, novelty
for _feature, _source in enumerate(SOURCE_OF_FEATURE):
    _GROUPS[_feature, 0 if _source in _PAIRS else {CONTENT: 1, COHORT: 2, POPULAR: 3}.get(_source, 4)] = 1.0


def explain(
    view: View,
    context: Context,
    rows: np.ndarray,
    parts: tuple[np.ndarray, np.ndarray],
    ranker: np.ndarray,
    inputs: Inputs,
    places: np.ndarray,
    explored: np.ndarray,
) -> list[tuple[Cause, ...]]:
    """The causes of each slot, strongest first, MOST at most and at least one.

    `rows` are the slots' rows, `places` theirs among the candidates; `parts` what each coordinate adds to the logit
    (see Learner.contributions). The part of the ranker's logit is spread over the features by its weights.
    """
    dense, tokens = parts
    ratio = np.divide(dense[:, 0], inputs.dense[places, 0], out=np.zeros(len(rows)), where=inputs.dense[places, 0] != 0)
    by_feature = dense[:, 1:DENSE] + inputs.dense[places, 1:] * ranker * ratio[:, None]
    groups = by_feature @ _GROUPS
    nearest = _nearest(view, context, rows)
    cohort = cohorts(context.attributes)
    causes = []
    for slot in range(len(rows)):
        found: list[tuple[float, str, str | None, str | None]] = []
        history, content, of_cohort, popular, fresh = groups[slot].tolist()
        if nearest[slot] is not None:
            found.append((history, "because_you_took", nearest[slot], None))
        if cohort:
            found.append((of_cohort, "cohort", None, cohort[0][1:]))
        found.append((content, "like_your_history" if len(context.rows) else "stated_preference", None, None))
        found.append((popular, "popular", None, None))
        found.append((fresh, "new", None, None))
        for number, weight in zip(inputs.tokens[places[slot]].tolist(), tokens[slot].tolist(), strict=True):
            if number >= 0 and weight:
                code, _, value = view.token_names[number].partition("=")
                found.append((weight, code, None, value))
        found.sort(key=lambda cause: -cause[0])
        kept = [cause for cause in found[:MOST] if cause[0] > 0] or found[:1]
        named = [Cause(code, item, value, round(weight, 4)) for weight, code, item, value in kept]
        if explored[slot]:
            named.insert(0, Cause("exploration"))
        causes.append(tuple(named))
    return causes


def _nearest(view: View, context: Context, rows: np.ndarray) -> list[str | None]:
    """For each row, the item of the history whose list gives it the most; None where no list holds it."""
    if not len(context.rows):
        return [None] * len(rows)
    table = view.table
    neighbours = table.neighbours[context.rows]
    strength = table.weights[context.rows, :, 0] * context.weights[:, None].astype(np.float32)
    order = np.argsort(rows)
    spot = np.searchsorted(rows, neighbours, sorter=order).clip(0, len(rows) - 1)
    match = rows[order[spot]] == neighbours
    lists, places = np.nonzero(match)
    best = np.zeros((len(rows), len(context.rows)), np.float32)
    best[order[spot[lists, places]], lists] = strength[lists, places]
    from_list = best.argmax(axis=1)
    return [table.ids[context.rows[k]] if best[slot, k] > 0 else None for slot, k in enumerate(from_list.tolist())]
