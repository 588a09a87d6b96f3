"""The kernels of the linear learner give what plain numpy gives."""

from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.models import linear_kernels as kernels
from riverrank.operators.models import net
from riverrank.operators.models.inputs import few
from riverrank.operators.models.linear_kernels import probability

T = 5  # tokens of an item at most


class Made(NamedTuple):
    """Candidates, an index of items and a learner, made at random; of few hashes, so that they meet in the table."""

    features: np.ndarray
    ranker: np.ndarray
    rows: np.ndarray
    picks: np.ndarray
    extra: int
    item_tokens: np.ndarray
    token_hashes: np.ndarray
    values: np.ndarray
    tokens: np.ndarray
    held: int

    @property
    def inputs(self):
        return self[:7]

    def hashes(self, pick: int) -> list[int]:
        row = self.rows[pick] if pick >= 0 else self.extra
        return [int(self.token_hashes[number]) for number in self.item_tokens[row] if number >= 0]

    def vectors(self, held: list[int]) -> np.ndarray:
        """The picked candidates in the learner's coordinates, of which the last are for `held` tokens."""
        x = np.zeros((len(self.picks), 1 + self.features.shape[1] + len(held)))
        for k, pick in enumerate(self.picks.tolist()):
            if pick >= 0:
                x[k, 0], x[k, 1 : 1 + self.features.shape[1]] = self.ranker[pick], self.features[pick]
            for token in self.hashes(pick):
                if token in held:
                    x[k, 1 + self.features.shape[1] + held.index(token)] += 1.0
        return x

    def weights(self, row: int = 0) -> np.ndarray:
        return self.values[row, : 1 + self.features.shape[1] + self.held]

    def known(self) -> list[int]:
        return self.tokens[: self.held].tolist()


@st.composite
def made(draw: st.DrawFn) -> Made:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    c, size, room = draw(st.integers(1, 9)), draw(st.integers(1, 9)), draw(st.integers(0, 9))
    hashes = rng.permutation(np.array([0, 1, 16, 17, 32, 64, 128, 256, 512, 2**32 - 1, 2**31, 99, 7, 8], np.uint32))
    lengths = rng.integers(0, T + 1, 12)
    item_tokens = np.full((12, T), -1, np.int32)
    for row, length in enumerate(lengths):
        item_tokens[row, :length] = rng.permutation(len(hashes))[:length]
    tokens = np.zeros(room, np.uint32)
    held = int(rng.integers(0, room + 1))
    tokens[:held] = rng.permutation(hashes)[:held]
    values = np.zeros((2, 1 + size + room))
    values[0, : 1 + size + held] = rng.normal(size=1 + size + held)
    values[1, : 1 + size + held] = 1.0 + rng.random(1 + size + held)
    rows = rng.permutation(12)[:c].astype(np.int32)
    picks = rng.integers(-1, c, draw(st.integers(1, 7)))
    features, ranker = rng.normal(size=(c, size)).astype(np.float32), rng.normal(size=c)
    return Made(features, ranker, rows, picks, int(rng.integers(12)), item_tokens, hashes, values, tokens, held)


@given(made())
def test_scores_are_the_logits_of_the_ranker_and_the_learner(m: Made) -> None:
    weights, out = np.linspace(-1.0, 1.0, m.features.shape[1]), np.empty((2, len(m.rows)))
    units = np.random.default_rng(m.held).normal(size=(len(weights) + 2, net.WIDTH)).astype(np.float32)
    units[:, 0] = 0.0
    ranker = m.features, weights, units, 0.25
    kernels.score(ranker[0], m.rows, *ranker[1:], *m.inputs[5:], m.values, m.tokens, m.held, -0.5, out)
    ranked = net.logits_of(*ranker)
    assert out[0].tolist() == ranked.tolist()
    every = m._replace(ranker=ranked, picks=np.arange(len(m.rows)))
    assert out[1] == pytest.approx(every.vectors(m.known()) @ m.weights() - 0.5)


