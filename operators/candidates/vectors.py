"""How vectors of many rows are brought from memory."""

from numba import njit

LINE = 16  # numbers of 4 bytes, which memory gives at once


@njit(cache=True)
def touched(vector):  # type: ignore[no-untyped-def]
    """The sum of every LINE-th number of `vector`, float32 (d,), and of the last, which means nothing. Where so much is
    read of many vectors before any is worked on, memory looks for all at once: 2 us less for 120 of 48 numbers.
    """
    total = 0.0
    if len(vector):
        total += vector[len(vector) - 1]
    for d in range(0, len(vector), LINE):
        total += vector[d]
    return total
