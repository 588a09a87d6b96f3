"""Which slate an interaction answers: the last few of a user are in state, so that it is known after a restart too.

`LearnerState.slates` holds for each, oldest first: `<IqHH`, its version, its event time in milliseconds, how many of
its ranks were taught already, and how many items it has; then each item, best first, `<iI`, its row in the index and
the hash of its id. A row that has another item by now is nothing that was shown.
"""

from collections.abc import Iterator
from struct import Struct
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.learners import LearnerState

KEPT = 3  # slates of a user
_HEAD = Struct("<IqHH")
ITEM = np.dtype([("row", "<i4"), ("hash", "<u4")])


class KeptSlate(NamedTuple):
    """A slate in state, from byte `at` on: its event time, how many ranks were taught, and its items by ITEM."""

    at: int
    version: int
    ts: int
    taught: int
    items: np.ndarray

    @property
    def end(self) -> int:
        """Where it ends."""
        return self.at + _HEAD.size + self.items.nbytes


def keep(state: LearnerState, index: ItemIndex, version: int, ts: int, rows: np.ndarray) -> None:
    """Keep the slate of that version, with the items of `rows`, int32 (n,), best first, in place of the oldest."""
    kept, at, starts = state.slates, 0, []
    while at < len(kept):
        starts.append(at)
        at += _HEAD.size + ITEM.itemsize * _HEAD.unpack_from(kept, at)[3]
    if len(starts) >= KEPT:
        kept = kept[starts[len(starts) + 1 - KEPT] :]
    items = np.empty((len(rows), 2), np.int32)
    name(rows, index.hash, items)
    state.slates = kept + _HEAD.pack(version, ts, 0, len(rows)) + items.tobytes()


@njit(cache=True)
def name(rows, hashes, items):  # type: ignore[no-untyped-def]
    """Write each of `rows`, int32 (n,), and its hash beside it to `items`, int32 (n, 2), as a kept slate holds them."""
    for k in range(len(rows)):
        items[k, 0], items[k, 1] = rows[k], np.int32(hashes[rows[k]])


def find(state: LearnerState, user_id: str, slate_id: str | None) -> KeptSlate | None:
    """The slate of that id, if it is one of the user's last."""
    if slate_id is None:
        return None
    return next((slate for slate in kept(state) if slate_id == f"{user_id}:{slate.version}"), None)


def kept(state: LearnerState) -> Iterator[KeptSlate]:
    """The slates that are kept, oldest first."""
    at = 0
    while at < len(state.slates):
        version, ts, taught, n = _HEAD.unpack_from(state.slates, at)
        yield (slate := KeptSlate(at, version, ts, taught, np.frombuffer(state.slates, ITEM, n, at + _HEAD.size)))
        at = slate.end


def passed_over(state: LearnerState, index: ItemIndex, slate: KeptSlate, row: int) -> np.ndarray:
    """The rows of the items above that of `row` which were not taught as passed over yet, lowest first: int32. From now
    on they were, and so was the item itself.
    """
    rows = slate.items["row"]
    rank = int(np.append(np.flatnonzero(rows == row), -1)[0])
    if rank < slate.taught:
        return rows[:0]
    _write(state, slate, rank + 1)
    above = slate.items[slate.taught : rank][::-1]
    known = (above["row"] < len(index.hash)) & (
        index.hash[np.minimum(above["row"], len(index.hash) - 1)] == above["hash"]
    )
    return above["row"][known]


def forget(state: LearnerState, slate: KeptSlate) -> None:
    """Keep it no more: an impression teaches it."""
    state.slates = state.slates[: slate.at] + state.slates[slate.end :]


def _write(state: LearnerState, slate: KeptSlate, taught: int) -> None:
    head = _HEAD.pack(slate.version, slate.ts, taught, len(slate.items))
    state.slates = state.slates[: slate.at] + head + state.slates[slate.at + _HEAD.size :]
