"""Diversity and exploration: orders and exact propensities."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.rerank import diversify, explore
from riverrank.state.hashing import uniforms


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_no_diversity_is_the_order_of_scores_and_ties_keep_their_places():
    scores = np.array([1.0, 3.0, 3.0, 2.0])
    assert diversify(scores, np.eye(4, dtype=np.float32), 0.0, 4).tolist() == [1, 2, 3, 0]


def test_more_strength_gives_more_different_neighbours():
    rng = np.random.default_rng(2)
    vectors, scores = unit(rng.normal(size=(60, 4))), rng.random(60)

    def likeness(strength: float) -> float:
        top = vectors[diversify(scores, vectors, strength, 10)[:10]]
        return float((top @ top.T)[np.triu_indices(10, 1)].mean())

    assert likeness(0.8) < likeness(0.3) < likeness(0.0)


@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 20))
def test_every_candidate_is_ordered_once(n, strength, size):
    rng = np.random.default_rng(n)
    order = diversify(rng.random(n), unit(rng.normal(size=(n, 3))), strength, size)
    assert sorted(order.tolist()) == list(range(n))


def test_without_exploration_every_propensity_is_one():
    drawn = explore(np.arange(30), 0.0, 20, uniforms(0, "e", 40))
    assert drawn.places.tolist() == list(range(20))
    assert drawn.propensity.tolist() == [1.0] * 20


def test_propensities_are_the_frequencies():
    """For the first two places of a pool of 5: how often each slate comes, against the product of its propensities."""
    rate, runs = 0.4, 40_000
    frequency: dict[tuple[int, ...], int] = {}
    said: dict[tuple[int, ...], float] = {}
    for k in range(runs):
        drawn = explore(np.arange(5), rate, 2, uniforms(1, f"event {k}", 4))
        slate = tuple(drawn.places.tolist())
        frequency[slate] = frequency.get(slate, 0) + 1
        said[slate] = float(drawn.propensity.prod())
    assert len(said) == 20
    assert sum(said.values()) == pytest.approx(1.0, abs=1e-9)
    for slate, p in said.items():
        assert abs(frequency[slate] / runs - p) < 5 * (p * (1 - p) / runs) ** 0.5


@given(st.integers(1, 60), st.floats(0, 1), st.integers(1, 30), st.text(max_size=5))
def test_slates_are_distinct_with_propensities_that_a_probability_can_have(n, rate, size, seed):
    drawn = explore(np.arange(n), rate, size, uniforms(0, seed, 2 * size))
    assert len(set(drawn.places.tolist())) == min(n, size) == len(drawn.propensity)
    assert ((drawn.propensity > 0) & (drawn.propensity <= 1 + 1e-12)).all()