@given(made())
def test_logits_vectors_and_contributions_are_those_of_what_is_picked(m: Made) -> None:
    x, size = m.vectors(m.known()), 1 + m.features.shape[1]
    assert kernels.logits_of(*m, -0.5) == pytest.approx(x @ m.weights() - 0.5)
    vectors = kernels.vectors(*m.inputs, m.tokens, m.held)
    assert vectors[:, : x.shape[1]].tolist() == x.tolist() and not vectors[:, x.shape[1] :].any()
    dense, by_token = np.zeros((len(m.picks), size)), np.zeros((len(m.picks), m.item_tokens.shape[1]))
    kernels.contributions(*m, dense, by_token)
    assert dense == pytest.approx(x[:, :size] * m.weights()[:size])
    worth = dict(zip(m.known(), m.weights()[size:].tolist(), strict=True))
    for pick, parts in zip(m.picks.tolist(), by_token, strict=True):
        expected = [worth.get(token, 0.0) for token in m.hashes(pick)]
        assert parts.tolist() == [*expected, *[0.0] * (T - len(expected))]


@given(made())
def test_deviations_are_those_of_differences_from_the_average(m: Made) -> None:
    x, size = m.vectors(m.known()), 1 + m.features.shape[1]
    precision = m.weights(1)
    expected = (x[:, :size] - x[:, :size].mean(axis=0)) ** 2 @ (1 / precision[:size])
    known = dict(zip(m.known(), precision[size:].tolist(), strict=True))
    expected += [sum(1 / known.get(t, kernels.PRIOR_PRECISION) for t in m.hashes(p)) for p in m.picks.tolist()]
    found = kernels.deviations(*m.inputs, m.values[1], m.tokens, m.held)
    assert found == pytest.approx(np.sqrt(expected), abs=1e-9)


def met(m: Made, pick: int, limit: int) -> tuple[dict[int, float], dict[int, float]]:
    """The tokens that are held, in their order, with weight and precision, once those of the item are met."""
    size = 1 + m.features.shape[1]
    weights, precision = (dict(zip(m.known(), m.weights(row)[size:].tolist(), strict=True)) for row in (0, 1))
    own = m.hashes(pick)[:limit]
    for token in sorted(own, key=lambda token: token not in weights):
        if token not in weights and len(weights) >= limit:
            weakest = min((held for held in weights if held not in own), key=lambda held: abs(weights[held]))
            del weights[weakest], precision[weakest]
        weights[token] = weights.pop(token, 0.0)  # the last now
        precision[token] = precision.pop(token, kernels.PRIOR_PRECISION)
    assert {*own} <= {*weights}
    return weights, precision


def step(weights: np.ndarray, precision: np.ndarray, intercept: float, x: np.ndarray, label: bool, w: float) -> float:
    """Of rate 0.1 and 0.05 for the intercept, clipped at 0.4."""
    p = probability(float(x @ weights) + intercept)
    slope = np.clip(w * (p - label), -0.4, 0.4)
    precision += w * p * (1 - p) * x * x
    weights -= 0.1 * slope * x
    return intercept - 0.05 * slope


RATES = np.array([0.1]), np.array([0.05])


@given(made(), st.booleans(), st.floats(0.1, 3.0), st.booleans())
def test_learning_meets_tokens_and_steps(m: Made, label: bool, w: float, measured: bool) -> None:
    limit, one = len(m.tokens), m._replace(picks=m.picks[:1])
    held = met(m, int(m.picks[0]), limit) if label else met(m, int(m.picks[0]), 0)
    weights, precision = (
        np.concatenate([m.values[row, : 1 + m.features.shape[1]], list(held[row].values())]) for row in (0, 1)
    )
    expected = step(weights, precision, -0.5, one.vectors(list(held[0]))[0], label, w)
    was = m.values[1].copy()
    values, tokens = m.values if measured else m.values[:1], m.tokens
    state = values, tokens, m.held, limit, measured, -0.5
    intercept, count = kernels.learn(*one.inputs, *state, np.array([label]), w, 0.4, *RATES, np.zeros(1))
    assert intercept == pytest.approx(expected)
    assert tokens[:count].tolist() == list(held[0])
    assert values[0, : len(weights)] == pytest.approx(weights, abs=1e-12)
    if measured:
        assert m.values[1, : len(precision)] == pytest.approx(precision, abs=1e-12)
    else:
        assert m.values[1].tolist() == was.tolist()


