"""A simulated shop: a catalogue, and customers with hidden, drifting tastes who look at slates and click, or not, and
who tire of what they took.

Pure logic without clock or I/O. What a customer does depends on the seed, on that customer's own visits and on what
was shown, never on the order in which customers come. Nothing here is known to the job but the records.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from riverrank.state.records.incoming import Event, Item

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

_CATEGORIES = """tents boots backpacks stoves lamps jackets bikes kayaks ropes maps skis gloves
knives bottles hammocks helmets socks rods compasses tarps poles axes binoculars radios"""
_BRANDS = """Aldra Borealis Cairn Dovre Estrela Fjordan Gavia Hylde Isbre Jotun Kestrel Lynx Marram Nordlys Osprine
Petrel Quill Rondane Skua Tarn Ural Vidda Wolfram Xylem Ymer Zephyr Alto Brava Corrie Delta"""
_ADJECTIVES = "light warm sturdy small quiet bright long dry swift soft deep high plain green old"
CATEGORIES, BRANDS, ADJECTIVES = (tuple(words.split()) for words in (_CATEGORIES, _BRANDS, _ADJECTIVES))
DEVICES = ("mobile", "desktop", "tablet")
STYLES = 16  # hidden from the catalogue: only co-visitation can tell
YEAR_MS = 365 * 86_400_000


@dataclass(frozen=True)
class ShopSettings:
    """What the shop is made of. Tastes are in units of the logit of a click."""

    seed: int = 7
    items: int = 3000
    customers: int = 120
    shown: int = 10  # items of a slate that a customer looks at
    liked_categories: int = 2
    liked_brands: int = 4
    liked_styles: int = 2
    category_taste: float = 3.5
    brand_taste: float = 1.0
    style_taste: float = 1.0
    appeal: float = 0.6  # standard deviation of how much everyone likes an item
    reserve: float = -4.2  # logit of a click on an item that one has no taste for
    position_bias: float = 0.35  # the place at rank r is looked at with probability r ** -position_bias
    tires: float = 3.0  # by how much the logit falls, of a click on what the customer took before
    drift: float = 0.005  # probability, a visit, that one liked category gives way to another
    search: float = 0.35  # probability, a visit, of finding an item without a slate
    activity_tail: float = 1.6  # shape of the Pareto law of how often customers come


@dataclass(frozen=True)
class Visit:
    """What a customer did: `events` in order, and of the slate how many items were `shown` and `clicked`."""

    events: tuple[Event, ...]
    shown: int
    clicked: int


class Shop:
    """The catalogue and the customers of one seed.

    >>> shop = Shop(ShopSettings(items=50, customers=4))
    >>> visit = shop.visit(0, "u:1", [item.item_id for item in shop.catalogue(0)], ts=0)
    >>> visit.events[0].type, visit.shown
    ('impression', 10)
    """

    def __init__(self, settings: ShopSettings | None = None) -> None:
        self.settings = settings or ShopSettings()
        size = self.settings
        draw = np.random.default_rng([size.seed, 1])
        self.item_ids = [f"i-{number:05d}" for number in range(size.items)]
        self.users = [f"u-{number:04d}" for number in range(size.customers)]
        self._index = {item_id: number for number, item_id in enumerate(self.item_ids)}
        self._category = draw.choice(len(CATEGORIES), size.items, p=_zipf(len(CATEGORIES), 0.7))
        self._brand = draw.choice(len(BRANDS), size.items, p=_zipf(len(BRANDS), 0.5))
        self._style = draw.integers(STYLES, size=size.items)
        self._appeal = draw.normal(0.0, size.appeal, size.items)
        self._price = np.round(np.exp(draw.normal(3.5, 0.8, size.items)), 2)
        self._age = draw.integers(YEAR_MS, size=size.items)
        self._adjective = draw.integers(len(ADJECTIVES), size=size.items)
        self._found = _normal(np.exp(self._appeal))  # how easily a search comes upon it
        half = (size.customers + 1) // 2
        # Customers 2 n and 2 n + 1 come equally often, so that two arms of even and odd ones get equal traffic.
        self.activity: Floats = np.repeat(1.0 + draw.pareto(size.activity_tail, half), 2)[: size.customers]
        self.activity = np.minimum(self.activity, 20.0)
        self._visits: Ints = np.zeros(size.customers, np.int64)
        self._took = np.zeros((size.customers, size.items), np.bool_)
        self._likes = [_Likes(size, np.random.default_rng([size.seed, 2, who])) for who in range(size.customers)]

    def catalogue(self, ts: int) -> list[Item]:
        """Every item as a record of the items stream at `ts`: title, category, brand and price, no word of style."""
        return [
            Item(
                item_id=item_id,
                ts=ts,
                title=f"{BRANDS[self._brand[n]]} {ADJECTIVES[self._adjective[n]]} {CATEGORIES[self._category[n]]}",
                categories=(CATEGORIES[self._category[n]],),
                attributes={"brand": BRANDS[self._brand[n]], "price": float(self._price[n])},
                published_ts=max(0, ts - int(self._age[n])),
            )
            for n, item_id in enumerate(self.item_ids)
        ]

    def think_seconds(self, customer: int, mean: float) -> float:
        """How long `customer` stays away before the next visit: `mean` for the least active, drawn anew each time."""
        draw = np.random.default_rng([self.settings.seed, 3, customer, int(self._visits[customer])])
        return float(draw.exponential(mean) / self.activity[customer])

    def click_probability(self, customer: int, items: Ints | None = None) -> Floats:
        """True probability of a click on each of `items` (indices; all of them unless given) once it is looked at."""
        which = np.arange(self.settings.items) if items is None else items
        likes, size = self._likes[customer], self.settings
        logit = (
            size.reserve
            + likes.category[self._category[which]]
            + likes.brand[self._brand[which]]
            + likes.style[self._style[which]]
            + self._appeal[which]
            - size.tires * self._took[customer, which]
        )
        return np.asarray(1.0 / (1.0 + np.exp(-logit)))

    def examination(self, count: int) -> Floats:
        """The probability with which each of the first `count` places is looked at."""
        return np.asarray(np.arange(1, count + 1) ** -self.settings.position_bias)

    def oracle(self, customer: int, count: int) -> list[str]:
        """The best slate there is for `customer` now."""
        order = np.argsort(-self.click_probability(customer), kind="stable")[:count]
        return [self.item_ids[n] for n in order]

    def expected_click_through(self, customer: int, item_ids: Sequence[str]) -> float:
        """Clicks an item shown that `item_ids` will bring of `customer`, in expectation."""
        shown = self._indices(item_ids)
        return float(np.mean(self.click_probability(customer, shown) * self.examination(len(shown))))

    def visit(self, customer: int, slate_id: str | None, item_ids: Sequence[str], ts: int) -> Visit:
        """One visit at `ts`: `customer` looks at the first places of the slate and acts. No items, no impression.

        A visit that ends in no interaction ends in a request, so that every visit is answered with a slate.
        """
        number = int(self._visits[customer])
        self._visits[customer] += 1
        draw = np.random.default_rng([self.settings.seed, 4, customer, number])
        scribe = _Scribe(self.users[customer], number, ts, DEVICES[customer % len(DEVICES)])
        shown = self._indices(item_ids[: self.settings.shown])
        clicked = 0
        if len(shown):
            probability = self.click_probability(customer, shown)
            # One draw for looking, one for clicking: what is clicked is what both allow.
            clicks = draw.random(len(shown)) < probability * self.examination(len(shown))
            scribe.write("impression", slate_id, items=tuple(self.item_ids[n] for n in shown))
            for place in np.flatnonzero(clicks):
                self._interact(customer, scribe, draw, int(shown[place]), float(probability[place]), slate_id)
            clicked = int(clicks.sum())
        if draw.random() < self.settings.search:
            found = draw.choice(self.settings.items, 40, p=self._found)
            probability = self.click_probability(customer, found)
            best = int(np.argmax(probability))
            self._interact(customer, scribe, draw, int(found[best]), float(probability[best]), None)
        if len(scribe.events) == (1 if len(shown) else 0):
            scribe.write("request", None)
        if draw.random() < self.settings.drift:
            self._likes[customer].drift(draw)
        return Visit(tuple(scribe.events), len(shown), clicked)

    def flip(self) -> None:
        """Every customer's taste turns: what was liked is not, and other categories, brands and styles are."""
        for likes in self._likes:
            likes.redraw()

    def favourites(self, customer: int) -> list[str]:
        """The categories that `customer` likes now, best liked first: the hidden truth, for whoever watches."""
        taste = self._likes[customer].category
        return [CATEGORIES[n] for n in np.argsort(-taste, kind="stable") if taste[n] > 0]

    def _indices(self, item_ids: Sequence[str]) -> Ints:
        return np.fromiter((self._index[item_id] for item_id in item_ids), np.int64, len(item_ids))

    def _interact(
        self,
        customer: int,
        scribe: "_Scribe",
        draw: np.random.Generator,
        item: int,
        probability: float,
        slate_id: str | None,
    ) -> None:
        """A click, and the likelier it was the likelier what comes after."""
        self._took[customer, item] = True
        item_id = self.item_ids[item]
        scribe.write("click", slate_id, item_id=item_id)
        cart, purchase = draw.random(2)
        if cart < 0.6 * probability:
            scribe.write("cart", slate_id, item_id=item_id)
            if purchase < 0.5:
                scribe.write("purchase", slate_id, item_id=item_id)


