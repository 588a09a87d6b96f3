"""Why a slot is on a slate: the largest contributions to its logit, each with what it comes from."""

from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.candidates.context import Context
from riverrank.operators.candidates.features import FeatureSpace
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.candidates.sources.cohort import Cohort
from riverrank.operators.candidates.sources.content import Content
from riverrank.operators.candidates.sources.context import EventContext
from riverrank.operators.candidates.sources.covisit import Covisit, strongest_list
from riverrank.operators.candidates.sources.popular import Popular
from riverrank.operators.catalogue.tokens import cohorts
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.index.text_arena import TextArena
from riverrank.operators.models.inputs import Inputs
from riverrank.operators.models.net import parts_of
from riverrank.operators.models.weights import RankerWeights
from riverrank.state.event_types import verbs
from riverrank.state.records.outgoing import Cause, to_json

from .rules import Rules, strongest_token

MOST = 3
MOST_PHRASED = 1024  # kinds of users, by what reasons are said with, that are known at a time
POPULARITY, HISTORY, CONTENT = Popular.reason, Covisit.reason, Content.reason
COHORT, CONTEXT = Cohort.reason, EventContext.reason
STATED, EXPLORATION = "stated_preference", "exploration"
RULE, NOVELTY, LEARNER = "rule", "novelty", "learner"
FLOOR = "floor"
NO_FLOORS = np.zeros(0, np.int64)
NONE = -1  # no item, no token, no phrase
UNLIKE = 1e-4  # of what is left over in slots: more is a contribution, less is rounding


class Parts(NamedTuple):
    """What the logits of p slots are made of: with `rest`, float64 (p,), each row of `weights` sums to the logit.

    `weights` float64 (p, codes + t): by the reason codes of Explainer.codes, then by the item's own tokens. What all
    slots have alike, the intercept, the ranker's bias and what its net says of nothing, is in `rest`.
    """

    weights: np.ndarray
    rest: np.ndarray


class Reasons(NamedTuple):
    """The reasons of p slots, `counts` int64 (p,) of each, strongest first, in arrays (p, MOST + 1): `phrases` int32
    are numbers of Phrases, `items` int32 the row that a reason names, `tokens` int32 the token that is its code and
    value in place of a phrase, NONE for none; `weights` float64 what it adds to the logit, NaN where it is no part of
    it. What lies beyond the slots and their counts says nothing.
    """

    counts: np.ndarray
    phrases: np.ndarray
    items: np.ndarray
    tokens: np.ndarray
    weights: np.ndarray

    @classmethod
    def room(cls, slots: int) -> "Reasons":
        """Room for those of as many slots."""
        phrases, items, tokens = (np.full((slots, MOST + 1), NONE, np.int32) for _ in range(3))
        return cls(np.zeros(slots, np.int64), phrases, items, tokens, np.zeros((slots, MOST + 1)))


class Phrases:
    """Codes, with their value where they have one, as a reason's JSON without its braces, by number of `texts`.

    >>> phrases = Phrases()
    >>> phrases.add("rule", "brand=Fox"), phrases.texts.get(0)
    (0, b'"code":"rule","value":"brand=Fox"')
    """

    def __init__(self) -> None:
        self.texts = TextArena()
        self.count = 0

    def add(self, code: str, value: str | None = None) -> int:
        """The number of a new phrase, the `count` so far."""
        self.texts.put(self.count, to_json(Cause(code, None, value))[1:-1])
        self.count += 1
        return self.count - 1


