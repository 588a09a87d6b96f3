"""Embeddings of items, learned from what users take after what. Knows items by id; of users only their histories.

Each item has two: its context embedding is what having taken it says of a user, its target embedding what makes it the
next one. A user's vector is the weighed mean of the context embeddings of the history, the newer the more, so a user
needs no vector of their own.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from numba import njit
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import random_bits, uniforms
from riverrank.state.item_tables import VectorTable
from riverrank.state.messages import Feedback, History, Seen, VectorUpdate, to_bfloat16
from riverrank.state.table import mark_blocks

USER_RECENCY = 0.8  # weight of an interaction beside the next newer one
START_SCALE = 0.17  # of the numbers that a vector starts with
FIRST_STEP = 1e-3  # sum of squared gradients that a vector starts with
TOLERANCE = 0.02  # a vector that moved by less than this share of its length since it was published is not published
BLOCK = 16  # feedbacks that are learned from at once
MAX_PUBLISHED = 4096  # vectors of an update; the others wait for the next
CONTEXT, TARGET, BIAS = range(3)  # columns of `steps`


@lru_cache(maxsize=1024)
def recency(n: int) -> np.ndarray:
    """The weights of the last `n` interactions, newest first: float32 (n,), of length 1. Not to be written to.

    >>> [round(weight, 3) for weight in recency(2).tolist()]
    [0.781, 0.625]
    """
    weights = USER_RECENCY ** np.arange(n, dtype=np.float32)
    if n:
        weights /= np.sqrt(weights @ weights)
    weights.flags.writeable = False
    return weights


def last_items(history: Iterable[Seen], window: int) -> list[str]:
    """The last `window` distinct items of the history (newest last) that were taken, newest first."""
    return list(dict.fromkeys(History.of(history).taken()))[:window]


class Embedding:
    """The learner of the embeddings, in `table`.

    A block of feedbacks at once: for each, the softmax over the block's items and a sample of all others of the dot
    product with the user's vector, plus the item's bias (Covington et al., Deep neural networks for YouTube
    recommendations, 2016, without the depth; the user's vector as in Kabbur et al., FISM, 2013), with AdaGrad steps a
    vector (Duchi et al., 2011).
    """

    def __init__(self, behaviour: Behaviour, table: VectorTable) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.embedding
        self.table = table
        self.newest = 0  # event time, of what was learned since vectors were last told
        window = behaviour.signals.window
        self._recencies = np.zeros((window + 1, window), np.float32)  # by length of a history
        for n in range(window + 1):
            self._recencies[n, :n] = recency(n)
        self._block: list[Feedback] = []  # not yet learned from
        self._published_context = np.zeros((0, self.settings.dimensions), np.float32)
        self._published_target = self._published_context
        self._moved = np.zeros(0, np.int32)  # rows that moved and may have to be published, the first `_moves`
        self._moves = 0
        self._has_moved = np.zeros(0, np.bool_)  # by row, whether it is among these
        self._number = np.zeros(0, np.int32)  # by row, 0 between calls

    def take(self, feedback: Feedback) -> None:
        """Take a feedback; with BLOCK of them, learn."""
        self._block.append(feedback)
        if len(self._block) == BLOCK:
            self.settle()

    def settle(self) -> None:
        """Learn from what was taken and is not learned from yet."""
        self.learn(self._block)
        self._block = []

    def learn(self, block: Sequence[Feedback]) -> None:
        """Learn from the positive interactions among `block`, all at once."""
        positive = [f for f in block if f.reward > 0 and f.event.item_id is not None]
        window = self.behaviour.signals.window
        self._make_room(len(positive) * (window + 1))
        histories = [last_items(feedback.history, window) for feedback in positive]
        rows = self._rows([*chain.from_iterable(histories), *(feedback.event.item_id or "" for feedback in positive)])
        self.newest = max([self.newest, *(feedback.event.ts for feedback in block)])
        led = [k for k, items in enumerate(histories) if items]  # those that something led to
        if led:
            end = len(rows) - len(positive)
            lengths = np.array([len(histories[k]) for k in led])
            self._step(rows[:end], lengths, rows[end:][led], f"vectors:{positive[led[-1]].event.event_id}")

    def moved(self, shard: int) -> VectorUpdate | None:
        """The embeddings that moved since they were last published; None where none did."""
        table = self.table
        if not self._moves:
            return None
        self._fit()
        rows = np.sort(self._moved[: self._moves])
        most, d = min(len(rows), MAX_PUBLISHED), self.settings.dimensions
        named, context_of, target_of = np.empty(2 * most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
        contexts, targets = np.empty((most, d), np.float32), np.empty((most, d), np.float32)
        i, m, n, self._moves = _publish(
            rows, table.steps, table.context, table.target, self._published_context, self._published_target,
            named, context_of, contexts, target_of, targets, self._moved, self._has_moved,
        )  # fmt: skip
        if not i:
            return None
        ts, self.newest = self.newest, self.newest if self._moves else 0
        return VectorUpdate(
            shard=shard,
            ids=tuple(map(table.ids.__getitem__, named[:i].tolist())),
            context_of=context_of[:m].tobytes(),
            context=to_bfloat16(contexts[:m]),
            target_of=target_of[:n].tobytes(),
            target=to_bfloat16(targets[:n]),
            bias=table.bias[named[target_of[:n]]].tobytes(),
            ts=ts,
        )

    def publish_all(self) -> None:
        """Take every embedding for one that moved: what was published before a restore is not known."""
        self._fit()
        self._note(np.fromiter(self.table.rows.values(), np.int32, len(self.table.rows)))

    def _step(self, rows: np.ndarray, lengths: np.ndarray, targets: np.ndarray, draw: str) -> None:
        """One step on users whose histories are `rows`, int32, one after another and each newest first, of `lengths`,
        int64 (b,), and who took `targets`, int32 (b,).
        """
        self._fit()
        table = self.table
        bits = np.frombuffer(random_bits(self.behaviour.seed, draw, self.settings.negatives), "<u4")
        owners, weights, users, sampled, positions, vectors = _gather(
            table.context, table.target, table.steps, rows, lengths, self._recencies, targets, bits, len(table),
            self._number,
        )  # fmt: skip
        slope = users @ vectors.T
        _to_exponents(slope, table.bias, sampled)
        np.exp(slope, out=slope)
        bias_gradient = _to_slope(slope, slope.sum(axis=1), positions)
        self._moves = _descend(
            table.context, table.target, table.bias, table.steps, rows, weights, owners, slope @ vectors, sampled,
            slope.T @ users, bias_gradient, np.float32(self.settings.rate), self._number, self._moved,
            self._has_moved, self._moves, table.block_rows, table.changed,
        )  # fmt: skip

    def _rows(self, items: list[str]) -> np.ndarray:
        """The rows of `items`, begun where there are none: int32 (n,)."""
        try:
            return np.fromiter(map(self.table.rows.__getitem__, items), np.int32, len(items))
        except KeyError:
            return np.array(list(map(self._row, items)), np.int32)

    def _row(self, item_id: str) -> int:
        """The row of the item; a new one starts with small numbers that depend on its id alone."""
        table = self.table
        row = table.rows.get(item_id)
        if row is None:
            row = table.row(item_id)
            d = self.settings.dimensions
            numbers = ((2 * uniforms(self.behaviour.seed, f"vector:{item_id}", 2 * d) - 1) * START_SCALE).astype(
                np.float32
            )
            table.context[row], table.target[row] = numbers[:d], numbers[d:]
            table.bias[row] = 0.0
            table.steps[row] = FIRST_STEP
            if row < len(self._published_context):
                self._published_context[row] = self._published_target[row] = 0.0
        return row

    def _make_room(self, rows: int) -> None:
        """Where `rows` more would be too many, release those that moved least, a thirty-second of all."""
        table = self.table
        if len(table.rows) + rows <= self.settings.items:
            return
        used = np.fromiter(table.rows.values(), np.int64, len(table.rows))
        order = used[np.argsort(table.steps[used, CONTEXT], kind="stable")]
        table.release(order[: max(rows, len(order) // 32)])

    def _note(self, rows: np.ndarray) -> None:
        """Note that `rows`, int32 (n,), moved."""
        self._moves = _note(rows, self._moved, self._has_moved, self._moves)

    def _fit(self) -> None:
        """Make the arrays by row as long as the table."""
        capacity, held = self.table.capacity, len(self._number)
        if capacity != held:
            more = capacity - held
            self._number, self._moved = np.zeros(capacity, np.int32), np.pad(self._moved, (0, more))
            self._has_moved = np.pad(self._has_moved, (0, more))
            self._published_context = np.pad(self._published_context, ((0, more), (0, 0)))
            self._published_target = np.pad(self._published_target, ((0, more), (0, 0)))


@njit(cache=True)
def _gather(context, target, steps, rows, lengths, recencies, targets, bits, size, number):  # type: ignore[no-untyped-def]
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
def _to_exponents(logits, bias, sampled):  # type: ignore[no-untyped-def]
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
def _to_slope(powers, sums, positions):  # type: ignore[no-untyped-def]
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
def _descend(  # type: ignore[no-untyped-def]
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
    moves = _note(distinct[:n], moved, has_moved, moves)
    return _note(sampled, moved, has_moved, moves)


@njit(cache=True)
def _move(vectors, steps, kind, rows, gradient, rate):  # type: ignore[no-untyped-def]
    """One AdaGrad step of each of `rows`, distinct: its gradient, of float32 (n, d), over the root of the sum of the
    mean squares of all before it and itself. One kind of work at a time, which a processor does for several rows at
    once.
    """
    n, size = gradient.shape
    scales = np.empty(n, np.float32)
    for k in range(n):
        scales[k] = _square(gradient[k]) / np.float32(size)
    for k in range(n):
        steps[rows[k], kind] += scales[k]
        scales[k] = rate / np.sqrt(steps[rows[k], kind])
    for k in range(n):
        row, scale = rows[k], scales[k]
        for column in range(size):
            vectors[row, column] += scale * gradient[k, column]


@njit(cache=True)
def _square(vector):  # type: ignore[no-untyped-def]
    """The sum of squares, in four sums that a processor can add at once."""
    a = b = c = d = np.float32(0)
    whole = len(vector) - len(vector) % 4
    for k in range(0, whole, 4):
        a += vector[k] * vector[k]
        b += vector[k + 1] * vector[k + 1]
        c += vector[k + 2] * vector[k + 2]
        d += vector[k + 3] * vector[k + 3]
    for k in range(whole, len(vector)):
        a += vector[k] * vector[k]
    return (a + b) + (c + d)


@njit(cache=True)
def _note(rows, moved, has_moved, moves):  # type: ignore[no-untyped-def]
    """Add `rows` to the first `moves` of `moved`, each once; returns how many there are."""
    for row in rows:
        if not has_moved[row]:
            has_moved[row] = True
            moved[moves] = row
            moves += 1
    return moves


@njit(cache=True)
def _publish(  # type: ignore[no-untyped-def]
    rows, steps, context, target, published_context, published_target,
    named, context_of, contexts, target_of, targets, moved, has_moved,
):  # fmt: skip
    """Of `rows`, ascending, those whose context or target embedding is away from what was published, to be published.

    Up to `len(contexts)` of each kind are copied to `contexts` and `targets`; `context_of` and `target_of` say whose by
    position in `named`, which lists their rows. Those for which there is no room are noted in `moved` again. Returns
    how many are named, contexts, targets, noted. Costs 0.1 us a row.
    """
    i = m = n = left = 0
    for row in rows:
        has_moved[row] = False
        if steps[row, TARGET] == 0:  # a free row
            continue
        for_context = _is_far(context[row], published_context[row])
        for_target = _is_far(target[row], published_target[row])
        if (for_context and m == len(contexts)) or (for_target and n == len(targets)):
            has_moved[row] = True
            moved[left] = row
            left += 1
        put_context, put_target = for_context and m < len(contexts), for_target and n < len(targets)
        if put_context:
            published_context[row] = context[row]
            contexts[m] = context[row]
            context_of[m] = i
            m += 1
        if put_target:
            published_target[row] = target[row]
            targets[n] = target[row]
            target_of[n] = i
            n += 1
        if put_context or put_target:
            named[i] = row
            i += 1
    return i, m, n, left


@njit(cache=True)
def _is_far(vector, published):  # type: ignore[no-untyped-def]
    """Whether `vector` is away from `published` by more than TOLERANCE of its length."""
    away = np.float32(0)
    for k in range(len(vector)):
        away += (vector[k] - published[k]) * (vector[k] - published[k])
    return away > np.float32(TOLERANCE**2) * _square(vector)
