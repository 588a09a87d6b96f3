"""Which domain each item is in, such as the books and the films of one shop, and which rows may be served in one."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from riverrank.operators.catalogue.tokens import name_of

ASKED = "domain"  # of an event's context: the name of the domain that its slate is to be of
ANY, NOWHERE = -1, -2  # asked for none, and for one that no item is in; the domain of a row is ANY where it has none
MAX_DOMAINS = 1024
MAX_MASKS = 32


class Domains:
    """`of` int16, by row: the number of the domain. Without an `attribute` there are none, and nothing is kept.

    >>> domains = Domains("department")
    >>> domains.fit(2)
    >>> domains.put(1, "books", True)
    >>> number = domains.asked({"domain": "books"})
    >>> domains.mask(number, np.ones(2, bool)).tolist(), domains.asked({"domain": "toys"}) == NOWHERE
    ([False, True], True)
    """

    def __init__(self, attribute: str) -> None:
        self.attribute = attribute  # of items, that names their domain
        self.of = np.zeros(0, np.int16)
        self._numbers: dict[str, int] = {}
        self._names: list[str] = []  # by number
        self._sizes: list[int] = []  # by number, how many rows are in it
        self._free: list[int] = []  # numbers of domains that no item is in any more
        self._masks: dict[int, np.ndarray] = {}

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        if self.attribute:
            self.of = np.append(self.of, np.full(capacity - len(self.of), ANY, np.int16))
            self._masks.clear()

    def asked(self, context: Mapping[str, Any] | None) -> int:
        """The number of the domain that an event asks for by its context, or ANY, or NOWHERE."""
        name = name_of(context.get(ASKED)) if context and self.attribute else None
        return ANY if name is None else self._numbers.get(name, NOWHERE)

    def put(self, row: int, name: str | None, servable: bool) -> None:
        """Note that the item of `row` is in the domain of that name, None for none, and whether it may be served.
        Beyond MAX_DOMAINS a new name is none.
        """
        if not self.attribute:
            return
        number = ANY if name is None else self._number(name)
        if number != ANY:
            self._sizes[number] += 1
        before, self.of[row] = int(self.of[row]), number
        self._leave(before)
        for number, mask in self._masks.items():
            mask[row] = servable and self.of[row] == number

    def release(self, rows: np.ndarray) -> None:
        """Forget the domain of `rows`."""
        if self.attribute:
            for number in self.of[rows].tolist():
                self._leave(number)
            self.of[rows] = ANY
            for mask in self._masks.values():
                mask[rows] = False

    def _number(self, name: str) -> int:
        """That of the domain of that name, ANY for a new one where there are as many as there may be."""
        number = self._numbers.get(name, ANY)
        if number == ANY and len(self._numbers) < MAX_DOMAINS:
            number = self._free.pop() if self._free else len(self._names)
            if number == len(self._names):
                self._names.append(name)
                self._sizes.append(0)
            self._names[number], self._numbers[name] = name, number
        return number

    def _leave(self, number: int) -> None:
        """One row is in the domain no more; the last one frees its number."""
        if number == ANY:
            return
        self._sizes[number] -= 1
        if not self._sizes[number]:
            del self._numbers[self._names[number]]
            self._free.append(number)
            self._masks.pop(number, None)

    def mask(self, number: int, servable: np.ndarray) -> np.ndarray:
        """The rows that may be served in a domain, of those that are `servable`, bool: bool by row, not to be written
        to. Made once, and kept as items change.
        """
        mask = self._masks.get(number)
        if mask is None:
            if len(self._masks) == MAX_MASKS:
                self._masks.clear()
            mask = self._masks[number] = servable & (self.of == number)
        return mask
