"""Whether a user's taste changed, from what was missed: ADWIN on a user's losses, in a few bytes. Knows no items.

A loss is 1 for an item that was shown and not taken, and for one that was taken and not among the first of the
learner's own order; else 0.
"""

import math
from collections.abc import Sequence
from itertools import chain, islice
from typing import NamedTuple

import msgspec
from riverrank.state.learners import LearnerState
from riverrank.state.messages import Feedback, History

CLOCK = 8  # losses from one look for a change to the next
BUCKETS = 5  # of one size, at most
LEAST = 5  # losses on either side of a change
GRACE = 10  # losses before the first look
ROWS = 8  # sizes of buckets, doubling from 1: the sum of the largest is a byte
MOST_TAKEN = 255  # interactions counted of a bucket: a byte
HEAD = 1 + ROWS


_Bucket = tuple[int, int]  # the sum of its losses, and the interactions from its first loss to the next bucket's


class Change(NamedTuple):
    """A change of the mean loss: whether it is `worse` now, and how many interactions were `taken` since."""

    worse: bool
    taken: int


class Adwin:
    """The last losses of a user, in buckets of doubling size: `rows[k]` are those of 2 ** k losses, oldest first.

    River's `drift.ADWIN(clock=CLOCK)` for losses of 0 or 1, with the same result loss by loss, in 90 bytes at most:
    what River keeps of a bucket follows from its size and its sum. As River's it begins anew after a change, but it
    remembers no more than ROWS rows. Bifet and Gavaldà, Learning from time-changing data with adaptive windowing, 2007.

    >>> adwin = Adwin(b"", 0.1)
    >>> [change for loss in 50 * [0] + 30 * [1] if (change := adwin.add(loss))]
    [Change(worse=True, taken=0)]
    """

    def __init__(self, raw: bytes, significance: float) -> None:
        """`raw` is what `dump` gave, b"" for none; `significance` above 0: the greater, the sooner and the falser."""
        self.significance = significance
        self.rows: list[list[_Bucket]] = [[] for _ in range(ROWS)]
        self.tick = 0
        if raw:
            self.tick = raw[0]
            buckets = iter(zip(raw[HEAD::2], raw[HEAD + 1 :: 2], strict=True))
            for row, size in zip(self.rows, raw[1:HEAD], strict=True):
                row.extend(islice(buckets, size))

    def add(self, loss: int) -> Change | None:
        """Take a loss; the change that it completes."""
        bucket = (loss, 0)
        for row in self.rows:
            row.append(bucket)
            if len(row) <= BUCKETS:
                break
            (losses, taken), (more, took) = row[:2]
            del row[:2]
            bucket = (losses + more, min(MOST_TAKEN, taken + took))  # of the largest size it is forgotten
        self.tick += 1
        if self.tick < CLOCK:
            return None
        self.tick = 0
        change = self._change()
        if change is not None:
            self.rows = [[] for _ in range(ROWS)]
        return change

    def take(self) -> None:
        """Count an interaction, with the loss that came last."""
        for row in self.rows:
            if row:
                losses, taken = row[-1]
                row[-1] = losses, min(MOST_TAKEN, taken + 1)
                break

    def dump(self) -> bytes:
        """The tick, the lengths of the rows, and of each bucket the losses and the interactions, each a byte."""
        buckets = chain.from_iterable(chain.from_iterable(self.rows))
        return bytes([self.tick, *map(len, self.rows), *buckets])

    def _change(self) -> Change | None:
        """Where the means before and after differ by more than chance allows, if anywhere: there where most so."""
        n = sum(len(row) << k for k, row in enumerate(self.rows))
        if n <= GRACE:
            return None
        total = sum(losses for row in self.rows for losses, _ in row)
        confidence = math.log(2 * math.log(n) / self.significance)
        spread, bound = 2 * total * (n - total) / (n * n) * confidence, 2 / 3 * confidence
        after, lost, taken = 0, 0, 0  # of the newer side
        most, change = 0.0, None
        for k, row in enumerate(self.rows):
            for losses, took in reversed(row):
                after += 1 << k
                lost += losses
                taken += took
                before = n - after
                if after < LEAST or before < LEAST:
                    continue
                step = lost / after - (total - lost) / before
                parts = 1 / (after - LEAST + 1) + 1 / (before - LEAST + 1)
                excess = abs(step) - bound * parts
                if excess > most and (excess := excess - math.sqrt(spread * parts)) > most:
                    most, change = excess, Change(step > 0, taken)
        return change


def watch(user: LearnerState, losses: Sequence[int], history: History, *, took: bool, significance: float) -> bool:
    """Take the losses of a feedback; whether `user` has another taste now than the learner knows.

    `history` is the user's after the feedback (newest last), and `took` whether it made that longer. Where the taste is
    another, `user.since` becomes the time from which on the history tells of it. Nothing is with a `significance` of 0.
    """
    if not significance or not (losses or took):
        return False
    adwin = Adwin(user.losses, significance)
    changes = [change for loss in losses if (change := adwin.add(loss)) is not None and change.worse]
    if took:
        adwin.take()
    user.losses = adwin.dump()
    if not changes:
        return False
    taken = changes[-1].taken + took
    if taken < len(history):
        user.since = history[-taken].ts if taken else history[-1].ts + 1
    return True


def recent(feedback: Feedback, since: int) -> Feedback:
    """The feedback with what its history holds from `since` on, in epoch milliseconds."""
    history = feedback.history
    if not history or history[0].ts >= since:
        return feedback
    return msgspec.structs.replace(feedback, history=history.since(since))
