"""What the baselines of `riverrank evaluate` share: items by row, what each user saw and liked, and ways with rows.

Grows with the items and users of the file that is read, by at most so much for each.
"""

from array import array
from collections.abc import Callable

import numpy as np
from riverrank.operators.settings import Behaviour
from riverrank.state.event_types import EVENT_TYPES

NONE = np.zeros(0, np.int32)
START = 1024  # rows that arrays begin with


class Ledger:
    """Items by row, the rows that may be served, and of each user what was seen and what was liked.

    Liked rows are distinct, the latest interaction last, `LIKED` at most; of rows that `slate.hide` hides, whatever
    time it says, there are `slate.seen` at most.

    >>> ledger = Ledger(Behaviour())
    >>> ledger.note("u", ledger.row("i-1"), "purchase", liked=True)
    >>> ledger.row("i-2"), ledger.liked("u").tolist(), ledger.allowed("u").tolist()
    (1, [0], [False, True])
    """

    LIKED = 100

    def __init__(self, behaviour: Behaviour, servable: Callable[[str], bool] = lambda item_id: True) -> None:
        """`servable` tells of an item id whether it may be on a slate; it is asked once."""
        hiding = behaviour.slate.hidden()
        self.hide = frozenset(name for name, entry in EVENT_TYPES.items() if entry.code in hiding)
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}
        self._servable = servable
        self._open = np.zeros(START, bool)
        self._seen_most = behaviour.slate.seen
        self._seen: dict[str, array[int]] = {}
        self._liked: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """The row of `item_id`, a new one where it has none."""
        row = self.rows.setdefault(item_id, len(self.ids))
        if row == len(self.ids):
            self.ids.append(item_id)
            self._open = grown(self._open, row)
            self._open[row] = self._servable(item_id)
        return row

    def liked(self, user_id: str) -> np.ndarray:
        """The rows that the user liked, int32, newest last."""
        return np.array(self._liked.get(user_id, NONE), np.int32)

    def allowed(self, user_id: str) -> np.ndarray:
        """Which rows may be served to the user: bool (rows,)."""
        allowed = self._open[: len(self.ids)].copy()
        if seen := self._seen.get(user_id):
            allowed[np.frombuffer(seen, np.int32)] = False
        return allowed

    def note(self, user_id: str, row: int, type_: str, *, liked: bool) -> None:
        """Remember an interaction of that type of the user with an item."""
        if type_ in self.hide:
            _put_last(self._seen.setdefault(user_id, array("i")), row, self._seen_most)
        if liked:
            _put_last(self._liked.setdefault(user_id, array("i")), row, self.LIKED)

    def forget(self, user_id: str) -> None:
        """Forget the user."""
        self._seen.pop(user_id, None)
        self._liked.pop(user_id, None)


def top(scores: np.ndarray, k: int) -> np.ndarray:
    """Places of the `k` highest of `scores`, float (n,), best first; among equals the first.

    >>> top(np.array([1.0, 3.0, 2.0, 3.0]), 3).tolist()
    [1, 3, 2]
    """
    if len(scores) <= k:
        return np.argsort(-scores, kind="stable")
    places = np.flatnonzero(scores >= np.partition(scores, -k)[-k])
    return places[np.argsort(-scores[places], kind="stable")[:k]]


def summed(rows: np.ndarray, weights: np.ndarray, n: int) -> np.ndarray:
    """The sum of `weights` for each of `n` rows, float64 (n,), -inf where there is none; rows below 0 are passed over.

    >>> summed(np.array([[0, 2], [2, -1]]), np.array([[1.0, 2.0], [3.0, 4.0]]), 3).tolist()
    [1.0, -inf, 5.0]
    """
    held = rows >= 0
    sums = np.bincount(rows[held], weights[held], n).astype(np.float64)
    sums[sums == 0.0] = -np.inf
    return sums


def grown(values: np.ndarray, row: int, fill: float = 0) -> np.ndarray:
    """`values`, or where it has no place for `row` a copy of at least twice the length, with `fill` in new places."""
    if row < len(values):
        return values
    larger = np.full((max(2 * len(values), row + 1), *values.shape[1:]), fill, values.dtype)
    larger[: len(values)] = values
    return larger


def _put_last(rows: "array[int]", row: int, most: int) -> None:
    """Put `row` last, once; the first goes where there are more than `most`."""
    if row in rows:
        rows.remove(row)
    rows.append(row)
    if len(rows) > most:
        del rows[0]
