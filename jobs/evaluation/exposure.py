"""Exposure by group of items: what each policy's slates gave to it, beside its share of the catalogue and of what was
taken, each as it stood then. Knows nothing of policies but their number.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from riverrank.operators.catalogue.tokens import MAX_TOKENS, tokens_of
from riverrank.operators.slate.fairness.groups import MOST_GROUPS, NONE, OTHER, Values, discounts
from riverrank.state.records.incoming import Item

from .baselines.ledger import START, grown
from .segments import POPULARITY, STANDINGS, Standing

AGE = "novelty"
DAY_MS = 86_400_000
AGES = {"under 1 day": 1, "1-6 days": 7, "7-29 days": 30, "30-364 days": 365}  # days with which each ends
BANDS = ("not yet", *AGES, "a year and more")  # of ages


class Given(msgspec.Struct, frozen=True):
    """What a policy gave a group: its `share` of all exposure, and what that is of its share of the catalogue and of
    the positive feedback, 1 where it is as much; None where there is none.
    """

    share: float
    of_catalogue: float | None
    of_feedback: float | None


class Group(msgspec.Struct, frozen=True):
    """The items of one `value`: their shares of what could be shown and of the positive interactions, and what each
    policy gave them.
    """

    value: str
    catalogue: float
    feedback: float
    policies: dict[str, Given]


class Told(NamedTuple):
    """What the newest record of an item, of `ts`, says of it: its `tokens`, and when it was `born`; and the `ts` of its
    `first` record.
    """

    ts: int
    tokens: tuple[str, ...]
    born: int
    first: int


class Known(NamedTuple):
    """What was known of all items at one time, `ts`: by row their positive interactions so far, float64, `interactions`
    in sum.
    """

    ts: int
    popularity: np.ndarray
    interactions: int


class Groups(Values):
    """The groups by an attribute or a category."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.counts = np.zeros(MOST_GROUPS + 2)  # items that may be shown, by code
        self.items = 0  # that may be shown
        self.of_row = np.full((START, MAX_TOKENS), -1, np.int32)

    def count(self, told: Told) -> None:
        """An item more may be shown."""
        self.counts[self.of(told.tokens)] += 1
        self.items += 1

    def enter(self, row: int, told: Told, *, servable: bool) -> None:
        """Begin a row of the ledger."""
        self.of_row = _longer(self.of_row, row)
        codes = self.of(told.tokens)
        self.of_row[row, : len(codes)] = codes

    def at(self, rows: np.ndarray, known: Known) -> np.ndarray:
        """The codes of `rows`, int (..., k), then -1: int32 (..., k, w)."""
        return self.of_row[rows]

    def catalogue(self, known: Known) -> np.ndarray:
        """How many items that may be shown are in each group: float64."""
        return self.counts


class Ages:
    """Bands by the time since an item was published; where that is not said, since its first record; of one without a
    record, since an event first named it.
    """

    values = BANDS
    _ENDS = np.array([0, *(days * DAY_MS for days in AGES.values())])

    def __init__(self) -> None:
        self._born = np.zeros(START)
        self._waiting: list[int] = []
        self._sorted = np.zeros(0)
        self.items = 0  # that may be shown

    def count(self, told: Told) -> None:
        """An item more may be shown."""
        self._waiting.append(told.born)
        self.items += 1

    def enter(self, row: int, told: Told, *, servable: bool) -> None:
        """Begin a row of the ledger."""
        self._born = grown(self._born, row)
        self._born[row] = told.born

    def at(self, rows: np.ndarray, known: Known) -> np.ndarray:
        """The codes of `rows`, int (..., k): int (..., k, 1)."""
        return np.searchsorted(self._ENDS, known.ts - self._born[rows], side="right")[..., None]

    def catalogue(self, known: Known) -> np.ndarray:
        """How many items that may be shown are in each band: float64."""
        if self._waiting:
            self._sorted = np.sort(np.append(self._sorted, self._waiting))
            self._waiting.clear()
        older = np.searchsorted(
            self._sorted, known.ts - self._ENDS, side="right"
        )  # at least as old as each band begins
        return -np.diff([len(self._sorted), *older, 0]).astype(np.float64)


class Standings:
    """Classes by popularity among the items: see `Standing`."""

    values = STANDINGS

    def __init__(self) -> None:
        self._standing = Standing()
        self._servable = np.zeros(START, bool)
        self.items = 0  # that may be shown

    def count(self, told: Told) -> None:
        """An item more may be shown."""
        self.items += 1

    def enter(self, row: int, told: Told, *, servable: bool) -> None:
        """Begin a row of the ledger."""
        self._servable = grown(self._servable, row)
        self._servable[row] = servable

    def at(self, rows: np.ndarray, known: Known) -> np.ndarray:
        """The codes of `rows`, int (..., k): int (..., k, 1)."""
        self._standing.settle(known.popularity, known.interactions)
        return self._standing.classes(known.popularity[rows])[..., None]

    def catalogue(self, known: Known) -> np.ndarray:
        """How many items that may be shown are in each class: float64."""
        self._standing.settle(known.popularity, known.interactions)
        held = min(len(self._servable), len(known.popularity))
        taken = known.popularity[:held][self._servable[:held]]
        counts = np.bincount(self._standing.classes(taken[taken > 0]), minlength=len(STANDINGS)).astype(np.float64)
        counts[-1] = self.items - counts.sum()
        return counts


