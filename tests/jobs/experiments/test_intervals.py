"""Intervals over users: they hold the truth as often as they say, and looking early does not lie."""

import math

import numpy as np
import pytest
from riverrank.jobs.experiments.clusters import ALPHA, Mean, Sums, ratio_of_sums, widening
from riverrank.jobs.experiments.ratios import SUSPECT, mismatch
from riverrank.operators.experiment import CONTROL, Assignment


def visits(draw: np.random.Generator, users: int, days: int) -> tuple[np.ndarray, np.ndarray]:
    """Slates and clicks of each user by day, (users, days) each: users differ in how often they come, and click."""
    often, likes = draw.exponential(2.0, users), draw.beta(1.0, 9.0, users)
    arrives = draw.integers(0, days, users)
    slates = draw.poisson(often[:, None], (users, days)) * (np.arange(days) >= arrives[:, None])
    return slates.astype(float), draw.binomial(slates.astype(int), likes[:, None]).astype(float)


def difference(slates: np.ndarray, clicks: np.ndarray, arm: np.ndarray) -> Mean:
    sums = [
        ratio_of_sums(clicks[rows].sum(axis=1, keepdims=True), slates[rows].sum(axis=1, keepdims=True))
        for rows in (arm, ~arm)
    ]
    return sums[0].less(sums[1])


def drawn_arm(run: int, users: int) -> np.ndarray:
    assignment = Assignment(f"run {run}", {"same": 0.5})
    return np.array([assignment(f"u{n}") != CONTROL for n in range(users)])


def test_an_a_a_run_shows_a_difference_as_often_as_it_should():
    """Arms by the job's own assignment, each user many times: looked at once, in about 5 of 100 runs."""
    runs, users, wrong = 1000, 300, 0
    for run in range(runs):
        slates, clicks = visits(np.random.default_rng([1, run]), users, 10)
        low, high = difference(slates, clicks, drawn_arm(run, users)).estimate().once
        wrong += not low <= 0.0 <= high
    assert 0.03 < wrong / runs < 0.07


def test_looking_every_day_shows_no_more_than_it_should():
    """Stopped at the first difference that is shown, in 40 days: with the interval of one look that lies, with that for
    any number of looks it does not.
    """
    runs, users, days = 200, 400, 40
    wrong = {"once": 0, "always": 0}
    for run in range(runs):
        slates, clicks = visits(np.random.default_rng([2, run]), users, days)
        arm = drawn_arm(run, users)
        shown = set()
        for day in range(2, days + 1):
            here = slates[:, :day].sum(axis=1) > 0
            estimate = difference(slates[here, :day], clicks[here, :day], arm[here]).estimate()
            shown |= {name for name in wrong if not (bounds := getattr(estimate, name))[0] <= 0.0 <= bounds[1]}
        for name in shown:
            wrong[name] += 1
    assert wrong["once"] / runs > 2 * ALPHA
    assert wrong["always"] / runs <= ALPHA


def test_a_true_difference_is_shown():
    slates, clicks = visits(np.random.default_rng(3), 4000, 20)
    arm = drawn_arm(0, 4000)
    clicks[arm] = np.minimum(slates[arm], clicks[arm] + (np.random.default_rng(4).random(clicks[arm].shape) < 0.05))
    low, high = difference(slates, clicks, arm).estimate().always
    assert 0.0 < low < high


def test_users_are_the_sample_not_what_they_do():
    """The same user ten times over says no more than once."""
    clicks, slates = np.array([[1.0], [0.0], [2.0], [1.0]]), np.array([[2.0], [2.0], [3.0], [1.0]])
    one, ten = ratio_of_sums(clicks, slates), ratio_of_sums(10 * clicks, 10 * slates)
    assert one == pytest.approx(ten) and one.value == 0.5
    influence = (clicks - 0.5 * slates)[:, 0] / 2.0
    assert one.error == pytest.approx(math.sqrt(influence.var(ddof=1) / 4))


def test_where_there_is_too_little_to_say_nothing_is_said():
    sums = Sums(2)
    assert math.isnan(sums.ratio(0, 1).value)
    sums.add("u", [1.0, 2.0])
    estimate = sums.ratio(0, 1).estimate()
    assert estimate.value == 0.5 and math.isnan(estimate.once[0]) and math.isnan(estimate.always[1])


def test_an_error_of_the_size_of_rounding_is_none():
    """Each earns 0.3 a slate; what several sum up to is off by a bit."""
    sums = Sums(2)
    for user in range(20):
        for _ in range(1 + user % 7):
            sums.add(f"u{user}", [0.3, 1.0])
    assert sums.ratio(0, 1).value == pytest.approx(0.3) and sums.ratio(0, 1).error == 0.0
    thirds = ratio_of_sums(np.full((6, 3), [0.1, 0.2, -0.3]), np.ones((6, 3)))
    assert (thirds.value, thirds.error) == (0.0, 0.0)


def test_the_interval_for_any_number_of_looks_is_the_wider():
    assert all(widening(n) > 1.96 for n in (2, 10, 1000, 10**7))
    assert widening(2000) == min(widening(n) for n in (500, 1000, 2000, 4000, 10**5))


def test_a_sample_ratio_that_holds_is_seldom_suspected_however_often_one_looks():
    shares = {"a": 0.2, "b": 0.3, CONTROL: 0.5}
    suspected = 0
    for run in range(500):
        arms = np.random.default_rng([5, run]).choice(3, 5000, p=[0.2, 0.3, 0.5])
        counted = np.cumsum(arms[:, None] == np.arange(3), axis=0)[99::100]
        suspected += any(mismatch(dict(zip(shares, row.tolist(), strict=True)), shares) < 0.05 for row in counted)
    assert suspected / 500 <= 0.05


def test_lost_users_are_found():
    shares = {"a": 0.5, CONTROL: 0.5}
    assert mismatch({"a": 10_000, CONTROL: 9_300}, shares) < SUSPECT
    assert mismatch({"a": 40, CONTROL: 5}, shares) < SUSPECT
    assert mismatch({"a": 10_000, CONTROL: 10_050}, shares) == 1.0
    assert mismatch({"a": 5, CONTROL: 5, "x": 1}, shares) == 0.0
