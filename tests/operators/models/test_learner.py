"""The per-user learner: equal to River's own, pure when reading, bounded; classes that River has not are refused."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_inputs import DENSE, SPACE, inputs_of, shop
from river import optim
from river.utils import VectorDict
from riverrank.operators.models.inputs import RANKER
from riverrank.operators.models.learner import Learners, RiverLearner
from riverrank.operators.settings import LearnerSettings
from riverrank.state.learners import LearnerState, encode_learner


@pytest.mark.parametrize("model", ["linear_model.LogisticRegression", "naive_bayes.GaussianNB", "forest.AMFClassifier"])
def test_learning_raises_what_is_liked_and_lowers_what_is_not(model):
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings(model=model, rate=0.1)).of(LearnerState())
    before = learner.logits(inputs)
    for _ in range(40):
        learner.learn(inputs, 0, True, 1.0)
        learner.learn(inputs, 19, False, 1.0)
    after = learner.logits(inputs)
    assert after[0] - after[19] > before[0] - before[19]
    assert np.isfinite(after).all()


def test_reading_never_writes():
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings()).of(LearnerState())
    learner.learn(inputs, 0, True, 1.0)
    before, after = LearnerState(), LearnerState()
    learner.store(before)
    learner.logits(inputs)
    learner.contributions(inputs, np.arange(5))
    learner.store(after)
    assert encode_learner(after) == encode_learner(before)


def test_a_new_linear_learner_orders_as_the_ranker():
    inputs = inputs_of(shop())
    logits = Learners(LearnerSettings()).of(LearnerState()).logits(inputs)
    assert logits.tolist() == inputs.dense[:, 0].tolist()


def test_contributions_add_up_to_the_logit():
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings(rate=0.5)).of(LearnerState())
    for step in range(20):
        learner.learn(inputs, step % 7, step % 2 == 0, 1.0)
    places = np.arange(12)
    dense, tokens = learner.contributions(inputs, places)
    assert np.abs(tokens).sum() > 0
    total = dense.sum(axis=1) + tokens.sum(axis=1) + learner.intercept
    assert total == pytest.approx(learner.logits(inputs)[places], rel=1e-9)


def test_content_weights_are_bounded_and_the_smallest_go_but_those_of_the_item_at_hand():
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings(tokens=5, rate=0.5)).of(LearnerState())

    def of(place: int) -> set[int]:
        return {*inputs.index.token_hashes[inputs.tokens[place][inputs.tokens[place] >= 0]].tolist()}

    for _ in range(50):
        learner.learn(inputs, 0, True, 1.0)
    for place in range(1, 12):
        learner.learn(inputs, place, True, 1.0)
        assert len(of(place)) == 2 and of(place) <= {*learner.tokens.tolist()}  # however little is known of them yet
        assert of(0) <= {*learner.tokens.tolist()}
        assert len(learner.tokens) <= 5 and len(learner.weights) == DENSE + len(learner.tokens)


@pytest.mark.parametrize("optimizer", ["optim.SGD", "optim.Adam"])
def test_where_fewer_tokens_are_asked_for_the_weightiest_stay_in_step(optimizer):
    inputs, state = inputs_of(shop()), LearnerState()
    before = Learners(LearnerSettings(optimizer=optimizer), measured=True).of(state)
    for place in (0, 3, 3, 5, 7, 7, 7, 9):
        before.learn(inputs, place, True, 1.0)
    before.store(state)
    weights = dict(zip(before.tokens.tolist(), before.weights[DENSE:].tolist(), strict=True))
    assert len(weights) > 4
    after = Learners(LearnerSettings(optimizer=optimizer, tokens=4), measured=True).of(state)
    kept = dict(zip(after.tokens.tolist(), after.weights[DENSE:].tolist(), strict=True))
    assert kept == {token: weights[token] for token in sorted(weights, key=lambda token: -abs(weights[token]))[:4]}
    assert after.weights[:DENSE].tolist() == before.weights[:DENSE].tolist() and len(after.precision) == DENSE + 4
    after.store(state)
    again = Learners(LearnerSettings(optimizer=optimizer, tokens=4), measured=True).of(state)
    assert again.tokens.tolist() == after.tokens.tolist() and again._values.tolist() == after._values.tolist()


@pytest.mark.parametrize("optimizer", ["optim.SGD", "optim.Adam"])
def test_a_preference_teaches_the_same_however_rarely_the_user_clicks(optimizer):
    inputs, learned = inputs_of(shop()), []
    for intercept in (0.0, -3.0):
        learner = Learners(LearnerSettings(optimizer=optimizer)).of(LearnerState())
        learner.intercept = intercept
        learner.prefer(inputs.pick([3, 9, 4]), 1.0, content_only=False)
        assert learner.intercept == intercept
        learned.append(learner.weights.tolist())
    assert learned[0] == learned[1]


INPUTS = inputs_of(shop())


@given(st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=40))
def test_weights_stay_finite_and_in_step_with_their_tokens(steps):
    learner = Learners(LearnerSettings(tokens=3, rate=5.0)).of(LearnerState())
    for place, label in steps:
        learner.learn(INPUTS, place, label, 3.0)
        assert len(learner.weights) == DENSE + len(learner.tokens)
    assert np.isfinite(learner.logits(INPUTS)).all()


def test_a_name_that_is_no_river_class_is_refused():
    with pytest.raises(ValueError, match=r"^learner\.model: 'linear_model.Nonsense' is no class of River"):
        Learners(LearnerSettings(model="linear_model.Nonsense"))
    with pytest.raises(
        ValueError, match=r"^learner\.model: .* is no River Classifier: expected one such as 'linear_mo"
    ):
        Learners(LearnerSettings(model="linear_model.LinearRegression"))
    with pytest.raises(ValueError, match=r"^learner\.optimizer: 'optim.Adm' is no class .* one such as 'optim.SGD'"):
        Learners(LearnerSettings(optimizer="optim.Adm"))
    with pytest.raises(ValueError, match=r"^learner\.model: ensemble.BaggingClassifier is made of another model"):
        Learners(LearnerSettings(model="ensemble.BaggingClassifier"))
    with pytest.raises(ValueError, match=r"learner\.parameters"):
        Learners(LearnerSettings(parameters={"nonsense": 1}))


def test_a_linear_class_that_brings_its_own_optimiser_is_taken_as_it_is():
    learner = Learners(LearnerSettings(model="linear_model.Perceptron")).of(LearnerState())
    learner.learn(INPUTS, 0, True, 1.0)
    assert np.isfinite(learner.logits(INPUTS)).all()


def test_other_river_classes_take_the_general_path():
    assert isinstance(Learners(LearnerSettings(model="naive_bayes.GaussianNB")).of(LearnerState()), RiverLearner)
    assert isinstance(Learners(LearnerSettings(optimizer="optim.AdaGrad")).of(LearnerState()), RiverLearner)


SETTINGS = [
    {},
    {"parameters": {"clip_gradient": 0.1}},
    {"parameters": {"intercept_lr": 0.0}},
    {"parameters": {"l2": 0.01}},
    {"optimizer": "optim.Adam"},
    {"optimizer": "optim.RMSProp", "parameters": {"l2": 0.01}},
]


@pytest.mark.parametrize("falling", [False, True])
@pytest.mark.parametrize("settings", SETTINGS)
def test_a_learner_of_candidates_equals_rivers_own_class(settings, falling):
    """Their tokens with them, and with every other step on a difference of two, which has no intercept."""
    learners = Learners(LearnerSettings(rate=0.1, tokens=1000, **settings))
    if falling:
        learners.prototype.optimizer.lr = optim.schedulers.InverseScaling(0.1)
        learners.constant = None
    learner, river = learners.of(LearnerState()), learners.prototype.clone()
    river._weights = VectorDict({RANKER: 1.0})
    inputs = inputs_of(shop())
    met: set[int] = set()

    def named(position: int) -> dict[str, float]:
        hashes = inputs.index.token_hashes[inputs.tokens[position][inputs.tokens[position] >= 0]].tolist()
        dense = zip((RANKER, *SPACE.names), inputs.dense[position].tolist(), strict=True)
        return dict(dense) | {f"token {token}": float(token in hashes) for token in met}

    def meet(position: int) -> None:
        met.update(inputs.index.token_hashes[inputs.tokens[position][inputs.tokens[position] >= 0]].tolist())

    for step in range(120):
        first, second, weight = step * 7 % 20, (step * 3 + 1) % 20, 0.25 + step % 4
        if step % 2 and first != second:
            meet(first)
            a, b = named(first), named(second)
            intercept, river.intercept = river.intercept, 0.0  # a difference has none
            river.learn_one({name: a[name] - b[name] for name in a}, True, weight)
            river.intercept = intercept
            learner.prefer(inputs.pick([first, second]), weight, content_only=False)
        else:
            label = step % 3 == 0
            if label:
                meet(first)
            river.learn_one(named(first), label, weight)
            learner.learn(inputs, first, label, weight)
        expected = [river._raw_dot_one(named(position)) for position in range(20)]
        assert learner.logits(inputs)[:20] == pytest.approx(expected, rel=1e-9, abs=1e-9)
    assert len(met) == len(learner.tokens) > 5
    assert set(learner.tokens.tolist()) == met
    assert learner.intercept == pytest.approx(river.intercept, rel=1e-9, abs=1e-12)


def test_all_at_once_are_learned_as_one_by_one():
    inputs, positions = inputs_of(shop()), [3, 9, 4, 4, 0]
    for settings in SETTINGS:
        together, apart = (Learners(LearnerSettings(**settings)).of(LearnerState()) for _ in range(2))
        labels = [True, False, True, False, False]
        together.learn_each(inputs.pick(positions), labels, 0.5)
        for position, label in zip(positions, labels, strict=True):
            apart.learn(inputs, position, label, 0.5)
        assert together.weights.tolist() == apart.weights.tolist()
        assert together.intercept == apart.intercept
        assert together.weights[1:].any()


def test_what_others_add_to_a_logit_is_left_out_of_what_is_learned():
    inputs, labels, offsets = inputs_of(shop()).pick([3, 9, 4]), [True, False, True], [0.5, -2.0, 1.25]
    for settings in SETTINGS:
        beside, apart, without = (Learners(LearnerSettings(**settings)).of(LearnerState()) for _ in range(3))
        beside.learn_each(inputs, labels, 1.0, np.array(offsets))
        for position, offset in enumerate(offsets):
            apart.intercept += offset
            apart.learn(inputs, position, labels[position], 1.0)
            apart.intercept -= offset
            without.learn(inputs, position, labels[position], 1.0)
        assert beside.weights == pytest.approx(apart.weights, rel=1e-12, abs=1e-15)
        assert beside.intercept == pytest.approx(apart.intercept, rel=1e-12, abs=1e-15)
        assert np.abs(beside.weights - without.weights).max() > 1e-6
