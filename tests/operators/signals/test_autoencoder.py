"""The linear autoencoder: what it counts, the weights that it fits, whom it holds, and what comes back of it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_feedbacks import made_stream
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.settings import AutoencoderSettings, Behaviour, HistorySettings
from riverrank.operators.signals.autoencoder import (
    HALF_LIFE,
    LEAST_WAIT,
    RIDGE,
    Autoencoder,
    count,
    fitted,
    rounded,
    weights_of,
)
from riverrank.state.item_tables import from_bfloat16
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import AutoencoderUpdate, Feedback, Seen, decode_update, encode
from riverrank.state.records.incoming import Event

PLAIN = Behaviour()
FEW = Behaviour(autoencoder=AutoencoderSettings(items=4))


def taken(item: str, *before: str, number: int = 0) -> Feedback:
    history = tuple(Seen(name, k, 1.0) for k, name in enumerate(before))
    return Feedback(Event(f"e{number}", "click", "u", 1000 + number, item), 1.0, history)


def weight(update: AutoencoderUpdate | None, one: str, other: str) -> float:
    assert update is not None
    n = len(update.ids)
    halves = np.frombuffer(update.weights, "<u2").reshape(n, n)
    return float(from_bfloat16(halves[update.ids.index(one), update.ids.index(other)]))


def steck(counts: np.ndarray, ridge: float = RIDGE) -> np.ndarray:
    """The weights as the paper has them, in float64."""
    inverse = np.linalg.inv(counts.astype(float) + ridge * np.eye(len(counts)))
    weights = -inverse / np.diag(inverse)
    weights[np.diag_indices(len(counts))] = 0.0
    return weights


SLOTS = st.lists(st.integers(-1, 4), max_size=6)


@given(st.lists(st.tuples(st.integers(0, 4), SLOTS), max_size=8))
def test_items_count_together_the_more_the_fewer_lie_between(steps):
    counts, amounts = np.zeros((5, 5), np.float32), np.array([0.75, 0.5, 0.25], np.float32)
    expected = np.zeros((5, 5))
    for slot, past in steps:
        count(counts, slot, np.array(past, np.int64), amounts)
        expected[slot, slot] += 1.0
        for other, amount in zip(past, amounts.tolist(), strict=False):
            if other >= 0:
                expected[slot, other] += amount
                expected[other, slot] += amount
    assert counts.tolist() == expected.tolist()


@given(st.lists(st.lists(st.integers(0, 5), min_size=1, max_size=30), min_size=1, max_size=4), st.integers(1, 8))
def test_co_counts_of_all_that_users_do_have_no_negative_eigenvalue(users, size):
    """Whatever they do, how often ever: so there is always an inverse, and no weight without bounds."""
    learner = Autoencoder(Behaviour(history=HistorySettings(size=size)))
    for items in users:
        for k, item in enumerate(items):
            learner.take(taken(f"i{item}", *(f"i{other}" for other in items[max(0, k - size) : k])))
    n = len(learner.ids)
    assert np.linalg.eigvalsh(learner.counts[:n, :n].astype(float)).min() > -1e-4 * sum(map(len, users))


@given(st.integers(1, 7), st.integers(0, 999))
def test_weights_are_those_of_the_paper(n, seed):
    rng = np.random.default_rng(seed)
    sets = (rng.random((60, n)) < 0.4).astype(np.float32) * 5.0
    counts = (sets.T @ sets).astype(np.float32)
    assert fitted(counts) == pytest.approx(steck(counts), rel=1e-4, abs=1e-6)
    inverse = np.linalg.inv(counts + RIDGE * np.eye(n)).astype(np.float32)
    assert weights_of(inverse) == pytest.approx(steck(counts), rel=1e-3, abs=1e-5)
    halves = rounded(fitted(counts)).ravel()
    assert [float(from_bfloat16(half)) for half in halves] == pytest.approx(fitted(counts).ravel(), rel=1 / 256)


def test_counts_that_no_users_could_have_made_still_have_weights():
    counts = np.full((3, 3), 1000.0, np.float32)
    np.fill_diagonal(counts, 0.0)
    weights = fitted(counts)
    assert np.isfinite(weights).all() and weights == pytest.approx(steck(counts, 4 * RIDGE), rel=1e-3)


def test_what_is_taken_after_an_item_is_told_from_what_is_taken_anyway():
    learner = Autoencoder(PLAIN)
    for k in range(2000):
        shelf = k % 2
        learner.take(taken(f"{'ab'[shelf]}{k % 3}", f"{'ab'[shelf]}{k % 5}", "popular"))
    update = learner.refit(0, [])
    assert weight(update, "a0", "a1") > 0.05 > abs(weight(update, "a0", "b1")) and weight(update, "a0", "a0") == 0.0


def test_nothing_is_told_of_what_was_refused_or_is_no_interaction():
    learner = Autoencoder(PLAIN)
    learner.take(msgspec.structs.replace(taken("i", "j"), reward=-1.0))
    learner.take(Feedback(Event("e", "request", "u", 1), 0.0, ()))
    assert not learner.ids and not learner.due() and learner.refit(0, []) is None
    off = Autoencoder(Behaviour(autoencoder=AutoencoderSettings(items=0)))
    for _ in range(LEAST_WAIT):
        off.take(taken("i", "j"))
    assert not off.due()


def test_a_fit_waits_until_feedbacks_have_paid_for_it():
    learner = Autoencoder(Behaviour(autoencoder=AutoencoderSettings(items=2048)))
    for number in range(LEAST_WAIT):
        assert not learner.due()
        learner.take(taken(f"i{number}"))
    assert learner.due()
    learner.refit(0, [])
    for number in range(2048):
        learner.take(taken(f"i{number}"))
    learner.waits = (1 << 13) - 1
    assert not learner.due()
    learner.take(taken("i0"))
    assert learner.due()


def test_the_most_popular_come_in_for_the_least_taken_of_those_that_are_not():
    learner = Autoencoder(FEW)
    for number, item in enumerate("aabbbcdef"):
        learner.take(taken(item, number=number))
    assert learner.ids == ["a", "b", "c", "d"]
    before = learner.counts.copy()
    assert set(getattr(learner.refit(0, ["f", "b", "e", "a", "c"]), "ids", ())) == {*"abcd"}  # as it was counted
    assert learner.ids == ["a", "b", "f", "e"] and learner.slots == {"a": 0, "b": 1, "f": 2, "e": 3}
    assert learner.counts[:2, :2] == pytest.approx(before[:2, :2] * 0.5 ** (9 / HALF_LIFE))
    assert not learner.counts[2:].any() and not learner.counts[:, 2:].any()
    assert learner._newest == 0 and learner.waits == 0


def test_what_was_counted_comes_back_and_goes_on():
    learner, again = Autoencoder(PLAIN), Autoencoder(PLAIN)
    stream = made_stream(300)
    for feedback in stream[:200]:
        learner.take(feedback)
    again.load(learner.dump())
    for feedback in stream[200:]:
        learner.take(feedback)
        again.take(feedback)
    assert (learner.ids, learner.slots, learner.waits) == (again.ids, again.slots, again.waits)
    assert learner.refit(0, []) == msgspec.structs.replace(again.refit(0, []), ts=1299)
    smaller = Autoencoder(FEW)
    smaller.load(learner.dump())
    own = learner.counts.diagonal()[: len(learner.ids)]
    most = sorted(sorted(range(len(own)), key=lambda slot: -own[slot])[:4])
    assert smaller.ids == [learner.ids[slot] for slot in most] != learner.ids[:4]
    assert smaller.counts.tolist() == learner.counts[most][:, most].tolist()
    nothing = Autoencoder(PLAIN)
    nothing.load({})
    assert not nothing.ids


def test_a_ranker_tells_it_and_a_restored_one_goes_on():
    entries, index = DictEntries(), ItemIndex(PLAIN)
    ranker = Ranker(PLAIN, index, journal=Journal(entries, limit=64))
    told = []
    for feedback in made_stream(200):
        ranker.learn(feedback, encode(feedback))
        told += [update for update in map(decode_update, ranker.flush()) if isinstance(update, AutoencoderUpdate)]
    assert len(told) == 3 - (sum(f.reward > 0 for f in made_stream(200)) < 3 * LEAST_WAIT)
    again = Ranker.restore(PLAIN, ItemIndex(PLAIN), Journal(entries))
    assert again.autoencoder.ids == ranker.autoencoder.ids
    n = len(again.autoencoder.ids)
    assert again.autoencoder.counts[:n, :n] == pytest.approx(ranker.autoencoder.counts[:n, :n], rel=1e-2)
    assert index.item_weights.weights.any()
