"""Vectors of items, learned from what users take after what. Knows items by id; of users only their histories.

Each item has two: what having taken it says of a user, and what makes it the next one. A user's vector is the mean of
the first over the history, the newer the more, so a user needs no vector of their own.
"""

from collections.abc import Iterable, Sequence

import numpy as np
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import uniforms
from riverrank.state.item_tables import VectorTable
from riverrank.state.messages import Feedback, History, Seen, VectorUpdate, to_bfloat16

USER_RECENCY = 0.8  # weight of an interaction beside the next newer one
START_SCALE = 0.17  # of the numbers that a vector starts with
FIRST_STEP = 1e-3  # sum of squared gradients that a vector starts with
TOLERANCE = 0.02  # a vector that moved by less than this share of its length since it was told is not told again
BLOCK = 16  # feedbacks that are learned from at once
MAX_PUBLISHED = 4096  # vectors of an update; the others wait for the next
CONTEXT, TARGET, BIAS = range(3)  # columns of `steps`


def recency(n: int) -> np.ndarray:
    """The weights of the last `n` interactions, newest first: float32 (n,), of length 1.

    >>> [round(weight, 3) for weight in recency(2).tolist()]
    [0.781, 0.625]
    """
    weights = USER_RECENCY ** np.arange(n, dtype=np.float32)
    return weights / np.sqrt(weights @ weights) if n else weights


def last_items(history: Iterable[Seen], window: int) -> list[str]:
    """The last `window` distinct items of the history (newest last) that were taken, newest first."""
    items: dict[str, None] = {}
    for item_id, reward, _ in History.of(history).newest_first():
        if reward > 0:
            items[item_id] = None
            if len(items) == window:
                break
    return list(items)


class Embedding:
    """The learner of the vectors, in `table`.

    A block of feedbacks at once: for each, the softmax over the block's items and a sample of all others of the dot
    product with the user's vector, plus the item's bias (Covington et al., Deep neural networks for YouTube
    recommendations, 2016, without the depth; the user's vector as in Kabbur et al., FISM, 2013), with AdaGrad steps a
    vector (Duchi et al., 2011).
    """

    def __init__(self, behaviour: Behaviour, table: VectorTable) -> None:
        self.behaviour = behaviour
        self.settings = behaviour.embedding
        self.table = table
        self.newest = 0  # event time
        self._published_context = np.zeros((0, self.settings.dimensions), np.float32)
        self._published_target = self._published_context
        self._moved: list[np.ndarray] = []  # rows that may have to be told
        self._block: list[Feedback] = []  # yet to be learned from

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
        taken = [f for f in block if f.reward > 0 and f.event.item_id is not None]
        window = self.behaviour.signals.window
        histories = [last_items(feedback.history, window) for feedback in taken]
        self._make_room(len(taken) * (window + 1))
        lists = [[self._row(item_id) for item_id in items] for items in histories]
        targets = np.array([self._row(feedback.event.item_id or "") for feedback in taken], np.int64)
        led = np.array([k for k, rows in enumerate(lists) if rows], np.int64)  # those that something led to
        self.newest = max([self.newest, *(feedback.event.ts for feedback in block)])
        if len(led):
            self._step([lists[k] for k in led], targets[led], f"vectors:{taken[int(led[-1])].event.event_id}")

    def moved(self, shard: int) -> VectorUpdate | None:
        """The vectors that moved since they were last told; None where none did."""
        table = self.table
        if not self._moved:
            return None
        self._fit_published(len(table))
        rows = np.unique(np.concatenate(self._moved))
        rows = rows[table.steps[rows, TARGET] > 0]
        taken = rows[_far(table.context[rows], self._published_context[rows])]
        following = rows[_far(table.target[rows], self._published_target[rows])]
        self._moved = [part for part in (taken[MAX_PUBLISHED:], following[MAX_PUBLISHED:]) if len(part)]
        taken, following = taken[:MAX_PUBLISHED], following[:MAX_PUBLISHED]
        if not len(taken) and not len(following):
            return None
        named = np.union1d(taken, following)
        self._published_context[taken] = table.context[taken]
        self._published_target[following] = table.target[following]
        ids = table.ids
        return VectorUpdate(
            shard=shard,
            ids=tuple([ids[row] for row in named.tolist()]),
            context_of=np.searchsorted(named, taken).astype("<i4").tobytes(),
            context=to_bfloat16(table.context[taken]),
            target_of=np.searchsorted(named, following).astype("<i4").tobytes(),
            target=to_bfloat16(table.target[following]),
            bias=table.bias[following].astype("<f4").tobytes(),
            ts=self.newest,
        )

    def publish_all(self) -> None:
        """After a restore nobody knows what was told: tell every vector."""
        self._moved = [np.fromiter(self.table.rows.values(), np.int64, len(self.table.rows))]

    def _step(self, lists: list[list[int]], targets: np.ndarray, draw: str) -> None:
        """One step on users whose history is `lists` and who took `targets`, int64 (b,)."""
        table, rate = self.table, self.settings.rate
        width, b = max(map(len, lists)), len(lists)
        weights = np.zeros((b, width), np.float32)
        rows = np.zeros((b, width), np.int64)
        for k, history in enumerate(lists):
            rows[k, : len(history)] = history
            weights[k, : len(history)] = recency(len(history))
        users = np.matmul(weights[:, None, :], table.context[rows])[:, 0]
        sampled = (uniforms(self.behaviour.seed, draw, self.settings.negatives) * len(table)).astype(np.int64)
        sampled = sampled[table.steps[sampled, TARGET] > 0]  # the others are free rows
        against, position = np.unique(np.concatenate([targets, sampled]), return_inverse=True)
        vectors = table.target[against]
        slope = users @ vectors.T + table.bias[against]
        slope -= slope.max(axis=1, keepdims=True)
        np.exp(slope, out=slope)
        slope /= -slope.sum(axis=1, keepdims=True)
        slope[np.arange(b), position[:b]] += 1.0
        held = weights > 0
        lengths = held.sum(axis=1)
        pulls = np.repeat(slope @ vectors, lengths, axis=0) * weights[held][:, None]
        changed, into = np.unique(rows[held], return_inverse=True)
        gradient = np.zeros((len(changed), pulls.shape[1]), np.float32)
        np.add.at(gradient, into, pulls)
        table.context[changed] += self._scaled(changed, gradient, CONTEXT) * rate
        table.target[against] += self._scaled(against, slope.T @ users, TARGET) * rate
        table.bias[against] += self._scaled(against, slope.sum(axis=0)[:, None], BIAS)[:, 0] * rate
        table.touch(changed)
        table.touch(against)
        self._moved += [changed, against]

    def _scaled(self, rows: np.ndarray, gradient: np.ndarray, kind: int) -> np.ndarray:
        """The gradient over the root of the sum of all before it and itself."""
        steps = self.table.steps
        steps[rows, kind] += np.square(gradient).mean(axis=1)
        return gradient / np.sqrt(steps[rows, kind])[:, None]

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

    def _fit_published(self, n: int) -> None:
        held = len(self._published_context)
        if n > held:
            more = ((0, 2 * n - held), (0, 0))
            self._published_context, self._published_target = (
                np.pad(self._published_context, more),
                np.pad(self._published_target, more),
            )


def _far(vectors: np.ndarray, told: np.ndarray) -> np.ndarray:
    """Which of the vectors are away from what was told by more than TOLERANCE of their length: bool (n,)."""
    away = vectors - told
    return np.einsum("ij,ij->i", away, away) > TOLERANCE**2 * np.einsum("ij,ij->i", vectors, vectors)
