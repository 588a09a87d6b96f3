"""Reasons are true: the parts of a score add up to it, and the reasons are the largest of them."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates.feature_space import SEGMENTS, SOURCES, F
from riverrank.operators.candidates.retrieve import Candidates, Context
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import DENSE, Inputs, Learners
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import DiversitySettings, ExplorationSettings, LearnerSettings, RulesSettings
from riverrank.operators.slate.explain import CODES, MOST, Explainer, Parts, parts_of
from riverrank.operators.slate.rules import Rules
from riverrank.state.learners import LearnerState
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records import Item
from test_recommend import PLAIN, Shop

SCALE = st.sampled_from([1e-3, 1.0, 30.0])


def view_of(items: int) -> ItemIndex:
    index = ItemIndex(PLAIN)
    for k in range(items):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 5}",), attributes={"brand": f"b{k % 3}"})))
    return index


VIEW = view_of(30)


def random_slate(seed: int, scale: float):
    """Random candidates, ranker and learner: its parts, and what the logits are made of."""
    rng = np.random.default_rng(seed)
    rows = rng.permutation(30)[: rng.integers(2, 25)].astype(np.int32)
    features = rng.random((len(rows), F)) * (rng.random((len(rows), F)) < 0.6)
    ranker = RankerWeights(rng.normal(0.0, scale, (SEGMENTS, F)), float(rng.normal()), 1)
    inputs = Inputs(VIEW, Candidates(rows, features, np.ones(len(rows), np.uint8)), ranker.logits(features, 1))
    learner = Learners(LearnerSettings(rate=0.1)).of(LearnerState())
    for _ in range(12):
        learner.learn(inputs, int(rng.integers(len(rows))), bool(rng.random() < 0.6), 1.0)
    rule, novelty = rng.normal(size=len(rows)), rng.random(len(rows))
    logits = learner.logits(inputs) + rule + novelty
    places = rng.permutation(len(rows))[:10]
    parts = parts_of(
        *learner.contributions(inputs, places),
        inputs,
        places,
        ranker.weights[1],
        logits[places],
        rule[places],
        novelty[places],
    )
    return parts, logits[places], rows[places], learner, ranker


@given(st.integers(0, 10_000), SCALE)
def test_the_parts_add_up_to_the_logit(seed, scale):
    """With the intercept and the ranker's bias, which are known by themselves; nothing else is left over."""
    parts, logits, _, learner, ranker = random_slate(seed, scale)
    rest = learner.intercept + learner.weights[0] * ranker.bias
    assert np.abs(parts.weights).sum(axis=1).min() > 0
    tolerance = 1e-9 * max(1.0, float(np.abs(parts.weights).sum(axis=1).max()))
    assert parts.rest == pytest.approx(np.full(len(logits), rest), abs=tolerance)
    assert parts.weights.sum(axis=1) + rest == pytest.approx(logits, abs=tolerance)


@given(st.integers(0, 10_000), SCALE)
def test_the_reasons_are_the_largest_parts(seed, scale):
    parts, _, rows, _, _ = random_slate(seed, scale)
    nobody = Context(np.zeros(0, np.int32), np.zeros(0), {})
    slots = Explainer(VIEW, Rules(RulesSettings(), VIEW))
    weights = parts.weights.copy()
    weights[:, CODES.index("rule")] = 0.0  # there are no rules here to name
    causes = slots.causes(nobody, rows, weights, np.zeros(len(rows), bool), [])
    for named, made_of in zip(causes, weights, strict=True):
        told = [cause.weight for cause in named]
        real = [made_of[0], *made_of[1:][made_of[1:] != 0.0]]  # popularity is a part of every score
        expected = sorted(real, reverse=True)[:MOST]
        assert told == pytest.approx([w for k, w in enumerate(expected) if w >= 5e-5 or k == 0], abs=5.1e-5)


def test_each_part_is_what_its_feature_adds():
    """A feature raised by one adds its weight, the ranker's share and its own, to its group alone."""
    rng = np.random.default_rng(1)
    features = rng.random((3, F))
    ranker = RankerWeights(rng.normal(size=(SEGMENTS, F)), 0.5, 1)
    learner = Learners(LearnerSettings()).of(LearnerState())
    learner.weights[:] = rng.normal(size=DENSE)

    def parts(features: np.ndarray) -> Parts:
        candidates = Candidates(np.arange(3, dtype=np.int32), features, np.ones(3, np.uint8))
        inputs = Inputs(VIEW, candidates, ranker.logits(features, 0))
        logits, places, none = learner.logits(inputs), np.arange(3), np.zeros(3)
        own = learner.contributions(inputs, places)
        return parts_of(*own, inputs, places, ranker.weights[0], logits, none, none)

    before = parts(features)
    for feature in range(F):
        raised = features.copy()
        raised[:, feature] += 1.0
        change = parts(raised).weights - before.weights
        share = learner.weights[1 + feature] + learner.weights[0] * ranker.weights[0, feature]
        assert change.sum(axis=1) == pytest.approx([share] * 3, abs=1e-9)
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
    monkeypatch.setattr(
        "riverrank.operators.slate.recommend.parts_of",
        lambda *args: given_parts.append(parts_of(*args)) or given_parts[-1],
    )
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
    opaque = [np.abs(parts.weights[:, CODES.index("learner")]).max() for parts in given_parts[-4:]]
    assert ("learner" in codes) == ("learner" in sections) == (max(opaque) > 0.0)


def test_the_item_named_is_the_one_whose_list_gives_most():
    made = Shop()
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


def test_every_source_has_a_reason():
    assert len(CODES) == len(set(CODES)) and CODES[0] == "popular"
    assert {"because_of_your_history", "like_your_history", "cohort", "rule", "novelty", "learner"} <= set(CODES)
    assert len(SOURCES) >= 7
