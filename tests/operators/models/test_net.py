"""The net beside linear models: its arithmetic beside plain numpy, what it learns, what its logits are made of."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.models import net as nets
from riverrank.operators.models.net import KEPT, KEPT_ROWS, REPLAYED, WIDTH, Net, logits_of, parts_of
from riverrank.state.item_tables import from_bfloat16

SEEDS, SIZES = st.integers(0, 10_000), st.sampled_from([1, 2, 5, 48])
NUMBERS = st.sampled_from([1, 2, 3, 4, 5, 17, 120])


def squashed(z: np.ndarray) -> np.ndarray:
    z = np.clip(z, -3.0, 3.0)
    return z * (27.0 + z * z) / (27.0 + 9.0 * z * z)


def logits_by(x: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The twin of `forward`, in all digits."""
    wide = values.astype(np.float64)
    sums = x.astype(np.float64) @ wide[:-2] + wide[-2]
    return sums[:, 0] + squashed(sums[:, 1:]) @ wide[-1, 1:]


def loss_by(x: np.ndarray, chosen: int, values: np.ndarray, offset: float) -> float:
    logits = logits_by(x, values)
    logits[np.arange(len(x)) != chosen] += offset
    return float(np.log(np.exp(logits - logits.max()).sum()) + logits.max() - logits[chosen])


