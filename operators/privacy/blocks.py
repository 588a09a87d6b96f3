"""What users contributed to counts, block by block, and noised sums over blocks. Knows nobody, and no times."""

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numba import njit
from riverrank.operators.settings import Behaviour
from riverrank.state.codec import Layout

from .bounds import Contribution
from .budget import GRID, MOST_BLOCKS, Budget, weights_of
from .noise import key_of, name_of, normal

HALF_LIVES = 3.0  # that a sum goes back
_LIKED, _DISLIKED = 0, 1  # second names of cells that no item has


class Block(msgspec.Struct, array_like=True, tag=1):
    """Layout 1: cells of the `number`-th block, which ended at feedback `events` in that `window`: how often items were
    `liked` and `disliked`, and what `pairs` of items weigh, the earlier one first. All amounts are on the grid.
    """

    number: int = 0
    window: int = -1
    events: int = 0
    liked: dict[str, float] = {}
    disliked: dict[str, float] = {}
    pairs: dict[str, dict[str, float]] = {}

    def add(self, contribution: Contribution, weights: Sequence[float]) -> None:
        """Count what one user contributed; `weights` are those of pairs, the nearest first."""
        item_id = contribution.item_id
        counted = self.liked if contribution.liked else self.disliked
        counted[item_id] = counted.get(item_id, 0.0) + 1.0
        for before, weight in zip(contribution.before, weights, strict=False):
            after = self.pairs.setdefault(before, {})
            after[item_id] = after.get(item_id, 0.0) + weight

    def sorted(self) -> "Block":
        """The same, however it came about."""
        pairs = {before: dict(sorted(after.items())) for before, after in sorted(self.pairs.items())}
        return Block(
            self.number, self.window, self.events, dict(sorted(self.liked.items())),
            dict(sorted(self.disliked.items())), pairs,
        )  # fmt: skip


BLOCK = Layout("noised block", Block)


class Told(NamedTuple):
    """What is above the threshold: `counts` float64 (i, 4) of items `ids`: popularity, trend, likes and dislikes; and
    `pairs`, the earlier item and the later one, with what each weighs.
    """

    ids: list[str]
    counts: np.ndarray
    pairs: list[tuple[str, str]]
    weights: np.ndarray


