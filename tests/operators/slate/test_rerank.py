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
from riverrank.operators.slate.rerank import Ranked, Reranker, descending, diversify, novelty, ranked_pool, spread
from riverrank.operators.slate.rules import Rules
from riverrank.operators.slate.served import NOWHERE, standing
from riverrank.state.messages import CatalogueUpdate, Feedback, Outcome, decode_update
from riverrank.state.records.incoming import Event, Item
from shop_pipeline import Shop

NONE = ExplorationSettings(rate=0.0)


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def mmr(scores: np.ndarray, vectors: np.ndarray, strength: float, size: int) -> tuple[np.ndarray, np.ndarray]:
    """All of `vectors`, float32 (n, d), ranked and diversified: positions, and values."""
    rows, none = np.arange(len(scores), dtype=np.int32), np.zeros(0, np.int64)
    return ranked_pool(scores, rows, vectors, np.zeros(len(rows), bool), none, len(rows), strength, size, True)


def test_no_diversity_is_the_order_of_scores_and_ties_keep_their_positions():
    order, values = mmr(np.array([1.0, 3.0, 3.0, 2.0]), np.eye(4, dtype=np.float32), 0.0, 4)
    assert order.tolist() == [1, 2, 3, 0] and values.tolist() == [3.0, 3.0, 2.0, 1.0]


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
    assert mmr(scores, vectors, strength, size)[0][: len(taken)].tolist() == taken


@given(st.integers(1, 40), st.floats(0, 1), st.integers(1, 20))
def test_every_candidate_is_ordered_once_and_values_fall(n, strength, size):
    rng = np.random.default_rng(n)
    order, values = mmr(rng.random(n), unit(rng.normal(size=(n, 3))), strength, size)
    assert sorted(order.tolist()) == list(range(n))
    assert (np.diff(values) <= 1e-12).all() and np.isfinite(values).all()


def test_more_strength_gives_more_different_neighbours():
    rng = np.random.default_rng(2)
    vectors, scores = unit(rng.normal(size=(60, 4))), rng.random(60)

    def likeness(strength: float) -> float:
        top = vectors[mmr(scores, vectors, strength, 10)[0][:10]]
        return float((top @ top.T)[np.triu_indices(10, 1)].mean())

    assert likeness(0.8) < likeness(0.3) < likeness(0.0) and likeness(1.0) < likeness(0.3)


def test_a_taste_is_as_wide_as_its_pairs_are_unlike():
    rng = np.random.default_rng(3)
    vectors = unit(rng.random((12, 5)))
    pairs = [1 - float(vectors[i] @ vectors[j]) for i in range(12) for j in range(i)]
    rows = np.arange(12, dtype=np.int32)
    assert spread(vectors, rows) == pytest.approx((sum(pairs) + 1) / (len(pairs) + 1), abs=1e-6)
    assert spread(np.zeros((4, 5), np.float32), rows[:4]) == 1.0
    assert spread(vectors, rows[:1]) == spread(vectors, rows[:0]) == 1.0
    assert spread(vectors, np.zeros(12, np.int32)) < 0.02


@given(st.integers(0, 10_000), st.integers(1, 9))
def test_the_pool_is_the_best_and_behind_them_what_is_there_also(seed, most):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 20))
    logits, also = rng.integers(0, 6, n).astype(float), rng.random(n) < 0.3
    pinned = rng.permutation(n)[: rng.integers(0, 3)]
    rows = rng.permutation(n).astype(np.int32)
    content = unit(rng.normal(size=(n, 5)))
    strength = float(rng.choice([0.0, 0.4]))
    order = [k for k in np.argsort(-logits, kind="stable").tolist() if k not in pinned]
    positions, values = ranked_pool(logits, rows, content, also, pinned, most, strength, 3, True)
    first, _ = ranked_pool(logits, rows, content, also, pinned, most, strength, 3, False)
    assert first[:3].tolist() == positions[:3].tolist() and sorted(first) == sorted(positions)
    pool = positions[:most]
    assert sorted(pool) == sorted(order[:most])
    diversified, worth = mmr(logits[order[:most]], content[rows[order[:most]]], strength, 3)
    assert pool.tolist() == [order[k] for k in diversified] and values[:most].tolist() == pytest.approx(worth)
    later = [k for k in order[most:] if also[k]]
    assert positions[most:].tolist() == later
    assert values[most:].tolist() == pytest.approx([min(logits[k], worth[-1]) for k in later])


