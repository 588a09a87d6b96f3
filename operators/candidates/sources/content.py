"""Content: items that say of themselves what the user's items say, or what the user stated."""

from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.catalogue.tokens import preferences
from riverrank.operators.catalogue.vectors import DIMENSIONS, direction, dot_of

from ..context import NONE
from ..query import Query
from ..source import Score, Source
from ..vectors import touched

WANTED = 4  # tokens whose most popular items are proposed
TOKENS_OF_A_VALUE = 4  # that a stated value is looked for in
STATED = 0.5  # weight of a stated preference beside a whole history; it is all there is without one


class Wish(NamedTuple):
    """What the user is after: `vector` float32 (DIMENSIONS,) of length 1 or 0, and `tokens` int32 (w,)."""

    vector: np.ndarray
    tokens: np.ndarray


class Content(Source):
    """The cosine of the item's content and the weighed sum of what the user took and stated."""

    name = "content"
    meaning = "the most popular items of the categories and attributes that the user took or stated"
    reason = "like_your_history"
    quota = 0.08
    scores = (Score("content", prior=1.0),)
    ranks = describes = True

    def applies(self, query: Query) -> bool:
        return bool(len(query.context.rows) or query.context.attributes)

    def rank(self, query: Query) -> np.ndarray:
        return query.index.best_of_each(self._wish(query).tokens)

    def describe(self, query: Query, rows: np.ndarray, proposed: int, scores: np.ndarray, column: int) -> None:
        likeness(rows, query.index.content, self._wish(query).vector, scores, column)

    def _wish(self, query: Query) -> Wish:
        found = query.memo.get(self.name)
        if found is None:
            context, index = query.context, query.index
            stated, numbers = _stated(query) if context.attributes else (_NOTHING, NONE)
            weight = STATED if len(context.rows) else 1.0
            vector, tokens = np.empty(DIMENSIONS, np.float32), np.empty(WANTED, np.int32)
            n = wish(
                *(context.rows, context.weights, index.content, index.tokens, index.token_sizes),
                *(stated, numbers, weight, vector, tokens),
            )
            found = query.memo[self.name] = Wish(vector, tokens[:n])
        return found


_NOTHING = np.zeros(DIMENSIONS, np.float32)


def _stated(query: Query) -> tuple[np.ndarray, np.ndarray]:
    """The sum of the directions of what the profile states, float32 (DIMENSIONS,), and the tokens, int32."""
    index = query.index
    numbers = [
        number
        for value in sorted(preferences(query.context.attributes))
        for number in index.tokens_of_value.get(value, ())[:TOKENS_OF_A_VALUE]
    ]
    vector = np.zeros(DIMENSIONS, np.float32)
    for number in numbers:
        vector += direction(index.token_names[number])
    return vector / np.float32(np.sqrt(DIMENSIONS)), np.array(numbers, np.int32)


@njit(cache=True)
def wish(history, weights, content, tokens, sizes, stated, numbers, weight, vector, best):  # type: ignore[no-untyped-def]
    """Write the user's content vector to `vector`, float32 (d,), and the WANTED tokens with the most weight beside the
    root of how many items have them to `best`, int32 (WANTED,); how many tokens they are.

    `history` int32 (h,) with `weights` float32 (h,); `stated` float32 (d,) and the tokens `numbers` count `weight`.
    Fewer tokens where there are fewer that weigh anything. About 2 us for 20 items.
    """
    vector[:] = np.float32(weight) * stated
    most = len(history) * tokens.shape[1] + len(numbers)
    found = np.empty(most, np.int32)
    shares = np.zeros(most)
    n = 0
    for h in range(len(history) + 1):
        own = h == len(history)
        if not own:
            held = content[history[h]]
            share = weights[h]
            for d in range(len(vector)):
                vector[d] += share * held[d]
        for t in range(len(numbers) if own else tokens.shape[1]):
            token = numbers[t] if own else tokens[history[h], t]
            if token >= 0:
                k = 0
                while k < n and found[k] != token:
                    k += 1
                found[k] = token
                n = max(n, k + 1)
                shares[k] += weight if own else weights[h]
    wanted = 0
    while wanted < WANTED:
        pick = -1
        highest = -1.0
        for k in range(n):
            rarity = shares[k] / np.sqrt(1.0 + sizes[found[k]])
            if shares[k] > 0.0 and (rarity > highest or (rarity == highest and found[k] < found[pick])):
                pick = k
                highest = rarity
        if pick < 0:
            break
        best[wanted] = found[pick]
        wanted += 1
        shares[pick] = 0.0
    length = np.sqrt(dot_of(vector, vector))
    if length > 0.0:
        vector /= length
    return wanted


@njit(cache=True)
def likeness(rows, vectors, vector, scores, column):  # type: ignore[no-untyped-def]
    """The dot products, 0 at least, of `vector` and the vectors of `rows`, into the column of `scores`. 15 ns a row."""
    for c in range(len(rows)):
        scores[c, column] = touched(vectors[rows[c]])
    for c in range(len(rows)):
        scores[c, column] = max(dot_of(vectors[rows[c]], vector), np.float32(0.0))
