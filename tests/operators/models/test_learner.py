"""The per-user learner: equal to River's own, pure when reading, bounded, durable; its weights know their features."""

from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import linear_model, optim
from river.utils import VectorDict
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import WARM, context_of
from riverrank.operators.candidates.features import FeatureSpace, feature_space
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.inputs import RANKER, Inputs
from riverrank.operators.models.learner import Learners, RiverLearner
from riverrank.operators.models.linear import Linear, arrays_of
from riverrank.operators.settings import Behaviour, LearnerSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.hashing import hash32
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate, Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event, Item

SPACE = feature_space(registry.SOURCES)
DENSE = 1 + SPACE.size
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
def test_what_the_optimiser_remembers_is_its_steps_and_arrays(optimizer):
    make = OPTIMIZERS[optimizer]
    rng = np.random.default_rng(5)
    steps = [(rng.normal(size=4), bool(rng.random() < 0.5)) for _ in range(40)]
    whole = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    first = Linear(linear_model.LogisticRegression(make()), np.zeros(4))
    for x, y in steps[:20]:
        whole.learn(x, y)
        first.learn(x, y)
    second = Linear(linear_model.LogisticRegression(make()), first.weights.copy(), first.intercept)
    arrays = {name: getattr(first.optimizer, name) for name in arrays_of(linear_model.LogisticRegression(make()))}
    assert set(arrays) == ({"m", "v"} if optimizer == "Adam" else set())
    second.recall(20, arrays)
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
    return Inputs(index, candidates, candidates.features @ SPACE.prior[WARM])


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
    total = dense.sum(axis=1) + tokens.sum(axis=1) + learner.intercept
    assert total == pytest.approx(learner.logits(inputs)[places], rel=1e-9)


def test_content_weights_are_bounded_and_the_smallest_goes():
    inputs = inputs_of(shop())
    learner = Learners(LearnerSettings(tokens=2, rate=0.5)).of(LearnerState())
    for place in range(12):
        learner.learn(inputs, place, True, 1.0)
    assert len(learner.tokens) == 2
    assert len(learner.weights) == DENSE + 2


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


def steps(learner, inputs: Inputs, number: int = 30) -> None:
    """What a user might teach: items taken and refused, and some that were preferred to others."""
    for step in range(number):
        learner.learn(inputs, step * 7 % 20, step % 3 == 0, 1.0)
        if step % 5 == 0:
            learner.prefer(inputs.pick([step % 20, 3, 11]), 0.5, content_only=step % 10 == 0)


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
    """Their tokens with them, and with every other step on a difference of two, whose intercept does not count."""
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
            intercept = river.intercept
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


def shuffled(names: Sequence[str]) -> FeatureSpace:
    """Features of the `names`, of which those that are new have a prior of 0."""
    marks = np.array([hash32(name) for name in names], np.uint32)
    return SPACE._replace(names=tuple(names), marks=marks, prior=np.zeros((2, len(names))))


def reordered(inputs: Inputs, space: FeatureSpace) -> Inputs:
    """The same candidates with the features of `space`; one that they do not have is 0."""
    columns = dict(zip(SPACE.names, inputs.features.T, strict=True))
    none = np.zeros(len(inputs.rows))
    features = np.ascontiguousarray(np.stack([columns.get(name, none) for name in space.names], axis=1))
    return Inputs(inputs.index, Candidates(inputs.rows, features, none), inputs.ranker)


@pytest.mark.parametrize("measured", [False, True])
@pytest.mark.parametrize("optimizer", ["optim.SGD", "optim.Adam", "optim.RMSProp"])
def test_what_was_learned_follows_the_names_of_features(optimizer, measured):
    """Two swapped, one gone, one new: a learner goes on as one that always had those that it had."""
    settings = LearnerSettings(optimizer=optimizer)
    gone, *rest = SPACE.names
    rest[4], rest[20] = rest[20], rest[4]
    space = shuffled([*rest[:7], "unheard of", *rest[7:]])
    inputs = inputs_of(shop())
    inputs.features[:, 0] = 0.0  # what is gone was never seen
    learner, state = Learners(settings, SPACE, measured=measured).of(LearnerState()), LearnerState()
    steps(learner, inputs)
    learner.store(state)
    others = Learners(settings, space, measured=measured)
    again, new = others.of(decode_learner(encode_learner(state))), reordered(inputs, space)
    assert again.logits(new) == pytest.approx(learner.logits(inputs), rel=1e-5)
    if measured:
        everywhere = np.arange(20)
        assert again.deviations(new, everywhere) == pytest.approx(learner.deviations(inputs, everywhere), rel=1e-5)
    steps(learner, inputs, 20)
    steps(again, new, 20)  # raises nothing, and the optimiser's arrays are where they belong
    assert again.logits(new) == pytest.approx(learner.logits(inputs), rel=1e-4)
    weights = dict(zip((RANKER, *space.names), again.weights.tolist(), strict=False))
    assert weights["unheard of"] == 0.0 and gone not in weights
    assert min(abs(weights[rest[4]]), abs(weights[rest[20]])) > 0.0


