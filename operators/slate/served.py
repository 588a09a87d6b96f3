"""What users were last answered with: the candidates and their features, kept in memory for the next feedback.

What a user prefers is learned against what was there to be preferred, with the features it was ordered by; to find
both again would double the work. It is no state: where it is missing, candidates are found again.
"""

from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.models.inputs import Inputs


class Served(NamedTuple):
    """Candidates, what a learner sees of them, and its logits of them, float64 (c,)."""

    candidates: Candidates
    inputs: Inputs
    logits: np.ndarray

    def proposed(self) -> "Served":
        """Without what no source proposed: a user's choice says nothing against a pin."""
        positions = self.candidates.proposed.nonzero()[0]
        if len(positions) == len(self.candidates.rows):
            return self
        return Served(self.candidates.at(positions), self.inputs.pick(positions.tolist()), self.logits[positions])

    def missed(self, position: int, size: int) -> bool:
        """Whether what stands at `position`, -1 for nowhere, is not among the first `size` of the learner's order."""
        return position < 0 or int(np.count_nonzero(self.logits > self.logits[position])) >= size

    def position(self, row: int) -> int:
        """Where `row` stands among the candidates, -1 where it does not."""
        positions = (self.candidates.rows == row).nonzero()[0]
        return int(positions[0]) if len(positions) else -1
