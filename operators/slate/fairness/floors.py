"""Floors of exposure: at which rank a slate owes a place to what a floor names, and which items can take it.

Scores nothing and draws nothing: see `drawing`.
"""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import token_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import FairnessSettings
from riverrank.state.hashing import hash64

from .groups import discounts

GOLDEN = (math.sqrt(5.0) - 1.0) / 2.0  # its multiples lie as evenly between whole numbers as any can
ROUNDING = 1e-9  # of a share times a rank
ALL = "all"  # in place of a token, what all items have
NO_ROWS = np.zeros(0, np.int32)
UNKNOWN = -2  # the number of a token that no item has


class Owed(NamedTuple):
    """What one slate owes: of its first k + 1 places, `places[k, f]`, int64 (size, f), to each floor. `members`, bool
    (c, f), are the candidates that a floor names.
    """

    places: np.ndarray
    members: np.ndarray


class Floors:
    """The floors of the settings over an index, by number of their `tokens`.

    Of its first k places a slate owes floor(share * k + phase) to a floor: in every prefix the share, rounded up or
    down (Geyik, Ambler and Kenthapadi, Fairness-aware ranking in search and recommendation systems, 2019, have it
    always down). The phase is of the user and of the slate's version, and over a user's slates it lies evenly in [0, 1)
    (Weyl, Über die Gleichverteilung von Zahlen mod. Eins, 1916): so the mean of what is owed of k places is share * k,
    for every k, and so is the share of exposure, whatever a place is worth, as long as none is worth more than one
    above it. Nothing is kept of what was owed before.

    >>> from riverrank.operators.settings import Behaviour
    >>> floors = Floors(FairnessSettings(floors={"brand=Small": 0.25}), ItemIndex(Behaviour()))
    >>> floors.owed(np.zeros(0, np.int32), 8, "u", 1).places[:, 0].tolist()
    [0, 1, 1, 1, 1, 2, 2, 2]
    """

    def __init__(self, settings: FairnessSettings, index: ItemIndex) -> None:
        shares = {token_of(attribute): share for attribute, share in settings.floors.items() if share > 0.0}
        self.index = index
        self.tokens = tuple(shares)
        self._shares = np.array([*shares.values()])
        self._worth = np.zeros(0)  # of places
        self._shifts = np.arange(len(shares)) / max(len(shares), 1)  # not all of them at once

    def __bool__(self) -> bool:
        """Whether there are any."""
        return bool(self.tokens)

    def phases(self, user_id: str, version: int) -> np.ndarray:
        """Those of a slate, by floor: float64 (f,) in [0, 1)."""
        begun = hash64(user_id) * 2.0**-64  # else all users' first slates would be alike
        return (begun + version * GOLDEN + self._shifts) % 1.0

    def owed(self, rows: np.ndarray, size: int, user_id: str, version: int) -> Owed:
        """What the slate of that version of the user owes, in `size` places, of the candidates `rows`, int32 (c,)."""
        ranks = np.arange(1, size + 1)[:, None]
        places = np.floor(self._shares * ranks + self.phases(user_id, version) + ROUNDING).astype(np.int64)
        return Owed(places, self.members(rows))

    def members(self, rows: np.ndarray) -> np.ndarray:
        """Which of `rows`, int32 (n,), a floor names: bool (n, f)."""
        numbers = np.array([self.index.token_numbers.get(token, UNKNOWN) for token in self.tokens], np.int32)
        named = np.zeros((len(rows), len(numbers)), np.bool_)
        mark_named(self.index.tokens, rows, numbers, named)
        return named

    def candidates(self, hidden: np.ndarray, servable: np.ndarray, size: int) -> np.ndarray:
        """Rows that can take what is owed of `size` places, whatever the sources say: of each floor the most popular
        that are `servable`, bool by row, and whose hash is not `hidden`, uint32; distinct, int32, not to be written to.
        """
        index, found = self.index, []
        for token, share in zip(self.tokens, self._shares.tolist(), strict=True):
            number = index.token_numbers.get(token)
            if number is not None:
                wanted = math.ceil(share * size) + 1
                found.append(first_allowed(index.best_of(number), servable, index.hash, hidden, wanted))
        if len(found) == 1:
            return found[0]
        return np.unique(np.concatenate(found)) if found else NO_ROWS

    def exposure(self, rows: np.ndarray) -> Iterator[tuple[str, float]]:
        """The discounted exposure of a slate of `rows`, int32 (k,), best first: of each floor's token, and of ALL."""
        if len(rows) > len(self._worth):
            self._worth = discounts(len(rows))
        worth = self._worth[: len(rows)]
        yield from zip(self.tokens, (worth @ self.members(rows)).tolist(), strict=True)
        yield ALL, float(worth.sum())


@njit(cache=True)
def mark_named(tokens, rows, numbers, named):  # type: ignore[no-untyped-def]
    """Mark in `named`, bool (n, f), which of `rows`, int32 (n,), have the token of each of `numbers`, int32 (f,), where
    `tokens` are those of the index, int32 by row. About 15 ns a row and floor.
    """
    for n in range(len(rows)):
        for t in range(tokens.shape[1]):
            for f in range(len(numbers)):
                named[n, f] = named[n, f] or tokens[rows[n], t] == numbers[f]


@njit(cache=True)
def first_allowed(rows, servable, hashes, hidden, most):  # type: ignore[no-untyped-def]
    """The first `most` of `rows`, int32, that are `servable`, bool by row, and whose of `hashes`, uint32 by row, is not
    `hidden`, uint32. About 1 us where few are hidden.
    """
    found, n = np.empty(min(most, len(rows)), np.int32), 0
    for row in rows:
        if n == len(found):
            break
        is_hidden = not servable[row]
        for k in range(len(hidden)):
            is_hidden = is_hidden or hidden[k] == hashes[row]
        if not is_hidden:
            found[n] = row
            n += 1
    return found[:n]
