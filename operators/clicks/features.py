"""What a list tells of a click on each of its items, beside what the ranker knows of them: its place, how long the list
is, and what the user did with it, or with its neighbours on the list, before it was shown.
"""

import math
from collections.abc import Sequence

import numpy as np
from numba import njit
from riverrank.operators.index.item_index import ItemIndex
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.item_tables import NEGATIVES, POSITIVES
from riverrank.state.messages import History

PRIOR_TAKEN, PRIOR_PASSED = 1.0, 9.0  # times that an item counts as taken, and as passed over, before it was shown
SECOND, MINUTE, HOUR = 1e3, 6e4, 3.6e6  # in milliseconds
STRONG_KINDS = np.array([entry.code for entry in EVENT_TYPES.values() if (entry.reward or 0.0) > 1.0], np.uint8)

NAMES = (
    "always", "place:log", "place:reciprocal", "place:share", "place:last", "list:log", "unknown",
    "taken", "taken:last", "taken:lately", "taken:often", "taken:minutes", "taken:hours", "taken:strong", "refused",
    "list:taken", "list:taken:share", "others:taken", "others:taken:minutes",
    "after:newest", "after:second", "after:third", "after:more", "before:newest", "before:second", "before:more",
    "after:newest:minutes", "after:minutes", "before:minutes", "after:log", "before:log",
    "user:history", "user:idle", "item:rate", "item:known", "ranker", "ranker:mean",
)  # fmt: skip
SIZE = len(NAMES)
(
    ALWAYS, LOG, RECIPROCAL, SHARE, LAST, LENGTH, UNKNOWN,
    TAKEN, TAKEN_LAST, LATELY, OFTEN, TAKEN_MINUTES, TAKEN_HOURS, STRONG, REFUSED,
    LIST_TAKEN, LIST_TAKEN_SHARE, OTHERS, OTHERS_MINUTES,
    AFTER_NEWEST, AFTER_SECOND, AFTER_THIRD, AFTER_MORE, BEFORE_NEWEST, BEFORE_SECOND, BEFORE_MORE,
    AFTER_NEWEST_MINUTES, AFTER_MINUTES, BEFORE_MINUTES, AFTER_LOG, BEFORE_LOG,
    HISTORY, IDLE, RATE, KNOWN, RANKER, RANKER_MEAN,
) = range(SIZE)  # fmt: skip


PLACES = slice(LOG, LAST + 1)  # what tells of the place alone
PRIOR = np.zeros(SIZE)  # of the weights, before anything is learned
PRIOR[ALWAYS], PRIOR[LOG], PRIOR[RANKER] = -1.0, -0.5, 0.3


def describe_list(
    items: Sequence[str], rows: np.ndarray, ranker: np.ndarray, index: ItemIndex, history: History, ts: int
) -> np.ndarray:
    """The features of NAMES of `items`, distinct, in the order in which they were shown at `ts` to a user who had that
    `history` then: float32 (n, SIZE). `rows` int32 (n,) are theirs in the `index`, -1 for one that it does not know,
    and `ranker` float64 (n,) are the ranker's logits, of known ones.
    """
    place = {item_id: number for number, item_id in enumerate(items)}
    of = np.array([place.get(item_id, -1) for item_id in history.items], np.int32)
    times, rewards = np.frombuffer(history.ts, "<i8"), np.frombuffer(history.rewards, "<f8")
    kinds, features = np.frombuffer(history.kinds, np.uint8), np.zeros((len(items), SIZE), np.float32)
    describe(of, times, rewards, kinds, STRONG_KINDS, ts, rows, ranker, index.table.stats, features)
    return features


@njit(cache=True)
def describe(of, times, rewards, kinds, strong, now, rows, ranker, stats, features):  # type: ignore[no-untyped-def]
    """See describe_list. `of` int32 (h,) says on which place of the list each entry of the history is, -1 for none.
    About 3 us for 25 items and 100 entries.
    """
    describe_items(len(of), times, now, rows, ranker, stats, features)
    newest, age, held = note_taken(of, times, rewards, kinds, strong, now, features)
    if newest >= 0:
        describe_neighbours(newest, math.exp(-age / (10.0 * MINUTE)), held, features)


