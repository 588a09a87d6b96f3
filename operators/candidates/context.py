"""The user as retrieval sees them: what they took, how much each counts, and what they stated."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import ContextValue, context_values
from riverrank.operators.index.domains import ANY
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.messages import History, Seen

COLD, WARM, SEGMENTS = 0, 1, 2  # users without and with a history are ordered for by weights of their own
HISTORY_RECENCY = 0.9  # weight of an interaction beside the next newer one
NONE = np.zeros(0, np.int32)
NO_KINDS = np.zeros(0, np.uint8)
_REWARD, _KIND, _ROW = np.dtype("<f8"), np.dtype(np.uint8), np.dtype(np.int32)


class Context(NamedTuple):
    """What a user is asked with: the history rows, distinct, newest first, int32 (h,), their weights, float32 (h,) of
    sum 1, and the kinds of the interactions, as `Seen` has them, uint8 (h,).

    `whole` int32 are the rows of the whole history, distinct, newest first, of which `rows` are the first.
    `again` int32 are the rows of the whole history, newest first, with repetitions, where those may be recommended.
    `own` is the slot of the user's own session, -1 where there is none.
    `said` is what the event that is answered says of where and when it is, and `domain` the domain that it asks for
    (see index.domains).
    """

    rows: np.ndarray
    weights: np.ndarray
    attributes: dict[str, Any]
    kinds: np.ndarray = NO_KINDS
    again: np.ndarray = NONE
    own: int = -1
    whole: np.ndarray = NONE
    said: tuple[ContextValue, ...] = ()
    domain: int = ANY

    @property
    def segment(self) -> int:
        """COLD or WARM: whose weights of the ranker are asked."""
        return WARM if len(self.rows) else COLD


def context_of(
    index: ItemIndex,
    history: Iterable[Seen],
    attributes: dict[str, Any],
    user_id: str = "",
    event_context: Mapping[str, Any] | None = None,
) -> Context:
    """The context from a history (newest last): its last `signals.window` distinct positive items that are known; and
    from what the event that is answered says of where and when it is.
    """
    entries = History.of(history)
    items, most = entries.items, index.behaviour.signals.window
    all_rows = index.table.rows.find(items)
    rewards, all_kinds = np.frombuffer(entries.rewards, _REWARD), np.frombuffer(entries.kinds, _KIND)
    whole, kinds, again = np.empty(len(items), _ROW), np.empty(len(items), _KIND), np.empty(len(items), _ROW)
    h, m = last_liked(all_rows, rewards, all_kinds, whole, kinds, again)
    n = min(h, most)
    again = again[:m] if entries.kinds.translate(None, index.hidden_for_ever) else NONE
    own = index.sessions.slot(user_id)
    domain = index.domains.asked(event_context)
    said = context_values(event_context)
    return Context(whole[:n], recency_weights(n), attributes, kinds[:n], again, own, whole[:h], said, domain)


@njit(cache=True)
def last_liked(rows, rewards, kinds, found, of, all_liked):  # type: ignore[no-untyped-def]
    """Write those of `rows`, int32 (n,), oldest first, -1 for none, that have a reward above 0 and none below it since
    to `all_liked`, int32 (n,), newest first; and the last distinct ones of these to `found`, int32, as many as there is
    room for, with the kind of the newest interaction with each to `of`, uint8. How many of the latter, and of all.
    """
    refused, n, m, liked = np.empty(len(rows), np.int32), 0, 0, 0
    for k in range(len(rows) - 1, -1, -1):
        row = rows[k]
        if rewards[k] < 0:
            refused[m] = row
            m += 1
        is_liked = row >= 0 and rewards[k] > 0
        for held in range(m):
            is_liked &= refused[held] != row
        if not is_liked:
            continue
        all_liked[liked] = row
        liked += 1
        is_new = n < len(found)
        for held in range(n):
            is_new &= found[held] != row
        if is_new:
            found[n] = row
            of[n] = kinds[k]
            n += 1
    return n, liked


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