@given(made(), st.booleans(), st.booleans(), st.floats(0.1, 3.0))
def test_preferring_steps_on_differences(m: Made, content_only: bool, preferred: bool, w: float) -> None:
    limit, size = len(m.tokens), 1 + m.features.shape[1]
    held = met(m, int(m.picks[0]), limit)
    weights, precision = (np.concatenate([m.values[row, :size], list(held[row].values())]) for row in (0, 1))
    x = m.vectors(list(held[0]))
    for other in x[1:]:
        difference = x[0] - other
        if content_only:
            difference[:size] = 0.0
        step(weights, precision, 0.0, difference, preferred, w)  # how often the user clicks at all is in both of a pair
    state = m.values, m.tokens, m.held, limit, True
    count = kernels.prefer(*m.inputs, *state, content_only, preferred, w, 0.4, RATES[0])
    assert m.tokens[:count].tolist() == list(held[0])
    assert m.values[0, : len(weights)] == pytest.approx(weights, abs=1e-12)
    assert m.values[1, : len(precision)] == pytest.approx(precision, abs=1e-12)


def test_each_step_has_its_own_rate() -> None:
    features, none = np.eye(3, dtype=np.float32), np.zeros(3)
    index = np.full((3, T), -1, np.int32), np.zeros(1, np.uint32)
    inputs = features, none, np.arange(3, dtype=np.int32), np.arange(3), -1, *index
    rates, never = np.array([1.0, 0.1, 0.01]), np.zeros(1)
    values = np.zeros((1, 4))
    state = values, np.zeros(0, np.uint32), 0, 0, False, 0.0
    kernels.learn(*inputs, *state, np.ones(3, np.bool_), 1.0, 10.0, rates, never, np.zeros(1))
    assert values[0] == pytest.approx([0.0, 0.5, 0.05, 0.005])
    values[:] = 0.0
    kernels.prefer(*inputs, *state[:-1], False, True, 1.0, 10.0, rates[:2])
    assert values[0, 2] == -0.5 and 0.0 > values[0, 3] > -0.05


@pytest.mark.parametrize("logit", [-800.0, -20.0, 0.0, 20.0, 800.0])
def test_a_step_is_finite_however_sure_the_learner_is(logit: float) -> None:
    inputs = np.ones((1, 1), np.float32), np.array([logit]), np.zeros(1, np.int32), np.zeros(1, np.int64), -1
    index = np.full((1, T), -1, np.int32), np.zeros(1, np.uint32)
    for label in (False, True):
        values = np.array([[1.0, 0.0], [1.0, 1.0]])
        state = values, np.zeros(0, np.uint32), 0, 0, True, 0.0
        intercept, _ = kernels.learn(*inputs, *index, *state, np.array([label]), 1.0, 1e12, *RATES, np.zeros(1))
        assert np.isfinite(values).all()
        assert intercept == pytest.approx(0.05 * (label - probability(logit)), abs=1e-8)


@given(made(), st.booleans())
def test_rounding_off_leaves_what_is_read_again(m: Made, measured: bool) -> None:
    rows, size = 1 + measured, m.values.shape[1] - len(m.tokens) + m.held
    before, rounded = m.values.copy(), np.empty((rows, size), np.float32)
    kernels.round_off(m.values, rounded)
    before[:rows, :size] = before[:rows, :size].astype(np.float32)
    assert m.values.tolist() == before.tolist() and rounded.tolist() == before[:rows, :size].tolist()


@given(st.integers(1, 12), st.integers(-1, 11), st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=9))
def test_a_few_others_are_those_that_draws_fall_on(c: int, position: int, draws: list[int]) -> None:
    position, picks = min(position, c - 1), np.arange(100, 100 + c)
    others = [pick for k, pick in enumerate(picks.tolist()) if k != position]
    chosen = few(picks, position, np.frombuffer(np.array(draws, "<u4").tobytes(), "<u4")).tolist()
    assert chosen[0] == (picks[position] if position >= 0 else -1)
    drawn = sorted({draw * len(others) >> 32 for draw in draws}) if others else []
    assert chosen[1:] == [others[k] for k in drawn]