class Explainer:
    """Says what logits are made of, and names the reasons that follow. `codes` are what parts are told by: those of the
    sources of `retriever`, popularity first, and those of what is added to a learner's logit.
    """

    def __init__(self, index: ItemIndex, retriever: Retriever, rules: Rules, floors: tuple[str, ...] = ()) -> None:
        """`floors`: the tokens that floors of exposure name."""
        self.index = index
        self.retriever = retriever
        self.rules = rules
        space: FeatureSpace = retriever.features
        of_feature = [space.reasons[source] for source in space.source_of.tolist()]
        self.codes = (*dict.fromkeys([POPULARITY, *of_feature, RULE, NOVELTY, LEARNER]),)
        self._code_of_feature = np.array([self.codes.index(code) for code in of_feature], np.int32)
        self._rule, self._novelty, self._learner = map(self.codes.index, (RULE, NOVELTY, LEARNER))
        self._history, self._content, self._cohort, self._context = (
            self.codes.index(code) if code in self.codes else NONE for code in (HISTORY, CONTENT, COHORT, CONTEXT)
        )
        self.phrases = Phrases()
        self._by_code = np.array([self.phrases.add(code) for code in self.codes], np.int32)
        self._stated, self._exploration = self.phrases.add(STATED), self.phrases.add(EXPLORATION)
        self._because = np.full(256, self.phrases.add(HISTORY), np.int32)  # by the code of the interaction's type
        for code, verb in verbs().items():
            self._because[code] = self.phrases.add(f"because_you_{verb}")
        self._by_rule = np.array([self.phrases.add(RULE, token) for token in rules.tokens], np.int32)
        self._by_floor = np.array([self.phrases.add(FLOOR, token) for token in floors], np.int32)
        self._of_all = self.phrases.count  # beyond these are those with a user's own value
        self._phrased: dict[tuple[str | None, str | None, bool], np.ndarray] = {}
        self._reasons = Reasons.room(index.behaviour.slate.size)

    def parts(
        self,
        contributions: tuple[np.ndarray, np.ndarray],
        inputs: Inputs,
        positions: np.ndarray,
        ranker: RankerWeights,
        segment: int,
        logits: np.ndarray,
        rule: np.ndarray,
        novelty: np.ndarray,
    ) -> Parts:
        """The parts of the logits of the slots at `positions`, int64 (p,), among the candidates.

        `contributions` are the learner's to these slots (see Learner.contributions) and `inputs` what it sees of all
        candidates: the ranker's logit, whose part is spread over the features by what each adds to it (`net.parts_of`
        of the `ranker` of that `segment`). `rule` and `novelty`, float64 (c,), are what was added to the learner's
        logits to make `logits`, float64 (c,). What no coordinate gives and slots do not have alike is a reason as a
        whole: that of a learner which is not linear.
        """
        own, own_tokens = contributions
        parts = Parts(np.zeros((len(own), len(self.codes) + own_tokens.shape[1])), np.empty(len(own)))
        split(
            *(own, own_tokens, inputs.ranker, inputs.features, positions),
            *(ranker.weights[segment], ranker.units[segment], logits, rule, novelty),
            *(self._code_of_feature, len(self.codes), self._rule, self._novelty, self._learner),
            *parts,
        )
        return parts

    def reasons(
        self,
        context: Context,
        rows: np.ndarray,
        weights: np.ndarray,
        explored: np.ndarray,
        pins: np.ndarray,
        floors: np.ndarray = NO_FLOORS,
    ) -> Reasons:
        """The reasons of the slots of `rows`, int32 (p,): the largest of their `weights` (see Parts), MOST at most, one
        at least.

        What is not above 0 is a reason only where nothing is. `pins` are the numbers of the rules that pinned the first
        slots, `floors` those of the floors that moved a slot, int64 (p,) or none. A slot that is pinned, moved or
        `explored`, bool (p,), says that first: it is why it stands there, and no part of its score. They stay what they
        are until the next call.
        """
        if len(rows) > len(self._reasons.counts):
            self._reasons = Reasons.room(2 * len(rows))
        table = self.retriever.index.table
        name(
            weights,
            *(explored, self._exploration),
            self._phrases_for(context),
            *(self._history, table.neighbours, table.weights, self.retriever.unmarked()),
            *(context.kinds, self._because, context.rows),
            *(self._rule, *self.rules.by_token, self._by_rule, pins, floors, self._by_floor),
            *(self.index.tokens, rows),
            *self._reasons,
        )
        return self._reasons

    def _phrases_for(self, context: Context) -> np.ndarray:
        """The phrase of each code for this user: int32, not to be written to."""
        cohort = self._cohort_of(context) if context.attributes else None
        within = self._context_of(context) if context.said else None
        kind = cohort, within, len(context.rows) > 0
        by_code = self._phrased.get(kind)
        if by_code is None:
            if len(self._phrased) >= MOST_PHRASED:
                self._phrased.clear()
                self.phrases.count = self._of_all
            by_code = self._phrased[kind] = self._phrases_by_code(*kind)
        return by_code

    def _phrases_by_code(self, cohort: str | None, within: str | None, has_history: bool) -> np.ndarray:
        by_code = self._by_code.copy()
        if within is not None and self._context != NONE:
            by_code[self._context] = self.phrases.add(CONTEXT, within)
        if cohort is not None and self._cohort != NONE:
            by_code[self._cohort] = self.phrases.add(COHORT, cohort)
        if not has_history and self._content != NONE:
            by_code[self._content] = self._stated
        return by_code

    def _cohort_of(self, context: Context) -> str | None:
        """The first of the user's cohorts that anything was learned of."""
        named = cohorts(context.attributes, self.index.behaviour.cohorts.attributes)
        return next((name[1:] for name in named if self.index.row(name) >= 0), None)

    def _context_of(self, context: Context) -> str | None:
        """The first of what the answered event says of its context that anything was learned of."""
        return next((value.token for value in context.said if self.index.row(value.list_name) >= 0), None)


