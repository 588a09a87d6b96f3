"""Reasons are true: the parts of a score add up to it, and the reasons are the largest of them."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import SEGMENTS, Context
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.candidates.source import Score, Source
from riverrank.operators.candidates.sources.covisit import RECENCY
from riverrank.operators.catalogue.tokens import COHORT, cohorts
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import Inputs, Learner, Learners
from riverrank.operators.models.net import WIDTH
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import (
    DiversitySettings,
    ExplorationSettings,
    LearnerSettings,
    RulesSettings,
    SlateSettings,
)
from riverrank.operators.slate import explain
from riverrank.operators.slate.explain import MOST, NONE, Explainer, Parts, Reasons
from riverrank.operators.slate.rules import Rules
from riverrank.state.event_types import verbs
from riverrank.state.item_tables import AFTER, BEFORE
from riverrank.state.learners import LearnerState
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.incoming import Item
from riverrank.state.records.outgoing import Cause
from shop_pipeline import PLAIN, Shop

SCALE = st.sampled_from([1e-3, 1.0, 30.0])
RULES = RulesSettings(pin=("category=c0",), boost={"brand=b1": 1.0, "category=c2": 0.5}, bury={"brand=b2": 0.25})
BARE = 30  # a row without tokens
LISTED = 6  # items in a list


def index_of(items: int) -> ItemIndex:
    index = ItemIndex(PLAIN)
    for k in range(items):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 5}",), attributes={"brand": f"b{k % 3}"})))
    index.apply(CatalogueUpdate(Item("bare", 1)))
    return index


def put_lists(index: ItemIndex, items: int, seed: int) -> None:
    """Give the first `items` rows lists of some of them: in different places, and hardly two weights alike."""
    rng, table = np.random.default_rng(seed), index.table
    for row in range(items):
        places = rng.permutation(table.width)[:LISTED]
        table.neighbours[row, places] = rng.permutation(items)[:LISTED]
        table.weights[row, places] = rng.exponential(1.0, (LISTED, table.weights.shape[2]))


INDEX = index_of(BARE)
put_lists(INDEX, BARE, 1)
RETRIEVER = Retriever(PLAIN, INDEX)
EXPLAINER = Explainer(INDEX, RETRIEVER, Rules(RULES, INDEX))
F = RETRIEVER.features.size


def inputs_of(rows: np.ndarray, features: np.ndarray, ranker: RankerWeights, segment: int) -> Inputs:
    candidates = Candidates(rows, features, np.ones(len(rows), np.uint32))
    return Inputs(INDEX, candidates, ranker.logits(features, segment))


def learned(inputs: Inputs, rng: np.random.Generator) -> Learner:
    learner = Learners(LearnerSettings(rate=0.1)).of(LearnerState())
    for _ in range(12):
        learner.learn(inputs, int(rng.integers(len(inputs.dense))), bool(rng.random() < 0.6), 1.0)
    return learner


def units_of(rng: np.random.Generator) -> np.ndarray:
    """A net's units, beside which a linear model says little."""
    units = rng.normal(0.0, 0.5, (SEGMENTS, F + 2, WIDTH)).astype(np.float32)
    units[:, :, 0] = 0.0
    return units


