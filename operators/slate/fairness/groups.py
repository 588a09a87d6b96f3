"""What is told of groups, of items and of users, by whoever tells it: which there are, what a place is worth to them,
and which are too small to be told of alone. Knows no slates and counts nothing.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet

import numpy as np

MOST_GROUPS = 1_000  # values of one attribute that are told apart
OTHER, NONE = "other", "none"


class Values:
    """The values of the attribute `name`, or category, by number: NONE, OTHER, and the first MOST_GROUPS that came. An
    item of several values is in the group of each, and in NONE where it has none.

    >>> brands = Values("brand")
    >>> brands.of(["brand=Fox", "category=drama"]), brands.of([]), [*brands.codes]
    ([2], [0], ['none', 'other', 'Fox'])
    """

    def __init__(self, name: str) -> None:
        self.prefix = f"{name}="
        self.codes = {NONE: 0, OTHER: 1}

    @property
    def values(self) -> tuple[str, ...]:
        """By number."""
        return tuple(self.codes)

    def of(self, tokens: Sequence[str]) -> list[int]:
        """The numbers of an item with these tokens."""
        values = [token.removeprefix(self.prefix) for token in tokens if token.startswith(self.prefix)]
        return list(dict.fromkeys(map(self._code, values))) or [0]

    def _code(self, value: str) -> int:
        if len(self.codes) < MOST_GROUPS + 2:
            return self.codes.setdefault(value, len(self.codes))
        return self.codes.get(value, 1)


def discounts(size: int) -> np.ndarray:
    """What each of `size` places is worth, float64: 1 / log2(rank + 1), as in Singh and Joachims, Fairness of exposure
    in rankings (2018).

    >>> discounts(3).round(3).tolist()
    [1.0, 0.631, 0.5]
    """
    return 1.0 / np.log2(np.arange(2, size + 2))


def text_of(value: object) -> str:
    """What an attribute says as text: of a list the first, NONE where there is none.

    >>> text_of(["drama", "crime"]), text_of(None), text_of(21), text_of(True)
    ('drama', 'none', '21', 'true')
    """
    while isinstance(value, (list, tuple)):
        value = value[0] if value else None
    if value is None or value == "":
        return NONE
    return str(value).lower() if isinstance(value, bool) else str(value)


def told_apart(users: Mapping[str, AbstractSet[int]], least: int) -> tuple[list[str], list[str]]:
    """The cohorts that are told of alone, in their order, and those that are told of together, by the numbers of the
    users in each.

    Together are OTHER, those of fewer than `least` users, and the smallest of the rest where these alone are too few:
    what is left out could be told from the rest. Where all users are fewer, no cohort is told of.

    >>> told_apart({"a": {1, 2, 3}, "b": {4, 5}, "c": {6}}, least=2)
    (['a'], ['c', 'b'])
    """
    together = [value for value, some in users.items() if value == OTHER or len(some) < least]
    alone = [value for value, some in users.items() if value != OTHER and len(some) >= least]
    rest = set[int]().union(*(users[value] for value in together))
    while together and alone and len(rest) < least:
        fewest = min(alone, key=lambda value: len(users[value]))
        alone.remove(fewest)
        together.append(fewest)
        rest |= users[fewest]
    return (alone, together) if len(rest) >= least or not together else ([], [])