def made(seed: int, size: int, number: int, scale: float = 0.5) -> tuple[np.random.Generator, np.ndarray, np.ndarray]:
    """A net that learned something, and rows as those of candidates, float32, some of whose coordinates are 0."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0.0, scale, (size + 2, WIDTH)).astype(np.float32)
    values[-2:, 0] = 0.0
    x = rng.normal(size=(number, size)) * (rng.random((number, size)) < 0.7)
    return rng, values, x.astype(np.float32)


@given(SEEDS, SIZES, NUMBERS)
def test_logits_are_those_of_the_linear_model_and_the_units(seed: int, size: int, number: int) -> None:
    rng, values, x = made(seed, size, number)
    sums, logits = np.full((number + 3, WIDTH), 9.0, np.float32), np.empty(number)
    nets.forward(x, values, sums, logits)
    assert logits == pytest.approx(logits_by(x, values), rel=1e-4, abs=1e-4)
    weights, units = rng.normal(size=size), values.copy()
    units[:, 0] = 0.0
    assert logits_of(x, weights, units, 0.25) == pytest.approx(
        x @ weights + 0.25 + logits_by(x, units), rel=1e-4, abs=1e-4
    )


@given(SEEDS, st.sampled_from([1, 3, 7]), NUMBERS, st.sampled_from([0.0, 1.5]))
def test_the_slopes_are_those_of_the_loss(seed: int, size: int, number: int, offset: float) -> None:
    """By small steps of each value, either way."""
    rng, values, x = made(seed, size, number)
    chosen, steps = int(rng.integers(number)), np.zeros(values.shape, np.float32)
    scratch = np.empty((number + 3, WIDTH), np.float32), np.empty(number), np.zeros(number + 3, np.float32)
    nets.add_slopes(x, chosen, 2.0, offset, values, *scratch, steps)
    for row, column in zip(rng.integers(0, size + 2, 12).tolist(), rng.integers(0, WIDTH, 12).tolist(), strict=True):
        if row >= size and column == 0:  # of nothing, as all have it alike
            continue
        either = []
        for step in (0.001, -0.001):
            moved = values.astype(np.float64)
            moved[row, column] += step
            either.append(2.0 * loss_by(x, chosen, moved, offset))
        assert steps[row, column] == pytest.approx((either[0] - either[1]) / 0.002, rel=0.02, abs=2e-3)


@given(SEEDS, st.integers(1, 60))
def test_a_step_is_adams(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    values, mean, square = (np.abs(rng.normal(size=(4, WIDTH))).astype(np.float32) for _ in range(3))
    steps = rng.normal(size=(4, WIDTH)).astype(np.float32)
    expected_mean, expected_square = 0.9 * mean + 0.1 * steps, 0.999 * square + 0.001 * steps**2
    down = expected_mean / (1 - 0.9**number) / (np.sqrt(expected_square / (1 - 0.999**number)) + 1e-8)
    expected = values - 0.01 * down
    nets.adam(values, mean, square, steps, 0.01, number)
    assert values == pytest.approx(expected, rel=1e-4, abs=1e-5)
    assert mean == pytest.approx(expected_mean, rel=1e-4, abs=1e-6)
    assert square == pytest.approx(expected_square, rel=1e-4, abs=1e-6)


@given(SEEDS, SIZES, NUMBERS, st.sampled_from([0.001, 0.5, 5.0]))
def test_the_parts_of_coordinates_add_up_to_the_logit(seed: int, size: int, number: int, scale: float) -> None:
    """With what a row of zeros has: exact to 1e-4, wherever on the curve of `squash` the units are."""
    rng, units, x = made(seed, size, number, scale)
    units[:, 0] = 0.0
    weights, positions = rng.normal(size=size), rng.permutation(number)[:20]
    parts = parts_of(x, positions, weights, units)
    nothing = logits_of(np.zeros((1, size), np.float32), weights, units, 0.0)[0]
    expected = logits_of(x, weights, units, 0.0)[positions]
    tolerance = 1e-4 * max(1.0, scale)
    assert parts.sum(axis=1) + nothing == pytest.approx(expected, rel=1e-5, abs=tolerance)
    assert not parts[x[positions] == 0.0].any()


def test_a_part_is_the_mean_slope_on_the_way_from_nothing() -> None:
    """Integrated gradients, by many small steps."""
    _, units, x = made(3, 5, 4)
    units[:, 0] = 0.0
    parts, step = parts_of(x, np.arange(4), np.zeros(5), units), 1e-4
    x = x.astype(np.float64)
    for feature in range(5):
        slopes = []
        for share in (np.arange(400) + 0.5) / 400:
            up, down = share * x, share * x
            up[:, feature] += step
            down[:, feature] -= step
            slopes.append((logits_by(up, units) - logits_by(down, units)) / (2 * step))
        assert parts[:, feature] == pytest.approx(x[:, feature] * np.mean(slopes, axis=0), abs=1e-4)


@given(SEEDS, NUMBERS)
def test_what_is_kept_of_a_choice_stands_for_all_of_it(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.arange(2.0 * number, dtype=np.float32).reshape(number, 2)
    chosen, count = int(rng.integers(number)), int(rng.integers(0, 3 * KEPT))
    kept, kept_of = np.zeros((KEPT, KEPT_ROWS, 2), np.uint16), np.zeros((KEPT, 3), np.float32)
    nets.keep(x, chosen, 0.5, count, kept, kept_of)
    n, others = min(number, KEPT_ROWS), number - 1
    assert kept_of[count % KEPT].tolist() == [n, pytest.approx(math.log(others / (n - 1)) if n > 1 else 0.0), 0.5]
    rows = [int(from_bfloat16(half)) // 2 for half in kept[count % KEPT, :n, 0]]
    assert rows[0] == chosen and len(set(rows)) == n and set(rows) <= set(range(number))
    assert np.count_nonzero(kept_of[:, 0]) == 1


def test_the_rows_that_are_kept_are_drawn_evenly() -> None:
    x = np.arange(60.0, dtype=np.float32).reshape(60, 1)
    kept, kept_of, drawn = np.zeros((1, KEPT_ROWS, 1), np.uint16), np.zeros((1, 3), np.float32), np.zeros(60)
    for count in range(4000):
        nets.keep(x, 7, 1.0, count, kept, kept_of)
        drawn[[int(from_bfloat16(half)) for half in kept[0, 1:, 0]]] += 1
    expected = 4000 * (KEPT_ROWS - 1) / 59
    others = np.delete(drawn, 7)
    assert drawn[7] == 0 and np.abs(others - expected).max() < 5 * math.sqrt(expected)


def test_a_net_learns_what_no_line_tells_apart_and_does_not_forget_it() -> None:
    """Of two kinds of users: what is right for one is wrong for the other, and one comes rarely."""
    rng, net = np.random.default_rng(5), Net(0.01, np.zeros(2))
    losses: list[float] = []
    for k in range(3000):
        rare = k % 10 == 0
        x = np.stack([np.full(6, float(rare)), np.repeat([0.0, 1.0], 3)[rng.permutation(6)]], axis=1).astype(np.float32)
        of_kind = np.flatnonzero(x[:, 1] == (0.0 if rare else 1.0))
        loss = net.choose(x, np.arange(6), int(rng.choice(of_kind)), 1.0)
        net.publish()
        if rare and k >= 2000:
            losses.append(loss)
    assert math.log(3) - 0.05 < np.mean(losses) < math.log(3) + 0.1  # one of three, not of six
    assert REPLAYED and net.steps == net.count == 3000


def test_a_net_comes_back_as_it_was_whatever_became_of_its_coordinates() -> None:
    rng, net, other = np.random.default_rng(1), Net(0.01, np.zeros(4)), Net(0.01, np.ones(4))
    for _ in range(60):
        net.choose(rng.normal(size=(30, 4)).astype(np.float32), np.arange(30), int(rng.integers(30)), 1.0)
    other.load(net.dump(), np.arange(4))
    assert other.dump() == net.dump()
    new = Net(0.01, np.ones(3))
    fresh = new.arrays.values[1].copy()
    new.load(net.dump(), np.array([3, -1, 0]))  # the last is first, the first is last, two are gone and one is new
    assert new.arrays.values[[0, 2, 3, 4]].tolist() == net.arrays.values[[3, 0, 4, 5]].tolist()
    assert new.arrays.values[1].tolist() == fresh.tolist()
    assert new.arrays.kept[:60, :, [0, 2]].tolist() == net.arrays.kept[:60, :, [3, 0]].tolist()
    assert not new.arrays.kept[:, :, 1].any() and new.count == 60
