"""Made streams to measure with: of the simulated shop for the contest, and of any size, by Zipf's law, for growth."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from riverrank.jobs.evaluation.shop import ADJECTIVES, BRANDS, CATEGORIES, Shop, ShopSettings
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

USERS, ITEMS = 500, 2_000  # of the shop
SEED = 7
START_MS, STEP_MS = 1_764_000_000_000, 500

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


def shop_stream(count: int) -> tuple[list[Item], list[Event]]:
    """A catalogue, and the first `count` interactions of customers with tastes of their own, who tire of nothing.
    Always the same.

    >>> items, events = shop_stream(100)
    >>> len(items), len(events), sorted({event.type for event in events})
    (2000, 100, ['cart', 'click', 'purchase'])
    """
    shop = Shop(ShopSettings(seed=SEED, items=ITEMS, customers=USERS, search=1.0, tires=0.0))
    draw = np.random.default_rng([SEED, ITEMS, USERS])
    share = shop.activity / shop.activity.sum()
    events: list[Event] = []
    ts = START_MS
    while len(events) < count:
        ts += STEP_MS
        events += shop.visit(int(draw.choice(USERS, p=share)), None, (), ts).events
    return shop.catalogue(START_MS), events[:count]


def write(path: Path, records: Sequence[Item] | Sequence[Event]) -> None:
    """Write records as lines of JSON."""
    path.write_bytes(b"".join(to_json(record) + b"\n" for record in records))


class ZipfShop:
    """Any number of items, whose popularity follows Zipf's law, and of users who keep to a few categories.

    The item of popularity rank r is taken in proportion to 1 / r: of 100,000 items the first 1,000 get 62 % of all
    interactions. Three of four interactions are with a category that the user likes. Its cost doesn't grow with items.

    >>> shop = ZipfShop(items=1000, users=10)
    >>> event = next(shop.events())
    >>> event.user_id in shop.user_ids, len(list(shop.catalogue()))
    (True, 1000)
    """

    LIKED = 2  # categories of a user
    LOYALTY = 0.75
    TYPES: tuple[str, ...] = ("click", "click", "click", "cart", "purchase")
    BLOCK = 1024  # events drawn at once

    def __init__(self, items: int, users: int, seed: int = SEED) -> None:
        self.items, self.users = items, users
        self.user_ids = [f"u-{number:06d}" for number in range(users)]
        self._draw = np.random.default_rng([seed, items, users])
        self._category = self._draw.integers(len(CATEGORIES), size=items)
        self._by_rank = self._draw.permutation(items)  # so that an id says nothing about popularity
        self._liked = self._draw.integers(len(CATEGORIES), size=(users, self.LIKED))
        ranked = self._category[self._by_rank]
        everything = np.arange(items)
        inside = [np.flatnonzero(ranked == category) for category in range(len(CATEGORIES))]
        self._ranks: list[Ints] = [ranks if len(ranks) else everything for ranks in inside] + [everything]
        self._shares: list[Floats] = [_cumulative(1.0 / (1.0 + ranks)) for ranks in self._ranks]
        self._number = 0

    def catalogue(self) -> Iterator[Item]:
        """Every item as a record of the items stream."""
        draw = np.random.default_rng([SEED, self.items])
        for number in range(self.items):
            brand, adjective = draw.integers(len(BRANDS)), draw.integers(len(ADJECTIVES))
            category = CATEGORIES[self._category[number]]
            yield Item(
                item_id=_item_id(number),
                ts=START_MS,
                title=f"{BRANDS[brand]} {ADJECTIVES[adjective]} {category}",
                categories=(category,),
                attributes={"brand": BRANDS[brand], "price": round(float(np.exp(draw.normal(3.5, 0.8))), 2)},
                published_ts=START_MS - int(draw.integers(365 * 86_400_000)),
            )

    def rounds(self) -> Iterator[Event]:
        """Interactions without end: every item once, then every item again, with users in turn."""
        while True:
            for item in range(self.items):
                yield self._event("click", self._number % self.users, item)

    def events(self, users: int | None = None, visit: int = 1) -> Iterator[Event]:
        """Interactions without end, of users drawn from all alike, or from the first so many: `visit` interactions of
        each, among the next thousand.
        """
        while True:
            visitors = self._draw.integers(users or self.users, size=-(-self.BLOCK // visit))
            who = self._draw.permutation(np.repeat(visitors, visit))[: self.BLOCK] if visit > 1 else visitors
            liked = self._liked[who, self._draw.integers(self.LIKED, size=self.BLOCK)]
            category = np.where(self._draw.random(self.BLOCK) < self.LOYALTY, liked, len(CATEGORIES))
            where = self._draw.random(self.BLOCK)
            kinds = self._draw.integers(len(self.TYPES), size=self.BLOCK)
            for user, group, share, kind in zip(*map(np.ndarray.tolist, (who, category, where, kinds)), strict=True):
                rank = self._ranks[group][np.searchsorted(self._shares[group], share, side="right")]
                yield self._event(self.TYPES[kind], user, int(self._by_rank[rank]))

    def _event(self, kind: str, user: int, item: int) -> Event:
        self._number += 1
        ts = START_MS + self._number * STEP_MS
        return Event(f"z-{self._number}", kind, self.user_ids[user], ts, _item_id(item))


def _item_id(number: int) -> str:
    return f"i-{number:07d}"


def _cumulative(weights: Floats) -> Floats:
    """Of each, the share of all up to it; the last is 1."""
    total = np.cumsum(weights)
    return np.asarray(total / total[-1])
