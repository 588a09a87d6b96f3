"""Which source is asked what for users of one kind, said once."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from typing import NamedTuple

import numpy as np

from .context import NONE
from .query import Query
from .source import Source
from .sources.popular import Popular

FILLER = Popular.name  # the source whose list is taken on with where the others leave room
FILL = "filler"  # what stands for it on a slate, where it is off


class Plan(NamedTuple):
    """`reaching` are the methods `reach` of the sources that apply and reach, each with its first column of what is
    reached; `describing` the methods `describe`, with the first of the columns of all scores that they write; `ranking`
    a function for each source that ranks, whether it applies or not, which gives its list.

    A proposal p is the best `quotas[p]` of column `columns[p]` of what is reached or, where that is below 0, the first
    of list -1 - `columns[p]`; `bits[p]` is that of the source.
    """

    reaching: tuple[tuple[Callable[[Query, int], None], int], ...]
    ranking: tuple[Callable[[Query], np.ndarray], ...]
    describing: tuple[tuple[Callable[[Query, np.ndarray, int, np.ndarray, int], None], int], ...]
    columns: np.ndarray
    quotas: np.ndarray
    bits: np.ndarray


def starts_of(sources: Sequence[Source]) -> list[int]:
    """The number of the first score of each source."""
    return list(accumulate((len(source.scores) for source in sources), initial=0))[:-1]


def plan_of(sources: Sequence[Source], asked: Sequence[bool], query: Query) -> Plan:
    """The plan for whoever `query` is of, and all of the same kind; whether each of `sources` is `asked`."""
    reaching, describing, ranking = [], [], [_nothing]
    proposals: list[tuple[int, int, int]] = []  # column, quota, bit
    fillers: list[tuple[int, int, int]] = []
    column = 0
    for number, (source, start) in enumerate(zip(sources, starts_of(sources), strict=True)):
        applies = asked[number] and source.applies(query)
        quota, bit = query.most(source.quota) if source.quota else 0, 1 << number
        if source.ranks and quota:
            if applies:
                proposals.append((-1 - len(ranking), quota, bit))
            if source.name == FILLER and asked[number]:
                fillers.append((-1 - len(ranking), query.limit, bit))
            ranking.append(source.rank if applies else _nothing)
        if source.reaches:
            if applies:
                reaching.append((source.reach, column))
            if applies and quota:
                proposals += [(column + at, quota, bit) for at in source.proposing]
            column += len(source.reached_scores)
        if source.describes and applies:
            describing.append((source.describe, start + len(source.reached_scores)))
    proposals += fillers
    columns, quotas, bits = np.array(proposals, np.int64).reshape(-1, 3).T.copy()
    ways = tuple(reaching), tuple(ranking), tuple(describing)
    return Plan(*ways, columns, quotas, bits.astype(np.uint32))


def _nothing(query: Query) -> np.ndarray:
    return NONE
