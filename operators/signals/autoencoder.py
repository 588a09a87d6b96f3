"""A linear autoencoder over the items that are taken most: what each of a history says of each other item, beside what
the others of it say already. Knows items by id, and nothing of users.
"""

import logging
from collections.abc import Sequence

import msgspec
import numpy as np
from numba import njit
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import Layout
from riverrank.state.item_tables import to_bfloat16
from riverrank.state.messages import AutoencoderUpdate, Feedback
from scipy.linalg import lapack

RIDGE = 300.0  # what is added to each item's own count: how much must speak for a weight
REFIT_SHARE = 1 << 20  # a fit of n items takes n ** 3 steps, and each feedback pays for so many: some 20 us
LEAST_WAIT = 64  # feedbacks between two fits
HALF_LIFE = 50_000  # feedbacks after which what was counted counts half
_KEY = "co-counts"

log = logging.getLogger(__name__)


class CoCounts(msgspec.Struct, array_like=True, tag=1):
    """Layout 1: how often items were taken together, float32 (n, n), and `ids` of these; `waits` is how many feedbacks
    were learned from since the last fit.
    """

    ids: tuple[str, ...] = ()
    counts: bytes = b""
    waits: int = 0


CO_COUNTS = Layout("co-counts", CoCounts)


class Autoencoder:
    """The weights by which one item is told from all others of a history: fitted in closed form to co-counts.

    With `G` the co-counts and `P` the inverse of `G + RIDGE`, they are `-P[h, c] / P[c, c]`, and 0 from an item to
    itself (Steck, Embarrassingly shallow autoencoders for sparse data, 2019). Two items count the more together, the
    fewer interactions of the same user lie between, on a straight line to 0 at the length of a history: so `G` has no
    negative eigenvalue, whatever users do, if all is learned from, and hardly one if it is a sample.
    """

    def __init__(self, behaviour: Behaviour) -> None:
        self.most = behaviour.autoencoder.items
        size = behaviour.history.size
        self._amounts = (1.0 - np.arange(1, size + 1) / (size + 1)).astype(np.float32)  # by how far back
        self.ids: list[str] = []
        self.slots: dict[str, int] = {}
        self.counts = np.zeros((0, 0), np.float32)
        self.waits = 0
        self._newest = 0  # event time, of what was learned since the last fit

    def take(self, feedback: Feedback) -> None:
        """Count a positive interaction together with what the user took before."""
        event = feedback.event
        if not feedback.is_choice or event.item_id is None:
            return
        self.waits += 1
        self._newest = max(self._newest, event.ts)
        slot = self._slot(event.item_id)
        if slot >= 0:
            past = feedback.history_before().taken()
            slots = np.array([self.slots.get(item_id, -1) for item_id in past], np.int64)
            count(self.counts, slot, slots, self._amounts)

    def due(self) -> bool:
        """Whether a fit was paid for."""
        n = len(self.ids)
        return n > 0 and self.waits >= max(LEAST_WAIT, n * n * n // REFIT_SHARE)

    def refit(self, shard: int, popular: Sequence[str]) -> AutoencoderUpdate | None:
        """The weights by what was counted, None where nothing was; from now on it is the most `popular` of all items
        that are held, if they are not all.
        """
        n = len(self.ids)
        self.counts *= np.float32(0.5 ** (self.waits / HALF_LIFE))
        self.waits = 0
        weights = fitted(self.counts[:n, :n])
        ts, self._newest = self._newest, 0
        update = AutoencoderUpdate(shard, tuple(self.ids), rounded(weights).tobytes(), ts) if n else None
        if n == self.most:
            self._admit(popular[:n])
        return update

    def dump(self) -> dict[str, bytes]:
        """All that is kept, by its key."""
        n = len(self.ids)
        return {_KEY: CO_COUNTS.encode(CoCounts(tuple(self.ids), self.counts[:n, :n].tobytes(), self.waits))}

    def load(self, base: dict[str, bytes]) -> None:
        """Put back what `dump` gave, of the items that were counted most where there is no room for all; nothing where
        it gave none.
        """
        kept = CO_COUNTS.decode(base[_KEY]) if _KEY in base else CoCounts()
        held = len(kept.ids)
        if held and not self.most:
            log.warning("autoencoder.items is 0 now: what was counted of %d items is given up, and begins anew", held)
        counts = np.frombuffer(kept.counts, "<f4").reshape(held, held)
        stay = np.arange(held)
        if held > self.most:
            stay = np.sort(np.argsort(-counts.diagonal(), kind="stable")[: self.most])
        self.ids, self.waits = [kept.ids[slot] for slot in stay], kept.waits
        self.slots = {item_id: slot for slot, item_id in enumerate(self.ids)}
        self.counts = counts[np.ix_(stay, stay)].copy()

    def _slot(self, item_id: str) -> int:
        """Where the item stands, begun where there is room; -1 for none."""
        slot = self.slots.get(item_id, -1)
        if slot < 0 and len(self.ids) < self.most:
            slot = self.slots[item_id] = len(self.ids)
            self.ids.append(item_id)
            if slot == len(self.counts):
                more = min(self.most, max(64, 2 * slot)) - slot
                self.counts = np.pad(self.counts, (0, more))
        return slot

    def _admit(self, popular: Sequence[str]) -> None:
        """Let `popular` items have the places of those held that are none, the least taken first."""
        coming = [item_id for item_id in popular if item_id not in self.slots]
        stay = set(popular)
        going = [slot for slot, item_id in enumerate(self.ids) if item_id not in stay]
        going.sort(key=lambda slot: (self.counts[slot, slot], slot))
        for slot, item_id in zip(going, coming, strict=False):
            del self.slots[self.ids[slot]]
            self.ids[slot], self.slots[item_id] = item_id, slot
            self.counts[slot, :] = self.counts[:, slot] = 0.0


def fitted(counts: np.ndarray) -> np.ndarray:
    """The weights of co-counts, float32 (n, n), as in Autoencoder: float32 (n, n), a row what one item says of each.

    >>> two = np.array([[900.0, 600.0], [600.0, 900.0]], np.float32)
    >>> fitted(two).round(2).tolist()
    [[0.0, 0.5], [0.5, 0.0]]
    """
    if not len(counts):
        return counts
    ridge = RIDGE
    while (inverse := _inverse(counts, ridge)) is None:
        ridge *= 2.0  # with enough, what an item counts alone is more than what it counts with all others
    return weights_of(inverse)


def _inverse(counts: np.ndarray, ridge: float) -> np.ndarray | None:
    """The inverse of `counts` with `ridge` added to each item's own, of which the upper half is one; None where that
    has an eigenvalue that is not above 0. By Cholesky's method, a quarter of the time of another.
    """
    own = np.arange(len(counts))
    sums = counts.copy()
    sums[own, own] += np.float32(ridge)
    factor, failed = lapack.spotrf(sums.T, lower=1, overwrite_a=1)  # LAPACK's matrices have their columns in order
    if failed:
        return None
    inverse, failed = lapack.spotri(factor, lower=1, overwrite_c=1)
    return None if failed else inverse.T


@njit(cache=True)
def weights_of(inverse):  # type: ignore[no-untyped-def]
    """The weights as in Autoencoder, float32 (n, n), by the upper half of the `inverse`, float32 (n, n)."""
    n = len(inverse)
    weights = np.empty((n, n), np.float32)
    for h in range(n):
        weights[h, h] = np.float32(0.0)
        for c in range(h + 1, n):
            weights[h, c] = -inverse[h, c] / inverse[c, c]
            weights[c, h] = -inverse[h, c] / inverse[h, h]
    return weights


@njit(cache=True)
def count(counts, slot, past, amounts):  # type: ignore[no-untyped-def]
    """Count the item at `slot` of `counts`, float32 (n, n), once, and by `amounts`, float32, together with those at
    `past`, int64, newest first, -1 for one that is not held.
    """
    counts[slot, slot] += np.float32(1.0)
    for k in range(min(len(past), len(amounts))):
        other = past[k]
        if other >= 0:
            counts[slot, other] += amounts[k]
            counts[other, slot] += amounts[k]


@njit(cache=True)
def rounded(weights):  # type: ignore[no-untyped-def]
    """`weights`, float32 (n, n), as bfloat16: uint16 (n, n)."""
    n = len(weights)
    halves = np.empty((n, n), np.uint16)
    for h in range(n):
        for c in range(n):
            halves[h, c] = to_bfloat16(weights[h, c])
    return halves