@given(st.lists(st.sampled_from([0.0, -0.0, 1.5, -2.0, np.inf, -np.inf]) | st.floats(allow_nan=False), max_size=600))
def test_descending_is_a_stable_sort(numbers):
    assert descending(np.array(numbers)).tolist() == np.argsort(-np.array(numbers), kind="stable").tolist()


def test_descending_has_each_position_once_whatever_the_numbers():
    for n in (5, 600):
        assert sorted(descending(np.resize([np.nan, 1.0, -np.inf], n))) == list(range(n))


@given(st.integers(0, 10_000), st.floats(0.05, 1.0))
def test_the_first_slots_are_those_of_the_whole_also_where_lengths_are_not_1(seed, strength):
    rng = np.random.default_rng(seed)
    scores, rows = -np.sort(-rng.normal(size=30)), np.arange(30, dtype=np.int32)
    content = (3.0 * rng.normal(size=(30, 4))).astype(np.float32)
    (whole, values), (first, worth) = (diversify(scores, content, rows, strength, 5, all_) for all_ in (True, False))
    assert first[:5].tolist() == whole[:5].tolist() and worth[:5].tolist() == values[:5].tolist()
    assert sorted(first) == list(range(30))


@given(st.lists(st.integers(0, 5), max_size=20), st.integers(0, 20))
def test_an_item_stands_below_those_of_higher_logits(numbers, row):
    logits, rows = np.array(numbers, float), np.arange(len(numbers), dtype=np.int32)[::-1].copy()
    at = [position for position, other in enumerate(rows.tolist()) if other == row]
    plain = (at[0], sum(number > numbers[at[0]] for number in numbers)) if at else (-1, NOWHERE)
    assert standing(rows, logits, row) == plain


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
        self.index, self.rows, self.logits = index, np.arange(60, dtype=np.int32), np.linspace(2.0, -2.0, 60)
        self.new = np.zeros(60, np.uint32)
        self.reranker = Reranker(self.behaviour, index, Rules(rules, index), new=1)

    def rerank(self, history=(), event_id="e", examples=0) -> Ranked:
        def unsure(positions):
            return np.full(len(positions), 0.5)

        rows = np.array(history, np.int32)
        return self.reranker.rerank(event_id, self.rows, self.logits, self.new[self.rows], rows, examples, unsure)

    def categories(self, positions) -> list[int]:
        return [int(position) // 20 for position in positions]


def test_a_wide_taste_gets_more_diversity_than_a_narrow_one():
    shelf = Shelf(strength=0.6)
    wide, narrow = shelf.rerank(history=[0, 25, 50]), shelf.rerank(history=[0, 7, 14])
    none = Shelf(strength=0.0).rerank(history=[0, 25, 50])
    kinds = [len(set(shelf.categories(drawn.positions))) for drawn in (wide, narrow, none)]
    assert kinds[0] > kinds[1] >= kinds[2] == 1


@pytest.mark.parametrize("kind", ["epsilon", "softmax", "thompson"])
@pytest.mark.parametrize("strength", [0.0, 0.3])
def test_no_category_has_more_slots_than_the_cap(kind, strength):
    shelf = Shelf(strength=strength, category_cap=3, exploration=ExplorationSettings(kind=kind, rate=0.3))
    for k in range(50):
        drawn = shelf.rerank(event_id=f"e{k}")
        categories = shelf.categories(drawn.positions)
        assert len(categories) == 9 and max(map(categories.count, range(3))) == 3
    assert Shelf(strength=strength).rerank().positions.tolist() != drawn.positions.tolist()


def test_pins_count_for_the_cap_and_stand_first_whatever_is_explored():
    rules = RulesSettings(pin=("brand=rare", "category=c0", "category=c0"))
    shelf = Shelf(rules, ExplorationSettings(rate=1.0), category_cap=2)
    for k in range(20):
        drawn = shelf.rerank(event_id=f"e{k}")
        assert drawn.positions[:3].tolist() == [50, 0, 1] and drawn.pins.tolist() == [0, 1, 1]
        assert drawn.propensity[:3].tolist() == [1.0, 1.0, 1.0] and not drawn.explored[:3].any()
        assert (drawn.propensity[3:] < 0.2).all()
        assert sorted(shelf.categories(drawn.positions)) == [0, 0, 1, 1, 2, 2]


@pytest.mark.parametrize("kind", ["epsilon", "softmax"])
def test_what_is_due_for_a_first_exposure_may_be_drawn_wherever_it_stands(kind):
    shelf = Shelf(exploration=ExplorationSettings(kind=kind, rate=0.5))
    before = shelf.rerank()
    shelf.new[[50, 58]] = True  # far behind the three slates that are drawn from
    positions = [position for k in range(400) for position in shelf.rerank(event_id=f"e{k}").positions.tolist()]
    shelf.new[:] = False
    assert max(positions) == 58 and set(range(30, 60)) & set(positions) <= {50, 58}
    if kind == "epsilon":
        each = [positions.count(position) for position in (29, 50, 58)]  # of 400 slates, .5 * 10 / 32 or so
        assert min(each) > 30 and max(each) < 110
    assert shelf.rerank().positions.tolist() == before.positions.tolist()
    shelf = Shelf()
    plain = shelf.rerank().positions.tolist()
    shelf.new[:] = True
    assert shelf.rerank().positions.tolist() == plain  # nothing is tried where there is no exploration


@pytest.mark.parametrize("pinned", [(), ("brand=rare", "brand=none", "brand=b3")])
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_the_slate_in_one_go_is_that_of_its_steps(rate, pinned):
    shelf = Shelf(RulesSettings(pin=pinned), ExplorationSettings(rate=rate), strength=0.4)
    shelf.new[[50, 58]] = 1
    for k in range(50):
        shelf.reranker._simple = True
        at_once = shelf.rerank(history=[0, 25, 50], event_id=f"e{k}", examples=k)
        shelf.reranker._simple = False
        by_steps = shelf.rerank(history=[0, 25, 50], event_id=f"e{k}", examples=k)
        assert all(map(np.array_equal, at_once, by_steps))


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
        sum(shelf.rerank(event_id=f"e{k}", examples=examples).explored.sum() for k in range(100))
        for examples in (0, 50, 100_000)
    ]
    assert tried[0] > 1.5 * tried[1] > 2 * tried[2] > 0


