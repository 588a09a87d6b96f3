"""What the simulated shop promises: the same shop from the same seed, and tastes that are worth learning and can be."""

import time
from collections import Counter, defaultdict
from itertools import pairwise

import numpy as np
import pytest
from riverrank.jobs.evaluation.shop import Shop, ShopSettings
from riverrank.state.event_types import ANSWERED
from riverrank.state.records.decoding import decode_event, decode_item
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

Clicks = dict[int, list[str]]


@pytest.fixture(scope="module")
def shop() -> Shop:
    return Shop()


def events_of(shop: Shop, order: list[int]) -> dict[int, list[Event]]:
    written: dict[int, list[Event]] = defaultdict(list)
    for customer in order:
        written[customer] += shop.visit(customer, "s:1", shop.item_ids[customer : customer + 12], 1000).events
    return written


def shown_at_random(shop: Shop, interactions: int) -> Clicks:
    """What each customer clicked after that many interactions, with slates of random items (nobody's ranking)."""
    draw = np.random.default_rng(5)
    clicked: Clicks = {customer: [] for customer in range(shop.settings.customers)}
    for customer, items in clicked.items():
        while len(items) < interactions:
            slate = [shop.item_ids[n] for n in draw.choice(shop.settings.items, 10, replace=False)]
            items += [
                e.item_id for e in shop.visit(customer, "s:1", slate, 0).events if e.type == "click" and e.item_id
            ]
    return clicked


def click_through(shop: Shop, slates: dict[int, list[str]]) -> float:
    assert slates
    return float(np.mean([shop.expected_click_through(customer, slate) for customer, slate in slates.items()]))


def most_clicked(clicked: Clicks, count: int) -> list[str]:
    return [item for item, _ in Counter(item for items in clicked.values() for item in items).most_common(count)]


def popular_slates(shop: Shop, clicked: Clicks) -> dict[int, list[str]]:
    return dict.fromkeys(range(shop.settings.customers), most_clicked(clicked, 10))


def random_slates(shop: Shop) -> dict[int, list[str]]:
    draw = np.random.default_rng(6)
    return {
        customer: [shop.item_ids[n] for n in draw.choice(shop.settings.items, 10, replace=False)]
        for customer in range(shop.settings.customers)
    }


def test_same_seed_is_the_same_shop_and_another_seed_another() -> None:
    order = [0, 1, 2, 1, 0, 0] * 20
    first, second, other = (Shop(ShopSettings(seed=seed, customers=3)) for seed in (1, 1, 2))
    assert first.catalogue(9) == second.catalogue(9) != other.catalogue(9)
    written = events_of(first, order)
    assert sum(map(len, written.values())) > 120
    assert written == events_of(second, order) != events_of(other, order)


def test_what_a_customer_does_depends_on_no_other_customer() -> None:
    crowd, alone = (Shop(ShopSettings(customers=8)) for _ in range(2))
    assert events_of(crowd, list(range(8)) * 30)[3] == events_of(alone, [3] * 30)[3]


def test_every_record_is_one_of_the_contract_and_named_once(shop: Shop) -> None:
    items = shop.catalogue(1_764_000_000_000)
    assert [decode_item(to_json(item)) for item in items] == items
    assert len({item.item_id for item in items}) == shop.settings.items
    draw = np.random.default_rng(1)
    events: list[Event] = []
    for turn in range(3000):
        slate = [shop.item_ids[n] for n in draw.choice(shop.settings.items, 20, replace=False)]
        events += shop.visit(turn % 50, f"u:{turn}", slate, 1000 + turn).events
    assert [decode_event(to_json(event)) for event in events] == events
    assert len({event.event_id for event in events}) == len(events) > 3000
    assert Counter(event.type for event in events).keys() == {"impression", "click", "cart", "purchase", "request"}


def test_every_visit_is_answered_and_names_the_slate_that_was_shown(shop: Shop) -> None:
    for turn in range(200):
        visit = shop.visit(turn % 7, "u:9", shop.oracle(turn % 7, 20), 50)
        kinds = [event.type for event in visit.events]
        assert any(kind in ANSWERED for kind in kinds)
        first = visit.events[0]
        assert (first.type, first.slate_id, first.items) == ("impression", "u:9", tuple(first.items or ())[:10])
        from_slate = [event for event in visit.events if event.type == "click" and event.slate_id == "u:9"]
        assert len(from_slate) == visit.clicked
        assert all(event.item_id in (first.items or ()) for event in from_slate)
        assert [event.ts for event in visit.events] == list(range(50, 50 + len(visit.events)))


def test_visit_without_a_slate_asks_for_one(shop: Shop) -> None:
    kinds = Counter(shop.visit(4, None, [], 0).events[0].type for _ in range(100))
    assert kinds.keys() == {"request", "click"}


def test_taste_is_worth_learning(shop: Shop) -> None:
    oracle = click_through(shop, {customer: shop.oracle(customer, 10) for customer in range(shop.settings.customers)})
    popular = click_through(shop, popular_slates(shop, shown_at_random(shop, 20)))
    random = click_through(shop, random_slates(shop))
    print(f"click-through: oracle {oracle:.3f}, popular {popular:.3f}, random {random:.3f}")
    assert oracle > 3 * popular > 6 * random > 0.06
    assert 0.25 < oracle < 0.6


def test_clicks_follow_the_probabilities() -> None:
    shop = Shop(ShopSettings(tires=0.0))
    slate = shop.oracle(2, 10)
    visits = [shop.visit(2, "s:1", slate, 0) for _ in range(300)]
    fresh = Shop(ShopSettings(tires=0.0))
    expected = fresh.expected_click_through(2, fresh.oracle(2, 10))
    clicked, shown = (sum(getattr(visit, name) for visit in visits[:60]) for name in ("clicked", "shown"))
    assert shown == 600
    assert abs(clicked / shown - expected) < 0.12


