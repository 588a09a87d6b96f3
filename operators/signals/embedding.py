"""Embeddings of items, learned from what users take after what. Knows items by id; of users only their histories.

Each item has two: its context embedding is what having taken it says of a user, its target embedding what makes it the
next one. A user's vector is the weighed mean of the context embeddings of the history, the newer the more, so a user
needs no vector of their own.
"""

from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain

import numpy as np
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import random_bits, uniforms
from riverrank.state.item_tables import VectorTable
from riverrank.state.messages import Feedback, History, Seen, VectorUpdate

from .embedding_kernels import CONTEXT, descend, gather, note, publish, to_exponents, to_slope

USER_RECENCY = 0.8  # weight of an interaction beside the next newer one
START_SCALE = 0.17  # of the numbers that a vector starts with
FIRST_STEP = 1e-3  # sum of squared gradients that a vector starts with
BLOCK = 16  # feedbacks that are learned from at once
MAX_PUBLISHED = 4096  # vectors of an update; the others wait for the next


@lru_cache(maxsize=1024)
def recency(n: int, by: float = USER_RECENCY) -> np.ndarray:
    """The weights of the last `n` interactions, newest first, each `by` of the next newer one: float32 (n,), of length
    1. Not to be written to.

    >>> [round(weight, 3) for weight in recency(2).tolist()]
    [0.781, 0.625]
    """
    weights = by ** np.arange(n, dtype=np.float32)
    if n:
        weights /= np.sqrt(weights @ weights)
    weights.flags.writeable = False
    return weights


def last_items(history: Iterable[Seen], window: int) -> list[str]:
    """The last `window` distinct items of the history (newest last) that were taken, newest first."""
    taken = History.of(history).taken()
    items = dict.fromkeys(taken[:window])
    for item_id in taken[window:]:
        if len(items) == window:
            break
        items[item_id] = None
    return list(items)


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
        """Learn from the choices among `block`, all at once."""
        positive = [f for f in block if f.is_choice and f.event.item_id is not None]
        window = self.behaviour.signals.window
        self._make_room(len(positive) * (window + 1))
        histories = [last_items(feedback.history_before(), window) for feedback in positive]
        rows = self.table.rows_of_each(list(chain.from_iterable(histories)), self._row)
        targets = self.table.rows_of_each([feedback.event.item_id or "" for feedback in positive], self._row)
        self.newest = max([self.newest, *[feedback.event.ts for feedback in block]])
        led = [k for k, items in enumerate(histories) if items]  # those that something led to
        if led:
            lengths = np.array([len(histories[k]) for k in led])
            self._step(rows, lengths, targets[led], f"vectors:{positive[led[-1]].event.event_id}")

    def moved(self, shard: int) -> VectorUpdate | None:
        """The embeddings that moved since they were last published; None where none did."""
        table = self.table
        if not self._moves:
            return None
        self._fit()
        rows = np.sort(self._moved[: self._moves])
        most, d = min(len(rows), MAX_PUBLISHED), self.settings.dimensions
        named, context_of, target_of = np.empty(2 * most, np.int32), np.empty(most, np.int32), np.empty(most, np.int32)
        contexts, targets = np.empty((most, d), np.uint16), np.empty((most, d), np.uint16)
        i, m, n, self._moves = publish(
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
            context=contexts[:m].tobytes(),
            target_of=target_of[:n].tobytes(),
            target=targets[:n].tobytes(),
            bias=table.bias[named[target_of[:n]]].tobytes(),
            ts=ts,
        )

    def publish_all(self) -> None:
        """Take every embedding for one that moved: what was published before a restore is not known."""
        self._fit()
        self._note(self.table.used().astype(np.int32))

    def _step(self, rows: np.ndarray, lengths: np.ndarray, targets: np.ndarray, draw: str) -> None:
        """One step on users whose histories are `rows`, int32, one after another and each newest first, of `lengths`,
        int64 (b,), and who took `targets`, int32 (b,).
        """
        self._fit()
        table = self.table
        bits = np.frombuffer(random_bits(self.behaviour.seed, draw, self.settings.negatives), "<u4")
        owners, weights, users, sampled, positions, vectors = gather(
            table.context, table.target, table.steps, rows, lengths, self._recencies, targets, bits, len(table),
            self._number,
        )  # fmt: skip
        slope = users @ vectors.T
        to_exponents(slope, table.bias, sampled)
        np.exp(slope, out=slope)
        bias_gradient = to_slope(slope, slope.sum(axis=1), positions)
        self._moves = descend(
            table.context, table.target, table.bias, table.steps, rows, weights, owners, slope @ vectors, sampled,
            slope.T @ users, bias_gradient, np.float32(self.settings.rate), self._number, self._moved,
            self._has_moved, self._moves, table.block_rows, table.changed,
        )  # fmt: skip

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
        used = table.used()
        order = used[np.argsort(table.steps[used, CONTEXT], kind="stable")]
        table.release(order[: max(rows, len(used) + rows - self.settings.items, len(order) // 32)])

    def _note(self, rows: np.ndarray) -> None:
        """Note that `rows`, int32 (n,), moved."""
        self._moves = note(rows, self._moved, self._has_moved, self._moves)

    def _fit(self) -> None:
        """Make the arrays by row as long as the table."""
        capacity, held = self.table.capacity, len(self._number)
        if capacity != held:
            more = capacity - held
            self._number, self._moved = np.zeros(capacity, np.int32), np.pad(self._moved, (0, more))
            self._has_moved = np.pad(self._has_moved, (0, more))
            self._published_context = np.pad(self._published_context, ((0, more), (0, 0)))
            self._published_target = np.pad(self._published_target, ((0, more), (0, 0)))