class _Likes:
    """The hidden taste of one customer, in units of the logit: by category, brand and style."""

    def __init__(self, size: ShopSettings, draw: np.random.Generator) -> None:
        self._size = size
        self._draw = draw
        self.category = np.zeros(len(CATEGORIES))
        self.brand = np.zeros(len(BRANDS))
        self.style = np.zeros(STYLES)
        self.redraw()

    def redraw(self) -> None:
        """Like other things than now."""
        size = self._size
        self.category = self._drawn(
            self.category, size.liked_categories, size.category_taste, _zipf_of(self.category, 0.4)
        )
        self.brand = self._drawn(self.brand, size.liked_brands, size.brand_taste, _zipf_of(self.brand, 0.0))
        self.style = self._drawn(self.style, size.liked_styles, size.style_taste, _zipf_of(self.style, 0.0))

    def drift(self, draw: np.random.Generator) -> None:
        """One liked category gives way to one that was not liked."""
        liked, other = np.flatnonzero(self.category > 0), np.flatnonzero(self.category == 0)
        loser, winner = int(draw.choice(liked)), int(draw.choice(other))
        self.category[winner], self.category[loser] = self.category[loser], 0.0

    def _drawn(self, now: Floats, count: int, strength: float, weights: Floats) -> Floats:
        chosen = self._draw.choice(len(now), count, replace=False, p=_normal(np.where(now > 0, 0.0, weights)))
        taste = np.zeros(len(now))
        taste[chosen] = strength * self._draw.uniform(0.6, 1.2, count)
        return taste


class _Scribe:
    """Writes down the events of one visit, each a millisecond after the last."""

    def __init__(self, user_id: str, visit: int, ts: int, device: str) -> None:
        self._user_id = user_id
        self._visit = visit
        self._ts = ts
        self._context: dict[str, Any] = {"device": device}
        self.events: list[Event] = []

    def write(
        self, kind: str, slate_id: str | None, item_id: str | None = None, items: tuple[str, ...] | None = None
    ) -> None:
        number = len(self.events)
        self.events.append(
            Event(
                event_id=f"{self._user_id}-{self._visit}-{number}",
                type=kind,
                user_id=self._user_id,
                ts=self._ts + number,
                item_id=item_id,
                items=items,
                slate_id=slate_id,
                context=self._context,
            )
        )


def _normal(weights: Floats) -> Floats:
    return np.asarray(weights / weights.sum())


def _zipf(count: int, exponent: float) -> Floats:
    return _normal(np.arange(1, count + 1) ** -exponent)


def _zipf_of(like: Floats, exponent: float) -> Floats:
    return _zipf(len(like), exponent)