def test_customers_tire_of_what_they_took_and_of_nothing_else() -> None:
    shop = Shop(ShopSettings(drift=0.0))
    before = [shop.click_probability(customer) for customer in range(2)]
    visits = [shop.visit(0, "s:1", shop.oracle(0, 10), 0) for _ in range(20)]
    took = {event.item_id for visit in visits for event in visit.events if event.type == "click"}
    tired = np.array([item_id in took for item_id in shop.item_ids])
    after = shop.click_probability(0)
    odds = (after / (1 - after)) / (before[0] / (1 - before[0]))
    assert odds[tired] == pytest.approx(np.exp(-shop.settings.tires)) and len(took) > 5
    assert odds[~tired] == pytest.approx(1.0)
    assert (shop.click_probability(1) == before[1]).all()


def test_earlier_places_are_clicked_more() -> None:
    shop = Shop(ShopSettings(drift=0.0, search=0.0, tires=0.0))
    item = shop.oracle(0, 1)[0]
    clicks = Counter[int]()
    for _ in range(400):
        visit = shop.visit(0, "s:1", [item] * 10, 0)
        clicks[visit.clicked] += 1
    look = shop.examination(10)
    assert look[0] == 1.0
    assert all(before > after for before, after in pairwise(look))
    mean = sum(count * times for count, times in clicks.items()) / 4000
    assert mean == pytest.approx(shop.expected_click_through(0, [item] * 10), abs=0.03)


def test_taste_is_learnable_from_content_within_some_tens_of_interactions() -> None:
    shop = Shop(ShopSettings(drift=0.0))
    clicked = shown_at_random(shop, 30)
    items = {item.item_id: item for item in shop.catalogue(0)}
    popular = click_through(shop, popular_slates(shop, clicked))
    content = click_through(shop, {customer: by_content(items, mine) for customer, mine in clicked.items()})
    print(f"click-through after 30 interactions: content {content:.3f}, popular {popular:.3f}")
    assert content > 1.7 * popular


def by_content(items: dict[str, Item], mine: list[str]) -> list[str]:
    """Naive Bayes over category and brand: what is more frequent among the clicks than in the catalogue."""

    def tokens(item: Item) -> list[str]:
        return [*item.categories, str(item.attributes["brand"])]

    everywhere = Counter(token for item in items.values() for token in tokens(item))
    here = Counter(token for item_id in mine for token in tokens(items[item_id]))
    lift = {
        token: np.log((here[token] + 30 * count / len(items)) / (len(mine) + 30) / (count / len(items)))
        for token, count in everywhere.items()
    }
    return sorted(items, key=lambda item_id: -sum(lift[token] for token in tokens(items[item_id])))[:10]


def test_taste_is_learnable_from_co_visitation() -> None:
    shop = Shop(ShopSettings(items=400, customers=600, drift=0.0))
    clicked = shown_at_random(shop, 30)
    popular = click_through(shop, popular_slates(shop, clicked))
    index = {item_id: n for n, item_id in enumerate(shop.item_ids)}
    matrix = np.zeros((len(clicked), len(index)))
    for customer, mine in clicked.items():
        for item_id in mine:
            matrix[customer, index[item_id]] = 1.0
    together = matrix.T @ matrix
    np.fill_diagonal(together, 0.0)
    size = matrix.sum(0)
    cosine = together / (np.sqrt(np.outer(size, size)) + 5.0)
    scores = matrix @ cosine
    slates = {customer: [shop.item_ids[n] for n in np.argsort(-scores[customer])[:10]] for customer in clicked}
    covisit = click_through(shop, slates)
    print(f"click-through after 30 interactions: co-visitation {covisit:.3f}, popular {popular:.3f}")
    assert covisit > 1.4 * popular


def test_flip_turns_every_taste() -> None:
    shop = Shop(ShopSettings(customers=50))
    before = {customer: shop.oracle(customer, 10) for customer in range(50)}
    liked = [set(shop.favourites(customer)) for customer in range(50)]
    good = click_through(shop, before)
    shop.flip()
    assert all(not liked[customer] & set(shop.favourites(customer)) for customer in range(50))
    assert click_through(shop, before) < 0.25 * good
    assert click_through(shop, {customer: shop.oracle(customer, 10) for customer in range(50)}) > 0.8 * good


def test_tastes_drift() -> None:
    shop = Shop(ShopSettings(customers=50, drift=0.05))
    before = {customer: shop.oracle(customer, 10) for customer in range(50)}
    good = click_through(shop, before)
    for customer in range(50):
        for _ in range(40):
            shop.visit(customer, None, [], 0)
    assert click_through(shop, before) < 0.8 * good


def test_few_customers_make_much_of_the_traffic_and_both_arms_get_the_same(shop: Shop) -> None:
    activity = np.sort(shop.activity)
    assert activity[-12:].sum() > 0.25 * activity.sum()
    assert (shop.activity[::2] == shop.activity[1::2]).all()
    waits = [shop.think_seconds(int(who), 5.0) for who in (np.argmax(shop.activity), np.argmin(shop.activity))]
    assert all(wait > 0 for wait in waits)


def test_shop_makes_thousands_of_events_a_second() -> None:
    shop = Shop()
    slates = [shop.oracle(customer, 20) for customer in range(50)]
    started, events = time.process_time(), 0
    for turn in range(1000):
        events += len(shop.visit(turn % 50, "s:1", slates[turn % 50], 0).events)
    assert events / (time.process_time() - started) > 4000
