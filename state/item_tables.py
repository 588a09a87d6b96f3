"""What all users taught about items: counts, a bounded list of neighbours for each, and vectors, in numpy arrays.

SIGNALS owns such a table and learns in it, RANKER one of vectors; the index of RANKER and RECOMMEND mirrors both from
updates. Nothing here knows what the numbers are good for.
"""

import numpy as np
from numba import njit

from .table import Column, Table

POPULARITY, TRENDING, POSITIVES, NEGATIVES, RATING_SUM, RATINGS = range(6)
STATS = 6
DECAYED = slice(POPULARITY, TRENDING + 1)  # columns of `stats`
AFTER, BEFORE = range(2)  # weights of a neighbour
ORDERS = 2  # how many these are
BLOCK_ROWS = 256
VECTOR_BLOCK_ROWS = 64
SESSION_BLOCK_ROWS = 64
SESSION_ITEMS = 50
NEVER = 1 << 62


def decay_of(half_lives: tuple[float, float]) -> np.ndarray:
    """What popularity and trend keep over one feedback, of half-lives in feedbacks: float64 (2,), for DECAYED."""
    return 0.5 ** (1.0 / np.array(half_lives))


class ItemTable(Table):
    """`neighbours[row]` holds rows of this table (-1: free) with two weights each: how much it was taken after the
    item, and how much before it, both weighted by order. `stats[row]` has the columns POPULARITY and TRENDING (decayed,
    as of event number `at[row]` of shard `shard[row]`), POSITIVES, NEGATIVES, RATING_SUM, RATINGS.
    A cohort is never counted: in SIGNALS, its `at` is the event that it was last told of. With `dimensions`, `context`
    and `target` are the item's vectors, and `bias` (see VectorTable).

    >>> table = ItemTable(width=4)
    >>> table.row("i-1"), table.neighbours[0].tolist()
    (0, [-1, -1, -1, -1])
    """

    stats: np.ndarray
    at: np.ndarray
    shard: np.ndarray
    neighbours: np.ndarray
    weights: np.ndarray
    context: np.ndarray
    target: np.ndarray
    bias: np.ndarray

    def __init__(self, width: int, dimensions: int = 0) -> None:
        self.width = width
        columns = {
            "stats": Column("<f4", (STATS,)),
            "at": Column("<f8"),
            "shard": Column("<i2"),
            "neighbours": Column("<i4", (width,), -1, "signals.neighbours"),
            "weights": Column("<f4", (width, ORDERS), 0, "signals.neighbours"),
        }
        if dimensions:
            vector = Column("<f4", (dimensions,), 0, "embedding.dimensions")
            columns |= {"context": vector, "target": vector, "bias": Column("<f4")}
        super().__init__(columns, BLOCK_ROWS)

    def release(self, rows: np.ndarray) -> None:
        """Forget `rows`, and their positions in others' lists."""
        super().release(rows)
        gone = np.zeros(self.capacity, np.bool_)
        gone[rows] = True
        self.touch(_forget_neighbours(self.neighbours, self.weights, gone, len(self)))

    def release_cohorts(self, rows: np.ndarray) -> None:
        """Forget `rows`, which are in nobody's list: no pass over all lists."""
        super().release(rows)


@njit(cache=True)
def _forget_neighbours(neighbours, weights, gone, n):  # type: ignore[no-untyped-def]
    """Free the cells of the first `n` lists whose neighbour is `gone`, bool by row; the rows of these lists, int64.
    Costs 1 ns a cell.
    """
    changed = np.zeros(n, np.bool_)
    for row in range(n):
        for position in range(neighbours.shape[1]):
            neighbour = neighbours[row, position]
            if neighbour >= 0 and gone[neighbour]:
                neighbours[row, position] = -1
                weights[row, position, :] = 0
                changed[row] = True
    return np.flatnonzero(changed)


class VectorTable(Table):
    """Items' vectors while they are learned: `context[row]` is what having taken the item says of a user,
    `target[row]` and `bias[row]` what makes it the next one; `steps[row]` the sums of squared gradients of the three.
    """

    context: np.ndarray
    target: np.ndarray
    bias: np.ndarray
    steps: np.ndarray

    def __init__(self, dimensions: int) -> None:
        vector = Column("<f4", (dimensions,), 0, "embedding.dimensions")
        columns = {"context": vector, "target": vector, "bias": Column("<f4"), "steps": Column("<f4", (3,))}
        super().__init__(columns, VECTOR_BLOCK_ROWS, "vectors")


class SessionTable(Table):
    """What users took last, by the hash of their id as 8 hex digits: `items[slot]` rows of the ItemTable beside it,
    distinct, newest first, -1 for a free position; `at[slot]` counts what all users took until the last of them, NEVER
    in a free slot.
    """

    items: np.ndarray
    at: np.ndarray

    def __init__(self) -> None:
        columns = {"items": Column("<i4", (SESSION_ITEMS,), -1), "at": Column("<i8", (), NEVER)}
        super().__init__(columns, SESSION_BLOCK_ROWS, "sessions")


@njit(cache=True)
def to_bfloat16(number):  # type: ignore[no-untyped-def]
    """The upper half of a float32, rounded: uint16.

    >>> float(from_bfloat16(to_bfloat16(np.float32(-0.3))))
    -0.30078125
    """
    return np.uint16((np.float32(number).view(np.uint32) + np.uint32(0x8000)) >> np.uint32(16))


@njit(cache=True)
def from_bfloat16(half):  # type: ignore[no-untyped-def]
    """The number of `to_bfloat16`: float32."""
    return np.uint32(np.uint32(half) << np.uint32(16)).view(np.float32)
