"""Whether a user's taste changed, from what was missed: ADWIN on a user's losses, in a few bytes. Knows no items.

A loss is 1 for an item that was shown and not taken, and for one that was taken and not among the first of the
learner's own order; else 0.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from numba import njit
from riverrank.state.learners import LearnerState
from riverrank.state.messages import Feedback, History

CLOCK = 8  # losses from one look for a change to the next
BUCKETS = 5  # of one size, at most
LEAST = 5  # losses on either side of a change
GRACE = 10  # losses before the first look
SURELY = math.log(20.0)  # times likelier
ROWS = 8  # sizes of buckets, doubling from 1: the sum of the largest is a byte
MOST_TAKEN = 255  # interactions counted of a bucket: a byte
HEAD = 1 + ROWS  # bytes before the buckets
MOST_BYTES = HEAD + 2 * ROWS * BUCKETS
_BYTE = np.dtype(np.uint8)


class Change(NamedTuple):
    """A change of the mean loss: whether it is `worse` now, and how many interactions were surely `taken` since: not
    those of its first bucket, unless the losses in it tell that it is no mixture. A history that begins with what was
    liked before teaches, where that is refused now, that what is like the history is not wanted.
    """

    worse: bool
    taken: int


def watch(user: LearnerState, losses: Sequence[int], history: History, *, took: bool, significance: float) -> bool:
    """Take the losses of a feedback; whether `user` has another taste now than the learner knows.

    `history` is the user's after the feedback (newest last), and `took` whether it made that longer. Where the taste is
    another, `user.since` becomes the time from which on the history tells of it. Of `significance` 0 nothing is.
    """
    if not significance or not (losses or took):
        return False
    user.losses, change = take(user.losses, losses, took=took, significance=significance)
    if change is None or not change.worse:
        return False
    taken = change.taken + took
    if taken < len(history):
        user.since = history[-taken].ts if taken else history[-1].ts + 1
    return True


def kept(user: LearnerState) -> list[tuple[int, int, int]]:
    """What is kept of the last losses, the newest first: of each bucket how many losses it has, their sum, and the
    interactions from its first loss to the next bucket's.

    >>> kept(LearnerState(losses=take(b"", [0, 1], took=True, significance=0.1)[0]))
    [(1, 1, 1), (1, 0, 0)]
    """
    raw, at, found = user.losses, HEAD, []
    for row in range(ROWS if raw else 0):
        buckets = [(1 << row, raw[at + 2 * k], raw[at + 2 * k + 1]) for k in range(raw[1 + row])]
        at += 2 * len(buckets)
        found += buckets[::-1]
    return found


def with_history_since(feedback: Feedback, since: int) -> Feedback:
    """The feedback with what its history holds from `since` on, in epoch milliseconds."""
    history = feedback.history
    if not since or not history or history[0].ts >= since:
        return feedback
    return msgspec.structs.replace(feedback, history=history.since(since))


def take(raw: bytes, losses: Sequence[int], *, took: bool, significance: float) -> tuple[bytes, Change | None]:
    """Take losses, each 0 or 1, and then an interaction where one `took` place: what is kept now, and the last change
    that a loss completed, of those for the worse where there was any. 2 us for one loss.

    What is kept are the last losses of a user, in buckets of doubling size: row k holds those of 2 ** k losses, oldest
    first. It is a byte of losses since the last look, one each for the lengths of the rows, and for each bucket the sum
    of its losses and the number of interactions from its first loss to the next bucket's: 89 bytes at most. `raw` is
    that, b"" for none; `significance` is above 0: the greater, the sooner and the falser.

    River's `drift.ADWIN(clock=CLOCK)` for losses of 0 or 1, with the same result loss by loss: what River keeps of a
    bucket follows from its size and its sum. As River's it begins anew after a change, but it remembers no more than
    ROWS rows. Bifet and Gavalda, Learning from time-changing data with adaptive windowing, 2007.

    >>> kept, change = take(b"", 50 * [0] + 30 * [1], took=False, significance=0.1)
    >>> change
    Change(worse=True, taken=0)
    """
    kept = np.empty(MOST_BYTES, _BYTE)
    old, new = np.frombuffer(raw, _BYTE), np.frombuffer(bytes(losses), _BYTE)
    size, found, taken = _take(old, new, took, significance, kept)
    return kept.tobytes()[:size], Change(found > 0, int(taken)) if found else None


@njit(cache=True)
def _take(raw, losses, took, significance, kept):  # type: ignore[no-untyped-def]
    """See `take`. Writes what is kept to `kept`. Its size; 1 for a change for the worse, -1 for another, 0 for
    none; and the interactions since.
    """
    lengths = np.zeros(ROWS, np.int64)
    buckets = np.zeros((ROWS, BUCKETS + 1, 2), np.int64)  # losses, interactions
    tick, at = np.int64(0), HEAD
    if len(raw):
        tick = np.int64(raw[0])
        for row in range(ROWS):
            lengths[row] = raw[1 + row]
            for position in range(lengths[row]):
                buckets[row, position, 0], buckets[row, position, 1] = raw[at], raw[at + 1]
                at += 2
    found, taken = 0, 0
    for loss in losses:
        _add(np.int64(loss), lengths, buckets)
        tick += 1
        if tick < CLOCK:
            continue
        tick = np.int64(0)
        change, since = _change(lengths, buckets, significance)
        if change:
            lengths[:] = 0
            if change > 0 or found <= 0:
                found, taken = change, since
    if took:
        _count(lengths, buckets)
    kept[0], at = tick, HEAD
    for row in range(ROWS):
        kept[1 + row] = lengths[row]
        for position in range(lengths[row]):
            kept[at], kept[at + 1] = buckets[row, position, 0], buckets[row, position, 1]
            at += 2
    return at, found, taken


@njit(cache=True)
def _add(loss, lengths, buckets):  # type: ignore[no-untyped-def]
    """Add a bucket of one loss, and where there are too many of a size, merge the two oldest into one of the next."""
    losses, taken = loss, 0
    for row in range(len(lengths)):
        buckets[row, lengths[row], 0], buckets[row, lengths[row], 1] = losses, taken
        lengths[row] += 1
        if lengths[row] <= BUCKETS:
            break
        losses = buckets[row, 0, 0] + buckets[row, 1, 0]
        taken = min(MOST_TAKEN, buckets[row, 0, 1] + buckets[row, 1, 1])  # of the largest size it is forgotten
        lengths[row] -= 2
        for position in range(lengths[row]):
            buckets[row, position, 0] = buckets[row, position + 2, 0]
            buckets[row, position, 1] = buckets[row, position + 2, 1]


@njit(cache=True)
def _count(lengths, buckets):  # type: ignore[no-untyped-def]
    """Count an interaction, with the loss that came last."""
    for row in range(len(lengths)):
        if lengths[row]:
            last = lengths[row] - 1
            buckets[row, last, 1] = min(MOST_TAKEN, buckets[row, last, 1] + 1)
            break


@njit(cache=True)
def _tells(lost, number, lost_after, after, lost_before, before):  # type: ignore[no-untyped-def]
    """By how much `lost` of a `number` of losses tell that they are of those `after` a change, and not of those before:
    the logarithm of how many times likelier they are there. Each side has one loss and one that is none beside its own.
    """
    here, there = (lost_after + 1.0) / (after + 2.0), (lost_before + 1.0) / (before + 2.0)
    return lost * math.log(here / there) + (number - lost) * math.log((1.0 - here) / (1.0 - there))


@njit(cache=True)
def _change(lengths, buckets, significance):  # type: ignore[no-untyped-def]
    """Where the means before and after differ by more than chance allows, if anywhere: there where most so. 1 where the
    later mean is worse, -1 where it is better, 0 for none; and the interactions surely since.
    """
    n, total = 0, 0
    for row in range(len(lengths)):
        n += lengths[row] << row
        for position in range(lengths[row]):
            total += buckets[row, position, 0]
    found, since = 0, 0
    if n <= GRACE:
        return found, since
    confidence = math.log(2 * math.log(n) / significance)
    spread, bound = 2 * total * (n - total) / (n * n) * confidence, 2 / 3 * confidence
    after, lost, taken, most = 0, 0, 0, 0.0  # of the newer side
    for row in range(len(lengths)):
        for position in range(lengths[row] - 1, -1, -1):
            after += 1 << row
            lost += buckets[row, position, 0]
            taken += buckets[row, position, 1]
            before = n - after
            if after < LEAST or before < LEAST:
                continue
            step = lost / after - (total - lost) / before
            parts = 1 / (after - LEAST + 1) + 1 / (before - LEAST + 1)
            excess = abs(step) - bound * parts
            if excess > most:
                excess -= math.sqrt(spread * parts)
                if excess > most:
                    most, found = excess, 1 if step > 0 else -1
                    own = buckets[row, position, 0], 1 << row
                    is_after = row == 0 or _tells(*own, lost, after, total - lost, before) > SURELY
                    since = taken if is_after else taken - buckets[row, position, 1]
    return found, since
