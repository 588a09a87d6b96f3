"""What users were last answered with: the candidates and their features, kept in memory for the next feedback.

What a user prefers is learned against what was there to be preferred, with the features it was ordered by; to find
both again would double the work. It is no state: where it is missing, candidates are found again.
"""

from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.models.inputs import Inputs

NOWHERE = 1 << 30  # more than there are candidates


class Served(NamedTuple):
    """Candidates, what a learner sees of them, and its logits of them, float64 (c,)."""

    candidates: Candidates
    inputs: Inputs
    logits: np.ndarray

    def proposed(self) -> "Served":
        """Without what no source proposed: a user's choice says nothing against a pin."""
        positions = self.candidates.proposed.nonzero()[0]
        if len(positions) == self.size:
            return self
        return Served(self.candidates.at(positions), self.inputs.pick(positions.tolist()), self.logits[positions])

    @property
    def size(self) -> int:
        """How many they are."""
        return self.candidates.size

    def at(self, positions: np.ndarray) -> "Served":
        """Those at `positions`, int64 (n,), alone, and nothing else is held of the others."""
        candidates = self.candidates.at(positions)
        inputs = Inputs(self.inputs.index, candidates, self.inputs.ranker[positions])
        return Served(candidates, inputs, self.logits[positions])

    def of(self, rows: np.ndarray) -> "Served | None":
        """Those of `rows`, int32 (n,), distinct, in that order; None where one of them is not among the candidates."""
        same = self.candidates.rows[:, None] == rows
        return self.at(same.argmax(axis=0)) if same.any(axis=0).all() else None

    def standing(self, row: int) -> tuple[int, int]:
        """Where `row` stands among the candidates, -1 where it does not; and how many are above it in the learner's
        order, NOWHERE where it does not stand.
        """
        return standing(self.candidates.rows, self.logits, row)


@njit(cache=True)
def standing(rows, logits, row):  # type: ignore[no-untyped-def]
    """See Served.standing, for `rows`, int32 (c,), and their `logits`, float64 (c,)."""
    for position in range(len(rows)):
        if rows[position] == row:
            above = 0
            for k in range(len(rows)):
                above += logits[k] > logits[position]
            return position, above
    return -1, NOWHERE
