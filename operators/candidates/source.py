"""What a candidate source is. Each lives in a module of its own in `sources` and is registered in `registry`."""

from typing import NamedTuple

import numpy as np

from .query import Query

SHAPES = ("root", "share")  # of a score: its root, and its share of the best candidate's


class Score(NamedTuple):
    """A number that a source gives a candidate, 0 for nothing. Its features are the shapes of `features.SHAPES`; one
    that is `plain` is a feature as it stands, of any sign, and proposes nothing.

    `prior` is the ranker's weight of its root, or of the plain score, before anything is learned. Where it is
    `relative`, only its share of the best candidate's has a meaning. One that does not propose only orders, if its
    source reaches.
    """

    name: str
    prior: float = 0.0
    relative: bool = False
    proposes: bool = True
    plain: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Of its features."""
        return (self.name,) if self.plain else tuple(f"{self.name}:{shape}" for shape in SHAPES)


class Source:
    """A way to find candidates: what it is called, how many it may propose, and what it knows of each.

    A source may `reach` items, which gives them scores and proposes those with the highest; it may `rank` items, which
    proposes the first of a list; it may `describe` candidates, whoever proposed them. Each is given the
    query, whose `context` is the user's, whose `index` knows all items, and whose `reached` takes what is reached. None
    of them changes anything else. One that reaches and describes gives the scores that have shapes, which come first,
    to what it reaches, and the plain ones to candidates.
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
    def reached(self) -> tuple[Score, ...]:
        """The scores that it gives to what it reaches."""
        if not self.reaches:
            return ()
        return tuple(score for score in self.scores if not (self.describes and score.plain))

    def reach(self, query: Query, column: int) -> None:
        """Add to the scores of what is reached: columns `column` and following of `query.reached.scores`."""
        raise NotImplementedError

    def rank(self, query: Query) -> np.ndarray:
        """Rows, int32, best first, of which the first that may be served are proposed."""
        raise NotImplementedError

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        """Write the scores of candidates `rows`, int32 (c,), of which the first `proposed` are proposed by a source, to
        columns `column` and following of `scores`, float32 (c, S), which are 0: all but those of what is reached.
        """
        raise NotImplementedError
