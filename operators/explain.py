"""Why a slot is on a slate: the largest contributions to its logit, each with what it comes from."""

import numpy as np

from ..state.records import Cause
from .features import COHORT, CONTENT, COSINE, COVISIT, POPULAR, SOURCE_OF_FEATURE, F
from .learner import DENSE, Inputs
from .retrieve import Context
from .signals import cohorts
from .view import View

MOST = 3
_VERBS = ("viewed", "clicked", "liked", "disliked", "carted", "bought", "rated")  # in the order of INTERACTIONS
_PAIRS = (COVISIT, COSINE)
HISTORY, OF_CONTENT, OF_COHORT, OF_POPULARITY, OF_NOVELTY, _OTHERS = range(6)
_GROUPS = np.zeros((F, _OTHERS))  # features by what they tell
for _feature, _source in enumerate(SOURCE_OF_FEATURE):
    _group = {CONTENT: OF_CONTENT, COHORT: OF_COHORT, POPULAR: OF_POPULARITY}.get(_source, OF_NOVELTY)
    _GROUPS[_feature, HISTORY if _source in _PAIRS else _group] = 1.0


def explain(  # noqa: PLR0917 - all that a score is made of
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
    weights = np.concatenate([by_feature @ _GROUPS, tokens], axis=1)
    nearest = _nearest(view, context, rows)
    cohort = cohorts(context.attributes)
    weights[[taken is None for taken in nearest], HISTORY] = -np.inf
    if not cohort:
        weights[:, OF_COHORT] = -np.inf
    weights[:, _OTHERS:][inputs.tokens[places] < 0] = -np.inf
    strongest = np.argsort(-weights, axis=1, kind="stable")[:, :MOST]
    strength = np.take_along_axis(weights, strongest, axis=1).round(4).tolist()
    names = view.token_names
    numbers = inputs.tokens[places].tolist()
    liked = "like_your_history" if len(context.rows) else "stated_preference"
    causes = []
    for slot, columns in enumerate(strongest.tolist()):
        named = [Cause("exploration")] if explored[slot] else []
        for column, weight in zip(columns, strength[slot], strict=True):
            if named and weight <= 0:
                break
            if column == HISTORY and (taken := nearest[slot]) is not None:
                verb = _VERBS[context.kinds[taken]]
                named.append(Cause(f"because_you_{verb}", view.table.ids[context.rows[taken]], None, weight))
            elif column == OF_COHORT:
                named.append(Cause("cohort", None, cohort[0][1:], weight))
            elif column >= _OTHERS:
                code, _, value = names[numbers[slot][column - _OTHERS]].partition("=")
                named.append(Cause(code, None, value, weight))
            else:
                named.append(
                    Cause({OF_CONTENT: liked, OF_POPULARITY: "popular"}.get(column, "new"), None, None, weight)
                )
        causes.append(tuple(named))
    return causes


def _nearest(view: View, context: Context, rows: np.ndarray) -> list[int | None]:
    """For each row, the place in the history whose list gives it the most; None where no list holds it."""
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
    return [k if best[slot, k] > 0 else None for slot, k in enumerate(from_list.tolist())]
