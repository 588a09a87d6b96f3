"""The user as retrieval sees them: what they took, how much each counts, and what they stated."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.messages import Seen

COLD, WARM, SEGMENTS = 0, 1, 2  # users without and with a history are ordered for by weights of their own
HISTORY_RECENCY = 0.9  # weight of an interaction beside the next newer one
NONE = np.zeros(0, np.int32)


class Context(NamedTuple):
    """What a user is asked with: the history rows, distinct, newest first, int32 (h,), their weights, float32 (h,) of
    sum 1, and the kinds of the interactions, as `Seen` has them.

    `again` int32 are the rows of the whole history, newest first, with repetitions, where those may be recommended.
    `own` is the slot of the user's own session, -1 where there is none.
    """

    rows: np.ndarray
    weights: np.ndarray
    attributes: dict[str, Any]
    kinds: tuple[int, ...] = ()
    again: np.ndarray = NONE
    own: int = -1

    @property
    def segment(self) -> int:
        """COLD or WARM: whose weights of the ranker are asked."""
        return WARM if len(self.rows) else COLD


def context_of(index: ItemIndex, history: Sequence[Seen], attributes: dict[str, Any], user_id: str = "") -> Context:
    """The context from a history (newest last): its last `signals.window` distinct positive items that are known."""
    find = index.table.rows.get
    window = index.behaviour.signals.window
    rows: dict[int, int] = {}
    for seen in reversed(history):
        if seen.reward > 0 and (row := find(seen.item_id)) is not None:
            rows.setdefault(row, seen.kind)
            if len(rows) == window:
                break
    again = NONE
    if index.behaviour.slate.repeat:
        again = index.table.rows_of(seen.item_id for seen in reversed(history) if seen.reward > 0)
    own = index.sessions.slot(user_id)
    n = len(rows)
    return Context(np.fromiter(rows, np.int32, n), recency_weights(n), attributes, tuple(rows.values()), again, own)


@lru_cache(maxsize=1024)
def recency_weights(n: int) -> np.ndarray:
    """The weights of `n` interactions, newest first: float32 (n,) of sum 1. Not to be written to.

    >>> recency_weights(2).round(3).tolist()
    [0.5260000228881836, 0.4740000069141388]
    """
    weights = HISTORY_RECENCY ** np.arange(n, dtype=np.float32)
    weights /= max(weights.sum(), 1e-9)
    weights.flags.writeable = False
    return weights
