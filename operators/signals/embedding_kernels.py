"""Kernels of the embedding: the parts of a step, and what of it is to be published. All on rows of a VectorTable."""

import numpy as np
from numba import njit
from riverrank.operators.catalogue.vectors import dot_of
from riverrank.state.item_tables import to_bfloat16
from riverrank.state.table import mark_blocks

CONTEXT, TARGET, BIAS = range(3)  # columns of `steps`
TOLERANCE = 0.02  # a vector that moved by less than this share of its length since it was published is not published


@njit(cache=True)
def gather(context, target, steps, rows, lengths, recencies, targets, bits, size, number):  # type: ignore[no-untyped-def]
    """What a step needs of the table. Of each interaction: whose it is, int32, and what it weighs, float32. The users'
    vectors, float32 (b, d); the distinct rows of `targets`, int32 (b,), and of the sample, int32 (n,), where each of
    `targets` stands there, and their embeddings, float32 (n, d).

    The histories are with `rows`, one after another, of `lengths`, int64 (b,); `recencies[length]` weighs one. `bits`
    uint32 sample among the first `size` rows. `number` int32 by row is 0 before and after.
    """
    d = context.shape[1]
    users = np.zeros((len(targets), d), np.float32)
    owners, weights = np.empty(len(rows), np.int32), np.empty(len(rows), np.float32)
    k = 0
    for user in range(len(lengths)):
        for place in range(lengths[user]):
            weight, row = recencies[lengths[user], place], rows[k]
            owners[k], weights[k] = user, weight
            k += 1
            for column in range(d):
                users[user, column] += weight * context[row, column]
    sampled = np.empty(len(targets) + len(bits), np.int32)
    positions = np.empty(len(targets), np.int64)
    n = 0
    for k in range(len(sampled)):
        row = targets[k] if k < len(targets) else np.int32(bits[k - len(targets)] * 2.0**-32 * size)
        if number[row] == 0 and steps[row, TARGET] > 0:  # 0 in free rows
            sampled[n] = row
            n += 1
            number[row] = n
        if k < len(targets):
            positions[k] = number[row] - 1
    vectors = np.empty((n, d), np.float32)
    for k in range(n):
        row = sampled[k]
        number[row] = 0
        for column in range(d):
            vectors[k, column] = target[row, column]
    return owners, weights, users, sampled[:n], positions, vectors


@njit(cache=True)
def to_exponents(logits, bias, sampled):  # type: ignore[no-untyped-def]
    """Add the `bias` of each of `sampled`, int32 (n,), to `logits`, float32 (b, n), and take each user's highest from
    them, so that none is above 0.
    """
    b, n = logits.shape
    biases = np.empty(n, np.float32)
    for k in range(n):
        biases[k] = bias[sampled[k]]
    for user in range(b):
        most = np.float32(-np.inf)
        for k in range(n):
            logits[user, k] += biases[k]
            most = logits[user, k] if logits[user, k] > most else most
        for k in range(n):
            logits[user, k] -= most


@njit(cache=True)
def to_slope(powers, sums, positions):  # type: ignore[no-untyped-def]
    """Put in place of `powers`, float32 (b, n) with `sums` by user, how each logit is to change: minus its chance, at
    `positions`, int64 (b,), 1 more. The sums over all users: float32 (n,).
    """
    b, n = powers.shape
    total = np.zeros(n, np.float32)
    for user in range(b):
        scale = np.float32(-1) / sums[user]
        for k in range(n):
            powers[user, k] *= scale
        powers[user, positions[user]] += np.float32(1)
        for k in range(n):
            total[k] += powers[user, k]
    return total