def test_a_slate_takes_what_there_is():
    shelf = Shelf()
    shelf.rows, shelf.logits = shelf.rows[:4], shelf.logits[:4]
    assert shelf.rerank().positions.tolist() == [0, 1, 2, 3]
    pinned = Shelf(RulesSettings(pin=("category=c0",) * 30))
    assert len(pinned.rerank().positions) == 10


def test_settings_refuse_a_cap_below_0():
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert({"category_cap": -1}, DiversitySettings)


def below(shelf: Shelf, above: np.ndarray, depth: int) -> np.ndarray:
    none = np.zeros(0, np.int32)
    return shelf.reranker.below(shelf.rows, shelf.logits, shelf.new[shelf.rows], none, above, depth)


@pytest.mark.parametrize("strength", [0.0, 0.4])
def test_below_a_slate_stand_slates_of_what_is_left_with_nothing_drawn(strength):
    rate = ExplorationSettings(rate=0.5)
    shelf, plain = Shelf(strength=strength, exploration=rate), Shelf(strength=strength)
    above = shelf.rerank().positions
    placed = below(shelf, above, 34)
    assert len(placed) == 24 and not set(placed) & set(above)
    for first in (0, 10, 20):
        left = np.setdiff1d(np.arange(60), np.concatenate([above, placed[:first]]))
        plain.rows, plain.logits = shelf.rows[left], shelf.logits[left]
        page = placed[first : first + 10]
        assert page.tolist() == left[plain.rerank().positions][: len(page)].tolist()


def test_each_slate_below_keeps_to_the_cap_and_below_one_that_is_not_full_is_nothing():
    shelf = Shelf(category_cap=4)
    above = shelf.rerank().positions
    placed = below(shelf, above, 60)
    for page in (placed[first : first + 10] for first in range(0, len(placed), 10)):
        assert np.bincount(shelf.categories(page)).max() <= 4
    assert len(placed) > 30
    assert not len(below(shelf, above[:9], 60)) and not len(below(shelf, above, 10))
