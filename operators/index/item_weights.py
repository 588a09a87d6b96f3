"""What each of some items says of each other: the weights of the linear autoencoder, over the rows of an index."""

from collections.abc import Callable, Sequence

import msgspec
import numpy as np
from riverrank.state.messages import AutoencoderUpdate, decode_update, encode
from riverrank.state.table import refuse

GONE = ""  # the id of an item whose row was given up
_KEY = "autoencoder"


class ItemWeights:
    """`rows` int32 (n,) are the items, -1 for one that the index does not know; `slot[row]` int32 is where a row stands
    among them, -1 for one that does not; `weights` bfloat16 as uint16 (n, n), a row what one item says of
    all.
    """

    def __init__(self, capacity: int) -> None:
        self.slot = np.full(capacity, -1, np.int32)
        self.rows = np.zeros(0, np.int32)
        self.weights = np.zeros((0, 0), np.uint16)
        self._told: AutoencoderUpdate | None = None
        self._changed = False

    def fit(self, capacity: int) -> None:
        """Make room for `capacity` rows."""
        if more := capacity - len(self.slot):
            self.slot = np.pad(self.slot, (0, more), constant_values=-1)

    def take(self, update: AutoencoderUpdate, rows: np.ndarray) -> None:
        """Go by the update, whose items are `rows`, int32 (n,), -1 for one that is not known.

        Raises ValueError, before anything is changed, where it has another number of weights than of pairs of items.
        """
        n = len(rows)
        if len(update.weights) != 2 * n * n:
            refuse("an update", "weights", f"{len(update.weights)} bytes", f"2 for each pair of {n} items")
        self.weights = np.frombuffer(update.weights, "<u2").reshape(n, n).astype(np.uint16)
        self.slot[self.rows[self.rows >= 0]] = -1
        self.rows = rows
        self.slot[rows[rows >= 0]] = np.flatnonzero(rows >= 0)
        self._told, self._changed = update, True

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`: other items will have them."""
        slots = self.slot[rows]
        slots = slots[slots >= 0]
        if len(slots) and self._told is not None:
            self.slot[rows] = self.rows[slots] = -1
            ids = [*self._told.ids]
            for slot in slots.tolist():
                ids[slot] = GONE
            self._told, self._changed = msgspec.structs.replace(self._told, ids=tuple(ids)), True

    def dump(self) -> dict[str, bytes]:
        """What changed since the last dump, by its key."""
        changed, self._changed = self._changed, False
        return {_KEY: encode(self._told)} if changed and self._told is not None else {}

    def load(self, base: dict[str, bytes], find: Callable[[Sequence[str]], np.ndarray]) -> None:
        """Put back what `dump` gave; `find` gives the rows of ids."""
        if _KEY in base:
            update = decode_update(base[_KEY])
            assert isinstance(update, AutoencoderUpdate)
            self.take(update, find(update.ids))
            self._changed = False
