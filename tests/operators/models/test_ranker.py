"""The ranker: learns the order of candidates from choices, goes on from bytes, and its weights know their features."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from learner_inputs import SPACE, shop
from river import linear_model, optim
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import COLD, SEGMENTS, WARM, context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.models.ensemble import (
    BIAS_RATE,
    HALF_LIFE,
    INITIAL_LOSSES,
    NET_RATE,
    RATE_MULTIPLIERS,
    Ensemble,
    position_of,
)
from riverrank.operators.models.linear import Linear
from riverrank.operators.models.linear_kernels import probability
from riverrank.operators.models.net import Net, logits_of
from riverrank.operators.models.ranker import Ranker
from riverrank.operators.models.weights import LatestRanker, RankerWeights
from riverrank.operators.settings import Behaviour, RankerSettings, SlateSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.learners import FEATURES_1, RANKER, NetState, RankerState
from riverrank.state.messages import Feedback, Outcome, Seen, Weights, decode_update, encode
from riverrank.state.records.incoming import Event


def dumped(ensemble: Ensemble) -> tuple[list, list, NetState]:
    weights, losses, net = ensemble.dump()
    return weights.tolist(), losses.tolist(), net


def published(ensemble: Ensemble) -> np.ndarray:
    """The linear weights, and then the units."""
    return np.concatenate([np.ravel(told) for told in ensemble.publish()])


def test_ranker_learns_to_put_what_was_taken_above_what_was_not():
    index = shop()
    behaviour = Behaviour(ranker=RankerSettings(rate=0.05))
    ranker = Ranker(behaviour, index)
    history = (Seen("i0", 1, 1.0), Seen("i4", 2, 1.0))
    for k in range(60):
        ranker.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{8 + k % 8 * 4}"), 1.0, history))
    weights = decode_update(ranker.flush()[0])
    index.apply(weights)
    ranker = RankerWeights.of(index.weights[0])
    learned, version = ranker.weights, ranker.version
    context = context_of(index, history, {})
    found = Retriever(behaviour, index).find(context, index.hash[context.rows])
    same = np.array([index.table.ids[row] for row in found.rows])
    alike = np.array([int(name[1:]) % 4 == 0 for name in same])
    logits = found.features @ learned[WARM]
    assert version == 60 and alike.any()
    assert logits[alike].min() > np.median(logits[~alike])


def test_ranker_learns_from_impressions_and_never_from_ids():
    index = shop()
    ranker = Ranker(Behaviour(), index)
    before = published(ranker.models[WARM])
    outcome = Outcome("s", 1, ("i0", "i1", "unknown"), (1, 0, 0))
    history = (Seen("i4", 0, 1.0),)
    ranker.learn(Feedback(Event("s", "impression", "u", 1, items=outcome.items), 0.0, history))
    assert (published(ranker.models[WARM]) == before).all()
    ranker.learn(Feedback(Event("e", "request", "u", 2), 0.0, history, (outcome,)))
    assert (published(ranker.models[WARM]) != before).any()
    assert len(ranker.models[WARM].weights[0]) == SPACE.size and not any("id" in name for name in SPACE.names)


@pytest.mark.parametrize("epoch", [0, 5])
def test_a_choice_is_learned_from_what_was_there_to_choose_from(epoch: int) -> None:
    index = shop()
    ranker, expected = Ranker(Behaviour(), index), Ensemble(RankerSettings().rate, SPACE.prior[WARM])
    first = Feedback(Event("e1", "click", "u", 1, "i0"), 1.0, ())
    ranker.learn(first)
    history = first.history_after()
    context = context_of(index, history, {}, "u")
    found = Retriever(Behaviour(), index).find(context, None)  # a click hides nothing
    if epoch == 0:  # else the user was erased in between
        expected.choose(found.features, int(found.positions(np.array([index.row("i4")]))[0]))
    index.table.weights *= 3.0  # others have been there since
    ranker.learn(Feedback(Event("e2", "click", "u", 2, "i4"), 1.0, history, epoch=epoch))
    assert dumped(ranker.models[WARM]) == dumped(expected)


def test_weights_are_due_the_sooner_the_less_was_learned() -> None:
    ranker = Ranker(Behaviour(), shop())
    due = []
    for k in range(100):
        ranker.learn(Feedback(Event(f"e{k}", "click", f"u{k}", k, "i1"), 1.0, ()))
        if ranker.due():
            ranker.flush()
            due.append(k + 1)
    assert due[:16] == [*range(1, 16), 17]
    assert np.diff(due[-3:]).tolist() == [6, 6]
    ranker.version = 5000
    assert not ranker.due()
    for k in range(RankerSettings().flush_events):
        ranker.learn(Feedback(Event(f"f{k}", "click", f"u{k}", k, "i1"), 1.0, ()))
    assert ranker.due()


def test_an_ensemble_comes_back_as_it_was() -> None:
    whole, half = Ensemble(0.05, np.zeros(3)), Ensemble(0.05, np.zeros(3))
    rng = np.random.default_rng(1)
    choices = [(rng.normal(size=(5, 3)), int(rng.integers(5))) for _ in range(40)]
    for x, place in choices[:20]:
        whole.choose(x, place)
        half.choose(x, place)
    assert published(whole).tolist() == published(half).tolist() != published(Ensemble(0.05, np.zeros(3))).tolist()
    back = Ensemble(0.05, np.zeros(3))
    back.load(*half.dump(), np.arange(3))
    for x, place in choices[20:]:
        whole.choose(x, place)
        back.choose(x, place)
    assert dumped(back) == dumped(whole) and published(back).tolist() == published(whole).tolist()


def test_a_purchase_moves_the_ranker_more_than_a_click_and_where_all_is_bought_each_as_a_click() -> None:
    def moved(rewards: list[float]) -> float:
        ranker = Ranker(Behaviour(), shop())
        ranker.learn(Feedback(Event("e", "click", "u", 1, "i1"), rewards[0], ()))
        for k, reward in enumerate(rewards[1:]):
            before = published(ranker.models[WARM])
            history = (Seen("i1", 1, rewards[0]), *(Seen(f"i{5 + 4 * n}", 2 + n, 1.0) for n in range(k)))
            ranker.learn(Feedback(Event(f"e{k}", "click", "u", 2 + k, f"i{5 + 4 * k}"), reward, history))
        return float(np.abs(published(ranker.models[WARM]) - before)[: SPACE.size].sum())

    click = moved([1.0, 1.0, 1.0])
    assert 1.1 * click < moved([1.0, 1.0, 2.0]) < 2.0 * click
    assert moved([2.0, 2.0, 2.0]) == pytest.approx(click, rel=0.4)
    assert moved([1.0, 1.0, 0.3]) < 0.5 * click


def test_what_is_asked_about_counts_as_proposed_only_where_it_was_among_the_candidates():
    index = shop()
    retriever = Retriever(Behaviour(slate=SlateSettings(candidates=12, size=5)), index)
    context = context_of(index, [Seen("i0", 1, 1.0)], {})
    found = retriever.find(context, None)
    assert len(found.rows) == 10 and found.proposed.all()
    inside, outside = found.rows[3], np.setdiff1d(index.popular(), found.rows)[0]
    again = retriever.find(context, None, np.array([outside, inside], np.int32))
    assert again.rows.tolist() == [*found.rows.tolist(), outside]
    assert again.proposed.tolist() == [*found.proposed.tolist(), 0]
    assert again.positions(np.array([outside, inside])).tolist() == [10, 3]
    assert (again.features[:10] == found.features).all()


class Twin:
    """An ensemble of River's own optimisers, written plainly."""

    def __init__(self, rate: float, prior: np.ndarray) -> None:
        self.optimizers = [optim.SGD(multiplier * rate) for multiplier in RATE_MULTIPLIERS]
        self.weights = [prior.copy() for _ in RATE_MULTIPLIERS]
        self.published = [prior.copy() for _ in RATE_MULTIPLIERS]
        self.losses = list(INITIAL_LOSSES)
        self.net = Net(NET_RATE * rate, prior)

    def choose(self, inputs: np.ndarray, chosen: int, w: float) -> None:
        for j, optimizer in enumerate(self.optimizers):
            told = softmax(inputs @ self.published[j])
            self.losses[j] = self.losses[j] * 0.5 ** (1 / HALF_LIFE) - w * np.log(told[chosen])
            slope = softmax(inputs @ self.weights[j]) @ inputs - inputs[chosen]
            self.weights[j] = optimizer.step(w=self.weights[j], g=w * slope)
        self.losses[-1] *= 0.5 ** (1 / HALF_LIFE)
        self.losses[-1] += w * self.net.choose(inputs, np.arange(len(inputs)), chosen, w)

    def logits(self, inputs: np.ndarray) -> np.ndarray:
        *linear, of_net = softmax(-np.array(self.losses))
        none = np.zeros(inputs.shape[1])
        return inputs @ (linear @ np.array(self.published)) + of_net * logits_of(inputs, none, self.net.published, 0.0)


