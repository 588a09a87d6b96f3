"""Which domain each item is in, such as the books and the films of one shop, and which rows may be served in one."""

from collections.abc import Mapping
from typing import Any

import numpy as np

ASKED = "domain"  # of an event's context: the name of the domain that its slate is to be of
ANY, NOWHERE = -1, -2  # asked for none, and for one that no item is in; the domain of a row is ANY where it has none
MAX_DOMAINS = 1024
MAX_MASKS = 32


class Domains:
    """`of` int16, by row: the number of the domain, which `names` its position. Without an `attribute` there are none,
    and nothing is kept.

    >>> domains = Domains("department")
    >>> domains.fit(2)
    >>> domains.put(1, "books", True)
    >>> number = domains.asked({"domain": "books"})
    >>> domains.mask(number, np.ones(2, bool)).tolist(), domains.asked({"domain": "toys"}) == NOWHERE
    ([False, True], True)
    """

    def __init__(self, attribute: str) -> None:
        self.prefix = f"{attribute}=" if attribute else ""  # of the tokens that name an item's domain
        self.names: list[str] = []
        self.of = np.zeros(0, np.int16)
        self._numbers: dict[str, int] = {}
        self._masks: dict[int, np.ndarray] = {}

    def fit(self, capacity: int) -> None:
        """Make room for rows below `capacity`."""
        if self.prefix:
            self.of = np.append(self.of, np.full(capacity - len(self.of), ANY, np.int16))
            self._masks.clear()

    def asked(self, context: Mapping[str, Any] | None) -> int:
        """The number of the domain that an event asks for by its context, or ANY, or NOWHERE."""
        name = context.get(ASKED) if context and self.prefix else None
        return self._numbers.get(name, NOWHERE) if name and isinstance(name, str) else ANY

    def put(self, row: int, name: str | None, servable: bool) -> None:
        """Note that the item of `row` is in the domain of that name, None for none, and whether it may be served.
        Beyond MAX_DOMAINS a new name is none.
        """
        if not self.prefix:
            return
        if name is not None and name not in self._numbers and len(self.names) < MAX_DOMAINS:
            self._numbers[name] = len(self.names)
            self.names.append(name)
        self.of[row] = self._numbers.get(name, ANY) if name is not None else ANY
        for number, mask in self._masks.items():
            mask[row] = servable and self.of[row] == number

    def release(self, rows: np.ndarray) -> None:
        """Forget the domain of `rows`."""
        if self.prefix:
            self.of[rows] = ANY
            for mask in self._masks.values():
                mask[rows] = False

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
