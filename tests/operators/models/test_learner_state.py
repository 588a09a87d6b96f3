"""What is kept of a per-user learner: it goes on from its bytes, and its weights know their features."""

from collections.abc import Sequence
from itertools import permutations

import msgspec
import numpy as np
import pytest
from learner_inputs import DENSE, SPACE, inputs_of, shop
from river import optim
from riverrank.operators.candidates.features import FeatureSpace
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.models.inputs import RANKER, Inputs
from riverrank.operators.models.learner import Learners
from riverrank.operators.models.linear import arrays_of
from riverrank.operators.settings import LearnerSettings
from riverrank.state.hashing import hash32
from riverrank.state.learners import LearnerState, decode_learner, encode_learner


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


def steps(learner, inputs: Inputs, number: int = 30) -> None:
    """What a user might teach: items taken and refused, and some that were preferred to others."""
    for step in range(number):
        learner.learn(inputs, step * 7 % 20, step % 3 == 0, 1.0)
        if step % 5 == 0:
            learner.prefer(inputs.pick([step % 20, 3, 11]), 0.5, content_only=step % 10 == 0)


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
    one, other = (rest.index(name) for name in ("content:share", "after:root"))
    rest[one], rest[other] = rest[other], rest[one]
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
    assert min(abs(weights[rest[one]]), abs(weights[rest[other]])) > 0.0


# The optimisers that have a linear form.
@pytest.mark.parametrize(("first", "then"), list(permutations(("SGD", "Adam", "RMSProp"), 2)))
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
def test_a_learner_of_another_class_begins_anew_and_its_count_with_it(first, then, caplog):
    inputs, state = inputs_of(shop()), LearnerState(examples=30, version=7, seen=b"seen")
    learner = Learners(LearnerSettings(**first)).of(state)
    steps(learner, inputs)
    learner.store(state)
    state = decode_learner(encode_learner(state))
    learners = Learners(LearnerSettings(**then))
    twin = decode_learner(encode_learner(state))
    other, _ = learners.of(state), learners.of(twin)
    assert sum("set it as it was to keep those" in line for line in caplog.messages) == (first != then)
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


# But for two that take no rate alone, or another optimiser; `riverrank check` refuses these.
EVERY = [n for n, found in vars(optim).items() if isinstance(found, type) and n not in ("AdaBound", "Averager")]


@pytest.mark.parametrize("first", EVERY)
def test_of_no_optimiser_does_a_new_user_hold_anything_of_another(first):
    """Whichever it was before, and whoever learned between: what is kept of a new user is what any new user's would."""
    inputs, states = inputs_of(shop()), []
    for between in (0, 3):
        learners = Learners(LearnerSettings(optimizer=f"optim.{first}"))
        for other in EVERY[:between]:
            user = LearnerState(examples=30)
            before = Learners(LearnerSettings(optimizer=f"optim.{other}")).of(user)
            steps(before, inputs, 10)
            before.store(user)
            after = learners.of(user)
            steps(after, inputs, 10)
            after.store(user)
        new = LearnerState()
        learner = learners.of(new)
        steps(learner, inputs, 5)
        learner.store(new)
        states.append(encode_learner(new))
    assert states[0] == states[1] != encode_learner(LearnerState())
