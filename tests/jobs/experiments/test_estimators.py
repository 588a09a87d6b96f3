"""Estimates of a policy that did not run, against the truth: exactly, over a small shelf, and on logged public data."""

import csv
import io
import os
import zipfile
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from riverrank.jobs.experiments.estimators import FIRST, SLATE, Asked, Estimators
from riverrank.operators.slate.chances import chances
from riverrank.operators.slate.explore import Caps, explore

ITEMS, SLOTS, RUNS, LEAST_HELD = 5, 3, 200, 0.9
WHEEL = Path(os.environ.get("OBP_WHEEL", "build/obp-0.4.1-py3-none-any.whl"))
NAMES = ("IPS", "SNIPS", "DR", "RIPS", "cascade DR")


class Drawn(NamedTuple):
    """A policy: how it explores, and what it thinks of the items of a context, best first."""

    kind: str
    rate: float

    def slate(self, values: np.ndarray, draws: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        order = np.argsort(-values, kind="stable")
        drawn = explore(values[order], self.kind, self.rate, draws, deviations=lambda: np.full(len(values), 0.8))
        return order[drawn.positions], drawn.propensity

    def asked(self, values: np.ndarray, logged: np.ndarray, worth: np.ndarray) -> Asked:
        order = np.argsort(-values, kind="stable")
        place = np.argsort(order)
        unsure = np.full(len(values), 0.8)
        found = chances(
            values[order], self.kind, self.rate, place[logged], worth[order], deviations=lambda some: unsure[some]
        )
        return Asked(*found, worth[logged])


# Two contexts; a click depends on the item, the context, the rank, and on whether something was taken above.
LIKED = np.array([[0.5, 0.4, 0.2, 0.1, 0.05], [0.1, 0.1, 0.3, 0.45, 0.3]])
OWN = np.array([[1.0, 0.9, 0.5, 0.3, 0.0], [0.4, 0.2, 1.0, 0.5, 0.9]])  # what the logged policy thinks
OTHER = np.array([[0.3, 1.0, 0.2, 0.6, 0.5], [0.1, 0.2, 0.6, 1.2, 0.3]])
LOGGED, POLICIES = Drawn("epsilon", 0.7), (Drawn("epsilon", 0.5), Drawn("softmax", 0.4), Drawn("thompson", 0.7))


def click_chances(context: int, slate: np.ndarray, taken: int, rank: int) -> float:
    return float(LIKED[context][slate[rank]] * (1.0, 0.8, 0.6)[rank] * (0.5 if taken else 1.0))


def expected(context: int, slate: np.ndarray) -> tuple[float, float]:
    """The rewards of the first slot and of the slate, in the mean."""
    states, total, first = {0: 1.0}, 0.0, 0.0
    for rank in range(SLOTS):
        after = dict.fromkeys((0, 1), 0.0)
        for taken, chance in states.items():
            click = click_chances(context, slate, taken, rank)
            total += chance * click
            after[1] += chance * click
            after[taken] += chance * (1.0 - click)
        states = after
        first = total if rank == 0 else first
    return first, total


def truth(policy: Drawn) -> dict[str, float]:
    """What the policy earns, over every slate that there is."""
    earned = np.zeros(2)
    for context in (0, 1):
        for slate in permutations(range(ITEMS), SLOTS):
            logged = np.array(slate)
            asked = policy.asked(OTHER[context], logged, np.ones(ITEMS))
            earned += 0.5 * asked.chance.prod() * np.array(expected(context, logged))
    return {FIRST: float(earned[0]), SLATE: float(earned[1])}


@cache
def asked_of(policy: Drawn, context: int, slate: tuple[int, ...]) -> Asked:
    return policy.asked(OTHER[context], np.array(slate), 1.0 / (1.0 + np.exp(-OTHER[context])))


def logged_run(seed: int, policy: Drawn, users: int) -> Estimators:
    """A log of users who come several times, each mostly in one context, estimated as it comes."""
    draw, estimators = np.random.default_rng(seed), Estimators(SLOTS)
    for user in range(users):
        mostly = draw.integers(2)
        for _ in range(draw.integers(1, 5)):
            context = int(mostly if draw.random() < 0.8 else 1 - mostly)
            slate, propensity = LOGGED.slate(OWN[context], draw.random(SLOTS))
            rewards = np.zeros(SLOTS)
            for rank in range(SLOTS):
                taken = int(rewards.any())
                rewards[rank] = draw.random() < click_chances(context, slate, taken, rank)
            asked = asked_of(policy, context, tuple(slate.tolist()))
            estimators.add(f"u{user}", rewards, propensity, asked)
    return estimators


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.kind)
def test_intervals_hold_the_truth_in_nine_of_ten_runs(policy):
    true = truth(policy)
    held, values = dict.fromkeys(NAMES, 0), {name: [] for name in NAMES}
    for run in range(RUNS):
        for figure in logged_run(run, policy, 150).figures():
            low, high = figure.earned.once
            held[figure.estimator] += low <= true[figure.of] <= high
            values[figure.estimator].append(figure.earned.value)
    assert {name: share for name, n in held.items() if (share := n / RUNS) < LEAST_HELD} == {}
    for name, of in zip(NAMES, (FIRST, FIRST, FIRST, SLATE, SLATE), strict=True):
        error = np.std(values[name]) / np.sqrt(RUNS)
        assert abs(np.mean(values[name]) - true[of]) < 4 * error + 0.005, name
    assert np.std(values["DR"]) < np.std(values["IPS"])
    assert np.std(values["cascade DR"]) < 1.1 * np.std(values["RIPS"])