@njit(cache=True)
def descend(  # type: ignore[no-untyped-def]
    context, target, bias, steps, rows, weights, owners, pulls, sampled, gradient, bias_gradient, rate, number, moved,
    has_moved, moves, block_rows, changed,
):  # fmt: skip
    """AdaGrad steps on the context embeddings of `rows`, which got `pulls`, float32 (b, d), of their users each by its
    weight, and on the target embeddings and biases of `sampled`, int32 (n,) distinct: `gradient` float32 (n, d) and
    `bias_gradient` float32 (n,). Notes all these as moved, and their blocks in `changed`; returns how many rows are
    noted.
    """
    distinct = np.empty(len(rows), np.int32)
    sums = np.zeros((len(rows), context.shape[1]), np.float32)
    n = 0
    for k in range(len(rows)):
        if number[rows[k]] == 0:
            distinct[n] = rows[k]
            n += 1
            number[rows[k]] = n
        into = number[rows[k]] - 1
        for column in range(context.shape[1]):
            sums[into, column] += weights[k] * pulls[owners[k], column]
    for k in range(n):
        number[distinct[k]] = 0
    _move(context, steps, CONTEXT, distinct[:n], sums[:n], rate)
    _move(target, steps, TARGET, sampled, gradient, rate)
    for k in range(len(sampled)):
        row = sampled[k]
        steps[row, BIAS] += bias_gradient[k] * bias_gradient[k]
        bias[row] += rate * bias_gradient[k] / np.sqrt(steps[row, BIAS])
    mark_blocks(distinct[:n], block_rows, changed)
    mark_blocks(sampled, block_rows, changed)
    moves = note(distinct[:n], moved, has_moved, moves)
    return note(sampled, moved, has_moved, moves)


@njit(cache=True)
def _move(vectors, steps, kind, rows, gradient, rate):  # type: ignore[no-untyped-def]
    """One AdaGrad step of each of `rows`, distinct: its gradient, of float32 (n, d), over the root of the sum of the
    mean squares of all before it and itself. One kind of work at a time, which a processor does for several rows at
    once.
    """
    n, size = gradient.shape
    scales = np.empty(n, np.float32)
    for k in range(n):
        scales[k] = dot_of(gradient[k], gradient[k]) / np.float32(size)
    for k in range(n):
        steps[rows[k], kind] += scales[k]
        scales[k] = rate / np.sqrt(steps[rows[k], kind])
    for k in range(n):
        row, scale = rows[k], scales[k]
        for column in range(size):
            vectors[row, column] += scale * gradient[k, column]


@njit(cache=True)
def note(rows, moved, has_moved, moves):  # type: ignore[no-untyped-def]
    """Add `rows` to the first `moves` of `moved`, each once; returns how many there are."""
    for row in rows:
        if not has_moved[row]:
            has_moved[row] = True
            moved[moves] = row
            moves += 1
    return moves


@njit(cache=True)
def publish(  # type: ignore[no-untyped-def]
    rows, steps, context, target, published_context, published_target,
    named, context_of, contexts, target_of, targets, moved, has_moved,
):  # fmt: skip
    """Of `rows`, ascending, those whose context or target embedding is away from what was published, to be published.

    Up to `len(contexts)` of each kind go to `contexts` and `targets`, as bfloat16; `context_of` and `target_of` say
    whose by position in `named`, which lists their rows. Those for which there is no room are noted in `moved` again.
    Returns how many are named, contexts, targets, noted. Costs 0.1 us a row.
    """
    i = m = n = left = 0
    for row in rows:
        has_moved[row] = False
        if steps[row, TARGET] == 0:  # a free row
            continue
        for_context, for_target = _are_far(context, published_context, target, published_target, row)
        if (for_context and m == len(contexts)) or (for_target and n == len(targets)):
            has_moved[row] = True
            moved[left] = row
            left += 1
        put_context, put_target = for_context and m < len(contexts), for_target and n < len(targets)
        if put_context:
            _copy(context, published_context, contexts, row, m)
            context_of[m] = i
            m += 1
        if put_target:
            _copy(target, published_target, targets, row, n)
            target_of[n] = i
            n += 1
        if put_context or put_target:
            named[i] = row
            i += 1
    return i, m, n, left


@njit(cache=True)
def _copy(vectors, published, halves, row, position):  # type: ignore[no-untyped-def]
    """Note that the vector of `row` is published, and put it at `position` of `halves`, as bfloat16."""
    for k in range(vectors.shape[1]):
        published[row, k] = vectors[row, k]
        halves[position, k] = to_bfloat16(vectors[row, k])


@njit(cache=True)
def _are_far(context, published_context, target, published_target, row):  # type: ignore[no-untyped-def]
    """Whether each of the two vectors of `row` is away from what was published by more than TOLERANCE of its length."""
    of_context = of_target = np.float32(0)
    for k in range(context.shape[1]):  # at once, as each sum waits for itself
        away, other = context[row, k] - published_context[row, k], target[row, k] - published_target[row, k]
        of_context += away * away
        of_target += other * other
    least = np.float32(TOLERANCE**2)
    return of_context > least * dot_of(context[row], context[row]), of_target > least * dot_of(target[row], target[row])