@pytest.mark.parametrize(("first", "then"), [("Adam", "SGD"), ("SGD", "Adam"), ("Adam", "RMSProp"), ("RMSProp", "SGD")])
def test_another_optimiser_begins_its_own_memory_and_the_weights_stay(first, then):
    inputs = inputs_of(shop())
    state = LearnerState(examples=30)
    learner = Learners(LearnerSettings(optimizer=f"optim.{first}")).of(state)
    steps(learner, inputs)
    learner.store(state)
    learners = Learners(LearnerSettings(optimizer=f"optim.{then}"))
    other = learners.of(state)
    assert (other.steps, state.examples) == (0, 30)
    assert other.logits(inputs) == pytest.approx(learner.logits(inputs), rel=1e-5)
    twin = learners.of(LearnerState(**{name: getattr(state, name) for name in LINEAR}, features=state.features))
    for one in (other, twin):
        steps(one, inputs, 10)
    assert other.logits(inputs).tolist() == twin.logits(inputs).tolist()
    other.store(state)
    assert set(state.memory) == {"n_iterations", *arrays_of(learners.prototype)}
    nobody = LearnerState()
    fresh = learners.of(nobody)
    assert fresh.steps == 0
    steps(fresh, inputs, 1)
    fresh.store(nobody)
    assert set(nobody.memory) == set(state.memory)
    expected = Learners(LearnerSettings(optimizer=f"optim.{then}")).of(LearnerState())
    steps(expected, inputs, 1)
    expected.store(LearnerState())
    assert fresh.logits(inputs).tolist() == expected.logits(inputs).tolist()


LINEAR = ("intercept", "weights", "tokens", "token_weights")
CLASSES = [
    {"model": "naive_bayes.BernoulliNB"},
    {"model": "naive_bayes.GaussianNB"},
    {},
    {"optimizer": "optim.AdaGrad"},
]


@pytest.mark.parametrize("first", CLASSES)
@pytest.mark.parametrize("then", CLASSES)
def test_a_learner_of_another_class_begins_anew_and_its_count_with_it(first, then):
    inputs, state = inputs_of(shop()), LearnerState(examples=30, version=7, seen=b"seen")
    learner = Learners(LearnerSettings(**first)).of(state)
    steps(learner, inputs)
    learner.store(state)
    state = decode_learner(encode_learner(state))
    learners = Learners(LearnerSettings(**then))
    other = learners.of(state)
    assert (state.version, state.seen) == (7, b"seen")
    if first == then:
        assert state.examples == 30
        assert other.logits(inputs) == pytest.approx(learner.logits(inputs), rel=1e-5)
        return
    assert state.examples == 0
    assert other.logits(inputs).tolist() == learners.of(LearnerState()).logits(inputs).tolist()
    steps(other, inputs, 1)
    other.store(state)
    assert bool(state.weights) != bool(state.model)  # nothing is left of the other


@pytest.mark.parametrize("settings", [{}, {"optimizer": "optim.Adam"}])
def test_weights_take_four_bytes_each(settings):
    inputs, state = inputs_of(shop()), LearnerState()
    learner = Learners(LearnerSettings(**settings), measured=True).of(state)
    steps(learner, inputs)
    learner.store(state)
    tokens = len(learner.tokens)
    assert tokens > 5
    assert (len(state.features), len(state.weights)) == (4 * DENSE, 4 * DENSE)
    assert (len(state.tokens), len(state.token_weights)) == (4 * tokens, 4 * tokens)
    assert len(state.precision) == 4 * (DENSE + tokens)
    assert np.frombuffer(state.weights, "<f4") == pytest.approx(learner.weights[:DENSE], rel=1e-6)


def test_who_learned_nothing_leaves_the_state_as_it_is():
    state = LearnerState()
    for settings in CLASSES:
        learner = Learners(LearnerSettings(**settings)).of(state)
        learner.logits(inputs_of(shop()))
        learner.store(state)
    assert encode_learner(state) == encode_learner(LearnerState())


def test_a_learner_of_a_later_layout_is_refused():
    later = msgspec.msgpack.encode([4, 0, 0])
    with pytest.raises(ValueError, match="learner state of layout 4"):
        decode_learner(later)
