"""The per-user learner and the ranker: equal to River's own, pure when reading, bounded, and durable."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model, optim
from river.utils import VectorDict
from riverrank.operators.candidates.feature_space import FEATURES, PRIOR, WARM, F
from riverrank.operators.candidates.retrieve import Retriever, context_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ensemble import Ensemble
from riverrank.operators.models.learner import DENSE, Inputs, Learners, RiverLearner
from riverrank.operators.models.linear import Linear
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.settings import Behaviour, LearnerSettings, RankerSettings, SlateSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate, Feedback, Outcome, Seen, decode_update
from riverrank.state.records import Event, Item

OPTIMIZERS = {
    "SGD": lambda: optim.SGD(0.05),
    "SGD, falling": lambda: optim.SGD(optim.schedulers.InverseScaling(0.1)),
    "Adam": lambda: optim.Adam(0.02),
    "RMSProp": lambda: optim.RMSProp(0.01),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("parameters", [{}, {"l2": 0.01}, {"intercept_lr": 0.0}, {"clip_gradient": 0.1}])
def test_vectors_equal_rivers_own_class(optimizer, parameters):
    make = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(3)
    names = [f"f{k}" for k in range(9)]
    start = rng.normal(size=9)
    ours = Linear(linear_model.LogisticRegression(make(), **parameters), start.copy())
    river = linear_model.LogisticRegression(make(), **parameters)
    river._weights = VectorDict(dict(zip(names, start.tolist(), strict=True)))
    for step in range(400):
        x = rng.normal(size=9) * (rng.random(9) < 0.7) * (30.0 if step % 50 == 0 else 1.0)
        label, weight = bool(rng.random() < 0.4), float(rng.random() + 0.1)
        named = dict(zip(names, x.tolist(), strict=True))
        logit = float(ours.logits(x[None])[0])
        assert logit == pytest.approx(river._raw_dot_one(named), rel=1e-9, abs=1e-9)
        ours.learn(x, label, weight)
        river.learn_one(named, label, weight)
    assert ours.weights == pytest.approx(np.array([river.weights[name] for name in names]), rel=1e-9, abs=1e-12)
    assert ours.intercept == pytest.approx(river.intercept, rel=1e-9, abs=1e-12)
    assert not np.allclose(ours.weights, start)


@pytest.mark.parametrize("optimizer", ["SGD", "Adam"])
def test_memory_of_the_optimiser_survives_bytes(optimizer):
    make = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(5)
    steps = [(rng.normal(size=4), bool(rng.random() < 0.5)) for _ in range(40)]
    whole = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    first = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    for x, y in steps[:20]:
        whole.learn(x, y)
        first.learn(x, y)
    second = Linear(linear_model.LogisticRegression(make()), first.weights.copy(), first.intercept)
    second.recall(first.memory())
    for x, y in steps[20:]:
        whole.learn(x, y)
        second.learn(x, y)
    assert second.weights.tolist() == whole.weights.tolist()
    assert second.intercept == whole.intercept


def shop() -> ItemIndex:
    """A index of 40 items in four categories, of which those of one category are taken together."""
    behaviour = Behaviour()
    index, signals = ItemIndex(behaviour), Signals(behaviour, 0)
    for k in range(40):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 4}",), attributes={"brand": f"b{k % 5}"})))
    past: dict[int, list[Seen]] = {}
    for k in range(400):
        user, item = k % 8, f"i{(k * 7 + k // 8) % 10 * 4 + k % 4}"
        history = past.setdefault(user, [])
        signals.learn(Feedback(Event(f"e{k}", "click", f"u{user}", k, item), 1.0, tuple(history[-20:])))
        history.append(Seen(item, k, 1.0))
    index.apply(decode_update(signals.flush()[0]))
    return index


def inputs_of(index: ItemIndex) -> Inputs:
    context = context_of(index, [Seen("i0", 1, 1.0), Seen("i4", 2, 1.0)], {})
    candidates = Retriever(Behaviour(), index).find(context, None)
    assert len(candidates.rows) >= 20
    return Inputs(index, candidates, candidates.features @ PRIOR[WARM])


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


@pytest.mark.parametrize("model", ["linear_model.LogisticRegression", "naive_bayes.GaussianNB"])
@pytest.mark.parametrize("optimizer", ["optim.SGD", "optim.Adam", "optim.AdaGrad"])
def test_a_learner_goes_on_from_its_bytes(model, optimizer):
    inputs = inputs_of(shop())
    learners = Learners(LearnerSettings(model=model, optimizer=optimizer, tokens=3))
    whole, state = learners.of(LearnerState()), encode_learner(LearnerState())
    for step in range(30):
        place, label = (step * 7) % 20, step % 3 == 0
        whole.learn(inputs, place, label, 1.0)
        user = decode_learner(state)
        part = learners.of(user)
        part.learn(inputs, place, label, 1.0)
        part.store(user)
        state = encode_learner(user)
    # Weights are kept to 24 bits, which no order of candidates depends on.
    kept = learners.of(decode_learner(state)).logits(inputs)
    assert kept == pytest.approx(whole.logits(inputs), rel=1e-5, abs=1e-5)


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
    total = dense.sum(axis=1) + tokens.sum(axis=1) + learner.model.intercept
    assert total == pytest.approx(learner.logits(inputs)[places], rel=1e-9)


def test_content_weights_are_bounded_and_the_smallest_goes():
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings(tokens=2, rate=0.5)).of(LearnerState())
    for place in range(12):
        learner.learn(inputs, place, True, 1.0)
    assert len(learner.tokens) == 2
    assert len(learner.model.weights) == DENSE + 2


@given(st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=40))
def test_weights_stay_finite_and_in_step_with_their_tokens(steps):
    learner = Learners(LearnerSettings(tokens=3, rate=5.0)).of(LearnerState())
    for place, label in steps:
        learner.learn(INPUTS, place, label, 3.0)
        assert len(learner.model.weights) == DENSE + len(learner.tokens)
    assert np.isfinite(learner.logits(INPUTS)).all()


def test_a_name_that_is_no_river_class_is_refused():
    with pytest.raises(ValueError, match=r"'linear_model.Nonsense' is no class of River"):
        Learners(LearnerSettings(model="linear_model.Nonsense"))
    with pytest.raises(ValueError, match="is no River Classifier"):
        Learners(LearnerSettings(model="linear_model.LinearRegression"))
    with pytest.raises(ValueError, match=r"learner\.parameters"):
        Learners(LearnerSettings(parameters={"nonsense": 1}))


def test_other_river_classes_take_the_general_path():
    assert isinstance(Learners(LearnerSettings(model="naive_bayes.GaussianNB")).of(LearnerState()), RiverLearner)
    assert isinstance(Learners(LearnerSettings(optimizer="optim.AdaGrad")).of(LearnerState()), RiverLearner)


def test_ranker_learns_to_put_what_was_taken_above_what_was_not():
    index = shop()
    behaviour = Behaviour(ranker=RankerSettings(rate=0.05))
    ranker = Ranker(behaviour, index)
    history = (Seen("i0", 1, 1.0), Seen("i4", 2, 1.0))
    for k in range(60):
        ranker.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{8 + k % 8 * 4}"), 1.0, history))
    weights = decode_update(ranker.flush()[0])
    index.apply(weights)
    ranker = RankerWeights.of(index.weights)
    learned, version = ranker.weights, ranker.version
    context = context_of(index, history, {})
    found = Retriever(behaviour, index).find(context, index.hash[context.rows])
    same = np.array([index.table.ids[row] for row in found.rows])
    alike = np.array([int(name[1:]) % 4 == 0 for name in same])
    logits = found.features @ learned[WARM]
    assert version == 60 and alike.any()
    assert logits[alike].min() > np.median(logits[~alike])


def test_ranker_learns_from_impressions_and_never_from_ids():
    index = shop()
    ranker = Ranker(Behaviour(), index)
    before = ranker.models[WARM].publish()
    outcome = Outcome("s", 1, ("i0", "i1", "unknown"), (1, 0, 0))
    ranker.learn(Feedback(Event("e", "request", "u", 1), 0.0, (Seen("i4", 0, 1.0),), (outcome,)))
    assert (ranker.models[WARM].publish() != before).any()
    assert len(before) == F and not any("id" in name for name in FEATURES)


@pytest.mark.parametrize("epoch", [0, 5])
def test_a_choice_is_learned_from_what_was_there_to_choose_from(epoch: int) -> None:
    index = shop()
    ranker, expected = Ranker(Behaviour(), index), Ensemble(RankerSettings().rate, PRIOR[WARM])
    first = Feedback(Event("e1", "click", "u", 1, "i0"), 1.0, ())
    ranker.learn(first)
    history = first.history_after()
    context = context_of(index, history, {}, "u")
    found = Retriever(Behaviour(), index).find(context, index.hash[context.rows])
    if epoch == 0:  # else the user was erased in between
        expected.choose(found.features, int(found.positions(np.array([index.row("i4")]))[0]))
    index.table.weights *= 3.0  # others have been there since
    ranker.learn(Feedback(Event("e2", "click", "u", 2, "i4"), 1.0, history, epoch=epoch))
    assert ranker.models[WARM].dump() == expected.dump()


def test_weights_are_due_the_sooner_the_less_was_learned() -> None:
    ranker = Ranker(Behaviour(), shop())
    due = []
    for k in range(100):
        ranker.learn(Feedback(Event(f"e{k}", "click", f"u{k}", k, "i1"), 1.0, ()))
        if ranker.due():
            ranker.flush()
            due.append(k + 1)
    assert due[:16] == [*range(1, 16), 17]
    assert np.diff(due[-3:]).tolist() == [6, 6]
    ranker.version = 5000
    assert not ranker.due()
    for k in range(RankerSettings().flush_events):
        ranker.learn(Feedback(Event(f"f{k}", "click", f"u{k}", k, "i1"), 1.0, ()))
    assert ranker.due()


def test_an_ensemble_comes_back_as_it_was_and_begins_anew_where_it_cannot() -> None:
    whole, half = Ensemble(0.05, np.zeros(3)), Ensemble(0.05, np.zeros(3))
    rng = np.random.default_rng(1)
    choices = [(rng.normal(size=(5, 3)), int(rng.integers(5))) for _ in range(40)]
    for x, place in choices[:20]:
        whole.choose(x, place)
        half.choose(x, place)
    assert whole.publish().tolist() == half.publish().tolist() != [0.0] * 3
    back = Ensemble(0.05, np.zeros(3))
    back.load(*half.dump())
    for x, place in choices[20:]:
        whole.choose(x, place)
        back.choose(x, place)
    assert back.dump() == whole.dump() and back.publish().tolist() == whole.publish().tolist()
    other = Ensemble(0.05, np.zeros(4))
    other.load(*half.dump())
    assert other.publish().tolist() == [0.0] * 4


def test_a_purchase_moves_the_ranker_more_than_a_click_and_where_all_is_bought_each_as_a_click() -> None:
    def moved(rewards: list[float]) -> float:
        ranker = Ranker(Behaviour(), shop())
        ranker.learn(Feedback(Event("e", "click", "u", 1, "i1"), rewards[0], ()))
        for k, reward in enumerate(rewards[1:]):
            before = ranker.models[WARM].publish()
            history = (Seen("i1", 1, rewards[0]), *(Seen(f"i{5 + 4 * n}", 2 + n, 1.0) for n in range(k)))
            ranker.learn(Feedback(Event(f"e{k}", "click", "u", 2 + k, f"i{5 + 4 * k}"), reward, history))
        return float(np.abs(ranker.models[WARM].publish() - before).sum())

    click = moved([1.0, 1.0, 1.0])
    assert 1.1 * click < moved([1.0, 1.0, 2.0]) < 2.0 * click
    assert moved([2.0, 2.0, 2.0]) == pytest.approx(click, rel=0.4)
    assert moved([1.0, 1.0, 0.3]) < 0.5 * click


def test_restored_ranker_goes_on_as_if_nothing_had_happened():
    index, entries = shop(), DictEntries()
    whole, first = Ranker(Behaviour(), index), Ranker.restore(Behaviour(), index, 0, Journal(entries))
    feedbacks = [Feedback(Event(f"e{k}", "click", "u", k, f"i{k % 40}"), 1.0, (Seen("i3", 0, 1.0),)) for k in range(30)]
    for feedback in feedbacks[:17]:
        whole.learn(feedback)
        first.learn(feedback)
    second = Ranker.restore(Behaviour(), index, 0, Journal(entries))
    for feedback in feedbacks[17:]:
        whole.learn(feedback)
        second.learn(feedback)
    assert [model.dump() for model in second.models] == [model.dump() for model in whole.models]
    assert second.version == whole.version == 30


INPUTS = inputs_of(shop())


def test_what_is_asked_about_counts_as_proposed_only_where_it_was_among_the_candidates():
    index = shop()
    retriever = Retriever(Behaviour(slate=SlateSettings(candidates=10, size=5)), index)
    context = context_of(index, [Seen("i0", 1, 1.0)], {})
    found = retriever.find(context, None)
    assert len(found.rows) == 10 and found.proposed.all()
    inside, outside = found.rows[3], np.setdiff1d(index.popular(), found.rows)[0]
    again = retriever.find(context, None, np.array([outside, inside], np.int32))
    assert again.rows.tolist() == [*found.rows.tolist(), outside]
    assert again.proposed.tolist() == [*found.proposed.tolist(), 0]
    assert again.positions(np.array([outside, inside])).tolist() == [10, 3]
    assert (again.features[:10] == found.features).all()
