"""The arithmetic of a user's linear learner over candidates, compiled. Knows coordinates by position, never by name.

A candidate's coordinates are the ranker's logit, its F features, and one for each content token that the user has met.
Candidates are `features` float32 (c, F), the ranker's logits `ranker` float64 (c,) and `rows` int32 (c,); `picks` int64
(n,) are those that are meant, where -1 is the item of row `extra`, of which nothing but its content counts. The index
says what an item's tokens are: `item_tokens` int32 (items, t), -1 after the last, and `token_hashes` uint32.
A learner is `values` float64 (k, D + room) with D = 1 + F, of which row 0 is its weights and, where `measured`, row 1
their precision; and `tokens` uint32 (room,), the hashes of those that it has met, of which `held` count.
"""

import math

import numpy as np
from numba import njit

from .net import logits_of as logits_of_ranker

PRIOR_PRECISION = 1.0  # of a weight that nothing was learned of
_SPARSE = 8  # slots of the table of tokens to each, so that most are found at once


@njit(cache=True)
def probability(logit):  # type: ignore[no-untyped-def]
    """The probability that a logit stands for.

    >>> probability(0.0), probability(-1000.0)
    (0.5, 0.0)
    """
    if logit >= 0.0:
        return 1.0 / (1.0 + math.exp(-logit))
    raised = math.exp(logit)
    return raised / (1.0 + raised)


@njit(cache=True)
def _table(tokens, held):  # type: ignore[no-untyped-def]
    """The first `held` tokens by open addressing: keys int64, -1 where free, and the number of each, int32."""
    size = 16
    while size < _SPARSE * held:
        size *= 2
    keys, numbers = np.full(size, -1, np.int64), np.zeros(size, np.int32)
    for number in range(held):
        token = np.int64(tokens[number])
        at = token & (size - 1)
        while keys[at] >= 0:
            at = (at + 1) & (size - 1)
        keys[at] = token
        numbers[at] = number
    return keys, numbers


@njit(cache=True)
def _find(keys, token):  # type: ignore[no-untyped-def]
    """Where `token` stands in the table, or a free place."""
    at = token & (len(keys) - 1)
    while keys[at] != token and keys[at] >= 0:
        at = (at + 1) & (len(keys) - 1)
    return at


@njit(cache=True)
def score(  # type: ignore[no-untyped-def]
    features, rows, ranker_weights, units, bias, item_tokens, token_hashes, values, tokens, held, intercept, out
):
    """The ranker's logits, see `net.logits_of`, and the learner's of all candidates into `out`, float64 (2, c): 15 us
    for 120 of 6 tokens.
    """
    c, size = features.shape
    weights, ranked, logits = values[0], out[0], out[1]
    ranked[:] = logits_of_ranker(features, ranker_weights, units, bias)
    own = weights[1 : 1 + size]
    for k in range(0, c, 4):  # four at once, whose sums need not wait for each other; the last again
        k1, k2, k3 = min(k + 1, c - 1), min(k + 2, c - 1), min(k + 3, c - 1)
        x0, x1, x2, x3 = features[k], features[k1], features[k2], features[k3]
        b0, b1, b2, b3 = intercept, intercept, intercept, intercept
        for f in range(size):
            b = own[f]
            b0 += x0[f] * b
            b1 += x1[f] * b
            b2 += x2[f] * b
            b3 += x3[f] * b
        first = weights[0]
        logits[k], logits[k1] = b0 + first * ranked[k], b1 + first * ranked[k1]
        logits[k2], logits[k3] = b2 + first * ranked[k2], b3 + first * ranked[k3]
    if held:
        _add_tokens(rows, item_tokens, token_hashes, weights[1 + size :], tokens, held, logits)


@njit(cache=True)
def _add_tokens(rows, item_tokens, token_hashes, weights, tokens, held, logits):  # type: ignore[no-untyped-def]
    """Add to `logits` what the tokens of each of `rows` are worth by `weights`, those of the user's tokens."""
    keys, numbers = _table(tokens, held)
    worth = weights[numbers]
    for k in range(len(rows)):
        row, total = rows[k], 0.0
        for t in range(item_tokens.shape[1]):
            number = item_tokens[row, t]
            if number < 0:
                break
            token = np.int64(token_hashes[number])
            at = token & (len(keys) - 1)
            total += worth[at] if keys[at] == token else 0.0  # no branch: nearly all are found here or are not there
            if keys[at] != token and keys[at] >= 0:
                at = _find(keys, token)
                total += worth[at] if keys[at] == token else 0.0
        logits[k] += total


