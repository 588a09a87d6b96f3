"""What was known of items when: a catalogue that is read after its time, told in the order of events."""

from collections.abc import Iterable, Iterator
from operator import attrgetter

import msgspec
from riverrank.state.records.incoming import Item


class ItemsInTime:
    """The records of `items`, each to be known from its own `ts` on. Only what an item is, as its first record says it,
    is known from the beginning, since a catalogue is often written out after the events; that it is gone, or out of
    stock, never is. All are held: some 1 KB each.

    >>> items = ItemsInTime([Item("a", 5, title="Tent", available=False), Item("b", 7, deleted=True)])
    >>> [(item.item_id, item.available) for item in items.at_first()]
    [('a', True)]
    >>> [item.item_id for item in items.until(6)], [item.item_id for item in items.until(9)]
    (['a'], ['b'])
    """

    def __init__(self, items: Iterable[Item]) -> None:
        self._first: dict[str, Item] = {}
        self._later: list[Item] = []
        for item in sorted(items, key=attrgetter("ts")):  # of equal ones the order stays
            if item.item_id not in self._first and not item.deleted:
                self._first[item.item_id] = item
                if item.available:
                    continue
            self._later.append(item)
        self._told = 0

    def at_first(self) -> Iterator[Item]:
        """What items are."""
        return (msgspec.structs.replace(item, available=True) for item in self._first.values())

    def until(self, ts: int) -> Iterator[Item]:
        """What was told up to `ts`, milliseconds, and not asked for yet."""
        while self._told < len(self._later) and self._later[self._told].ts <= ts:
            self._told += 1
            yield self._later[self._told - 1]
