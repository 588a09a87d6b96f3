"""Tests by segment: by what was known before each of the user, of the item and of the moment. Knows nothing of policies
but their number.
"""

from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from riverrank.operators.slate.fairness.groups import NONE, OTHER, text_of
from riverrank.state.records.incoming import Event, Item

TOP = 10  # values of a segmentation that are told apart in a report, those with the most tests
MOST_VALUES = 10_000  # values of one that are told apart at all
HISTORY = (1, 5, 20, 100)  # interactions with which the next class begins
TYPE, LENGTH, POPULARITY = "type", "history", "popularity"
FIELDS = "user", "item", "context"
SHARES = {"head": 0.5, "middle": 0.8}  # of all positive interactions, that the items up to there have; the rest is tail
STANDINGS = (*SHARES, "tail", "new")
EVERY = 500  # positive interactions after which the classes of popularity are drawn anew


class Moment(NamedTuple):
    """What was known when a test came: its `event`, how many positive interactions the user had, what the user stated,
    and how popular the item was (see `Standing`).
    """

    event: Event
    nth: int
    attributes: dict[str, Any]
    standing: str


class Segments:
    """The tests by each of `names`.

    >>> segments = Segments(["history", "user.band"])
    >>> segments.add(Moment(Event("e", "click", "u", 1, "i"), 7, {"band": "18-24"}, "new"))
    >>> {name: [(value, tests.tolist()) for value, tests in segments.of(name)] for name in segments.names}
    {'history': [('5-19', [0])], 'user.band': [('18-24', [0])]}
    """

    def __init__(self, names: Sequence[str]) -> None:
        """Raises ValueError, with the mend, where there is no such segmentation."""
        self.names = tuple(dict.fromkeys(names))
        self._values = {name: self._reader(name) for name in self.names}
        self._codes: dict[str, dict[str, int]] = {name: {} for name in self.names}
        self._tests = {name: array("i") for name in self.names}
        self._items: dict[str, dict[str, str]] = {}  # by name of a field, the value of each item that has one
        self._told: dict[str, int] = {}  # the time of the newest record of each item
        for name in self.names:
            if name.startswith("item."):
                self._items[name.partition(".")[2]] = {}

    def item(self, item: Item) -> None:
        """Take an item of the catalogue; the newest record of one stands."""
        if item.ts < self._told.get(item.item_id, item.ts):
            return
        self._told[item.item_id] = item.ts
        for field, values in self._items.items():
            value = item.categories if field == "category" else item.attributes.get(field)
            values[item.item_id] = text_of(value)

    def add(self, moment: Moment) -> None:
        """A test, the next one."""
        for name, value_of in self._values.items():
            self._tests[name].append(self._code(name, value_of(moment)))

    def retype(self, test: int, type_: str) -> None:
        """What began with a test, by its number, went on as far as an event of that type."""
        if TYPE in self._tests:
            self._tests[TYPE][test] = self._code(TYPE, type_)

    def of(self, name: str) -> list[tuple[str, np.ndarray]]:
        """The values, and the numbers of their tests, int64: classes in their order, others by how many tests they
        have, all beyond TOP as OTHER.
        """
        codes = np.array(self._tests[name], np.int64)
        values = [*self._codes[name]]
        counts = Counter(dict(zip(values, np.bincount(codes, minlength=len(values)).tolist(), strict=True)))
        common = [value for value, tests in counts.most_common() if tests and value != OTHER]
        if name in _CLASSES:
            common.sort(key=_CLASSES[name].index)
        told = [(value, np.flatnonzero(codes == self._codes[name][value])) for value in common[:TOP]]
        rest = np.flatnonzero(~np.isin(codes, [self._codes[name][value] for value in common[:TOP]]))
        return [*told, (OTHER, rest)] if len(rest) else told

    def _code(self, name: str, value: str) -> int:
        codes = self._codes[name]
        if value not in codes and len(codes) >= MOST_VALUES:
            value = OTHER
        return codes.setdefault(value, len(codes))

    def _reader(self, name: str) -> Callable[[Moment], str]:
        """What tells the value of a test."""
        of, _, field = name.partition(".")
        readers: dict[str, Callable[[Moment], str]] = {
            TYPE: lambda moment: moment.event.type,
            LENGTH: lambda moment: LENGTHS[bisect_right(HISTORY, moment.nth)],
            POPULARITY: lambda moment: moment.standing,
        }
        fields: dict[str, Callable[[Moment], str]] = {
            "user": lambda moment: text_of(moment.attributes.get(field)),
            "item": lambda moment: self._items[field].get(moment.event.item_id or "", NONE),
            "context": lambda moment: text_of((moment.event.context or {}).get(field)),
        }
        if name in readers:
            return readers[name]
        if field and of in fields:
            return fields[of]
        known = ", ".join((*readers, *(f"{each}.NAME" for each in FIELDS)))
        raise ValueError(f"no segments by {name!r}; expected some of {known}")


class Standing:
    """How popular an item is beside the others: `head`, those most taken, which have half of all positive interactions
    so far; `middle`, up to eight tenths; `tail`, all others that were taken; `new`, what nobody took.

    >>> standing = Standing()
    >>> counts = np.array([8.0, 3.0, 1.0, 1.0, 0.0])
    >>> [standing.of(row, counts, 13) for row in range(5)]
    ['head', 'middle', 'tail', 'tail', 'new']
    """

    def __init__(self) -> None:
        self._least = [0.0] * len(SHARES)  # counts from which on an item is in the class
        self._due = 0

    def of(self, row: int, counts: np.ndarray, total: int) -> str:
        """The class of the item of `row`, -1 for one that nobody met, where `counts`, float (n,), are the positive
        interactions of all, `total` in sum.
        """
        if row < 0 or row >= len(counts) or not counts[row]:
            return STANDINGS[-1]
        self.settle(counts, total)
        return STANDINGS[int(self.classes(counts[row]))]

    def settle(self, counts: np.ndarray, total: int) -> None:
        """Draw the classes anew, where it is time to: between two of these EVERY interactions pass at most."""
        if total >= self._due:
            ordered = -np.sort(-counts[counts > 0])
            before = np.cumsum(ordered) - ordered  # what the items above have
            self._least = [float(ordered[before < share * total].min(initial=np.inf)) for share in SHARES.values()]
            self._due = total + min(EVERY, 1 + total // 8)

    def classes(self, counts: np.ndarray) -> np.ndarray:
        """The classes, numbers of STANDINGS, of items with `counts`, float: int64 of that shape."""
        below = sum((counts < least).astype(np.int64) for least in self._least)
        return np.where(counts > 0, below, len(STANDINGS) - 1)


LENGTHS = ("0", *(f"{a}-{b - 1}" for a, b in pairwise(HISTORY)), f"{HISTORY[-1]}+")
_CLASSES = {LENGTH: LENGTHS, POPULARITY: STANDINGS}
