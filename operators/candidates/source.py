"""What a candidate source is. Each lives in a module of its own in `sources` and is registered in `registry`."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .query import Query


class Score(NamedTuple):
    """A number that a source gives a candidate, 0 for nothing. Its features are the shapes of `features.SHAPES`.

    `prior` is the ranker's weight of its root before anything is learned. Where it is `relative`, only its share of
    the best candidate's has a meaning. One that does not propose only orders, if its source reaches.
    """

    name: str
    prior: float = 0.0
    relative: bool = False
    proposes: bool = True


class Feature(NamedTuple):
    """A feature that is no shape of a score: `fill(query, rows, features, column)` writes its values for `rows`, int32
    (c,), to the column of `features`, float64 (c, F), where the source applies; else they are 0. `prior` is the
    ranker's weight before anything is learned. One with `numbers` has as many columns, from that one on, which are
    called by its name and their number.
    """

    name: str
    fill: Callable[[Query, np.ndarray, np.ndarray, int], None]
    prior: float = 0.0
    numbers: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """Of its columns."""
        return tuple(f"{self.name}_{k}" for k in range(self.numbers)) if self.numbers else (self.name,)


class Source:
    """A way to find candidates: what it is called, how many it may propose, and what it knows of each.

    A source may `reach` items, which gives them scores and proposes those with the highest; it may `rank` items, which
    proposes the first of a list; it may `describe` candidates, whoever proposed them. Each is given the
    query, whose `context` is the user's, whose `index` knows all items, and whose `reached` takes what is reached. None
    of them changes anything else.
    """

    name: str
    meaning: str  # what it proposes, for the documents
    reason: str  # the code of the reason that its features give
    quota: float = 0.0  # of the candidates, for each list that it proposes
    scores: tuple[Score, ...] = ()
    features: tuple[Feature, ...] = ()
    reaches = ranks = describes = False  # which of the three methods it has
    needs_history = False  # whether it has nothing to say of a user who took nothing

    def applies(self, query: Query) -> bool:
        """Whether the source has anything to say of this user. It is asked once for all users of a kind: it may go by
        whether the context has `rows`, `attributes`, `again` and `said`, and by nothing else.
        """
        return not self.needs_history or len(query.context.rows) > 0

    def reach(self, query: Query, column: int) -> None:
        """Add to the scores of what is reached: columns `column` and following of `query.reached.scores`."""
        raise NotImplementedError

    def rank(self, query: Query) -> np.ndarray:
        """Rows, int32, best first, of which the first that may be served are proposed."""
        raise NotImplementedError

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        """Write the scores of candidates `rows`, int32 (c,), of which the first `proposed` are proposed by a source, to
        columns `column` and following of `scores`, float32 (c, S), which are 0.
        """
        raise NotImplementedError