@njit(cache=True)
def logits_of(  # type: ignore[no-untyped-def]
    features, ranker, rows, picks, extra, item_tokens, token_hashes, values, tokens, held, intercept
):
    """The learner's logits of the candidates at `picks`, float64 (n,): 1.5 us for one, 5 us for 120."""
    size = features.shape[1]
    weights = values[0]
    logits, picked = np.full(len(picks), intercept), np.empty(len(picks), np.int32)
    for k in range(len(picks)):
        c = picks[k]
        picked[k] = rows[c] if c >= 0 else extra
        if c >= 0:
            a0, a1 = weights[0] * ranker[c], 0.0
            whole = size - size % 2
            for f in range(0, whole, 2):
                a0 += features[c, f] * weights[f + 1]
                a1 += features[c, f + 1] * weights[f + 2]
            if whole < size:
                a0 += features[c, whole] * weights[size]
            logits[k] += a0 + a1
    if held:
        _add_tokens(picked, item_tokens, token_hashes, weights[1 + size :], tokens, held, logits)
    return logits


@njit(cache=True)
def vectors(  # type: ignore[no-untyped-def]
    features, ranker, rows, picks, extra, item_tokens, token_hashes, tokens, held
):
    """The candidates at `picks` in the learner's coordinates, float64 (n, D + room): 1 us for five."""
    size = features.shape[1]
    keys, numbers = _table(tokens, held)
    x = np.zeros((len(picks), 1 + size + len(tokens)))
    for k in range(len(picks)):
        c = picks[k]
        row = rows[c] if c >= 0 else extra
        if c >= 0:
            x[k, 0] = ranker[c]
            for f in range(size):
                x[k, f + 1] = features[c, f]
        for t in range(item_tokens.shape[1]):
            if item_tokens[row, t] < 0:
                break
            token = np.int64(token_hashes[item_tokens[row, t]])
            at = _find(keys, token)
            if keys[at] == token:
                x[k, 1 + size + numbers[at]] += 1.0
    return x


def weightiest(weights, most):  # type: ignore[no-untyped-def]
    """The positions of the `most` greatest of `weights`, float (n,), either way, in their order: int64 (most,)."""
    return np.sort(np.argsort(-np.abs(weights), kind="stable")[:most])


@njit(cache=True)
def _move_to_end(tokens, coordinates, at, held):  # type: ignore[no-untyped-def]
    """Make the token at `at` the last of those `held`, with its `coordinates`, float64 (k, room)."""
    token = tokens[at]
    for number in range(at, held - 1):
        tokens[number] = tokens[number + 1]
    tokens[held - 1] = token
    for row in range(len(coordinates)):
        value = coordinates[row, at]
        for number in range(at, held - 1):
            coordinates[row, number] = coordinates[row, number + 1]
        coordinates[row, held - 1] = value


@njit(cache=True)
def meet(row, item_tokens, token_hashes, values, tokens, held, limit, measured):  # type: ignore[no-untyped-def]
    """Give the tokens of the item of `row` a coordinate each, and where `limit` are held, in place of those with the
    smallest weights that are not the item's own: a token that is new has none yet. How many are held now, the item's
    own as the last: .5 us where all are known.
    """
    coordinates = values[:, values.shape[1] - len(tokens) :]
    own = 0  # of the item, the last of those held
    for known in (True, False):  # first those that are held, so that none is given up for another
        for t in range(min(item_tokens.shape[1], limit)):
            if item_tokens[row, t] < 0:
                break
            token = token_hashes[item_tokens[row, t]]
            at = 0
            while at < held and tokens[at] != token:
                at += 1
            if (at < held) != known:
                continue
            if known:
                _move_to_end(tokens, coordinates, at, held)
                own += 1
                continue
            if held >= limit:
                _move_to_end(tokens, coordinates, np.argmin(np.abs(coordinates[0, : held - own])), held)
                held -= 1
            tokens[held] = token
            coordinates[:, held] = 0.0
            if measured:
                coordinates[1, held] = PRIOR_PRECISION
            held += 1
            own += 1
    return held


@njit(cache=True)
def _step(  # type: ignore[no-untyped-def]
    x, values, size, measured, intercept, label, weight, clip, rate, intercept_rate
):
    """One step of plain SGD on the log loss over the first `size` coordinates: River's formulas. The new intercept."""
    weights = values[0]
    a0, a1 = 0.0, 0.0
    whole = size - size % 2
    for d in range(0, whole, 2):
        a0 += x[d] * weights[d]
        a1 += x[d + 1] * weights[d + 1]
    if whole < size:
        a0 += x[whole] * weights[whole]
    logit = a0 + a1 + intercept
    if measured:
        p = 1.0 / (1.0 + math.exp(-logit)) if logit > -700.0 else 0.0
        for d in range(size):
            values[1, d] += weight * p * (1.0 - p) * x[d] * x[d]
    z = logit if label else -logit
    slope = math.exp(-z) if z > 18.0 else 1.0 if z < -18.0 else 1.0 / (math.exp(z) + 1.0)
    slope = max(-clip, min(clip, -weight * slope if label else weight * slope))
    for d in range(size):
        weights[d] -= rate * (slope * x[d])
    return intercept - intercept_rate * slope


