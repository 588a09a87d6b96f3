"""Which groups the items of the catalogue are in, by number, and how many that may be shown each group has."""

from collections.abc import Mapping, Sequence

from riverrank.jobs.config.schema import Config
from riverrank.operators.catalogue.tokens import token_of, tokens_of
from riverrank.operators.slate.fairness.groups import MOST_GROUPS, Values
from riverrank.state.records.incoming import Item

ROOM = MOST_GROUPS + 2  # numbers of one attribute, NONE and OTHER among them
MOST_SHARED = 10_000  # combinations of groups that items share one tuple of


class ItemGroups:
    """Groups by each of `names`, an attribute or category: the values of name n have the numbers from n * ROOM on.

    >>> groups = ItemGroups(["brand", "category"])
    >>> groups.of(Item("i", 1, categories=("tents",), attributes={"brand": "Fox"}))
    (2, 1004)
    """

    def __init__(self, names: Sequence[str], floors: Mapping[str, float] | None = None) -> None:
        """`floors` are shares by token, of those values that have one."""
        self.names = tuple(dict.fromkeys(names))
        self.floors = dict(floors or {})
        self.counts = [0] * (len(self.names) * ROOM)  # items that may be shown, by number
        self.items = 0  # that may be shown
        self.nowhere = tuple(range(0, len(self.counts), ROOM))  # the groups of what the catalogue does not hold
        self._values = [Values(name) for name in self.names]
        self._shared: dict[tuple[int, ...], tuple[int, ...]] = {}

    def of(self, item: Item) -> tuple[int, ...]:
        """The numbers of the groups that an item is in, as `evaluate` has them."""
        tokens = tokens_of(item)
        found = tuple(n * ROOM + code for n, values in enumerate(self._values) for code in values.of(tokens))
        return self._shared.setdefault(found, found) if len(self._shared) < MOST_SHARED else found

    def count(self, groups: Sequence[int], sign: int) -> None:
        """An item of these groups more may be shown; one less by a `sign` of -1."""
        self.items += sign
        for number in groups:
            self.counts[number] += sign

    def values(self, name: str) -> tuple[str, ...]:
        """The values of `name`, by their numbers from the first of the name on."""
        return self._values[self.names.index(name)].values


def groups_of(config: Config) -> ItemGroups | None:
    """The groups that the page tells of: by `serve.exposure`, else by what floors name; None where neither is."""
    floors = {token_of(name): share for name, share in config.behaviour.fairness.floors.items()}
    names = config.serve.exposure or [token.partition("=")[0] for token in floors]
    return ItemGroups(names, floors) if names else None
