"""Floors of exposure: what slates owe, what they give, and with which chances."""

from collections import Counter, defaultdict
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import (
    Behaviour,
    DiversitySettings,
    ExplorationSettings,
    FairnessSettings,
    RulesSettings,
    SlateSettings,
)
from riverrank.operators.slate.fairness.drawing import NO_FLOOR
from riverrank.operators.slate.fairness.floors import Floors
from riverrank.operators.slate.fairness.groups import discounts
from riverrank.operators.slate.rerank import Ranked, Reranker
from riverrank.operators.slate.rules import Rules
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.incoming import Item
from shop_pipeline import PLAIN, Shop

SIZE = 10
KINDS = ("epsilon", "softmax", "thompson")


class Shelf:
    """`items` by falling score; the last `small` of them are of the brand Small, and the last of all is Rare too."""

    def __init__(
        self, floors: dict[str, float], items: int = 40, small: int = 12, size: int = SIZE, **more: Any
    ) -> None:
        exploration = more.pop("exploration", ExplorationSettings(rate=0.0))
        self.behaviour = Behaviour(
            slate=SlateSettings(size=size),
            exploration=exploration,
            diversity=DiversitySettings(**more.pop("diversity", {"strength": 0.0})),
            rules=more.pop("rules", RulesSettings()),
            fairness=FairnessSettings(floors=floors),
        )
        self.index = ItemIndex(self.behaviour)
        for k in range(items):
            brand = ["Small", "Rare"] if k == items - 1 else "Small" if k >= items - small else "Big"
            record = Item(f"i{k}", 1, categories=(f"c{k % 4}",), attributes={"brand": brand})
            self.index.apply(CatalogueUpdate(record))
        self.rows, self.logits = np.arange(items, dtype=np.int32), np.linspace(2.0, -2.0, items)
        self.floors = Floors(self.behaviour.fairness, self.index)
        self.reranker = Reranker(self.behaviour, self.index, Rules(self.behaviour.rules, self.index))

    def slate(self, version: int = 1, user: str = "u", event: str = "e") -> Ranked:
        owed = self.floors.owed(self.rows, self.behaviour.slate.size, user, version)
        zeros, none = np.zeros(len(self.rows), np.uint32), np.zeros(0, np.int32)

        def unsure(positions: np.ndarray) -> np.ndarray:
            return np.full(len(positions), 0.5)

        return self.reranker.rerank(event, self.rows, self.logits, zeros, none, 0, unsure, owed)

    def of(self, ranked: Ranked) -> np.ndarray:
        """Which slots hold what the floors name, bool (k, f)."""
        return self.floors.members(self.rows[ranked.positions])


@given(st.floats(0.01, 0.99), st.integers(1, 40), st.text(max_size=5))
def test_the_mean_of_what_is_owed_is_the_share_in_every_prefix(share: float, size: int, user: str) -> None:
    floors = Floors(FairnessSettings(floors={"brand=Small": share}), ItemIndex(Behaviour()))
    none = np.zeros(0, np.int32)
    owed = np.array([floors.owed(none, size, user, version).places[:, 0] for version in range(1, 301)])
    ranks = np.arange(1, size + 1)
    assert (np.abs(owed - share * ranks) < 1.0 + 1e-6).all() and (np.diff(owed, axis=1) >= 0).all()
    assert np.abs(owed.mean(axis=0) - share * ranks).max() < 0.02


def test_users_and_floors_do_not_owe_at_the_same_ranks() -> None:
    floors = Floors(FairnessSettings(floors={"brand=Small": 0.1, "brand=Rare": 0.1}), ItemIndex(Behaviour()))
    phases = np.array([floors.phases(f"u{k}", 1) for k in range(500)])
    assert np.histogram(phases[:, 0], 5, (0, 1))[0].min() > 70
    assert np.abs(phases[:, 0] - phases[:, 1]).min() > 0.49


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rate", [0.0, 0.3])
def test_every_prefix_of_every_slate_has_what_is_owed(kind: str, rate: float) -> None:
    shelf = Shelf({"brand=Small": 0.25}, exploration=ExplorationSettings(kind=kind, rate=rate))  # type: ignore[arg-type]
    given_, moved = np.zeros(SIZE), 0
    for version in range(1, 61):
        ranked = shelf.slate(version, event=f"e{version}")
        held = shelf.of(ranked)[:, 0].cumsum()
        assert (held >= shelf.floors.owed(shelf.rows, SIZE, "u", version).places[:, 0]).all()
        assert len(set(ranked.positions.tolist())) == SIZE
        given_ += shelf.of(ranked)[:, 0]
        moved += np.count_nonzero(ranked.floors != NO_FLOOR)
    worth = discounts(SIZE)
    assert worth @ given_ / (60 * worth.sum()) >= 0.25 - 0.01
    assert moved > 60 and (rate > 0 or given_.sum() == pytest.approx(60 * SIZE * 0.25, abs=3))


