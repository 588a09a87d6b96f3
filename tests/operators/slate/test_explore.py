"""Exploration: what is drawn, and that the propensities said are the frequencies seen."""

from itertools import permutations

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.features import feature_space
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.models.inputs import Inputs
from riverrank.operators.models.learner import Learners, LinearLearner
from riverrank.operators.models.linear_kernels import probability
from riverrank.operators.settings import ExplorationSettings, LearnerSettings
from riverrank.operators.slate.explore import (
    FLOOR,
    NARROWEST,
    NO_CAPS,
    Caps,
    Drawn,
    Thompson,
    budget,
    explore,
    log_phi,
    pick,
    softmax,
)
from riverrank.state.hashing import uniforms
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from scipy.special import log_ndtr, ndtr
from scipy.stats import chi2
from shop_pipeline import PLAIN, Shop

DENSE = 1 + feature_space(registry.SOURCES).size  # the ranker's logit, then the features
KINDS = ("epsilon", "softmax", "thompson")
VALUES = np.array([1.0, 0.8, 0.5, 0.1, -0.4])
DEVIATIONS = np.array([0.6, 0.9, 0.5, 0.7, 0.8])
CATEGORIES = np.array([[1, 2], [1, -1], [3, -1], [2, 3], [4, -1]], np.int32)
NO_PINS = np.zeros((0, 2), np.int32)

GAUSS_LEGENDRE = np.polynomial.legendre.leggauss(400)


def slate(kind: str, rate: float, draws: np.ndarray, cap: int = 0):
    return explore(VALUES, kind, rate, draws, Caps(CATEGORIES, NO_PINS, cap), lambda: DEVIATIONS)


def drawn_plainly(
    kind: str, values: np.ndarray, rate: float, draws: np.ndarray, caps: Caps, deviations: np.ndarray
) -> Drawn:
    """The twin of the kernels: slot by slot, a chance for each of what is left."""
    thompson = Thompson(values, rate * deviations) if rate > 0 else None
    held = [set(row.tolist()) - {-1} for row in caps.categories] or [set()] * len(values)
    on_slate = [set(row.tolist()) - {-1} for row in caps.pinned]
    free = np.ones(len(values), bool)
    positions, propensity, explored = [], [], []
    for u in draws:
        if caps.cap:
            full = {c for each in on_slate for c in each if sum(c in other for other in on_slate) >= caps.cap}
            free &= [not full & each for each in held]
        if not free.any():
            break
        best, left = int(free.argmax()), int(free.sum())
        if rate <= 0.0 or kind == "epsilon":
            order = [best, *(k for k in np.flatnonzero(free) if k != best)]
            position = order[min(int((u - 1.0 + rate) * left / rate), left - 1) if u > 1.0 - rate else 0]
            chances = np.where(free, rate / left, 0.0)
            chances[best] += 1.0 - rate
        else:
            if kind == "softmax":
                chances = np.exp(np.minimum(values - values[best], 0.0) * max(1.0 - rate, 1e-9) / rate) * free
            else:
                chances = thompson.chances(free)
            position = int(chances.cumsum().searchsorted(u * chances.sum(), side="right"))
        positions.append(position)
        propensity.append(chances[position] / chances.sum())
        explored.append(position != best)
        free[position] = False
        on_slate.append(held[position])
    return Drawn(np.array(positions), np.array(propensity), np.array(explored))


