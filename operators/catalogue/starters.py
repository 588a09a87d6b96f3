"""What to ask a new user about: a few items that many know and that together say something of all others. Knows items
as vectors and weights, and nothing of users.
"""

import numpy as np


def choose(known: np.ndarray, vectors: np.ndarray, k: int) -> tuple[list[int], np.ndarray]:
    """The places of `k` items, best first, and the share of all there is to cover that they and those before cover.

    `known`, float64 (n,), is how many people know each item; `vectors`, float64 (n, d), what it says of them. An item
    covers another by the cosine of their vectors, if that is above 0, times the chance that someone asked about it has
    an answer, for which the root of its share of the best known one's number stands. To be covered, an item weighs as
    much as it is known. Fewer than `k` where no more covers anything.

    The greedy choice for facility location: no choice of k covers more than e / (e - 1) times as much (Nemhauser,
    Wolsey, Fisher, An analysis of approximations for maximizing submodular set functions, 1978). Of equals the first.

    >>> places, covered = choose(np.array([9.0, 8.0, 4.0]), np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), 2)
    >>> places, covered.round(2).tolist()
    ([0, 2], [0.81, 0.94])
    """
    directions = unit(vectors)
    answered = np.sqrt(known / max(float(known.max(initial=0.0)), 1e-9))
    covers = np.maximum(directions @ directions.T, 0.0) * answered  # column j: how well j covers each
    best = np.zeros(len(known))
    positions: list[int] = []
    covered: list[float] = []
    while len(positions) < min(k, len(known)):
        gains = known @ np.maximum(covers - best[:, None], 0.0)
        position = int(gains.argmax())
        if gains[position] <= 0.0:
            break
        positions.append(position)
        best = np.maximum(best, covers[:, position])
        covered.append(float(known @ best / known.sum()))
    return positions, np.array(covered)


def together(*parts: np.ndarray) -> np.ndarray:
    """Vectors of several kinds, each float (n, d), as one whose cosine is the mean of theirs: float64 (n, sum of d)."""
    return np.concatenate([unit(part) for part in parts], axis=1)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors with length 1, or 0 where that is their length: float64 (n, d)."""
    lengths = np.sqrt(np.square(vectors, dtype=np.float64).sum(axis=1, keepdims=True))
    return vectors / np.where(lengths > 0.0, lengths, 1.0)
