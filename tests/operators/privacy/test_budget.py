"""How much noise a promise takes, against figures of others: dp-accounting's own tests, and its accountant."""

import math

import pytest
from riverrank.operators.privacy.budget import (
    QUICK_BELOW,
    Accountant,
    budget_of,
    gaussian_delta,
    gaussian_epsilon,
    gaussian_multiplier,
    sensitivities,
)
from riverrank.operators.settings import NoiseSettings


@pytest.mark.parametrize(
    ("multiplier", "epsilon", "delta"), [(1.0, 0.0, 0.38292492), (1.0, 1.0, 0.12693674), (2.0, 1.0, 0.00682960)]
)
def test_delta_of_the_gaussian_mechanism(multiplier, epsilon, delta):
    """The first two are in dp-accounting's tests. By hand, of 1 and 1 it is Phi(-1/2) - e * Phi(-3/2)
    = .308538 - 2.718282 * .066807; of 2 and 1, Phi(-1.75) - e * Phi(-2.25) = .040059 - 2.718282 * .012224.
    """
    assert gaussian_delta(epsilon, multiplier) == pytest.approx(delta, abs=1e-8)
    assert gaussian_epsilon(multiplier, delta) == pytest.approx(epsilon, abs=1e-5)
    if epsilon:
        assert gaussian_multiplier(epsilon, delta) == pytest.approx(multiplier, abs=1e-5)


def test_the_usual_bound_for_the_gaussian_is_kept_with_room():
    """Dwork and Roth, theorem A.1: sqrt(2 ln(1.25 / delta)) / epsilon is enough, for an epsilon below 1."""
    for epsilon, delta in ((0.5, 1e-5), (0.9, 1e-6)):
        enough = math.sqrt(2 * math.log(1.25 / delta)) / epsilon
        assert 0.7 * enough < gaussian_multiplier(epsilon, delta) < enough


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0, 8.0])
def test_the_accountant_finds_what_was_set_in_one_window_and_roots_of_it_in_more(epsilon):
    noise = NoiseSettings(epsilon=epsilon, key=b"secret")
    accountant, budget = Accountant(noise), budget_of(noise)
    assert accountant.spent(1).epsilon == pytest.approx(epsilon, rel=1e-4)
    assert accountant.spent(1).delta == pytest.approx(noise.delta)
    for windows in (4, 400):
        exact = gaussian_epsilon(budget.multiplier / math.sqrt(windows), noise.delta / 2)
        spent = accountant.spent(windows)
        assert exact * (1 - 1e-6) <= spent.epsilon <= 1.1 * exact, "an upper bound, and no wild one"
        is_exact = budget.multiplier / math.sqrt(windows) >= QUICK_BELOW
        assert (spent.epsilon <= 1.001 * exact) is is_exact
        assert spent.delta == pytest.approx(noise.delta * (1 + windows) / 2)


def test_all_parts_together_are_one_mechanism_of_that_multiplier():
    noise = NoiseSettings(epsilon=2.0, key=b"secret", contributions=5, pairs=3, clip=0.7)
    budget, changes = budget_of(noise), sensitivities(noise)
    parts = [(changes[part] / getattr(budget, part)) ** 2 for part in changes]
    assert sum(parts) == pytest.approx(budget.multiplier**-2)
    # Of five items the first has no pair, the second one, the third two, the others three.
    weights = [1.0, 0.9, 0.81]
    assert changes["pairs"] ** 2 == pytest.approx(sum(sum(w * w for w in weights[:k]) for k in range(5)), rel=2e-3)


def test_without_a_secret_there_is_no_noise_to_be_had():
    with pytest.raises(ValueError, match=r"privacy\.key_file or RIVERRANK_PRIVACY_KEY"):
        budget_of(NoiseSettings(epsilon=1.0))