@njit(cache=True)
def split(  # type: ignore[no-untyped-def]
    own, own_tokens, ranked, features, positions, linear, units, logits, rule, novelty,
    code_of, codes, of_rule, of_novelty, of_learner, weights, rest,
):  # fmt: skip
    """Write the `weights`, which are 0, and the `rest` of Parts, for `own`, float64 (p, 1 + F), and `own_tokens`,
    float64 (p, t), which the learner adds to the logits of the slots by coordinate and by token. The ranker is `linear`
    weights and `units`, as in `net.parts_of`. About 7 us for 20 slots of 40 features.
    """
    slots, tokens = own_tokens.shape
    ranker = parts_of(features, positions, linear, units)
    largest = 0
    for p in range(slots):
        if abs(ranked[positions[p]]) > abs(ranked[positions[largest]]):
            largest = p
    x = ranked[positions[largest]]
    share = own[largest, 0] / x if x != 0.0 else 0.0
    for p in range(slots):
        position = positions[p]
        code, total = 0, 0.0  # what is added up, as long as it is the same
        for f in range(len(code_of)):
            if code_of[f] != code:
                weights[p, code] = total
                code = code_of[f]
                total = weights[p, code]
            total += own[p, 1 + f] + share * ranker[p, f]
        weights[p, code] = total
        weights[p, of_rule] += rule[position]
        weights[p, of_novelty] += novelty[position]
        for t in range(tokens):
            weights[p, codes + t] = own_tokens[p, t]
        rest[p] = logits[position]
        for k in range(codes + tokens):
            rest[p] -= weights[p, k]
    if rest.max() - rest.min() > UNLIKE:
        weights[:, of_learner] += rest
        rest[:] = 0.0


@njit(cache=True)
def name(  # type: ignore[no-untyped-def]
    weights, explored, exploration, by_code, of_history, neighbours, list_weights, slot, kinds, because, history,
    of_rule, amounts, rule_numbers, by_rule, pins, floors, by_floor, tokens, rows,
    counts, phrases, items, named, added,
):  # fmt: skip
    """Write the last five, the arrays of Reasons, for the slots of `rows`, int32 (p,), from their `weights`.

    The phrases of a code are `by_code`, int32; but that of the code `of_history` is that of the interaction, of the
    `history` rows and their `kinds`, uint8, whose list gives the item most, where one does (`covisit.strongest_list`),
    and that of the code `of_rule` that of the rule which adds most. About 3 us for 20 slots.
    """
    nearest = np.empty(len(rows), np.int64)
    strongest_list(history, neighbours, list_weights, rows, slot, nearest)
    codes, best = len(by_code), np.empty(MOST, np.int64)
    for p in range(len(rows)):
        n = 0
        items[p, :] = NONE
        named[p, :] = NONE
        is_moved = p < len(floors) and floors[p] != NONE
        if p < len(pins) or is_moved or explored[p]:
            phrases[p, 0] = by_rule[pins[p]] if p < len(pins) else by_floor[floors[p]] if is_moved else exploration
            added[p, 0] = np.nan
            n = 1
        for part in best[: largest(weights[p], best)]:
            if n > 0 and np.rint(weights[p, part] * 1e4) <= 0.0:  # nothing to see, once rounded
                break
            added[p, n] = weights[p, part]
            phrases[p, n] = by_code[min(part, codes - 1)]
            if part >= codes:
                named[p, n] = tokens[rows[p], part - codes]
            elif part == of_rule:
                token = strongest_token(tokens, rows[p], amounts)
                if token != NONE and rule_numbers[token] != NONE:
                    phrases[p, n] = by_rule[rule_numbers[token]]
            elif part == of_history and nearest[p] != NONE:
                phrases[p, n] = because[kinds[nearest[p]]]
                items[p, n] = history[nearest[p]]
            n += 1
        counts[p] = n


@njit(cache=True)
def largest(weights, found):  # type: ignore[no-untyped-def]
    """Write the positions of the largest of `weights`, float64, largest first, of equals the first, to `found`,
    int64, as many as there is room for: how many. What is 0 is none, but for the first of all, popularity, of which
    there is always something to be said.
    """
    n = 0
    for k in range(len(weights)):
        weight = weights[k]
        if (weight == 0.0 and k > 0) or (n == len(found) and weight <= weights[found[n - 1]]):
            continue
        at = n if n < len(found) else n - 1
        while at > 0 and weight > weights[found[at - 1]]:
            found[at] = found[at - 1]
            at -= 1
        found[at] = k
        n = min(n + 1, len(found))
    return n
