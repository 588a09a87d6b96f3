"""What a candidate source is. Each lives in a module of its own in `sources` and is registered in `registry`."""

from typing import NamedTuple

import numpy as np

from .query import Query

ROOT = "root"
SHAPES = (ROOT, "share")  # of a score: its root, and its share of the best candidate's


class Score(NamedTuple):
    """A number that a source gives a candidate, 0 for nothing. Its features are its SHAPES; one that is `plain` is a
    feature as it stands, of any sign, and proposes nothing.

    `prior` is the ranker's weight of its root, or of the plain score, before anything is learned. Where it is
    `relative`, only its share of the best candidate's has a meaning. One that does not propose only orders, if its
    source reaches; one that is `described` is not given to what is reached, but to candidates.
    """

    name: str
    prior: float = 0.0
    relative: bool = False
    proposes: bool = True
    plain: bool = False
    described: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of its features."""
        return (self.name,) if self.plain else tuple(f"{self.name}:{shape}" for shape in SHAPES)


class Source:
    """A way to find candidates: what it is called, how many it may propose, and what it knows of each.

    A source may `reach` items, which gives them scores and proposes those with the highest; it may `rank` items, which
    proposes the first of a list; it may `describe` candidates, whoever proposed them. Each is given the
    query, whose `context` is the user's, whose `index` knows all items, and whose `reached` takes what is reached. None
    of them changes anything else. One that reaches gives all its scores to what it reaches, but those that are
    `described`, which come last.
    """

    name: str
    meaning: str  # what it proposes, for the documents
    reason: str  # the code of the reason that its features give
    quota: float = 0.0  # of the candidates, for each list that it proposes
    scores: tuple[Score, ...] = ()
    reaches = ranks = describes = False  # which of the three methods it has
    needs_history = False  # whether it has nothing to say of a user who took nothing

    def applies(self, query: Query) -> bool:
        """Whether the source has anything to say of this user. It is asked once for all users of a kind: it may go by
        whether the context has `rows`, `attributes`, `again` and `said`, and by nothing else.
        """
        return not self.needs_history or len(query.context.rows) > 0

    @property
    def reached_scores(self) -> tuple[Score, ...]:
        """Those that it gives to what it reaches."""
        return tuple(score for score in self.scores if not score.described) if self.reaches else ()

    @property
    def proposing(self) -> tuple[int, ...]:
        """Which of the reached scores propose."""
        return tuple(k for k, score in enumerate(self.reached_scores) if score.proposes and not score.plain)

    def check(self) -> None:
        """Raises ValueError where its scores contradict each other or what it does."""
        n = len(self.reached_scores)
        if self.reaches and any(not score.described for score in self.scores[n:]):
            raise ValueError(f"source {self.name}: scores that are described come last")
        if self.reaches and self.describes is (n == len(self.scores)):
            raise ValueError(f"source {self.name}: reaches, so it describes where some scores are described, else not")
        if (self.ranks or self.proposing) and not self.quota:
            raise ValueError(f"source {self.name}: proposes nothing without a quota")
        for score in self.scores:
            if score.plain and score.relative:
                raise ValueError(f"score {score.name}: a plain one has no share that could be told")

    def reach(self, query: Query, column: int) -> None:
        """Add to the scores of what is reached: columns `column` and following of `query.reached.scores`."""
        raise NotImplementedError

    def rank(self, query: Query) -> np.ndarray:
        """Rows, int32, best first, of which the first that may be served are proposed."""
        raise NotImplementedError

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        """Write the scores of candidates `rows`, int32 (c,), of which the first `proposed` are proposed by a source, to
        columns `column` and following of `scores`, float32 (c, S), which are 0. Where it reaches as well, those that
        are described.
        """
        raise NotImplementedError