def softmax(logits: np.ndarray) -> np.ndarray:
    raised = np.exp(logits - logits.max())
    return raised / raised.sum()


@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3, 4, 37, 38]), st.sampled_from([1, 2, 3, 4, 5, 120]))
def test_an_ensemble_learns_by_rivers_steps(seed: int, size: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    prior = rng.normal(size=size)
    ours, twin = Ensemble(0.05, prior), Twin(0.05, prior)
    for k in range(6):
        inputs, chosen, w = rng.normal(size=(number, size)), int(rng.integers(number)), float(rng.random())
        ours.choose(inputs, chosen, w)
        twin.choose(inputs, chosen, w)
        if k == 2:
            ours.publish()
            twin.published = [weights.copy() for weights in twin.weights]
            twin.net.publish()
        assert ours.weights == pytest.approx(np.array(twin.weights), rel=1e-9, abs=1e-12)
        assert ours.losses == pytest.approx(np.array(twin.losses), rel=1e-9, abs=1e-12)
        assert ours.logits(inputs) == pytest.approx(twin.logits(inputs), rel=1e-5, abs=1e-5)
        assert ours.net.dump() == twin.net.dump()


@given(st.integers(0, 10_000), st.lists(st.booleans(), min_size=1, max_size=12))
def test_what_was_shown_is_learned_as_choices_among_what_was_refused(seed: int, labels: list[bool]) -> None:
    rng = np.random.default_rng(seed)
    prior = rng.normal(size=7)
    ours, twin = Ensemble(0.05, prior), Twin(0.05, prior)
    inputs, ws = rng.normal(size=(len(labels), 7)), rng.random(len(labels))
    bias = expected = 0.3
    for logit, label in zip(twin.logits(inputs), labels, strict=True):
        expected += BIAS_RATE * (label - probability(float(logit) + expected))
    refused = [position for position, label in enumerate(labels) if not label]
    bias = ours.learn_shown(inputs, np.array(labels), bias, ws)
    assert bias == pytest.approx(expected, rel=1e-6)
    for position, label in enumerate(labels):
        if label:
            twin.choose(inputs[[position, *refused]], 0, float(ws[position]))
    assert ours.weights == pytest.approx(np.array(twin.weights), rel=1e-9, abs=1e-12)
    assert ours.net.dump() == twin.net.dump()


def test_of_two_a_choice_is_rivers_logistic_regression_on_their_difference() -> None:
    ours = Ensemble(0.1, np.ones(2))
    river = Linear(linear_model.LogisticRegression(optim.SGD(0.1 * RATE_MULTIPLIERS[1]), intercept_lr=0.0), np.ones(2))
    pair = np.array([[1.0, 0.0], [0.0, 2.0]])
    for _ in range(10):
        ours.choose(pair, 0)
        river.learn(pair[0] - pair[1], True)
    assert ours.weights[1] == pytest.approx(river.weights, rel=1e-9)


def shown(k: int, ts: int) -> Event:
    return Event(f"s{k}", "impression", "u", ts, items=(f"i{k}", f"i{k + 1}", "unknown"))


def test_an_impression_teaches_what_its_items_were_like_when_it_was_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """However much was learned since, and without finding anything again."""
    history = (Seen("i4", 0, 1.0),)
    at_once, later = Ranker(Behaviour(), shop()), Ranker(Behaviour(), shop())
    outcomes = tuple(Outcome(f"s{k}", 1, (f"i{k}", f"i{k + 1}", "unknown"), (1, 0, 0)) for k in range(4))
    resolved = Feedback(Event("e", "request", "u", 9), 0.0, history, outcomes)
    for ranker in (at_once, later):
        for k in range(4):
            ranker.learn(Feedback(shown(k, 1), 0.0, history))
    signals = Signals(Behaviour(), 0)
    for k in range(40):
        signals.learn(Feedback(Event(f"c{k}", "click", "u", 2, "i0"), 1.0, history))
    for update in signals.updates():
        later.index.apply(update)
    monkeypatch.setattr(later.retriever, "find", lambda *asked: pytest.fail("found again"))
    for ranker in (at_once, later):
        ranker.learn(resolved)
    assert (
        dumped(at_once.models[WARM]) == dumped(later.models[WARM]) != dumped(Ranker(Behaviour(), shop()).models[WARM])
    )
    assert at_once.bias == later.bias != 0.0


def test_what_was_shown_and_is_not_held_teaches_nothing() -> None:
    """As after a restart, or where it was not drawn when it came: as it looks now, it knows what followed."""
    ranker = Ranker(Behaviour(), shop())
    outcome = Outcome("s", 1, ("i1", "i2", "i3"), (1, 0, 0))
    ranker.learn(Feedback(Event("e", "request", "u", 9), 0.0, (Seen("i4", 0, 1.0),), (outcome,)))
    assert dumped(ranker.models[WARM]) == dumped(Ranker(Behaviour(), shop()).models[WARM])
    assert ranker.clicks.steps == 0


def taught(index, entries: DictEntries) -> Ranker:
    """A ranker that learned from choices of users with and without a history, and wrote what it keeps."""
    ranker = Ranker.restore(Behaviour(), index, Journal(entries, limit=20))
    for k in range(40):
        history = (Seen("i0", 1, 1.0),) if k % 4 else ()
        outcomes = (Outcome(f"s{k}", k, ("i1", f"i{k}"), (0, 1)),) if k % 3 else ()
        ranker.learn(Feedback(Event(f"e{k}", "click", f"u{k % 7}", k, f"i{8 + k % 8 * 4}"), 1.0, history, outcomes))
        ranker.flush()
    assert not [key for key in entries if key.startswith("log:")]
    return ranker


def by_names(ranker: Ranker) -> list[dict[str, list[float]]]:
    names = ranker.retriever.features.names
    return [
        dict(zip(names, zip(model.weights.T.tolist(), model.net.arrays.values[:-2].tolist(), strict=True), strict=True))
        for model in ranker.models
    ]


def test_a_rankers_weights_follow_the_names_of_features(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sources in another order, one of them gone, and then back: only its own weights begin at their prior."""
    index, entries = shop(), DictEntries()
    first = taught(index, entries)
    before = by_names(first)
    monkeypatch.setattr(registry, "SOURCES", tuple(s for s in reversed(registry.SOURCES) if s.name != "covisit"))
    second = Ranker.restore(Behaviour(), index, Journal(entries))
    fewer = by_names(second)
    gone = set(before[WARM]) - set(fewer[WARM])
    assert gone and all(name.startswith(("after", "before", "next")) for name in gone)
    assert fewer == [{name: weights[name] for name in kept} for weights, kept in zip(before, fewer, strict=True)]
    assert [model.losses.tolist() for model in second.models] == [model.losses.tolist() for model in first.models]
    entries["model"] = entries["latest"] = RANKER.encode(second._state())
    monkeypatch.undo()
    third = Ranker.restore(Behaviour(), index, Journal(entries))
    new = by_names(Ranker(Behaviour(), shop()))
    for name, weights in by_names(third)[WARM].items():
        assert weights == (new if name in gone else before)[WARM][name]
    assert (third.version, third.bias, third.reward) == (first.version, first.bias, first.reward)


def test_a_model_of_another_rate_begins_anew_and_the_others_stay() -> None:
    index, entries = shop(), DictEntries()
    first = taught(index, entries)
    state = RANKER.decode(entries["model"])
    slow, _, fast = state.rates
    state.rates = (fast, 7.0, slow)
    entries["model"] = entries["latest"] = RANKER.encode(state)
    again = Ranker.restore(Behaviour(), index, Journal(entries))
    for model, was, prior in zip(again.models, first.models, SPACE.prior, strict=True):
        assert model.weights.tolist() == [was.weights[2].tolist(), prior.tolist(), was.weights[0].tolist()]
        assert model.losses.tolist() == [was.losses[2], INITIAL_LOSSES[1], was.losses[0], was.losses[3]]
        assert model.net.dump() == was.net.dump()


def test_a_ranker_of_a_later_layout_is_refused() -> None:
    with pytest.raises(ValueError, match="ranker state of layout 4"):
        RANKER.decode(encode((4, 0)))
    assert RANKER.decode(None) == RankerState()


def weights_of(names: tuple[str, ...], start: float) -> Weights:
    values = start + np.arange(SEGMENTS * len(names), dtype=float)
    return Weights(0, 10, values.tobytes(), 0.5, names)


def test_published_weights_follow_the_names_of_features() -> None:
    names = (*SPACE.names[5:], "unheard of", *SPACE.names[2:4])
    message = decode_update(encode(weights_of(names, 100.0)))
    read = RankerWeights.of(message, SPACE)
    for segment in (COLD, WARM):
        found = dict(zip(SPACE.names, read.weights[segment].tolist(), strict=True))
        for position, name in enumerate(names):
            if name != "unheard of":
                assert found[name] == 100.0 + segment * len(names) + position
        for name in {*SPACE.names} - {*names}:
            assert found[name] == SPACE.prior[segment, SPACE.names.index(name)]
    assert (read.bias, read.version) == (0.5, 10)


def test_weights_without_names_are_of_the_first_layout_and_of_nothing_where_their_number_is_another() -> None:
    old = RankerWeights.of(Weights(0, 3, weights_of(FEATURES_1, 0.0).weights), SPACE)
    assert old.weights[COLD, SPACE.names.index("before:root")] == FEATURES_1.index("before:root") == 1
    none = RankerWeights.of(Weights(0, 3, bytes(80)), SPACE)
    assert none.weights.tolist() == SPACE.prior.tolist()


def test_the_ranker_that_is_read_is_that_which_was_told_last() -> None:
    told: dict[int, Weights] = {}
    latest = LatestRanker(told, SPACE)
    assert latest.read().weights.tolist() == SPACE.prior.tolist()
    told[0] = weights_of(SPACE.names, 1.0)
    first = latest.read()
    assert first is latest.read() and first.version == 10
    told[0] = weights_of(SPACE.names, 5.0)
    assert latest.read().weights == pytest.approx(first.weights + 4.0)


@given(st.integers(-1, 9), st.lists(st.integers(0, 9)))
def test_a_position_is_that_of_the_first(row, rows):
    assert position_of(row, np.array(rows, np.int32)) == (rows.index(row) if row in rows else -1)
