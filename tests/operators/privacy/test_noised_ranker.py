"""RANKER with noise: one choice moves a batch by the clip at most, one user by what the noise is made for."""

import math

import numpy as np
import pytest
from learner_inputs import SPACE, shop
from noised_shop import noised
from riverrank.operators.candidates.context import WARM
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import RankerWeights
from riverrank.operators.privacy.budget import budget_of, sensitivities
from riverrank.operators.privacy.choices import GRID, gradient, noise_of, stepped
from riverrank.operators.privacy.ranker import NoisedRanker
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import StateRefused
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen, Weights, encode
from riverrank.state.records.incoming import Event


def choices(users: int, each: int = 2, first: str = "") -> list[Feedback]:
    """Users who take the one item after the other, in turns."""
    found = []
    for k in range(each):
        for user in range(users):
            history = tuple(Seen(f"i{(user + 7 * j) % 40}", 1000 * j + user, 1.0) for j in range(k))
            event = Event(f"{first}e{k}-{user}", "click", f"{first}u{user}", 1000 * k + user, f"i{(user + 7 * k) % 40}")
            found.append(Feedback(event, 1.0, history))
    return found


def summed(behaviour: Behaviour, feedbacks: list[Feedback]) -> np.ndarray:
    """The batch's sum of gradients, as it is before there is noise on it: float64 (SEGMENTS, F)."""
    ranker = NoisedRanker(behaviour, shop())
    for feedback in feedbacks:
        ranker.learn(feedback)
    assert ranker.version == len(feedbacks) < behaviour.noise.batch
    return ranker._sum


@pytest.mark.parametrize("clip", [1e-3, 0.5, 100.0])
def test_a_gradient_is_that_of_the_softmax_as_long_as_the_clip_at_most_and_on_the_grid(clip):
    rng = np.random.default_rng(3)
    features, weights = rng.normal(size=(30, 8)).astype(np.float32), rng.normal(size=8)
    found = gradient(features, 4, weights, clip)

    def loss(w):
        logits = features.astype(np.float64) @ w
        return np.log(np.exp(logits).sum()) - logits[4]

    slopes = np.array([(loss(weights + step) - loss(weights - step)) / 2e-6 for step in 1e-6 * np.eye(8)])
    wanted = slopes * min(1.0, clip / np.linalg.norm(slopes))
    assert np.linalg.norm(found) <= clip
    assert np.allclose(found, wanted, atol=2 / GRID)
    assert np.array_equal(found * GRID, np.rint(found * GRID))


def test_one_choice_moves_the_sum_by_the_clip_and_a_user_has_one_a_batch():
    behaviour = noised(batch=1000, clip=0.05)
    others, own = choices(10), choices(1, each=4, first="own")
    without, once, often = (summed(behaviour, others + own[:n]) for n in (0, 1, 4))
    assert 0 < np.linalg.norm(once - without) <= 0.05
    assert np.array_equal(once, often), "no further choice of the batch counts"


def test_over_all_batches_of_a_window_one_user_moves_the_sums_by_what_the_noise_is_made_for():
    behaviour = noised(batch=2, clip=0.05, contributions=3)
    own = choices(1, each=9, first="own")
    sums = []
    ranker = NoisedRanker(behaviour, shop())
    for feedback in own:
        ranker.learn(feedback)
        sums.append(ranker._sum.copy())
        if ranker.due():
            ranker.updates()
    batches = [sums[k] for k in range(1, len(sums), 2)] + [sums[-1]]  # at the end of each
    moved = math.sqrt(sum((each**2).sum() for each in batches))
    assert 0 < moved <= sensitivities(behaviour.noise)["choices"]
    assert np.count_nonzero([each.any() for each in batches]) <= 3


def test_what_is_told_is_a_step_by_the_sum_with_its_noise_and_nothing_of_nets_or_clicks():
    behaviour = noised(batch=20)
    ranker, before = NoisedRanker(behaviour, shop()), SPACE.prior
    for feedback in choices(10):
        ranker.learn(feedback)
    exact = ranker._sum.copy()
    (told,) = ranker.updates()
    assert isinstance(told, Weights)
    noise = noise_of(b"secret", 20, exact, budget_of(behaviour.noise).choices)
    wanted = stepped(before, exact + noise, behaviour.ranker.rate, before)
    assert np.allclose(np.frombuffer(told.weights).reshape(before.shape), wanted, atol=1e-12)
    weights = RankerWeights.of(told)
    assert not weights.units[:, -1].any() and not told.clicks and told.bias == 0.0
    features = np.random.default_rng(1).normal(size=(5, SPACE.size)).astype(np.float32)
    assert np.allclose(weights.logits(features, WARM), features.astype(np.float64) @ wanted[WARM], atol=1e-5)


def test_many_batches_teach_through_the_noise():
    """What choices have in common is learned: the log probability of a choice grows, though each step has noise."""
    rng = np.random.default_rng(5)
    weights = prior = np.zeros((1, 4))
    for number in range(60):
        total = np.zeros((1, 4))
        for _ in range(400):
            features = rng.random((20, 4)).astype(np.float32)
            total[0] += gradient(features, int(features[:, 2].argmax()), weights[0], 0.5)
        noised_sum = total + noise_of(b"secret", number, total, budget_of(noised(3.0).noise).choices)
        weights = stepped(weights, noised_sum, 0.05, prior)
    assert weights[0].argmax() == 2
    assert weights[0, 2] > 3 * np.abs(weights[0, [0, 1, 3]]).max()


def test_restored_it_has_the_weights_that_it_told_and_refuses_state_without_noise():
    behaviour, entries, index = noised(batch=20), DictEntries(), shop()
    first = NoisedRanker.restore(behaviour, index, Journal(entries))
    for feedback in choices(10):
        first.learn(feedback)
    told = first.updates()
    assert told
    second = NoisedRanker.restore(behaviour, index, Journal(DictEntries(entries)))
    assert np.array_equal(second.weights, first.weights) and second.version == first.version
    for feedback in choices(10, first="next"):
        first.learn(feedback)
        second.learn(feedback)
    assert [*map(encode, first.updates())] == [*map(encode, second.updates())] != []
    with pytest.raises(StateRefused, match="made with noise"):
        Ranker.restore(Behaviour(), index, Journal(entries))
    bare = DictEntries()
    without = Ranker.restore(Behaviour(), index, Journal(bare))
    for feedback in choices(10):
        without.learn(feedback)
    assert without.updates()
    with pytest.raises(StateRefused, match="made without noise"):
        NoisedRanker.restore(behaviour, index, Journal(bare))
