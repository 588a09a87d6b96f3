"""Diversity, novelty, category caps and pins: in which order candidates come, and how far the settings move it."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import (
    Behaviour,
    DiversitySettings,
    ExplorationSettings,
    RulesSettings,
    SlateSettings,
)
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.rerank import Reranker, diversify, novelty, spread
from riverrank.operators.slate.rules import Rules
from riverrank.state.messages import CatalogueUpdate, Feedback, Outcome, decode_update
from riverrank.state.records import Event, Item
from test_recommend import Shop

NONE = ExplorationSettings(rate=0.0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_no_diversity_is_the_order_of_scores_and_ties_keep_their_places():
    scores = np.array([1.0, 3.0, 3.0, 2.0])
    ordered = diversify(scores, np.eye(4, dtype=np.float32), 0.0, 4)
    assert ordered.order.tolist() == [1, 2, 3, 0] and ordered.values.tolist() == [3.0, 3.0, 2.0, 1.0]


@given(st.integers(3, 40), st.floats(0.05, 0.95), st.integers(1, 20))
def test_it_is_maximal_marginal_relevance_to_the_letter(n, strength, size):
    rng = np.random.default_rng(n)
    vectors, scores = unit(rng.normal(size=(n, 3))), rng.normal(size=n)
    relevance = (scores - scores.min()) / np.ptp(scores)
    taken: list[int] = []
    for _ in range(min(size, n)):
        worth = [
            (1 - strength) * relevance[k] - strength * max([0.0, *(float(vectors[k] @ vectors[j]) for j in taken)])
            if k not in taken
            else -np.inf
            for k in range(n)
        ]
        taken.append(int(np.argmax(worth)))
    assert diversify(scores, vectors, strength, size).order[: len(taken)].tolist() == taken


@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 20))
def test_every_candidate_is_ordered_once_and_values_fall(n, strength, size):
    rng = np.random.default_rng(n)
    order, values = diversify(rng.random(n), unit(rng.normal(size=(n, 3))), strength, size)
    assert sorted(order.tolist()) == list(range(n))
    assert (np.diff(values) <= 1e-12).all() and np.isfinite(values).all()


def test_more_strength_gives_more_different_neighbours():
    rng = np.random.default_rng(2)
    vectors, scores = unit(rng.normal(size=(60, 4))), rng.random(60)

    def likeness(strength: float) -> float:
        top = vectors[diversify(scores, vectors, strength, 10).order[:10]]
        return float((top @ top.T)[np.triu_indices(10, 1)].mean())

    assert likeness(0.8) < likeness(0.3) < likeness(0.0) and likeness(1.0) < likeness(0.3)


def test_a_taste_is_as_wide_as_its_pairs_are_unlike():
    rng = np.random.default_rng(3)
    vectors = unit(rng.random((12, 5)))
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(12) for j in range(i)]
    assert spread(vectors) == pytest.approx((sum(pairs) + 1) / (len(pairs) + 1), abs=1e-6)
    assert spread(np.zeros((4, 5), np.float32)) == 1.0
    assert spread(vectors[:1]) == spread(vectors[:0]) == 1.0
    assert spread(np.repeat(vectors[:1], 12, axis=0)) < 0.02


def test_novelty_is_1_for_the_unknown_and_0_for_the_most_popular():
    told = novelty(np.array([50.0, 0.0, 7.0, 6.0]), 50.0)
    assert told[0] == 0.0 and told[1] == 1.0 and 0 < told[2] < told[3] < 1


def test_novelty_brings_up_what_few_know():
    def known(slate) -> float:
        return np.mean(
            [shop.index.popularity(np.array([shop.index.row(slot.item_id)]))[0] for slot in slate.items[:10]]
        )

    means = []
    for amount in (0.0, 3.0):
        diversity = DiversitySettings(strength=0.0, novelty=amount)
        shop = Shop(Behaviour(diversity=diversity, exploration=NONE))
        for k in range(60):
            shop.send(f"u{k}", "click", f"i{k % (1 + k // 3)}")  # the lower the number the more popular
        means.append(known(shop.send("new", "click", "i1")))
    assert means[1] < 0.8 * means[0]


class Shelf:
    """A index of 60 items in three categories, by falling score: all of category c0 come first."""

    def __init__(self, rules: RulesSettings = RulesSettings(), exploration=NONE, **diversity) -> None:  # noqa: B008
        self.behaviour = Behaviour(
            diversity=DiversitySettings(**diversity), exploration=exploration, slate=SlateSettings(size=10), rules=rules
        )
        index = ItemIndex(self.behaviour)
        for k in range(60):
            brand = "rare" if k == 50 else f"b{k % 7}"
            index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k // 20}",), attributes={"brand": brand})))
        self.index, self.rows, self.logits = index, np.arange(60), np.linspace(2.0, -2.0, 60)
        self.new = np.zeros(60, bool)
        self.reranker = Reranker(self.behaviour, index, Rules(rules, index))

    def position(self, history=(), event_id="e", examples=0):
        def unsure(places):
            return np.full(len(places), 0.5)

        rows = np.array(history, np.int32)
        return self.reranker.position(event_id, self.rows, self.logits, self.new[self.rows], rows, examples, unsure)

    def categories(self, places) -> list[int]:
        return [int(place) // 20 for place in places]


def test_a_wide_taste_gets_more_diversity_than_a_narrow_one():
    shelf = Shelf(strength=0.6)
    wide, narrow = shelf.position(history=[0, 25, 50])[0], shelf.position(history=[0, 7, 14])[0]
    none = Shelf(strength=0.0).position(history=[0, 25, 50])[0]
    kinds = [len(set(shelf.categories(drawn.positions))) for drawn in (wide, narrow, none)]
    assert kinds[0] > kinds[1] >= kinds[2] == 1


@pytest.mark.parametrize("kind", ["epsilon", "softmax", "thompson"])
@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_no_category_has_more_places_than_the_cap(kind, strength):
    shelf = Shelf(strength=strength, category_cap=3, exploration=ExplorationSettings(kind=kind, rate=0.3))
    for k in range(50):
        drawn, _ = shelf.position(event_id=f"e{k}")
        categories = shelf.categories(drawn.positions)
        assert len(categories) == 9 and max(map(categories.count, range(3))) == 3
    assert Shelf(strength=strength).position()[0].positions.tolist() != drawn.positions.tolist()


def test_pins_count_for_the_cap_and_stand_first_whatever_is_explored():
    rules = RulesSettings(pin=("brand=rare", "category=c0", "category=c0"))
    shelf = Shelf(rules, ExplorationSettings(rate=1.0), category_cap=2)
    for k in range(20):
        drawn, pins = shelf.position(event_id=f"e{k}")
        assert drawn.positions[:3].tolist() == [50, 0, 1] and list(pins) == [50, 0, 1]
        assert drawn.propensity[:3].tolist() == [1.0, 1.0, 1.0] and not drawn.explored[:3].any()
        assert (drawn.propensity[3:] < 0.2).all()
        assert sorted(shelf.categories(drawn.positions)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["epsilon", "softmax"])
def test_what_is_due_for_a_first_exposure_may_be_drawn_wherever_it_stands(kind):
    shelf = Shelf(exploration=ExplorationSettings(kind=kind, rate=0.5))
    before = shelf.position()[0]
    shelf.new[[50, 58]] = True  # far behind the three slates that are drawn from
    places = [place for k in range(400) for place in shelf.position(event_id=f"e{k}")[0].positions.tolist()]
    shelf.new[:] = False
    assert max(places) == 58 and set(range(30, 60)) & set(places) <= {50, 58}
    if kind == "epsilon":
        each = [places.count(place) for place in (29, 50, 58)]  # of 400 slates, .5 * 10 / 32 or so
        assert min(each) > 30 and max(each) < 110
    assert shelf.position()[0].positions.tolist() == before.positions.tolist()
    shelf = Shelf()
    plain = shelf.position()[0].positions.tolist()
    shelf.new[:] = True
    assert shelf.position()[0].positions.tolist() == plain  # nothing is tried where there is no exploration


def test_new_items_of_which_least_is_known_are_due_first():
    index, signals = ItemIndex(Behaviour()), Signals(Behaviour(), 0)
    for k in range(6):
        index.apply(CatalogueUpdate(Item(f"i{k}", k)))
    assert [index.table.ids[row] for row in index.newest()] == [f"i{k}" for k in (5, 4, 3, 2, 1, 0)]
    signals.learn(Feedback(Event("e1", "click", "u", 7, "i5"), 1.0, ()))
    for k in range(2):  # shown in vain
        signals.learn(Feedback(Event(f"r{k}", "request", "u", 8), 0.0, (), (Outcome(f"s{k}", 8, ("i3",), (0,)),)))
    for update in signals.flush():
        index.apply(decode_update(update))
    assert [index.table.ids[row] for row in index.newest()] == [f"i{k}" for k in (4, 2, 1, 0, 5, 3)]


def test_the_sure_are_explored_for_less():
    shelf = Shelf(exploration=ExplorationSettings(rate=0.5, halved_after=50))
    tried = [
        sum(shelf.position(event_id=f"e{k}", examples=examples)[0].explored.sum() for k in range(100))
        for examples in (0, 50, 100_000)
    ]
    assert tried[0] > 1.5 * tried[1] > 2 * tried[2] > 0


def test_a_slate_takes_what_there_is():
    shelf = Shelf()
    shelf.rows, shelf.logits = shelf.rows[:4], shelf.logits[:4]
    assert shelf.position()[0].positions.tolist() == [0, 1, 2, 3]
    pinned = Shelf(RulesSettings(pin=("category=c0",) * 30))
    assert len(pinned.position()[0].positions) == 10


def test_settings_refuse_a_cap_below_0():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"category_cap": -1}, DiversitySettings)