def random_slate(seed: int, scale: float):
    """Random candidates, ranker and learner: the parts of some of them, their logits, and that of an item without."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(BARE)[: rng.integers(2, 25)].astype(np.int32)
    ranker = RankerWeights(rng.normal(0.0, scale, (SEGMENTS, F)), float(rng.normal()), 1, units_of(rng))
    features = rng.random((len(rows), F)) * (rng.random((len(rows), F)) < 0.6)
    inputs = inputs_of(rows, features.astype(np.float32), ranker, 1)
    learner = learned(inputs, rng)
    rule, novelty = rng.normal(size=len(rows)), rng.random(len(rows))
    logits = learner.logits(inputs) + rule + novelty
    positions = rng.permutation(len(rows))[:10]
    own = learner.contributions(inputs, positions)
    parts = EXPLAINER.parts(own, inputs, positions, ranker, 1, logits, rule, novelty)
    nothing = inputs_of(np.array([BARE], np.int32), np.zeros((1, F), np.float32), ranker, 1)
    return parts, logits[positions], rows[positions], float(learner.logits(nothing)[0])


@given(st.integers(0, 10_000), SCALE)
def test_the_parts_add_up_to_the_logit(seed, scale):
    """With what an item has that nothing is known of; nothing else is left over."""
    parts, logits, _, rest = random_slate(seed, scale)
    assert np.abs(parts.weights).sum(axis=1).min() > 0
    tolerance = 1e-5 * max(1.0, float(np.abs(parts.weights).sum(axis=1).max()))  # the net's is in half the digits
    assert parts.rest == pytest.approx(np.full(len(logits), rest), abs=tolerance)
    assert parts.weights.sum(axis=1) + rest == pytest.approx(logits, abs=tolerance)


def causes_of(explainer: Explainer, reasons: Reasons, slots: int) -> list[tuple[Cause, ...]]:
    """The first `slots` of `reasons`, as records."""
    found = []
    for p in range(slots):
        causes = []
        for k in range(reasons.counts[p]):
            phrase, item, token, weight = (array[p, k].item() for array in reasons[1:])
            if token != NONE:
                code, _, value = explainer.index.token_names[token].partition("=")
                cause = Cause(code, None, value)
            else:
                cause = msgspec.json.decode(b"{%s}" % explainer.phrases.texts.get(phrase), type=Cause)
            item_id = None if item == NONE else explainer.index.table.ids[item]
            causes.append(Cause(cause.code, item_id, cause.value, None if math.isnan(weight) else round(weight, 4)))
        found.append(tuple(causes))
    return found


def nearest_of(history: list[int], row: int) -> int:
    """Where in the `history`, newest first, the item stands whose list gives that of `row` most, -1 for nowhere."""
    table, most, found = INDEX.table, 0.0, -1
    for position, taken in enumerate(history):
        after, before = (1.0 + sum(table.weights[taken, :, side].tolist()) for side in (AFTER, BEFORE))
        for other, weights in zip(table.neighbours[taken].tolist(), table.weights[taken].tolist(), strict=True):
            share = RECENCY**position * (weights[AFTER] / after + weights[BEFORE] / before)
            if other == row and share > most:
                most, found = share, position
    return found


def plain_causes(
    context: Context, rows: np.ndarray, weights: np.ndarray, explored: np.ndarray, pins: np.ndarray
) -> list[tuple[Cause, ...]]:
    """The twin of Explainer.reasons."""
    nearest = [nearest_of(context.rows.tolist(), row) for row in rows.tolist()]
    amounts = {token: RULES.boost.get(token, 0.0) - RULES.bury.get(token, 0.0) for token in INDEX.token_names}
    found = []
    for p, row in enumerate(rows.tolist()):
        tokens = [INDEX.token_names[token] for token in INDEX.tokens[row] if token >= 0]
        causes = [Cause("rule", None, "category=c0")] if p < len(pins) else []
        causes += [Cause("exploration")] if explored[p] and p >= len(pins) else []
        told = [k for k in range(weights.shape[1]) if k == 0 or weights[p, k] != 0.0]
        for k in sorted(told, key=lambda k: -weights[p, k])[:MOST]:
            weight = round(float(weights[p, k]), 4)
            if weight <= 0.0 and causes:
                break
            code, item, value = (*EXPLAINER.codes, *(len(tokens) * [""]))[k], None, None
            if not code:
                code, _, value = tokens[k - len(EXPLAINER.codes)].partition("=")
            elif code == "rule":
                value = max(tokens, key=lambda token: abs(amounts[token]))
            elif code == "because_of_your_history" and nearest[p] >= 0:
                code = f"because_you_{verbs()[context.kinds[nearest[p]]]}"
                item = INDEX.table.ids[context.rows[nearest[p]]]
            elif code == "like_your_history" and not len(context.rows):
                code = "stated_preference"
            elif code == "cohort":
                named = [name for name in cohorts(context.attributes) if INDEX.row(name) >= 0]
                value = named[0][1:] if named else None
            causes.append(Cause(code, item, value, weight))
        found.append(tuple(causes))
    return found


@given(st.integers(0, 10_000), st.sampled_from([0.01, 1.0]))
def test_the_reasons_are_the_largest_parts(seed, scale):
    rng = np.random.default_rng(seed)
    slots, codes, width = int(rng.integers(1, 20)), len(EXPLAINER.codes), INDEX.tokens.shape[1]
    rows = np.sort(rng.permutation(BARE)[:slots]).astype(np.int32)
    raw = rng.normal(0.0, scale, (slots, codes + width)).round(int(rng.choice([1, 6])))
    weights = raw * (rng.random(raw.shape) < rng.random())
    weights[:, codes:][INDEX.tokens[rows] < 0] = 0.0
    ruled = np.isin(INDEX.tokens[rows], [INDEX.token_numbers[token] for token in ("brand=b1", "brand=b2")]).any(axis=1)
    weights[~ruled, EXPLAINER.codes.index("rule")] = 0.0
    explored, pins = rng.random(slots) < 0.3, np.zeros(rng.integers(0, 2), np.int64)
    history = rng.permutation(BARE)[: rng.integers(0, 4)].astype(np.int32)
    kinds = rng.integers(0, len(verbs()), len(history)).astype(np.uint8)
    context = Context(history, np.ones(len(history), np.float32), {"age": f"{seed % 7}"} if seed % 2 else {}, kinds)
    reasons = EXPLAINER.reasons(context, rows, weights, explored, pins)
    assert causes_of(EXPLAINER, reasons, slots) == plain_causes(context, rows, weights, explored, pins)
    assert reasons.counts[:slots].min() >= 1
    assert (RETRIEVER.unmarked() == -1).all()


@given(st.permutations(range(BARE)), st.integers(1, 6), st.lists(st.sampled_from([*verbs()]), min_size=6, max_size=6))
def test_a_reason_of_the_history_names_the_interaction_whose_list_gives_most(order, taken, kinds):
    """Of all other items, some of which are in a list; those in none are told of by the history as a whole."""
    history, rows = np.array(order[:taken], np.int32), np.sort(order[taken:]).astype(np.int32)
    context = Context(history, np.ones(taken, np.float32), {}, np.array(kinds[:taken], np.uint8))
    weights = np.zeros((len(rows), len(EXPLAINER.codes) + INDEX.tokens.shape[1]))
    weights[:, EXPLAINER.codes.index("because_of_your_history")] = 1.0
    reasons = EXPLAINER.reasons(context, rows, weights, np.zeros(len(rows), bool), np.zeros(0, np.int64))
    causes, named = causes_of(EXPLAINER, reasons, len(rows)), set()
    for row, (first, *others) in zip(rows.tolist(), causes, strict=True):
        nearest = nearest_of(order[:taken], row)
        if nearest < 0:
            assert first == Cause("because_of_your_history", None, None, 1.0)
        else:
            named.add(row)
            assert first == Cause(f"because_you_{verbs()[kinds[nearest]]}", f"i{order[nearest]}", None, 1.0)
        assert not others
    assert named == {*INDEX.table.neighbours[history].ravel().tolist()} & {*rows.tolist()}
    assert (RETRIEVER.unmarked() == -1).all()


def test_a_cohort_is_named_by_its_own_value_however_many_were_named_before(monkeypatch):
    monkeypatch.setattr(explain, "MOST_PHRASED", 2)
    index = index_of(3)
    for age in range(5):
        index._row(f"{COHORT}age={age}")
    explainer = Explainer(index, Retriever(PLAIN, index), Rules(RULES, index))
    weights = np.zeros((1, len(explainer.codes) + index.tokens.shape[1]))
    weights[0, explainer.codes.index("cohort")] = 1.0
    nobody = np.zeros(0, np.int32)
    for age in (0, 1, 2, 1, 0, 3, 4, 4, 0):
        context = Context(nobody, np.zeros(0, np.float32), {"age": age})
        reasons = explainer.reasons(context, index.table.rows_of(["i0"]), weights, np.zeros(1, bool), np.zeros(0, int))
        assert causes_of(explainer, reasons, 1)[0][0] == Cause("cohort", None, f"age={age}", 1.0)
    assert explainer.phrases.count <= explainer._of_all + 2


def test_each_part_is_what_its_feature_adds():
    """A feature raised by one adds as much to the logit as to the part that tells of it, and to no other."""
    rng = np.random.default_rng(1)
    rows, positions, none = np.arange(3, dtype=np.int32), np.arange(3), np.zeros(3)
    features = rng.random((3, F)).astype(np.float32)
    ranker = RankerWeights(rng.normal(size=(SEGMENTS, F)), 0.5, 1, np.zeros((SEGMENTS, F + 2, WIDTH), np.float32))
    learner = learned(inputs_of(rows, features, ranker, 0), rng)

    def parts(features: np.ndarray) -> tuple[Parts, np.ndarray]:
        inputs = inputs_of(rows, features, ranker, 0)
        logits, own = learner.logits(inputs), learner.contributions(inputs, positions)
        return EXPLAINER.parts(own, inputs, positions, ranker, 0, logits, none, none), logits

    before, logits_before = parts(features)
    for feature in range(F):
        raised = features.copy()
        raised[:, feature] += 1.0
        after, logits = parts(raised)
        change = after.weights - before.weights
        code = EXPLAINER.codes.index(RETRIEVER.features.reasons[RETRIEVER.features.source_of[feature]])
        assert change[:, code] == pytest.approx(logits - logits_before, abs=1e-9)
        assert np.abs(logits - logits_before).min() > 1e-3
        assert (np.abs(change) > 1e-9).sum(axis=1).tolist() == [1, 1, 1]


def behaviour(**sections):
    return msgspec.structs.replace(PLAIN, **sections)


@pytest.mark.parametrize(
    "sections",
    [
        {},
        {"exploration": ExplorationSettings(rate=0.5), "diversity": DiversitySettings(strength=0.5)},
        {"diversity": DiversitySettings(novelty=2.0), "rules": RulesSettings(boost={"brand=b1": 1.5})},
        {"learner": LearnerSettings(model="naive_bayes.GaussianNB")},
    ],
)
def test_a_score_is_the_logistic_of_its_parts(sections, monkeypatch):
    """On real slates: the sum of what the explainer was given is the logit of the score that the slot says."""
    made, given_parts = Shop(behaviour(**sections)), []
    parts_of = Explainer.parts
    monkeypatch.setattr(Explainer, "parts", lambda *args: given_parts.append(parts_of(*args)) or given_parts[-1])
    made.crowd(events=3)
    slates = [made.send("u", "request"), *(made.send("u", "click", f"i{k}") for k in (2, 8, 14))]
    for slate, parts in zip(slates, given_parts[-4:], strict=True):
        logits = parts.weights.sum(axis=1) + parts.rest
        assert [slot.score for slot in slate.items] == pytest.approx(1 / (1 + np.exp(-logits)), abs=6e-6)
        for slot, weights in zip(slate.items, parts.weights, strict=True):
            told = [reason.weight for reason in slot.reasons if reason.weight is not None]
            assert told == sorted(told, reverse=True)
            assert told[:1] == pytest.approx([weights.max()], abs=1e-4) or slot.reasons[0].code == "exploration"
            assert not math.isnan(sum(told))
    codes = {reason.code for slate in slates for slot in slate.items for reason in slot.reasons}
    assert {"because_you_clicked", "popular"} <= codes
    if "rules" in sections:
        assert {"rule", "novelty"} <= codes
    opaque = [
        np.abs(parts.weights[:, made.recommend.control.explainer.codes.index("learner")]).max()
        for parts in given_parts[-4:]
    ]
    assert ("learner" in codes) == ("learner" in sections) == (max(opaque) > 0.0)


def test_the_item_named_is_the_one_whose_list_gives_most():
    made = Shop(msgspec.structs.replace(PLAIN, slate=SlateSettings(hide=("click",))))
    made.crowd(events=8)
    for item in ("i2", "i3", "i8"):
        slate = made.send("u", "click", item)
    named = {
        slot.item_id: reason.item_id
        for slot in slate.items
        for reason in slot.reasons
        if reason.code == "because_you_clicked"
    }
    assert len(named) >= 5
    for item, because in named.items():
        assert int(because[1:]) % 6 == int(item[1:]) % 6, "what goes together is of one category here"


class Toy(Source):
    """A source that this test adds."""

    name = "toy"
    meaning = "nothing"
    reason = "because_of_a_toy"
    scores = (Score("toy"),)


def test_every_source_has_a_reason_one_added_later_too(monkeypatch):
    codes = EXPLAINER.codes
    assert len(codes) == len(set(codes)) and codes[0] == "popular" and codes[-3:] == ("rule", "novelty", "learner")
    assert {source.reason for source in registry.SOURCES} == set(codes[:-3]) > {"because_of_your_history", "cohort"}
    monkeypatch.setattr(registry, "SOURCES", (Toy(), *registry.SOURCES))
    explainer = Explainer(INDEX, Retriever(PLAIN, INDEX), Rules(RULES, INDEX))
    assert set(explainer.codes) == {*codes, "because_of_a_toy"}
    assert b'"code":"because_of_a_toy"' in [explainer.phrases.texts.get(k) for k in range(explainer.phrases.count)]