@njit(cache=True)
def describe_items(h, times, now, rows, ranker, stats, features):  # type: ignore[no-untyped-def]
    """Write what has nothing to do with which of the items the user took."""
    n, mean, known = len(rows), 0.0, 0
    for k in range(n):
        mean += ranker[k] if rows[k] >= 0 else 0.0
        known += rows[k] >= 0
    mean /= max(1, known)
    for k in range(n):
        x = features[k]
        x[ALWAYS], x[LOG], x[RECIPROCAL], x[SHARE] = 1.0, math.log1p(k), 1.0 / (1.0 + k), k / n
        x[LAST], x[LENGTH], x[HISTORY] = k == n - 1, math.log(n), math.log1p(h)
        x[IDLE] = math.log1p(max(0.0, now - times[h - 1]) / SECOND) if h else 0.0
        x[UNKNOWN], x[RANKER_MEAN] = rows[k] < 0, mean
        taken, passed = 0.0, 0.0
        if rows[k] >= 0:
            x[RANKER] = ranker[k] - mean
            taken, passed = stats[rows[k], POSITIVES], stats[rows[k], NEGATIVES]
        x[RATE] = math.log((taken + PRIOR_TAKEN) / (passed + PRIOR_PASSED)) - math.log(PRIOR_TAKEN / PRIOR_PASSED)
        x[KNOWN] = math.log1p(taken + passed)


@njit(cache=True)
def note_taken(of, times, rewards, kinds, strong, now, features):  # type: ignore[no-untyped-def]
    """Write what the user did with each item. The place of the one taken last, -1 for none, the milliseconds since, and
    how many were taken.
    """
    h, newest, newest_age, held = len(of), -1, 0.0, 0
    for j in range(h - 1, -1, -1):
        if of[j] < 0 or rewards[j] == 0.0:
            continue
        x = features[of[j]]
        if rewards[j] < 0.0 and x[TAKEN] == 0.0:
            x[REFUSED] = 1.0
        if rewards[j] < 0.0 or x[REFUSED] > 0.0:
            continue
        age = max(0.0, now - times[j])
        if x[TAKEN] == 0.0:
            held += 1
            x[TAKEN], x[LATELY], x[TAKEN_LAST] = 1.0, 1.0 / (h - j), j == h - 1
            x[TAKEN_MINUTES], x[TAKEN_HOURS] = math.exp(-age / (10.0 * MINUTE)), math.exp(-age / (6.0 * HOUR))
            if newest < 0:
                newest, newest_age = of[j], age
        x[OFTEN] += 1.0
        for code in strong:
            x[STRONG] = max(x[STRONG], np.float32(kinds[j] == code))
    for x in features:
        x[OFTEN] = math.log1p(x[OFTEN])
    return newest, newest_age, held


@njit(cache=True)
def describe_neighbours(newest, fresh, held, features):  # type: ignore[no-untyped-def]
    """Write where each item stands beside the `newest`: of the `held` ones on the list, that which was taken last."""
    n = len(features)
    for k in range(n):
        x, far = features[k], k - newest
        x[LIST_TAKEN], x[LIST_TAKEN_SHARE] = 1.0, held / n
        x[OTHERS], x[OTHERS_MINUTES] = 1.0 - x[TAKEN], fresh * (1.0 - x[TAKEN])
        if far > 0:
            x[AFTER_NEWEST], x[AFTER_SECOND], x[AFTER_THIRD], x[AFTER_MORE] = far == 1, far == 2, far == 3, far > 3
            x[AFTER_NEWEST_MINUTES], x[AFTER_MINUTES], x[AFTER_LOG] = fresh * (far == 1), fresh, math.log(far)
        elif far < 0:
            x[BEFORE_NEWEST], x[BEFORE_SECOND], x[BEFORE_MORE] = far == -1, far == -2, far < -2
            x[BEFORE_MINUTES], x[BEFORE_LOG] = fresh, math.log(-far)