@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.05, 0.6, 1.0]), st.sampled_from(KINDS), st.integers(0, 3))
def test_slates_are_those_of_a_plain_reading(seed, rate, kind, cap):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 30))
    values, deviations = np.sort(rng.normal(size=n))[::-1].copy(), rng.random(n) + 0.1
    first, second = rng.integers(-1, 5, (2, n + 2)).astype(np.int32)
    categories = np.where(first[:, None] < 0, -1, np.stack([first, second], axis=1))
    caps = Caps(categories[:n], categories[n : n + rng.integers(0, 3)], cap)
    draws = rng.random(12)
    drawn = explore(values, kind, rate, draws, caps, lambda: deviations)
    plain = drawn_plainly(kind, values, rate, draws, caps, deviations)
    assert drawn.positions.tolist() == plain.positions.tolist()
    assert drawn.explored.tolist() == plain.explored.tolist()
    assert drawn.propensity == pytest.approx(plain.propensity, rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("kind", KINDS)
def test_of_nothing_nothing_is_drawn(kind):
    """As where all that may be served is pinned."""
    nothing = np.zeros(0)
    drawn = explore(nothing, kind, 0.5, np.random.default_rng(1).random(12), deviations=lambda: nothing)
    assert [len(each) for each in drawn] == [0, 0, 0]


@pytest.mark.parametrize("cap", [0, 1])
@pytest.mark.parametrize("kind", KINDS)
def test_propensities_are_the_frequencies(kind, cap):
    """How often each slate of two comes, against the product of its propensities: a chi-square test."""
    runs, seen, said = 8_000, {}, {}
    rate = 1.0 if kind == "thompson" else 0.45
    for draws in np.random.default_rng(1).random((runs, 2)):
        drawn = slate(kind, rate, draws, cap)
        places = tuple(drawn.positions.tolist())
        seen[places] = seen.get(places, 0) + 1
        said[places] = float(drawn.propensity.prod())
    possible = [
        pair
        for pair in permutations(range(5), 2)
        if not cap or not set(CATEGORIES[pair[0]]) & set(CATEGORIES[pair[1]]) - {-1}
    ]
    assert set(seen) == set(possible) and len(possible) == (14 if cap else 20)
    assert sum(said.values()) == pytest.approx(1.0, abs=1e-9)
    distance = sum((seen[pair] - runs * said[pair]) ** 2 / (runs * said[pair]) for pair in possible)
    assert distance < chi2.ppf(1 - 1e-4, len(possible) - 1)


def test_epsilon_gives_each_that_is_left_the_same_beside_the_best():
    drawn = slate("epsilon", 0.4, np.array([0.0, 0.999, 0.0]))
    assert drawn.positions.tolist() == [0, 4, 1]
    assert drawn.propensity == pytest.approx([0.6 + 0.4 / 5, 0.4 / 4, 0.6 + 0.4 / 3])
    assert drawn.explored.tolist() == [False, True, False]


def test_softmax_is_the_model_of_plackett_and_luce():
    drawn = slate("softmax", 0.5, np.array([0.99999, 0.0]))  # temperature 1
    raised = np.exp(VALUES)
    assert drawn.positions.tolist() == [4, 0] and drawn.explored.tolist() == [True, False]
    assert drawn.propensity == pytest.approx([raised[4] / raised.sum(), raised[0] / raised[:4].sum()])


def test_softmax_of_the_smallest_temperature_never_divides_by_nothing():
    drawn = Drawn(*softmax(np.array([900.0, 5.0, 4.0, -900.0]), 1e-6, np.full(4, 0.5), *NO_CAPS))
    assert drawn.positions.tolist() == [0, 1, 2, 3] and drawn.propensity.tolist() == [1.0] * 4


def test_thompson_is_the_best_of_independent_gaussians():
    """The chances against how often each of 200,000 draws of the Gaussians is the best: a chi-square test."""
    runs = 200_000
    free = np.array([True, True, False, True, True])
    chance = Thompson(VALUES, DEVIATIONS).chances(free)
    chance /= chance.sum()
    drawn = np.random.default_rng(4).normal(VALUES, DEVIATIONS, (runs, 5))
    seen = np.bincount(np.where(free, drawn, -np.inf).argmax(axis=1), minlength=5)
    assert chance[2] == 0.0 == seen[2]
    assert ((seen - runs * chance)[free] ** 2 / (runs * chance[free])).sum() < chi2.ppf(1 - 1e-4, 3)


def test_the_integral_is_right_to_a_millionth():
    rng = np.random.default_rng(7)
    for trial in range(40):
        n = int(rng.integers(2, 40))
        values = np.sort(rng.normal(0.0, rng.choice([0.0, 0.1, 1.0, 5.0]), n))[::-1]
        deviations = rng.choice([0.25, 0.4, 1.0], n)
        policy, free = Thompson(values, deviations), np.ones(n, bool)
        for _ in range(min(n - 1, 3)):  # what is free becomes less, as on a slate
            chance = policy.chances(free)
            assert chance / chance.sum() == pytest.approx(integral(values, deviations, free), abs=1e-6), trial
            free[rng.choice(np.flatnonzero(free))] = False


def integral(values: np.ndarray, deviations: np.ndarray, free: np.ndarray) -> np.ndarray:
    """By Gauss-Legendre over each density's own range, 400 points."""
    nodes, weights = GAUSS_LEGENDRE
    deviations = np.maximum(deviations, NARROWEST * deviations.max())
    chance = np.zeros(len(values))
    for i in np.flatnonzero(free):
        others = free.copy()
        others[i] = False
        x = values[i] + 9.0 * deviations[i] * nodes
        product = ndtr((x[:, None] - values[others]) / deviations[others]).prod(axis=1)
        chance[i] = 9.0 * (weights * np.exp(-40.5 * nodes**2) / np.sqrt(2 * np.pi) * product).sum()
    return chance


@pytest.mark.parametrize("kind", KINDS)
def test_a_rate_of_0_explores_nothing_and_more_explores_more(kind):
    none = slate(kind, 0.0, uniforms(0, "e", 5))
    assert none.positions.tolist() == [0, 1, 2, 3, 4] and none.propensity.tolist() == [1.0] * 5
    explored = [
        sum(slate(kind, rate, uniforms(2, f"{k}", 3)).explored.sum() for k in range(300)) for rate in (0.1, 0.4, 1.0)
    ]
    assert 0 < explored[0] < explored[1] < explored[2]


@pytest.mark.parametrize("kind", ["epsilon", "softmax"])
def test_a_rate_of_1_is_no_preference_at_all(kind):
    assert slate(kind, 1.0, np.array([0.3])).propensity == pytest.approx([0.2], abs=1e-6)


@given(st.integers(1, 40), st.floats(0, 1), st.sampled_from(KINDS), st.integers(0, 3), st.text(max_size=5))
def test_slates_are_distinct_with_propensities_that_a_probability_can_have(n, rate, kind, cap, seed):
    rng = np.random.default_rng(n)
    values, categories = np.sort(rng.normal(size=n))[::-1].copy(), rng.integers(0, 4, (n, 2)).astype(np.int32)
    caps = Caps(categories, NO_PINS, cap)
    drawn = explore(values, kind, rate, uniforms(0, seed, 20), caps, lambda: rng.random(n))
    places = drawn.positions.tolist()
    assert len(set(places)) == len(places) == len(drawn.propensity) == len(drawn.explored) <= min(n, 20)
    assert cap or len(places) == min(n, 20)
    assert ((drawn.propensity > 0) & (drawn.propensity <= 1 + 1e-12)).all()
    for category in range(4):
        assert not cap or sum(category in categories[place] for place in places) <= max(cap, 0)


@given(st.floats(0, 1), st.text(max_size=5))
def test_epsilon_is_the_same_where_a_cap_bars_nothing(rate, seed):
    draws = uniforms(0, seed, 5)
    free, capped = slate("epsilon", rate, draws), slate("epsilon", rate, draws, cap=9)
    assert free.positions.tolist() == capped.positions.tolist()
    assert free.propensity.tolist() == pytest.approx(capped.propensity.tolist(), abs=1e-15)


def test_the_budget_shrinks_as_a_model_becomes_sure_but_never_to_nothing():
    settings = ExplorationSettings(rate=0.1, halved_after=50)
    rates = [budget(settings, examples) for examples in (0, 10, 50, 1_000_000)]
    assert rates == sorted(rates, reverse=True)
    assert (rates[0], rates[2]) == (0.1, 0.05)
    assert rates[3] == 0.1 * FLOOR > 0
    assert budget(ExplorationSettings(rate=0.0), 0) == 0.0


def test_chances_need_no_sum():
    assert pick(np.array([2.0, 2.0, 2.0, 2.0]), 0.5) == (2, 0.25)
    assert pick(np.array([0.0, 2.0, 4.0, 0.0]), 0.0) == (1, pytest.approx(1 / 3))
    assert pick(np.array([1.0, 3.0, 0.0]), 1.0 - 2.0**-53) == (1, 0.75)


def test_the_table_of_the_normal_distribution_is_right():
    z = np.linspace(-31.0, 12.0, 2000)
    assert [log_phi(each) for each in z] == pytest.approx(log_ndtr(z), abs=1e-10)


def random_inputs(shop: Shop, seed: int = 0) -> Inputs:
    rng = np.random.default_rng(seed)
    candidates = Candidates(
        np.arange(20, dtype=np.int32), rng.random((20, feature_space(registry.SOURCES).size)), np.ones(20, np.uint8)
    )
    return Inputs(shop.index, candidates, rng.normal(size=20))


def test_precision_grows_by_the_curvature_of_each_step_and_learning_is_the_same():
    inputs = random_inputs(Shop())
    plain, measured = (Learners(LearnerSettings(), measured=m).of(LearnerState()) for m in (False, True))
    expected = np.ones(DENSE)
    for place, label in ((0, False), (3, False), (5, False)):
        p = probability(float(plain.logits(inputs)[place]))
        expected += 0.5 * p * (1 - p) * inputs.dense[place] ** 2
        for learner in (plain, measured):
            learner.learn(inputs, place, label, 0.5)
    assert measured.precision == pytest.approx(expected, rel=1e-12)
    assert measured.weights.tolist() == plain.weights.tolist()
    assert plain.precision is None


@pytest.mark.parametrize("tokens", [3, 32])
def test_what_a_learner_is_sure_of_survives_bytes_and_changes_of_its_tokens(tokens):
    inputs, places = random_inputs(Shop(), 4), np.arange(20)  # by others one leaves and comes back in one step
    learners = Learners(LearnerSettings(tokens=tokens), measured=True)
    whole, state = learners.of(LearnerState()), encode_learner(LearnerState())
    widest = [whole.deviations(inputs, places).mean()]
    for step in range(60):
        user = decode_learner(state)
        part = learners.of(user)
        before = dict(zip(whole.tokens, whole.precision[DENSE:], strict=True))
        for learner in (whole, part):
            pair = inputs.pick([(step * 7) % 20, (step * 3 + 1) % 20])
            learner.prefer(pair, 1.0, content_only=step % 5 == 0)
        for token, precision in zip(whole.tokens, whole.precision[DENSE:], strict=True):
            assert 0.0 <= precision - before.get(token, 1.0) <= 0.25, "what a token had stays with it"
        part.store(user)
        state = encode_learner(user)
        if step % 20 == 19:
            widest.append(whole.deviations(inputs, places).mean())
    assert len(whole.precision) == DENSE + len(whole.tokens) == len(whole.weights)
    assert part.deviations(inputs, places) == pytest.approx(whole.deviations(inputs, places), rel=1e-5)
    assert widest == sorted(widest, reverse=True) and widest[-1] < 0.9 * widest[0]


def exploring(kind: str, rate: float) -> Shop:
    return Shop(msgspec.structs.replace(PLAIN, exploration=ExplorationSettings(kind=kind, rate=rate)), 300)


@pytest.mark.parametrize("kind", KINDS)
def test_slates_say_what_was_explored_with_a_propensity_above_0(kind):
    shop = exploring(kind, 0.6)
    shop.crowd(events=3)
    slots = [slot for k in range(6) for slot in shop.send("u", "click", f"i{k}").items]
    explored = [slot for slot in slots if slot.reasons[0].code == "exploration"]
    assert 10 < len(explored) < len(slots)
    assert all(0 < slot.propensity < 1 for slot in explored)
    assert all(reason.weight is not None for slot in slots for reason in slot.reasons if reason.code != "exploration")


def test_thompson_keeps_a_user_small_and_others_keep_no_precision():
    for kind, kept in (("epsilon", False), ("thompson", True)):
        shop = exploring(kind, 0.5)
        for k in range(120):
            shop.send("u", "click", f"i{k}")
        state = decode_learner(shop.users["u"])
        assert len(state.precision) == (4 * (DENSE + len(state.tokens) // 4) if kept else 0)
        assert len(shop.users["u"]) < 4096


def test_thompson_needs_a_learner_that_says_how_sure_it_is():
    settings = LearnerSettings(model="naive_bayes.GaussianNB")
    with pytest.raises(ValueError, match="needs a linear learner"):
        Learners(settings, measured=True)
    assert not isinstance(Learners(settings).of(LearnerState()), LinearLearner)
    with pytest.raises(ValueError, match="measured=True"):
        Learners(LearnerSettings()).of(LearnerState()).deviations(random_inputs(Shop()), np.arange(2))
