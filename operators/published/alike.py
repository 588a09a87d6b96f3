"""Which items are like an item, and which are taken together with it: kernels over the arrays of an index."""

import numpy as np
from numba import njit
from riverrank.operators.candidates.selection import key_of, order_of, select, sort
from riverrank.operators.candidates.vectors import touched
from riverrank.operators.catalogue.tokens import MAX_TOKENS
from riverrank.operators.catalogue.vectors import dot_of
from riverrank.state.item_tables import AFTER, BEFORE, POSITIVES

CANDIDATES = 256  # rows that are compared with one, at most
OF_TOKENS = 160  # of these, that share a token with it, at most
LINKS = 256  # of the chains of its tokens that are followed, at most: a row stands in as many as it has tokens
LEAST_ALIKE = 0.25  # up to which items that have nothing in common are alike, by chance
SEEN_ONCE = 1.0  # the most that one interaction gives a pair


@njit(cache=True)
def taken_together(row, neighbours, weights, stats, least, found, values):  # type: ignore[no-untyped-def]
    """Write what was taken with `row` more than once, and is `known_well` as `row` itself is, to `found`, int32
    (width,), and its share of all that was taken with `row` to `values`, float32 (width,), of which one is left for
    what is in no list; how many they are. Less than 1 us for 60.
    """
    total = np.float32(1.0)
    for k in range(len(found)):
        total += weights[row, k, AFTER] + weights[row, k, BEFORE]
    n = 0
    for k in range(len(found) if is_known_well(row, stats, least) else 0):
        other, weight = neighbours[row, k], weights[row, k, AFTER] + weights[row, k, BEFORE]
        if other >= 0 and weight > SEEN_ONCE and is_known_well(other, stats, least):
            found[n], values[n] = other, weight / total
            n += 1
    return n


@njit(cache=True)
def is_known_well(row, stats, least):  # type: ignore[no-untyped-def]
    """Whether `row` has so many positive feedbacks, of each user one a type, that what all taught of it may be told."""
    return stats[row, POSITIVES] >= least


@njit(cache=True)
def near_by(row, tokens, sizes, heads, after, neighbours, popular, stamps, stamp, found):  # type: ignore[no-untyped-def]
    """Write rows that may be like `row` to `found`, int32 (c,), each once; how many they are: what is taken with it,
    what shares a token with it, its rarest first, and as many of the `popular` as there is room for.

    The chains of tokens are as in Vocabulary. `stamps` int64 by row: one that holds `stamp` is there. About 3 us.
    """
    stamps[row] = stamp
    n = 0
    for other in neighbours[row]:
        n = put(other, stamps, stamp, found, n)
    own = tokens[row].copy()
    most, left = min(n + OF_TOKENS, len(found)), LINKS
    for _ in range(len(own)):
        rarest = -1
        for t in range(len(own)):
            if own[t] >= 0 and (rarest < 0 or sizes[own[t]] < sizes[own[rarest]]):
                rarest = t
        if rarest < 0:
            break
        link = heads[own[rarest]]
        own[rarest] = -1
        while link >= 0 and n < most and left > 0:
            n = put(link // MAX_TOKENS, stamps, stamp, found, n)
            link = after[link]
            left -= 1
    for k in range(len(popular)):
        if n == len(found):
            break
        n = put(popular[k], stamps, stamp, found, n)
    return n


@njit(cache=True)
def put(row, stamps, stamp, found, n):  # type: ignore[no-untyped-def]
    """Write `row` to `found`, which has room, unless it is there or is none; how many are there then. Whether it is
    there is no branch, which a CPU would guess wrong too often.
    """
    if row < 0:
        return n
    is_new = stamps[row] != stamp
    stamps[row] = stamp
    found[n] = row
    return n + is_new


@njit(cache=True)
def likeness(row, rows, n, content, target, stats, least, values):  # type: ignore[no-untyped-def]
    """Write how much each of the first `n` of `rows`, int32, is like `row` to `values`, float32: the mean of two
    cosines, of what the catalogue says of both and of what they are taken after (their target embeddings, where both
    are known well), or the one that there is. About 40 ns a row, three times as long where none is in any cache.
    """
    says = dot_of(content[row], content[row]) > 0.0
    length = np.sqrt(dot_of(target[row], target[row]))
    learned = length > 0.0 and is_known_well(row, stats, least)
    for k in range(n):
        values[k] = touched(content[rows[k]]) + touched(target[rows[k]])
    for k in range(n):
        other, value, parts = rows[k], np.float32(0.0), np.float32(0.0)
        cosine = dot_of(content[other], content[row]) if says else np.float32(0.0)
        if cosine != 0.0:  # it is where nothing is said of the other, and else never
            value += cosine
            parts += np.float32(1.0)
        if learned and is_known_well(other, stats, least):
            lengths = length * np.sqrt(dot_of(target[other], target[other]))
            if lengths > 0.0:
                value += np.float32(dot_of(target[other], target[row]) / lengths)
                parts += np.float32(1.0)
        values[k] = value / max(parts, np.float32(1.0))


@njit(cache=True)
def best(rows, values, n, above, servable, found, scores):  # type: ignore[no-untyped-def]
    """Write those of the first `n` of `rows`, int32, that may be served and have the highest `values`, float32, `above`
    a number, to `found`, int32 (m,), best first, and the values to `scores`, float64 (m,); how many they are.
    """
    bits = values.view(np.int32)
    keys = np.empty(n, np.int64)
    held = 0
    for k in range(n):
        if servable[rows[k]] and values[k] > above:
            keys[held] = key_of(bits[k], k)
            held += 1
    most = min(held, len(found))
    highest = np.empty(most, np.int64)
    select(keys, held, most)
    sort(keys, most, highest)
    for k in range(most):
        order = order_of(highest[k])
        found[k], scores[k] = rows[order], values[order]
    return most
