"""The model of clicks on shown lists: its arithmetic beside plain Python, and what it comes to know."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from riverrank.operators.clicks import features as described
from riverrank.operators.clicks.features import (
    HOUR,
    MINUTE,
    NAMES,
    PRIOR,
    PRIOR_PASSED,
    PRIOR_TAKEN,
    SIZE,
    describe,
    describe_items,
    describe_list,
    describe_neighbours,
    note_taken,
)
from riverrank.operators.clicks.model import (
    COMPETITION_RATE,
    HALVED_AFTER,
    LEAST_RATE,
    RAREST,
    RATE,
    ClickModel,
    ClickWeights,
    learn,
    logits_of,
)
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour
from riverrank.state.item_tables import NEGATIVES, POSITIVES
from riverrank.state.learners import ClickState
from riverrank.state.messages import CatalogueUpdate, History, Seen
from riverrank.state.records.incoming import Item

SEEDS = st.integers(0, 10_000)


def described_plainly(items, history, now, stats, ranker) -> list[dict[str, float]]:
    """The twin of `describe` and its parts; `stats` by item that is known."""
    known = [ranker[k] for k, item in enumerate(items) if item in stats]
    mean = sum(known) / max(1, len(known))
    refused: set[str] = set()
    taken: dict[str, list[int]] = {}
    for at in range(len(history) - 1, -1, -1):
        seen = history[at]
        if seen.item_id in items and seen.reward < 0 and seen.item_id not in taken:
            refused.add(seen.item_id)
        elif seen.item_id in items and seen.reward > 0 and seen.item_id not in refused:
            taken.setdefault(seen.item_id, []).append(at)
    newest = max(taken, key=lambda item: taken[item][0], default=None)
    n, found = len(items), []
    for k, item in enumerate(items):
        x = dict.fromkeys(NAMES, 0.0)
        x |= {"always": 1.0, "place:log": math.log1p(k), "place:reciprocal": 1 / (1 + k), "place:share": k / n}
        x |= {"place:last": float(k == n - 1), "list:log": math.log(n), "user:history": math.log1p(len(history))}
        x |= {"unknown": float(item not in stats), "ranker:mean": mean}
        x["user:idle"] = math.log1p(max(0, now - history[-1].ts) / 1000) if len(history) else 0.0
        liked, passed = stats.get(item, (0.0, 0.0))
        x["ranker"] = ranker[k] - mean if item in stats else 0.0
        x["item:rate"] = math.log((liked + PRIOR_TAKEN) / (passed + PRIOR_PASSED) * PRIOR_PASSED / PRIOR_TAKEN)
        x["item:known"], x["refused"] = math.log1p(liked + passed), float(item in refused)
        if item in taken:
            age = max(0, now - history[taken[item][0]].ts)
            x |= {"taken": 1.0, "taken:last": float(taken[item][0] == len(history) - 1)}
            x |= {"taken:lately": 1 / (len(history) - taken[item][0]), "taken:often": math.log1p(len(taken[item]))}
            x |= {"taken:minutes": math.exp(-age / (10 * MINUTE)), "taken:hours": math.exp(-age / (6 * HOUR))}
            x["taken:strong"] = float(any(history[at].kind in (4, 5) for at in taken[item]))
        if newest is not None:
            fresh = math.exp(-max(0, now - history[taken[newest][0]].ts) / (10 * MINUTE))
            far = k - items.index(newest)
            x |= {"list:taken": 1.0, "list:taken:share": len(taken) / n, "others:taken": 1 - x["taken"]}
            x["others:taken:minutes"] = fresh * (1 - x["taken"])
            if far > 0:
                x["after:" + {1: "newest", 2: "second", 3: "third"}.get(far, "more")] = 1.0
                x |= {"after:newest:minutes": fresh * (far == 1), "after:minutes": fresh, "after:log": math.log(far)}
            elif far < 0:
                x["before:" + {-1: "newest", -2: "second"}.get(far, "more")] = 1.0
                x |= {"before:minutes": fresh, "before:log": math.log(-far)}
        found.append(x)
    return found


@given(SEEDS, st.integers(1, 9), st.integers(0, 12))
def test_a_list_is_described_as_plain_python_describes_it(seed: int, n: int, h: int) -> None:
    rng = np.random.default_rng(seed)
    index, ranker = ItemIndex(Behaviour()), rng.normal(size=n)
    names = [f"i{k}" for k in range(12)]
    for name in names[:8]:
        index.apply(CatalogueUpdate(Item(name, 1)))
    counts = rng.integers(0, 30, (len(index.table.stats), 2)).astype(np.float32)
    index.table.stats[:, [POSITIVES, NEGATIVES]] = counts
    items = rng.permutation(names)[:n].tolist()
    times = np.sort(rng.integers(0, 10_000_000, h)).tolist()
    history = History.of(
        [Seen(str(rng.choice(names)), ts, float(rng.choice([-1.0, 0.0, 1.0])), int(rng.integers(6))) for ts in times]
    )
    rows = index.table.rows.find(items)
    found = describe_list(items, rows, ranker, index, history, 10_000_000)
    assert described.describe is describe
    stats = {name: tuple(map(float, counts[index.row(name)])) for name in names[:8]}
    expected = described_plainly(items, history, 10_000_000, stats, ranker)
    assert found == pytest.approx(np.array([[x[name] for name in NAMES] for x in expected]), rel=1e-5, abs=1e-5)
    of = np.array([items.index(seen.item_id) if seen.item_id in items else -1 for seen in history], np.int32)
    times_of, rewards = np.frombuffer(history.ts, "<i8"), np.frombuffer(history.rewards, "<f8")
    kinds, parts = np.frombuffer(history.kinds, np.uint8), np.zeros_like(found)
    describe_items(len(of), times_of, 10_000_000, rows, ranker, index.table.stats, parts)
    newest, age, held = note_taken(of, times_of, rewards, kinds, described.STRONG_KINDS, 10_000_000, parts)
    if newest >= 0:
        describe_neighbours(newest, math.exp(-age / (10 * MINUTE)), held, parts)
    assert parts.tolist() == found.tolist()


def logits_by(x: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    z = x.astype(float) @ values[:-2]
    raised = np.exp(z - z.max())
    others = np.log(np.maximum(raised.sum() - raised, 1e-9)) + z.max() if len(z) > 1 else np.zeros(1)
    return z + values[-1] - values[-2] * others, others


@given(SEEDS, st.sampled_from([1, 2, 25]), st.integers(1, 4))
def test_steps_are_those_of_plain_numpy(seed: int, n: int, steps: int) -> None:
    rng = np.random.default_rng(seed)
    model, (values, quick, slow) = ClickModel(), np.zeros((3, SIZE + 2))
    values[:] = model.values[0]
    for number in range(1, steps + 1):
        x, labels = rng.normal(size=(n, SIZE)).astype(np.float32), rng.random(n) < 0.3
        logits, others = logits_by(x, values)
        found = np.empty((2, n))
        logits_of(x, values[:-2], values[-2], values[-1], *found)
        assert found == pytest.approx(np.array([logits, others]), rel=1e-6, abs=1e-6)
        assert model.learned().logits(x) == pytest.approx(logits, rel=1e-5, abs=1e-6)
        stepped = np.array([values, quick, slow])
        learn(x, labels, stepped, number)
        error = 1 / (1 + np.exp(-logits)) - labels
        slopes = error @ x.astype(float)
        quick[:-2] = 0.9 * quick[:-2] + 0.1 * slopes
        slow[:-2] = 0.999 * slow[:-2] + 0.001 * slopes**2
        rate = max(LEAST_RATE, RATE / (1 + number / HALVED_AFTER))
        step = quick[:-2] / (1 - 0.9**number) / (np.sqrt(slow[:-2] / (1 - 0.999**number)) + 1e-8)
        values[:-2] -= rate * step
        values[-2] = np.clip(values[-2] + COMPETITION_RATE * float(error @ others) / n, 0, 1)
        values[-1] -= COMPETITION_RATE * error.sum() / n
        assert stepped == pytest.approx(np.array([values, quick, slow]), rel=1e-6, abs=1e-8)
        model.learn(x, labels)
        assert model.values[0] == pytest.approx(values, rel=1e-5, abs=1e-7)


def lists(of: int, chances, seed: int = 3):
    """Lists of ten, whose features tell the place alone, and what is clicked of each by `chances` of its place."""
    rng, index = np.random.default_rng(seed), ItemIndex(Behaviour())
    items = [f"i{k}" for k in range(10)]
    x = describe_list(items, np.full(10, -1, np.int32), np.zeros(10), index, History(), 5)
    return [(x, chances(rng)) for _ in range(of)]


def predicted(model: ClickModel, shown) -> tuple[np.ndarray, np.ndarray]:
    """Test, then learn: the predictions and the labels of the last half."""
    chances, labels = [], []
    for x, clicked in shown:
        chances.append(1 / (1 + np.exp(-model.learned().logits(x))))
        labels.append(clicked)
        model.learn(x, clicked)
    return np.array(chances[len(chances) // 2 :]), np.array(labels[len(labels) // 2 :])


@pytest.mark.parametrize("bias", [0.0, 1.0])
def test_of_items_alike_each_place_has_its_own_chance_and_where_there_is_none_all_have_the_same(bias: float) -> None:
    truth = 0.3 * np.arange(1, 11) ** -bias
    model = ClickModel()
    chances, labels = predicted(model, lists(4000, lambda rng: rng.random(10) < truth))
    assert chances.mean(axis=0) == pytest.approx(truth, abs=0.03)
    assert chances.sum() / labels.sum() == pytest.approx(1.0, abs=0.03)
    rarity = model.rarity(lists(1, lambda rng: None)[0][0])
    assert (rarity[-1] > 2.0 * rarity[0]) if bias else (np.abs(np.log(rarity)).max() < 0.3)
    assert rarity.max() <= RAREST


def test_where_one_item_of_a_list_is_taken_they_compete_and_else_they_do_not() -> None:
    rng = np.random.default_rng(5)
    one, each = ClickModel(np.zeros(3)), ClickModel(np.zeros(3))
    for _ in range(6000):
        x = rng.normal(0.0, 1.5, (8, 3)).astype(np.float32)
        x[:, 0] = 1.0
        share = np.exp(x[:, 1] * 1.5)
        one.learn(x, np.arange(8) == rng.choice(8, p=share / share.sum()))
        each.learn(x, rng.random(8) < 1 / (1 + np.exp(2.0 - 1.5 * x[:, 1])))
    assert one.learned().competition > 0.8
    assert each.learned().competition < 0.2


def test_it_comes_back_by_the_names_of_features() -> None:
    model = ClickModel()
    for x, clicked in lists(50, lambda rng: rng.random(10) < 0.2):
        model.learn(x, clicked)
    same = ClickModel()
    same.load(model.dump())
    assert (same.steps, same.values.tolist()) == (50, model.values.tolist())
    names = ("gone", *NAMES[1:])
    other = ClickModel()
    other.load(ClickState(50, names, model.dump().values))
    assert other.values[:, 1:].tolist() == model.values[:, 1:].tolist()
    assert other.values[:, 0].tolist() == [PRIOR[0], 0.0, 0.0]
    assert ClickWeights.of(*model.publish()).weights.tolist() == model.values[0, :-2].tolist()
    assert ClickWeights.of((), b"").weights.tolist() == PRIOR.tolist()
    assert (ClickModel().dump(), ClickModel().publish()) == (ClickState(), ((), b""))


TWINS = {
    f"features.{kernel.__name__}": test_a_list_is_described_as_plain_python_describes_it
    for kernel in (describe, describe_items, describe_neighbours, note_taken)
} | {f"model.{kernel.__name__}": test_steps_are_those_of_plain_numpy for kernel in (learn, logits_of)}


def test_each_kernel_has_a_plain_twin() -> None:
    assert missing_twins("clicks", TWINS, globals()) == set()
