"""A shop whose users and items come and go at a constant rate, so that there are as many at any time."""

import random
from collections.abc import Iterator
from typing import NamedTuple

from riverrank.state.records.incoming import Event, Item

CATEGORIES, BRANDS, BANDS, DEVICES = 20, 30, 8, ("mobile", "tv", "desktop")
SHOWN = 50  # items of an impression, as far as there are so many
KINDS = {"click": 50, "view": 10, "cart": 6, "purchase": 4, "rate": 4, "request": 14, "impression": 25, "profile": 3}
ERASED = 0.1  # of the users who go, those who ask to be forgotten


class Sizes(NamedTuple):
    """How many there are at a time, and how many events of a user and between two changes of the catalogue there are on
    average.
    """

    users: int = 400
    items: int = 300
    events_of_user: float = 6.0
    events_of_item: float = 25.0


USUAL = Sizes()


class Population:
    """Records without end, by a seed. A user or item that went never comes again.

    >>> shop = Population(Sizes(users=3, items=5))
    >>> len(list(shop.catalogue(1))), next(shop.records(1)).user_id.startswith("u-")
    (5, True)
    """

    def __init__(self, sizes: Sizes = USUAL, seed: int = 1) -> None:
        self.sizes = sizes
        self._random = random.Random(seed)
        self._next = {"u": 0, "i": 0, "e": 0}
        self.users = [self._new("u") for _ in range(sizes.users)]
        self.items = [self._new("i") for _ in range(sizes.items)]

    def catalogue(self, ts: int) -> Iterator[Item]:
        """The items that there are now, as of `ts` epoch milliseconds."""
        return (self._item(item_id, ts) for item_id in self.items)

    def records(self, ts: int) -> Iterator[Event | Item]:
        """What comes next: one event, and what else changes then."""
        draw, sizes = self._random, self.sizes
        if draw.random() < 1.0 / sizes.events_of_item:
            at = draw.randrange(len(self.items))
            yield Item(self.items[at], ts, deleted=True)
            self.items[at] = self._new("i")
            yield self._item(self.items[at], ts)
        at = draw.randrange(len(self.users))
        if draw.random() < 1.0 / sizes.events_of_user:
            if draw.random() < ERASED:
                yield Event(self._new("e"), "erase", self.users[at], ts)
            self.users[at] = self._new("u")
        yield self._event(self.users[at], ts)

    def _event(self, user: str, ts: int) -> Event:
        draw, event_id = self._random, self._new("e")
        (kind,) = draw.choices([*KINDS], [*KINDS.values()])
        if kind == "impression":
            return Event(event_id, kind, user, ts, items=tuple(draw.sample(self.items, min(SHOWN, len(self.items)))))
        if kind == "profile":
            return Event(event_id, kind, user, ts, attributes={"band": f"b{draw.randrange(BANDS)}"})
        context = {"device": draw.choice(DEVICES)} if draw.random() < 0.3 else None
        if kind == "request":
            return Event(event_id, kind, user, ts, context=context)
        # The earlier of the list are taken more often, so that some are popular as long as they are there.
        item = self.items[int(len(self.items) * draw.random() ** 2)]
        value = float(draw.randint(1, 5)) if kind == "rate" else None
        return Event(event_id, kind, user, ts, item, value, context=context)

    def _item(self, item_id: str, ts: int) -> Item:
        draw = self._random
        brand, category = draw.randrange(BRANDS), draw.randrange(CATEGORIES)
        return Item(
            item_id,
            ts,
            title=f"brand{brand} thing of category{category}",
            categories=(f"category{category}",),
            attributes={"brand": f"brand{brand}", "price": round(draw.uniform(1, 500), 2)},
        )

    def _new(self, kind: str) -> str:
        self._next[kind] += 1
        return f"{kind}-{self._next[kind]:08d}"
