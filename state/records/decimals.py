"""Numbers as the decimal text of JSON, for kernels. No exponents, no NaN, no infinity."""

import math

import numpy as np
from numba import njit

LARGEST = 9e18  # of a number without its point: what an int64 holds
MOST_DIGITS = 18  # after the point
ROOM = 24  # bytes that a number takes at most
_POWERS = 10 ** np.arange(MOST_DIGITS + 1, dtype=np.int64)
_SPLITTER = 134217729.0  # 2 ** 27 + 1
_ZERO, _POINT, _MINUS = (np.uint8(ord(sign)) for sign in "0.-")


@njit(cache=True)
def write_whole(out, at, value):  # type: ignore[no-untyped-def]
    """Write `value`, an int64 of 0 or more, to `out`, uint8, from `at` on; where it ends."""
    length = 1
    rest = value // 10
    while rest > 0:
        rest //= 10
        length += 1
    for k in range(at + length - 1, at - 1, -1):
        out[k] = _ZERO + np.uint8(value % 10)
        value //= 10
    return at + length


@njit(cache=True)
def write_decimal(out, at, whole, digits):  # type: ignore[no-untyped-def]
    """Write `whole` / 10 ** `digits`, 1 to MOST_DIGITS, with no more zeros at its end than one after the point; where
    it ends. About 20 ns.
    """
    if whole < 0:
        out[at] = _MINUS
        at += 1
        whole = -whole
    while digits > 1 and whole % 10 == 0:
        whole //= 10
        digits -= 1
    at = write_whole(out, at, whole // _POWERS[digits])
    out[at] = _POINT
    for k in range(at + digits, at, -1):
        out[k] = _ZERO + np.uint8(whole % 10)
        whole //= 10
    return at + 1 + digits


@njit(cache=True)
def fixed(value, power):  # type: ignore[no-untyped-def]
    """`value` * `power`, a power of ten, as an int64, rounded as `numpy.round` does. What is no number counts as 0."""
    scaled = value * power
    if math.isnan(scaled):
        return np.int64(0)
    return np.int64(np.rint(max(-LARGEST, min(LARGEST, scaled))))


@njit(cache=True)
def significant(value):  # type: ignore[no-untyped-def]
    """`value`, in (0, 1], to six digits that count, rounded as `f"{value:.6g}"` does, to the last digit: as a whole
    number, and how many of its digits stand after the point, MOST_DIGITS at most. Never 0.
    """
    digits, power = 5, 1e5
    while value * power * 10.0 < 999999.5 and digits < MOST_DIGITS:
        power *= 10.0
        digits += 1
    scaled = value * power
    whole = math.floor(scaled)
    up = scaled - whole > 0.5
    if scaled - whole == 0.5:  # or nearly so, and the product was rounded: its error says (Dekker, 1971)
        split = _SPLITTER * value
        high = split - (split - value)
        low = value - high
        split = _SPLITTER * power
        power_high = split - (split - power)
        power_low = power - power_high
        error = low * power_low - (((scaled - high * power_high) - low * power_high) - high * power_low)
        up = error > 0.0 or (error == 0.0 and whole % 2 == 1)
    return max(np.int64(whole) + np.int64(up), np.int64(1)), digits
