"""What the baselines of `riverrank evaluate` share: items by row, of each user what was liked and what is hidden,
and ways with rows.

Grows with the items and users of the file that is read, by at most so much for each.
"""

from array import array
from collections.abc import Callable

import numpy as np
from riverrank.operators.session.hiding import Hiding
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import hash32
from riverrank.state.learners import LearnerState
from riverrank.state.records.incoming import Event

NONE = np.zeros(0, np.int32)
START = 1024  # rows that arrays begin with


class Ledger:
    """Items by row, the rows that may be served, of each user what was liked, and what is hidden, as the job
    hides it, but for late events and for users from whom all is hidden.

    Liked rows are distinct, the latest interaction last, `LIKED` at most. `ts` is the time, in epoch milliseconds.

    >>> ledger = Ledger(Behaviour())
    >>> ledger.note(Event("e-1", "purchase", "u", 1, "i-1"), ledger.row("i-1"), 2.0)
    >>> ledger.row("i-2"), ledger.liked("u").tolist(), ledger.allowed("u").tolist()
    (1, [0], [False, True])
    """

    LIKED = 100

    def __init__(self, behaviour: Behaviour, servable: Callable[[str], bool] = lambda item_id: True) -> None:
        """`servable` tells of an item id whether it may be on a slate; it is asked once."""
        self.ts = 0
        self.ids: list[str] = []
        self.rows: dict[str, int] = {}
        self._servable = servable
        self._open = np.zeros(START, bool)
        self._row_of: dict[int, int] = {}  # by the hash of an id
        self._hiding = Hiding(behaviour.slate)
        self._users: dict[str, LearnerState] = {}
        self._liked: dict[str, array[int]] = {}

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, item_id: str) -> int:
        """The row of `item_id`, a new one where it has none."""
        row = self.rows.setdefault(item_id, len(self.ids))
        if row == len(self.ids):
            self.ids.append(item_id)
            self._row_of[hash32(item_id)] = row
            self._open = grown(self._open, row)
            self._open[row] = self._servable(item_id)
        return row

    def liked(self, user_id: str) -> np.ndarray:
        """The rows that the user liked, int32, newest last."""
        return np.array(self._liked.get(user_id, NONE), np.int32)

    def allowed(self, user_id: str) -> np.ndarray:
        """Which rows may be served to the user now: bool (rows,)."""
        allowed = self._open[: len(self.ids)].copy()
        if state := self._users.get(user_id):
            allowed[[self._row_of[mark] for mark in self._hiding.hidden(state, self.ts).tolist()]] = False
        return allowed

    def note(self, event: Event, row: int, reward: float) -> None:
        """Remember an interaction with the item of `row`, which was worth `reward`."""
        state = self._users.setdefault(event.user_id, LearnerState())
        self._hiding.remember(state, self.ids[row], event.type, event.ts, reward)
        if reward > 0:
            _put_last(self._liked.setdefault(event.user_id, array("i")), row, self.LIKED)

    def forget(self, user_id: str) -> None:
        """Forget the user."""
        self._users.pop(user_id, None)
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