@pytest.mark.parametrize("digits", [17, 6])  # a slate has six of a propensity
def test_a_policy_that_is_the_logged_one_earned_what_was_earned(digits):
    estimators = Estimators(SLOTS)
    draw = np.random.default_rng(0)
    for user in range(50):
        slate, propensity = LOGGED.slate(OWN[0], draw.random(SLOTS))
        rewards = (draw.random(SLOTS) < LIKED[0][slate]).astype(float)
        logged = np.array([float(f"{chance:.{digits}g}") for chance in propensity])
        estimators.add(f"u{user}", rewards, logged, LOGGED.asked(OWN[0], slate, np.ones(ITEMS)))
    assert estimators.weight(FIRST).once == estimators.weight(SLATE).once == (1.0, 1.0)
    for figure in estimators.figures():
        if "DR" not in figure.estimator:
            assert figure.earned.value == pytest.approx(estimators.earned(figure.of).value)
            assert figure.more.value == 0.0 and figure.sample == pytest.approx(50)
        assert figure.more.once[0] <= 0.0 <= figure.more.once[1]


@pytest.mark.parametrize("depth", [1, 2, 3, 10, 20])
def test_the_logged_policy_is_no_more_than_itself_at_any_depth(depth):
    """From two ranks on, sums by rank and the sum of all are added up in other orders."""
    draw, estimators = np.random.default_rng(1), Estimators(depth)
    for slate in range(150):
        rewards = (draw.random(depth) < 0.3) * draw.choice([0.3, 1.0, 1.5], depth)
        propensity, worth = draw.uniform(0.05, 1.0, depth), np.full(depth, 0.5)
        estimators.add(f"u{slate % 60}", rewards, propensity, Asked(propensity, worth, worth))
    more = {figure.estimator: figure.more for figure in estimators.figures() if "DR" not in figure.estimator}
    assert {name: (told.value, told.once) for name, told in more.items()} == dict.fromkeys(
        ("IPS", "SNIPS", "RIPS"), (0.0, (0.0, 0.0))
    )


@pytest.mark.parametrize("kind", ["epsilon", "softmax", "thompson"])
@pytest.mark.parametrize("cap", [0, 2])
def test_the_chance_of_what_was_drawn_is_its_propensity(kind, cap):
    draw, compared = np.random.default_rng(1), 0
    categories = draw.integers(0, 3, (12, 1)).astype(np.int32)
    for _ in range(50):
        values, unsure = np.sort(draw.normal(size=12))[::-1], draw.uniform(0.1, 1.0, 12)
        caps = Caps(categories, np.array([[1]], np.int32), cap)
        drawn = explore(values, kind, 0.4, draw.random(6), caps, lambda unsure=unsure: unsure)
        chance, mean = chances(
            values, kind, 0.4, drawn.positions, np.ones(12), caps, lambda some, unsure=unsure: unsure[some]
        )
        assert chance == pytest.approx(drawn.propensity, abs=1e-12) and mean == pytest.approx(1.0)
        compared += len(chance)
    assert compared > 200


def test_what_a_policy_cannot_draw_has_no_chance():
    chance, mean = chances(np.array([2.0, 1.0]), "epsilon", 0.0, np.array([1, 0, -1]), np.array([0.5, 0.25]))
    assert chance.tolist() == [0.0, 1.0, 0.0] and mean.tolist() == [0.5, 0.5, 0.0]
    chance, mean = chances(np.zeros(0), "softmax", 0.3, np.array([-1]), np.zeros(0))
    assert chance.tolist() == mean.tolist() == [0.0]


def open_bandit(policy: str) -> Iterator[tuple[int, int, float, float]]:
    """Item, position, click and propensity of each row of the Open Bandit sample, campaign `all`."""
    with zipfile.ZipFile(WHEEL) as wheel, wheel.open(f"obp/dataset/obd/{policy}/all/all.csv") as file:
        for row in csv.DictReader(io.TextIOWrapper(file, "utf-8")):
            yield int(row["item_id"]), int(row["position"]), float(row["click"]), float(row["propensity_score"])


@pytest.mark.skipif(not WHEEL.exists(), reason=f"{WHEEL} is absent: pip download --no-deps -d build obp==0.4.1")
def test_what_even_draws_earn_is_found_from_the_log_of_another_policy_of_open_bandit():
    """Of Saito et al., Open Bandit Dataset and Pipeline (2020): from the log of Thompson sampling what even draws earn,
    which ran beside it. A row is one slot; users are not told, so each row is one.
    """
    even = np.array([click for *_, click, _ in open_bandit("random")])
    rows = list(open_bandit("bts"))
    items, estimators = len({row[0] for row in open_bandit("random")}), Estimators(1)
    for n, (_, _, click, propensity) in enumerate(rows):
        asked = Asked(np.array([1.0 / items]), np.array([0.5]), np.array([0.5]))
        estimators.add(f"u{n}", np.array([click]), np.array([propensity]), asked)
    assert len(rows) == len(even) == 10_000 and items == 80
    error = even.std() / 100.0
    for figure in estimators.figures():
        low, high = figure.earned.once
        assert low - 2 * error <= even.mean() <= high + 2 * error, figure.estimator
        assert figure.sample < 10_000
    assert estimators.weight(FIRST).once[0] < 1.05