def test_of_what_a_floor_names_the_best_stand_and_the_rest_keeps_its_order() -> None:
    shelf = Shelf({"brand=Small": 0.25})
    for version in range(1, 20):
        ranked = shelf.slate(version)
        small = shelf.of(ranked)[:, 0]
        assert ranked.positions[small].tolist() == [28, 29, 30][: small.sum()]
        assert ranked.positions[~small].tolist() == list(range(SIZE - small.sum()))
        assert (ranked.floors[small] == 0).all() and (ranked.floors[~small] == NO_FLOOR).all()
        assert (ranked.propensity == 1.0).all() and not ranked.explored.any()


def test_what_stands_where_it_is_owed_anyway_is_not_moved() -> None:
    shelf = Shelf({"brand=Big": 0.5})
    ranked = shelf.slate()
    assert ranked.positions.tolist() == list(range(SIZE)) and (ranked.floors == NO_FLOOR).all()


@pytest.mark.parametrize("strength", [0.0, 0.6])
@pytest.mark.parametrize("kind", KINDS)
def test_places_that_are_not_owed_are_drawn_from_what_they_were(kind: str, strength: float) -> None:
    """The small brand is beyond what a slate is drawn from: a floor lets it stand on the places that are owed alone."""
    more = {"exploration": ExplorationSettings(kind=kind, rate=0.5), "diversity": {"strength": strength}}
    plain = Shelf({}, items=200, **more)
    floored = Shelf({"brand=Small": 0.1}, items=200, **more)
    zeros, none = np.zeros(200, np.uint32), np.zeros(0, np.int32)
    moved = others = 0
    for version in range(1, 40):
        owed = floored.floors.owed(floored.rows, SIZE, "u", version)
        pool = floored.reranker.pool(floored.rows, floored.logits, zeros, none, 0, owed)
        before = plain.reranker.pool(plain.rows, plain.logits, zeros, none, 0, None)
        assert pool.due is not None
        assert pool.positions[pool.due.anywhere].tolist() == before.positions.tolist()
        assert pool.values[pool.due.anywhere].tolist() == before.values.tolist()
        ranked = floored.slate(version)
        is_owed = ranked.floors != NO_FLOOR
        assert np.isin(ranked.positions[~is_owed], before.positions).all()
        moved, others = moved + int(is_owed.sum()), others + int((~is_owed).sum())
    assert moved == pytest.approx(39, abs=2) and others > 300


@pytest.mark.parametrize("kind", KINDS)
def test_a_propensity_is_the_chance_of_its_slot_with_floors_too(kind: str) -> None:
    """Of each slate its frequency, which the product of its propensities foretells; all slates together have 1."""
    exploration = ExplorationSettings(kind=kind, rate=0.5)  # type: ignore[arg-type]
    shelf = Shelf({"brand=Small": 0.4}, items=5, small=2, size=3, exploration=exploration)
    shelf.logits *= 0.1
    version = next(
        v for v in range(1, 99) if shelf.floors.owed(shelf.rows, 3, "u", v).places[:, 0].tolist() == [0, 1, 1]
    )
    drawn, foretold, draws = Counter[tuple[int, ...]](), defaultdict[tuple[int, ...], set[float]](set), 6000
    for k in range(draws):
        ranked = shelf.slate(version, event=f"e{k}")
        slate = tuple(ranked.positions.tolist())
        drawn[slate] += 1
        foretold[slate].add(round(float(np.prod(ranked.propensity)), 9))
    assert len(drawn) > 10 and all(set(slate[:2]) & {3, 4} for slate in drawn)
    assert {len(chances) for chances in foretold.values()} == {1}
    chances = {slate: next(iter(found)) for slate, found in foretold.items()}
    assert sum(chances.values()) == pytest.approx(1.0, abs=0.01)
    for slate, chance in chances.items():
        assert drawn[slate] / draws == pytest.approx(chance, abs=4 * (chance / draws) ** 0.5)