@njit(cache=True)
def learn(  # type: ignore[no-untyped-def]
    features,
    ranker,
    rows,
    picks,
    extra,
    item_tokens,
    token_hashes,
    values,
    tokens,
    held,
    limit,
    measured,
    intercept,
    labels,
    weight,
    clip,
    rates,
    intercept_rates,
    offsets,
):
    """A step on each of the candidates at `picks`, of `labels` bool (n,); the tokens of a positive one are met first.

    `offsets` float64 (n,) are what others add to the logit of each, or one that they add to all.
    `rates` and `intercept_rates` are those of each step, or one for all. The new intercept and number of tokens held:
    2 us for one candidate.
    """
    dense = values.shape[1] - len(tokens)
    for k in range(len(picks)):
        if labels[k]:
            row = rows[picks[k]] if picks[k] >= 0 else extra
            held = meet(row, item_tokens, token_hashes, values, tokens, held, limit, measured)
        x = vectors(features, ranker, rows, picks[k : k + 1], extra, item_tokens, token_hashes, tokens, held)[0]
        rate, intercept_rate = rates[min(k, len(rates) - 1)], intercept_rates[min(k, len(intercept_rates) - 1)]
        at, offset = dense + held, offsets[min(k, len(offsets) - 1)]
        moved = _step(x, values, at, measured, intercept + offset, labels[k], weight, clip, rate, intercept_rate)
        intercept = moved - offset
    return intercept, held


@njit(cache=True)
def prefer(  # type: ignore[no-untyped-def]
    features,
    ranker,
    rows,
    picks,
    extra,
    item_tokens,
    token_hashes,
    values,
    tokens,
    held,
    limit,
    measured,
    content_only,
    preferred,
    weight,
    clip,
    rates,
):
    """A step for each of the candidates at `picks` but the first, on the difference between the first and it: whether
    the first was `preferred` to it, or it to the first. A difference has no intercept.

    With `content_only` only tokens are coordinates. How many tokens are held now: 3 us for four others.
    """
    dense = values.shape[1] - len(tokens)
    row = rows[picks[0]] if picks[0] >= 0 else extra
    held = meet(row, item_tokens, token_hashes, values, tokens, held, limit, measured)
    x = vectors(features, ranker, rows, picks, extra, item_tokens, token_hashes, tokens, held)
    if content_only:
        x[:, :dense] = 0.0
    for k in range(1, len(picks)):
        x[k] = x[0] - x[k]
        rate = rates[min(k, len(rates)) - 1]
        _step(x[k], values, dense + held, measured, 0.0, preferred, weight, clip, rate, 0.0)
    return held


@njit(cache=True)
def contributions(  # type: ignore[no-untyped-def]
    features, ranker, rows, picks, extra, item_tokens, token_hashes, values, tokens, held, dense, by_token
):
    """Write what each coordinate adds to the logit of the candidates at `picks` to `dense`, float64 (n, D), and by the
    item's own tokens to `by_token`, float64 (n, t), which are 0. 2 us for 20.
    """
    size = features.shape[1]
    keys, numbers = _table(tokens, held)
    for k in range(len(picks)):
        c = picks[k]
        row = rows[c] if c >= 0 else extra
        if c >= 0:
            dense[k, 0] = ranker[c] * values[0, 0]
            for f in range(size):
                dense[k, f + 1] = features[c, f] * values[0, f + 1]
        for t in range(item_tokens.shape[1]):
            if item_tokens[row, t] < 0:
                break
            token = np.int64(token_hashes[item_tokens[row, t]])
            at = _find(keys, token)
            if keys[at] == token:
                by_token[k, t] = values[0, 1 + size + numbers[at]]


@njit(cache=True)
def deviations(  # type: ignore[no-untyped-def]
    features, ranker, rows, picks, extra, item_tokens, token_hashes, precision, tokens, held
):
    """The standard deviation of the logits at `picks`, float64 (n,), by the `precision` float64 (D + room,) of weights.

    Of dense coordinates, that of their difference from the average of `picks`. A token that was not met has the prior.
    """
    size = features.shape[1]
    x = vectors(features, ranker, rows, picks, extra, item_tokens, token_hashes, tokens, held)
    variance = np.zeros(len(picks))
    for d in range(1 + size):
        mean = 0.0
        for k in range(len(picks)):
            mean += x[k, d]
        mean /= max(1, len(picks))
        for k in range(len(picks)):
            variance[k] += (x[k, d] - mean) * (x[k, d] - mean) / precision[d]
    for k in range(len(picks)):
        row = rows[picks[k]] if picks[k] >= 0 else extra
        unmet = 0.0
        for t in range(item_tokens.shape[1]):
            unmet += item_tokens[row, t] >= 0
        for number in range(held):
            variance[k] += x[k, 1 + size + number] / precision[1 + size + number]
            unmet -= x[k, 1 + size + number]
        variance[k] += unmet / PRIOR_PRECISION
    return np.sqrt(variance)


@njit(cache=True)
def round_off(values, rounded):  # type: ignore[no-untyped-def]
    """Write the first rows and columns of `values` to `rounded`, float32 (rows, columns), and that back to them."""
    for row in range(rounded.shape[0]):
        for column in range(rounded.shape[1]):
            number = np.float32(values[row, column])
            rounded[row, column] = number
            values[row, column] = number
