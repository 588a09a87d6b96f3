"""Rules by attribute from the configuration: what is pinned, boosted, buried, left out. Nothing is learned from them.

A rule names a token as `tokens.tokens_of` writes it; arrays by token number make a slate's rules one look-up.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import CATEGORY, token_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import RulesSettings

PINNABLE = 8  # items of each pinned token that become candidates
NONE = -1


class Pins(NamedTuple):
    """`positions` int64 (k,) among the candidates, in order; `rules` int64 (k,), which of Rules.tokens pins each."""

    positions: np.ndarray
    rules: np.ndarray


NO_PINS = Pins(np.zeros(0, np.int64), np.zeros(0, np.int64))


class Rules:
    """The rules over an index, as arrays by token number, which grow with the index's tokens and begin again where
    these have other numbers. `tokens` are those that a rule names, pins first.
    """

    def __init__(self, settings: RulesSettings, index: ItemIndex) -> None:
        self.index = index
        self.pinned = tuple(map(token_of, settings.pin))
        self.amounts: dict[str, float] = {}
        for sign, amounts in ((1.0, settings.boost), (-1.0, settings.bury)):
            for rule, amount in amounts.items():
                self.amounts[token_of(rule)] = self.amounts.get(token_of(rule), 0.0) + sign * amount
        self.tokens = (*dict.fromkeys([*self.pinned, *self.amounts]),)
        self._pins = np.array([self.tokens.index(token) for token in self.pinned], np.int64)
        self._known = self._releases = 0  # of the index's tokens, and how often these got other numbers
        self._amount = np.zeros(0)
        self._number = np.zeros(0, np.int32)
        self._is_category = np.zeros(0, bool)

    def add_to(self, logits: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Add to the `logits`, float64 (c,), of `rows`, int32 (c,), what rules say; what that is: float64 (c,)."""
        added = np.zeros(len(rows))
        if self.amounts:
            self._fit()
            add_amounts(self.index.tokens, rows, self._amount, logits, added)
        return added

    @property
    def by_token(self) -> tuple[np.ndarray, np.ndarray]:
        """What rules add by token number, float64, and which of `tokens` it is, int32, NONE for none of them."""
        if self.amounts:
            self._fit()
        return self._amount, self._number

    def categories(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the categories of `rows`, int32 (n,), first, then NONE: int32 (n, t)."""
        self._fit()
        return categories(self.index.tokens, rows, self._is_category)

    def pins(self, rows: np.ndarray, logits: np.ndarray) -> Pins:
        """For each rule that pins, in order, the best of `rows`, int32 (c,), by `logits` that it holds for."""
        if not self.pinned:
            return NO_PINS
        numbers = np.array([self.index.token_numbers.get(token, -2) for token in self.pinned], np.int32)
        positions = pin(self.index.tokens, rows, logits, numbers)
        met = positions >= 0
        return Pins(positions[met], self._pins[met])

    def pinnable(self, seen: np.ndarray | None, servable: np.ndarray) -> np.ndarray | None:
        """Rows that have a pinned token, to be candidates whatever the sources say: distinct, int32, None for none.

        Those that are `servable`, bool by row, and whose hash is not in `seen`.
        """
        if not self.pinned:
            return None
        index = self.index
        numbers = [index.token_numbers[token] for token in dict.fromkeys(self.pinned) if token in index.token_numbers]
        if not numbers:
            return None
        rows = np.unique(np.concatenate([self._best(number, seen, servable) for number in numbers]))
        return rows if len(rows) else None

    def _best(self, token: int, seen: np.ndarray | None, servable: np.ndarray) -> np.ndarray:
        rows = self.index.best_of(token)
        rows = rows[servable[rows]]
        return (rows if seen is None else rows[~np.isin(self.index.hash[rows], seen)])[:PINNABLE]

    def _fit(self) -> None:
        """Make the arrays know all tokens of the index."""
        names, releases = self.index.token_names, self.index.vocabulary.releases
        if releases != self._releases:
            self._known, self._releases = 0, releases
            self._amount[:], self._number[:], self._is_category[:] = 0.0, NONE, False
        if len(names) == self._known:
            return
        if len(names) > len(self._amount):
            more = 2 * len(names) - len(self._amount)
            self._amount = np.append(self._amount, np.zeros(more))
            self._number = np.append(self._number, np.full(more, NONE, np.int32))
            self._is_category = np.append(self._is_category, np.zeros(more, bool))
        for number in range(self._known, len(names)):
            name = names[number]
            self._is_category[number] = name.startswith(CATEGORY)
            if name in self.amounts:
                self._amount[number], self._number[number] = self.amounts[name], self.tokens.index(name)
        self._known = len(names)


@njit(cache=True)
def add_amounts(tokens, rows, amounts, logits, added):  # type: ignore[no-untyped-def]
    """Add the `amounts`, float64 by token, of the tokens of `rows`, int32 (c,), to `logits` and `added`, float64 (c,).

    Here and below `tokens` are those of the index, int32 by row, NONE for no token. About 15 ns a row.
    """
    for c in range(len(rows)):
        amount = 0.0
        for t in range(tokens.shape[1]):
            token = tokens[rows[c], t]
            if token >= 0:
                amount += amounts[token]
        logits[c] += amount
        added[c] += amount


@njit(cache=True)
def strongest_token(tokens, row, amounts):  # type: ignore[no-untyped-def]
    """The token of `row` to which rules add most, or from which they take most; of equals the first; NONE for none."""
    strongest = NONE
    for t in range(tokens.shape[1]):
        token = tokens[row, t]
        if 0 <= token < len(amounts) and (strongest == NONE or abs(amounts[token]) > abs(amounts[strongest])):
            strongest = token
    return strongest


@njit(cache=True)
def categories(tokens, rows, is_category):  # type: ignore[no-untyped-def]
    """The category tokens of each of `rows` before NONE: int32 (n, t)."""
    found = np.full((len(rows), tokens.shape[1]), NONE, np.int32)
    for n in range(len(rows)):
        count = 0
        for t in range(tokens.shape[1]):
            token = tokens[rows[n], t]
            if token >= 0 and is_category[token]:
                found[n, count] = token
                count += 1
    return found


@njit(cache=True)
def pin(tokens, rows, logits, wanted):  # type: ignore[no-untyped-def]
    """For each of the tokens `wanted`, the position among `rows` of the highest of `logits` that has it and is not
    pinned yet, of equals the first, NONE where there is none: int64.
    """
    positions = np.full(len(wanted), NONE, np.int64)
    for w in range(len(wanted)):
        best = NONE
        for c in range(len(rows)):
            if best != NONE and logits[c] <= logits[best]:
                continue
            has = False
            for t in range(tokens.shape[1]):
                has = has or tokens[rows[c], t] == wanted[w]
            if has and not np.any(positions[:w] == c):
                best = c
        positions[w] = best
    return positions