def test_pins_count_for_floors_and_stand_where_they_are_pinned() -> None:
    shelf = Shelf({"brand=Small": 0.2}, rules=RulesSettings(pin=("brand=Rare",)))
    for version in range(1, 20):
        ranked = shelf.slate(version)
        assert ranked.positions[0] == 39 and ranked.floors[0] == NO_FLOOR
        owed = shelf.floors.owed(shelf.rows, SIZE, "u", version).places[-1, 0]
        assert shelf.of(ranked)[:, 0].sum() == max(owed, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_a_category_cap_holds_and_goes_before_a_floor(kind: str) -> None:
    exploration = ExplorationSettings(kind=kind, rate=0.2)  # type: ignore[arg-type]
    floors = {"brand=Small": 0.9}
    shelf = Shelf(floors, diversity={"strength": 0.3, "category_cap": 2}, exploration=exploration, small=2)
    for version in range(1, 20):
        ranked = shelf.slate(version, event=f"e{version}")
        categories = Counter(int(position) % 4 for position in ranked.positions)
        assert max(categories.values()) == 2 and len(ranked.positions) == 8
        assert shelf.of(ranked)[:, 0].sum() == 2 and len(set(ranked.positions.tolist())) == 8


def test_where_nothing_is_left_that_a_floor_names_the_slate_is_as_long_as_any() -> None:
    for floors, small in (({"brand=Small": 1.0}, 3), ({"brand=Nobody": 0.5}, 3)):
        ranked = Shelf(floors, small=small).slate()
        assert len(ranked.positions) == SIZE and len(set(ranked.positions.tolist())) == SIZE


@given(st.lists(st.floats(0.02, 0.4), min_size=2, max_size=4), st.integers(1, 50))
def test_of_several_floors_each_gets_its_own_or_is_a_few_places_late(shares: list[float], version: int) -> None:
    total = max(1.0, sum(shares) / 0.9)
    shelf = Shelf({f"category=c{k}": share / total for k, share in enumerate(shares)})
    ranked = shelf.slate(version)
    owed = shelf.floors.owed(shelf.rows, SIZE, "u", version).places
    held = shelf.of(ranked).cumsum(axis=0)
    late = len(shares) - 1
    assert (held[late:] >= owed[: SIZE - late]).all()


def test_without_floors_nothing_is_owed_and_no_kernel_is_asked() -> None:
    floors = Floors(FairnessSettings(floors={"brand=Small": 0.0}), ItemIndex(Behaviour()))
    assert not floors and floors.tokens == ()


def floored(share: float = 0.25) -> Shop:
    """A shop with four items of the brand Small that nobody takes, and a floor for them."""
    shop = Shop(msgspec.structs.replace(PLAIN, fairness=FairnessSettings(floors={"brand=Small": share})))
    for k in range(4):
        shop.item(f"s{k}", categories=("c9",), attributes={"brand": "Small"}, available=k != 3)
    shop.crowd(6, 10)
    return shop


def test_what_no_source_proposes_gets_the_places_of_its_floor_and_says_why() -> None:
    shop, given_ = floored(0.1), 0
    for k in range(20):
        slate = shop.send("u", "click", f"i{k % 12}")
        assert slate is not None and len(slate.items) == 20
        small = [slot for slot in slate.items if slot.item_id.startswith("s")]
        assert "s3" not in {slot.item_id for slot in small}
        given_ += len(small)
        moved = [slot for slot in slate.items if slot.reasons[0].code == "floor"]
        assert {slot.item_id for slot in moved} <= {slot.item_id for slot in small}
        assert all((slot.reasons[0].value, slot.reasons[0].weight) == ("brand=Small", None) for slot in moved)
    assert given_ >= 0.1 * 20 * 20 - 1
    shop.send("u", "purchase", "s0")
    assert all(slot.item_id != "s0" for slot in shop.send("u", "request").items)  # type: ignore[union-attr]


def test_a_slate_follows_from_its_user_and_version_alone_through_bytes() -> None:
    one, other = floored(), floored()
    for k in range(10):
        other.recommend.decoded.forget("u")  # as after a restart
        assert one.send("u", "click", f"i{k}") == other.send("u", "click", f"i{k}")


def test_exposure_is_counted_of_each_floor_and_of_all() -> None:
    shop = floored(0.2)
    shop.recommend.counts.take()
    list(shop.recommend.counts.take())
    gained: Counter[str] = Counter()
    for k in range(30):
        shop.send("u", "click", f"i{k % 12}")
    for name, value, number in shop.recommend.counts.take():
        if name == "exposure_millionths":
            gained[value] += number
    assert gained.keys() == {"brand=Small", "all"}
    assert 0.1 < gained["brand=Small"] / gained["all"] < 0.3


@pytest.mark.parametrize(
    ("floors", "said"),
    [
        ({"brand": 0.1}, "is no attribute with its value"),
        ({"year=1979": 0.1}, 'write "year=1980~"'),
        ({"brand=a": 0.7, "brand=b": 0.4}, "1 together at most, got 1.1"),
        ({"brand=a": 1.2}, "expected a table, each value a number from 0 to 1"),
        ({"size=42~": 0.1, 'size="42~"': 0.1}, "are the same; leave out one"),
        ({f"brand=b{k}": 0.01 for k in range(17)}, "at most 16, got 17"),
    ],
)
def test_floors_that_cannot_be_are_refused_with_the_mend(floors: dict[str, float], said: str) -> None:
    with pytest.raises(UsageError, match=r"^fairness\.floors: ") as raised:
        parse({"fairness": {"floors": floors}})
    assert said in str(raised.value)