class Blocks:
    """The blocks of the last HALF_LIVES, MOST_BLOCKS at most, the newest last."""

    def __init__(self, behaviour: Behaviour, budget: Budget) -> None:
        signals = behaviour.signals
        self.half_lives = (signals.half_life_events, signals.trend_half_life_events)
        self.secret, self.budget = behaviour.noise.key, budget
        self.weights = weights_of(behaviour.noise.pairs)
        self.held: deque[Block] = deque(maxlen=MOST_BLOCKS)
        self._keys: deque[dict[str, np.ndarray]] = deque(maxlen=MOST_BLOCKS)
        self._names: dict[str, int] = {}

    def end(self, block: Block) -> Block:
        """Take a block that is over; as it is kept."""
        block = block.sorted()
        self.take(block)
        return block

    def take(self, block: Block) -> None:
        """Take one that `end` gave."""
        encoded = BLOCK.encode(block)
        self.held.append(block)
        # With the content: no two contents have noise in common, so that no difference of two runs is without noise.
        self._keys.append({part: key_of(self.secret, part, block.number, encoded) for part in ("counts", "pairs")})
        while block.events - self.held[0].events > HALF_LIVES * self.half_lives[0]:
            self.held.popleft()
            self._keys.popleft()

    def told(self) -> Told:
        """What may be told of them all, as of the end of the newest: what was contributed, and above its threshold."""
        liked = sorted({item_id for block in self.held for item_id in block.liked})
        cells = sorted({(a, b) for block in self.held for a, after in block.pairs.items() for b in after})
        self._names = {name: self._name(name) for name in {*liked, *(name for cell in cells for name in cell)}}
        rows = {item_id: row for row, item_id in enumerate(liked)}
        sums = self._sums("counts", [(self._names[a], _LIKED) for a in liked], self._amounts("liked", rows))
        sums_disliked = self._sums(
            "counts", [(self._names[a], _DISLIKED) for a in liked], self._amounts("disliked", rows)
        )
        above = np.flatnonzero(sums[0] > self.threshold(self.budget.counts))
        counts = np.stack([sums[0], sums[1], sums[0], sums_disliked[0]], axis=1)[above]
        pairs = self._sums("pairs", [(self._names[a], self._names[b]) for a, b in cells], self._pairs(cells))[0]
        paired = np.flatnonzero(pairs > self.threshold(self.budget.pairs))
        return Told(
            [liked[row] for row in above.tolist()], np.maximum(counts, 0.0),
            [cells[row] for row in paired.tolist()], pairs[paired],
        )  # fmt: skip

    def threshold(self, deviation: float) -> float:
        """What no sum is above, but for a chance within delta, of a cell that one user alone contributed to: once in
        each window, where it counts most, at most 1; and noise.
        """
        kept = self.kept()[0]
        alone: dict[int, float] = {}
        for block, weight in zip(self.held, kept.tolist(), strict=True):
            alone[block.window] = max(alone.get(block.window, 0.0), weight)
        rounded = float(kept.sum()) / (2 * GRID)
        return sum(alone.values()) + rounded + self.budget.tail * deviation * float(np.sqrt((kept**2).sum()))

    def kept(self) -> np.ndarray:
        """What is left of each block by now, for popularity and for trend: float64 (2, blocks)."""
        ages = self.held[-1].events - np.array([block.events for block in self.held], np.float64)
        return np.stack([0.5 ** (ages / half_life) for half_life in self.half_lives])

    def _name(self, name: str) -> int:
        held = self._names.get(name)
        return name_of(self.secret, name) if held is None else held

    def _sums(self, part: str, names: list[tuple[int, int]], amounts: np.ndarray) -> np.ndarray:
        keys = np.stack([keys[part] for keys in self._keys])
        of = np.array(names, np.uint64).reshape(-1, 2)
        return noised(amounts, keys, of[:, 0].copy(), of[:, 1].copy(), getattr(self.budget, part), self.kept())

    def _amounts(self, which: str, rows: dict[str, int]) -> np.ndarray:
        amounts = np.zeros((len(rows), len(self.held)))
        for k, block in enumerate(self.held):
            for item_id, amount in getattr(block, which).items():
                if item_id in rows:
                    amounts[rows[item_id], k] = amount
        return amounts

    def _pairs(self, cells: list[tuple[str, str]]) -> np.ndarray:
        rows = {cell: row for row, cell in enumerate(cells)}
        amounts = np.zeros((len(cells), len(self.held)))
        for k, block in enumerate(self.held):
            for before, after in block.pairs.items():
                for item_id, amount in after.items():
                    amounts[rows[before, item_id], k] = amount
        return amounts


@njit(cache=True)
def noised(amounts, keys, first, second, deviation, kept):  # type: ignore[no-untyped-def]
    """The sums over blocks of `amounts`, float64 (n, blocks), each with noise of that `deviation` by the key of its
    block, uint32 (blocks, 8), and the cell's names `first` and `second`, uint64 (n,); each block times what is `kept`
    of it, float64 (s, blocks): float64 (s, n). Amount and noise are whole numbers of 1 / GRID when they are added.
    """
    n, blocks = amounts.shape
    sums, words = np.zeros((len(kept), n)), np.empty(16, np.uint64)
    for cell in range(n):
        for k in range(blocks):
            noise = np.rint(deviation * GRID * normal(keys[k], first[cell], second[cell], words)) / GRID
            for s in range(len(kept)):
                sums[s, cell] += kept[s, k] * (amounts[cell, k] + noise)
    return sums
