"""Rules by attribute from the configuration: what is pinned, boosted, buried, left out. Nothing is learned from them.

A rule names a token as `tokens.tokens_of` writes it; per-token arrays make a slate's rules one look-up.
"""

import numpy as np
from riverrank.operators.catalogue.tokens import CATEGORY, token_of
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import RulesSettings

PINNABLE = 8  # items of each pinned token that become candidates


class Rules:
    """The rules over a index, as arrays by token number, which grow with the index's tokens."""

    def __init__(self, settings: RulesSettings, index: ItemIndex) -> None:
        self.index = index
        self.pinned = tuple(map(token_of, settings.pin))
        self.amounts: dict[str, float] = {}
        for sign, amounts in ((1.0, settings.boost), (-1.0, settings.bury)):
            for rule, amount in amounts.items():
                self.amounts[token_of(rule)] = self.amounts.get(token_of(rule), 0.0) + sign * amount
        self._known = 0  # of the index's tokens
        self._amount = np.zeros(1)  # the last place is for -1, here and below
        self._category = np.zeros(1, bool)

    def added(self, rows: np.ndarray) -> np.ndarray:
        """What rules add to the logits of `rows`: float64 (c,)."""
        if not self.amounts:
            return np.zeros(len(rows))
        return self._tokens_in(self._grown()._amount, rows).sum(axis=1)

    def foremost(self, row: int) -> str:
        """The token of `row` to which rules add most, or from which they take most."""
        tokens = self.index.tokens[row]
        return self.index.token_names[tokens[np.abs(self._grown()._amount[tokens]).argmax()]]

    def categories(self, rows: np.ndarray) -> np.ndarray:
        """The numbers of the categories of `rows`, -1 for none: int32 (c, t)."""
        return np.where(self._tokens_in(self._grown()._category, rows), self.index.tokens[rows], -1)

    def pins(self, rows: np.ndarray, logits: np.ndarray) -> dict[int, str]:
        """The places among `rows` that are pinned, in order, and by which token: for each rule the best that has it."""
        pins: dict[int, str] = {}
        order = np.argsort(-logits, kind="stable") if self.pinned else logits
        for token in self.pinned:
            number = self.index.token_numbers.get(token, -2)
            held = (self.index.tokens[rows[order]] == number).any(axis=1)
            best = next((position for position in order[held].tolist() if position not in pins), None)
            if best is not None:
                pins[best] = token
        return pins

    def pinnable(self, seen: np.ndarray | None) -> np.ndarray | None:
        """Rows that have a pinned token, to be candidates whatever the sources say: distinct, int32, None for none.

        Not those whose hash is in `seen`.
        """
        index = self.index
        numbers = [index.token_numbers[token] for token in dict.fromkeys(self.pinned) if token in index.token_numbers]
        if not numbers:
            return None
        rows = np.unique(np.concatenate([self._best(number, seen) for number in numbers]))
        return rows if len(rows) else None

    def _best(self, token: int, seen: np.ndarray | None) -> np.ndarray:
        rows = self.index.best_of(token)
        rows = rows[self.index.servable[rows]]
        return (rows if seen is None else rows[~np.isin(self.index.hash[rows], seen)])[:PINNABLE]

    def _tokens_in(self, by_token: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return by_token[self.index.tokens[rows]]

    def _grown(self) -> "Rules":
        """Once the arrays know all tokens of the index."""
        names = self.index.token_names
        if len(names) >= len(self._amount):
            room = len(names) + 1
            self._amount, self._category = (
                np.concatenate([array[: self._known], np.zeros(2 * room - self._known, array.dtype)])
                for array in (self._amount, self._category)
            )
        for number in range(self._known, len(names)):
            self._amount[number] = self.amounts.get(names[number], 0.0)
            self._category[number] = names[number].startswith(CATEGORY)
        self._known = len(names)
        return self
