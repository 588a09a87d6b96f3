"""The chance of a slate that is given: what exploration would have done, asked instead of drawn."""

from collections.abc import Callable

import numpy as np

from .explore import NO_CAPS, NONE, Caps, Thompson, begin, first_of, take
from .fairness.drawing import Due, nothing_due, stretch_end


def chances(
    values: np.ndarray,
    kind: str,
    rate: float,
    wanted: np.ndarray,
    worth: np.ndarray,
    caps: Caps = NO_CAPS,
    deviations: Callable[[np.ndarray], np.ndarray] | None = None,
    due: Due | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """What `explore` would have done: the chance with which it puts each of `wanted`, positions int64 (k,), NONE for
    what is not there, behind those before it, 0 where it can't; and what `worth`, float64 (n,), whatever it draws there
    has in the mean, 0 where it draws nothing. float64 (k,) each. Where something is `due`, what `explore_owed` would
    have done. `deviations` are those of some positions; the other arguments are those of `explore`.

    >>> chance, _ = chances(np.array([3.0, 2.0, 1.0]), "epsilon", 0.3, np.array([0, 2, 0]), np.ones(3))
    >>> chance.round(3).tolist()
    [0.8, 0.15, 0.0]
    """
    chance, mean = np.zeros(len(wanted)), np.zeros(len(wanted))
    is_thompson = kind == "thompson" and rate > 0.0
    free, held = begin(len(values), len(wanted), *caps)
    places, members, given, anywhere = due or nothing_due(len(wanted), len(values))
    left = laid = np.ones(len(values), np.bool_)
    end, gaussian = 0, None  # thompson's grid, of what is `laid`, and the first slot that it does not serve
    for slot, position in enumerate(wanted.tolist()):
        named = left & members[:, given < places[slot]].any(axis=1)
        is_owed = bool((named & free).any())
        offered = named if is_owed else left & anywhere
        some = free & offered
        if not some.any():
            break
        if is_thompson:
            if is_owed or slot >= end or gaussian is None:  # laid as slots are drawn
                end = stretch_end(given, places, slot)
                laid = offered
                assert deviations is not None
                gaussian = Thompson(values[laid], rate * deviations(np.flatnonzero(laid)))
            each = np.zeros(len(values))
            each[laid] = gaussian.chances(some[laid])
        else:
            each = _chances_of(values, kind, rate, some)
        each /= each.sum()
        mean[slot] = each @ worth
        if position != NONE and free[position]:
            chance[slot] = each[position]
            take(position, len(caps.pinned) + slot, free, held, caps.categories, caps.cap)
            left[position], given = False, given + members[position]
    return chance, mean


def _chances_of(values: np.ndarray, kind: str, rate: float, free: np.ndarray) -> np.ndarray:
    """What softmax and epsilon draw the next slot by, of what is `free`: float64 (n,), which need not sum to 1."""
    best = first_of(free)
    if kind == "softmax" and rate > 0.0:
        temperature = rate / max(1.0 - rate, 1e-9)
        return np.where(free, np.exp(np.minimum(values - values[best], 0.0) / temperature), 0.0)
    each = rate / np.count_nonzero(free) * free
    each[best] += 1.0 - rate
    return each