class Exposure:
    """What policies show of the groups by each of `names`: an attribute, `category`, AGE or POPULARITY (an attribute of
    such a name is `item.` and it).

    The item at rank k of a slate has an exposure of 1 / log2(k + 1) (Singh and Joachims, Fairness of exposure in
    rankings, 2018). Shares of the catalogue are means over the slates, those of feedback over positive interactions, of
    what was known when each came.
    """

    def __init__(self, names: Sequence[str], policies: int, servable: Callable[[str], bool]) -> None:
        """`servable` tells of an item id whether it may be shown, and is asked once of each."""
        self.names = tuple(dict.fromkeys(names))
        made: dict[str, type[Ages | Standings]] = {AGE: Ages, POPULARITY: Standings}
        self._groups: list[Groups | Ages | Standings] = [
            made[name]() if name in made else Groups(name.removeprefix("item.")) for name in self.names
        ]
        room = len(names), MOST_GROUPS + 2
        self._given = np.zeros((len(names), policies, MOST_GROUPS + 2))
        self._all = np.zeros(policies)
        self._catalogue, self._feedback, self._slates, self._taken = np.zeros(room), np.zeros(room), 0, 0
        self._policies = np.arange(policies)[:, None, None]
        self._servable = servable
        self._told: dict[str, Told] = {}
        self._rows = 0
        self._has_begun = False

    def item(self, item: Item) -> None:
        """Take a record of the catalogue; the newest of an item stands."""
        held = self._told.get(item.item_id)
        if held is None or item.ts >= held.ts:
            first = item.ts if held is None else held.first
            born = item.published_ts if item.published_ts is not None else first
            self._told[item.item_id] = Told(item.ts, tuple(tokens_of(item)), born, first)

    def enter(self, ids: Sequence[str], ts: int) -> None:
        """Take the rows of the ledger that are new at `ts`: `ids` are those of all."""
        if not self._has_begun:
            self._has_begun = True
            for item_id, told in self._told.items():
                if self._servable(item_id):
                    self._count(told)
        for row in range(self._rows, len(ids)):
            servable, is_listed = self._servable(ids[row]), ids[row] in self._told
            told = self._told[ids[row]] if is_listed else Told(ts, (), ts, ts)
            for groups in self._groups:
                groups.enter(row, told, servable=servable)
            if servable and not is_listed:
                self._count(told)
        self._rows = len(ids)

    def _count(self, told: Told) -> None:
        for groups in self._groups:
            groups.count(told)

    def show(self, rows: np.ndarray, known: Known) -> None:
        """A slate of each policy: `rows` int (policies, k), best first, -1 for none."""
        held = rows >= 0
        worth = discounts(rows.shape[1]) * held
        self._all += worth.sum(axis=1)
        self._slates += 1
        for number, groups in enumerate(self._groups):
            codes = groups.at(np.maximum(rows, 0), known)
            some = (codes >= 0) & held[:, :, None]
            places = np.broadcast_to(self._policies, codes.shape)[some], codes[some]
            np.add.at(self._given[number], places, np.broadcast_to(worth[:, :, None], codes.shape)[some])
            counts = groups.catalogue(known)
            self._catalogue[number, : len(counts)] += counts / max(groups.items, 1)

    def take(self, row: int, known: Known) -> None:
        """A positive interaction with the item of `row`; `known` was before it."""
        self._taken += 1
        for number, groups in enumerate(self._groups):
            codes = groups.at(np.array([row]), known).ravel()
            self._feedback[number, codes[codes >= 0]] += 1

    def of(self, name: str, policies: Sequence[str]) -> list[Group]:
        """The groups by `name`, of policies of these names: bands and classes in their order, others by how many items
        they have, of those that anything was of.
        """
        number = self.names.index(name)
        groups, found = self._groups[number], []
        catalogue = self._catalogue[number] / max(self._slates, 1)
        feedback = self._feedback[number] / max(self._taken, 1)
        given = self._given[number] / np.maximum(self._all, 1e-12)[:, None]
        for code, value in enumerate(groups.values):
            if catalogue[code] or feedback[code] or given[:, code].any():
                shares = dict(zip(policies, given[:, code].tolist(), strict=True))
                beside = float(catalogue[code]), float(feedback[code])
                told = {policy: _given(share, *beside) for policy, share in shares.items()}
                found.append(Group(value, round(beside[0], 5), round(beside[1], 5), told))
        if isinstance(groups, Groups):
            found.sort(key=lambda group: (group.value in (OTHER, NONE), -group.catalogue, group.value))
        return found


def _given(share: float, catalogue: float, feedback: float) -> Given:
    ratios = (round(share / part, 4) if part else None for part in (catalogue, feedback))
    return Given(round(share, 5), *ratios)


def _longer(array: np.ndarray, row: int) -> np.ndarray:
    """The array with room for `row`, new rows -1."""
    if row < len(array):
        return array
    return np.concatenate([array, np.full((max(len(array), row + 1 - len(array)), array.shape[1]), -1, array.dtype)])
