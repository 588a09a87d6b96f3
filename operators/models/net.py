"""A small net beside linear models: what coordinates say together. Knows nothing of what a coordinate means.

A net is `values` float32 (d + 2, WIDTH): a row for each of d coordinates, one for what units begin with, and one for
what each unit counts. The first column is a linear model's, the others are the units'. With `x` float (d,) the logit
is x @ values[:d, 0] and the sum over units of what each counts times `squash(x @ its column + what it begins with)`.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.state.hashing import uniforms
from riverrank.state.item_tables import from_bfloat16, to_bfloat16
from riverrank.state.learners import NetState

WIDTH = 32  # which a machine adds up in four or two registers; a multiple of 32, as `total_of` has it
KEPT = 2048  # choices that may be learned from again
KEPT_ROWS = 16  # of each: the chosen row, and others drawn from all
REPLAYED = 4  # of these are learned from with each new choice
_MOMENTUM, _MEMORY, _TINY = np.float32(0.9), np.float32(0.999), np.float32(1e-8)
_NEAR, _HALF = np.float32(0.01), np.float32(0.5)
_ONE, _THREE, _NINE, _CUBE = np.float32(1.0), np.float32(3.0), np.float32(9.0), np.float32(27.0)


class NetArrays(NamedTuple):
    """What a net holds: `values` and the means that Adam keeps of its slopes and of their squares, `mean` and `square`,
    all float32 (d + 2, WIDTH); the rows of choices, `kept` bfloat16 as uint16 (KEPT, KEPT_ROWS, d), the chosen one
    first; and of each choice float32 (KEPT, 3): how many rows it has, what is added to the logit of each but the first,
    as it stands for others as well, and how many choices it counts.
    """

    values: np.ndarray
    mean: np.ndarray
    square: np.ndarray
    kept: np.ndarray
    kept_of: np.ndarray


class Net:
    """A net that learns by listwise choices, and from some of the last ones again with each.

    Up the log probability that, of several, one is chosen: the softmax of their logits. One step of Adam a choice
    (Kingma and Ba, Adam, 2015) on the sum of its slopes and those of REPLAYED others, drawn from the last KEPT (Lin,
    Self-improving reactive agents, 1992). Of a choice that is kept, the rows that were not chosen are a draw from all,
    and count as many (Jean et al., On using very large target vocabulary, 2015). Without these others a net forgets
    what it rarely sees, and gains nothing on a linear model.

    >>> net = Net(0.02, np.zeros(2))
    >>> both = np.array([[0.0, 0.0], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    >>> for k in range(600):  # one of two, never both or none: no line tells these apart
    ...     loss = net.choose(both, np.arange(4), 2 + k % 2, 1.0)
    ...     net.publish()
    >>> bool(loss < 0.8)
    True
    """

    def __init__(self, rate: float, prior: np.ndarray) -> None:
        """As the linear model `prior`, float64 (d,); each unit begins with weights of its own and counts nothing."""
        size = len(prior)
        self.rate = rate
        self.steps = 0
        self.count = 0  # of choices that were kept
        values, mean, square = (np.zeros((size + 2, WIDTH), np.float32) for _ in range(3))
        kept = np.zeros((KEPT, KEPT_ROWS, size), np.uint16)
        self.arrays = NetArrays(values, mean, square, kept, np.zeros((KEPT, 3), np.float32))
        values[:size, 0] = prior
        begun = uniforms(0, "net", size * (WIDTH - 1)).reshape(size, WIDTH - 1)
        values[:size, 1:] = (2.0 * begun - 1.0) * math.sqrt(3.0 / max(1, size))
        self.publish()

    def choose(self, inputs: np.ndarray, picks: np.ndarray, chosen: int, w: float) -> float:
        """Learn that, of the rows of `inputs`, float (n, d), at `picks`, int64 (m,), that at `picks[chosen]` was
        chosen, which counts as `w` choices. The loss by what was last published.
        """
        self.steps += 1
        loss = choose(inputs, picks, chosen, w, self.published, *self.arrays, self.rate, self.steps, self.count)
        self.count += 1
        return float(loss)

    def dump(self, *, alone: bool = False) -> NetState:
        """All of it, or it `alone`, without the choices that it keeps."""
        arrays, n = self.arrays, min(self.count, KEPT)
        held = np.stack(arrays[:3]).astype("<f4").tobytes()
        if alone:
            return NetState(self.steps, 0, held, b"", b"")
        kept, kept_of = arrays.kept[:n].astype("<u2").tobytes(), arrays.kept_of[:n].astype("<f4").tobytes()
        return NetState(self.steps, self.count, held, kept, kept_of)

    def load(self, state: NetState, was: np.ndarray) -> None:
        """Put back what `dump` gave; where that was of it alone, what is kept stays as it is. `was` int64 (d,) says
        where each coordinate stood then, -1 for one that is new.
        """
        arrays, n, known = self.arrays, min(state.count, KEPT), np.flatnonzero(was >= 0)
        held = np.frombuffer(state.values, "<f4").reshape(3, -1, WIDTH)
        self.steps, self.count = state.steps, state.count or self.count
        kept = np.frombuffer(state.kept, "<u2").reshape(n, KEPT_ROWS, held.shape[1] - 2)
        for array, values in zip(arrays[:3], held, strict=True):
            array[known], array[-2:] = values[was[known]], values[-2:]
        arrays.kept[:n, :, known] = kept[..., was[known]]
        arrays.kept_of[:n] = np.frombuffer(state.kept_of, "<f4").reshape(n, 3)
        self.publish()

    def publish(self) -> None:
        """Go by what it is now in what it says of losses."""
        self.published = self.arrays.values.copy()


@njit(cache=True, error_model="numpy")
def squash(z):  # type: ignore[no-untyped-def]
    """Nearly tanh, -1 to 1, and exactly these from 3 on: a fraction of polynomials, a third of its time."""
    z = z if z < _THREE else _THREE
    z = z if z > -_THREE else -_THREE
    return z * (_CUBE + z * z) / (_CUBE + _NINE * (z * z))


@njit(cache=True, error_model="numpy")
def slope_of(z):  # type: ignore[no-untyped-def]
    """The slope of `squash` at `z`."""
    z = z if z < _THREE else _THREE
    z = z if z > -_THREE else -_THREE
    part = (_NINE - z * z) / (_THREE * (_THREE + z * z))
    return part * part


@njit(cache=True)
def total_of(numbers):  # type: ignore[no-untyped-def]
    """The sum of float32 (WIDTH,), which are lost: of halves, so that a machine adds up several at once."""
    for h in range(16):
        numbers[h] += numbers[h + 16]
    for h in range(8):
        numbers[h] += numbers[h + 8]
    one, two = numbers[0] + numbers[4], numbers[1] + numbers[5]
    return (one + (numbers[2] + numbers[6])) + (two + (numbers[3] + numbers[7]))


@njit(cache=True, error_model="numpy")
def forward(x, values, sums, logits):  # type: ignore[no-untyped-def]
    """Write the sums of all columns for `x`, float (m, d), to `sums`, float32 (m + 1, WIDTH) at least, and the
    logits to `logits`, float64 (m,). About 9 us for 120 rows of 38.
    """
    m, size = x.shape
    whole = size - size % 4
    for k in range(0, m, 2):  # two rows and four coordinates at once: each sum is read and written a quarter as often
        one, two, s, t = x[k], x[min(k + 1, m - 1)], sums[k], sums[k + 1]
        for h in range(WIDTH):
            s[h] = t[h] = values[size, h]
        for f in range(0, whole, 4):
            x0, x1, x2, x3 = np.float32(one[f]), np.float32(one[f + 1]), np.float32(one[f + 2]), np.float32(one[f + 3])
            y0, y1, y2, y3 = np.float32(two[f]), np.float32(two[f + 1]), np.float32(two[f + 2]), np.float32(two[f + 3])
            for h in range(WIDTH):
                v0, v1, v2, v3 = values[f, h], values[f + 1, h], values[f + 2, h], values[f + 3, h]
                s[h] += (x0 * v0 + x1 * v1) + (x2 * v2 + x3 * v3)
                t[h] += (y0 * v0 + y1 * v1) + (y2 * v2 + y3 * v3)
        for f in range(whole, size):
            x0, y0 = np.float32(one[f]), np.float32(two[f])
            for h in range(WIDTH):
                s[h] += x0 * values[f, h]
                t[h] += y0 * values[f, h]
    counted = np.empty(WIDTH, np.float32)
    for k in range(m):
        for h in range(WIDTH):
            counted[h] = values[size + 1, h] * squash(sums[k, h])
        counted[0] = sums[k, 0]
        logits[k] = total_of(counted)


@njit(cache=True)
def logits_of(features, weights, units, bias):  # type: ignore[no-untyped-def]
    """The logits of `features`, float (c, d), by linear `weights`, float64 (d,), and a net, `units`, whose own linear
    model is 0: float64 (c,). About 10 us for 120 of 38.
    """
    c, size = features.shape
    logits = np.empty(c)
    forward(features, units, np.empty((c + 1, WIDTH), np.float32), logits)
    for k in range(0, c, 4):  # four at once, whose sums need not wait for each other; the last again
        k1, k2, k3 = min(k + 1, c - 1), min(k + 2, c - 1), min(k + 3, c - 1)
        x0, x1, x2, x3 = features[k], features[k1], features[k2], features[k3]
        a0, a1, a2, a3 = logits[k] + bias, logits[k1] + bias, logits[k2] + bias, logits[k3] + bias
        for f in range(size):
            a0 += x0[f] * weights[f]
            a1 += x1[f] * weights[f]
            a2 += x2[f] * weights[f]
            a3 += x3[f] * weights[f]
        logits[k], logits[k1], logits[k2], logits[k3] = a0, a1, a2, a3
    return logits


@njit(cache=True)
def loss_of(logits, chosen):  # type: ignore[no-untyped-def]
    """Put the probability of each in place of its logit, float64 (m,); minus the logarithm of that of `chosen`."""
    most, own, total = logits.max(), logits[chosen], 0.0
    for k in range(len(logits)):
        logits[k] = math.exp(logits[k] - most)
        total += logits[k]
    for k in range(len(logits)):
        logits[k] /= total
    return math.log(total) + most - own


@njit(cache=True, error_model="numpy")
def backward(x, slopes, values, sums, steps):  # type: ignore[no-untyped-def]
    """Add what the slopes of the logits, float32 (m,), are of the values to `steps`, float32 (d + 2, WIDTH). `sums`,
    float32 (m + 3, WIDTH) at least, are as `forward` left them, and lost.
    """
    m, size = x.shape
    for k in range(m):
        s, slope = sums[k], slopes[k]
        for h in range(1, WIDTH):
            steps[size + 1, h] += slope * squash(s[h])
            s[h] = slope * values[size + 1, h] * slope_of(s[h])
            steps[size, h] += s[h]
        s[0] = slope
    sums[m : m + 3] = np.float32(0.0)
    for k in range(0, m, 4):
        s0, s1, s2, s3 = sums[k], sums[k + 1], sums[k + 2], sums[k + 3]
        x0, x1, x2, x3 = x[k], x[min(k + 1, m - 1)], x[min(k + 2, m - 1)], x[min(k + 3, m - 1)]
        for f in range(size):
            y0, y1, y2, y3 = x0[f], x1[f], x2[f], x3[f]
            for h in range(WIDTH):
                steps[f, h] += (y0 * s0[h] + y1 * s1[h]) + (y2 * s2[h] + y3 * s3[h])


@njit(cache=True)
def add_slopes(x, chosen, w, offset, values, sums, logits, slopes, steps):  # type: ignore[no-untyped-def]
    """Add the slopes of `w` times the loss of the choice of row `chosen` of `x`, float32 (m, d), to `steps`; `offset`
    is added to the logits of the others.
    """
    m = len(x)
    forward(x, values, sums, logits)
    for k in range(m):
        logits[k] += offset if k != chosen else 0.0
    loss_of(logits[:m], chosen)
    for k in range(m):
        slopes[k] = w * (logits[k] - (k == chosen))
    backward(x, slopes, values, sums, steps)


@njit(cache=True, error_model="numpy")
def adam(values, mean, square, steps, rate, number):  # type: ignore[no-untyped-def]
    """Step number `number`, from 1 on, down `steps`."""
    quick, slow = 1.0 - np.float64(_MOMENTUM) ** number, 1.0 - np.float64(_MEMORY) ** number
    by, of = np.float32(rate / quick), np.float32(1.0 / slow)
    for f in range(len(values)):
        for h in range(WIDTH):
            slope = steps[f, h]
            mean[f, h] = _MOMENTUM * mean[f, h] + (_ONE - _MOMENTUM) * slope
            square[f, h] = _MEMORY * square[f, h] + (_ONE - _MEMORY) * slope * slope
            values[f, h] -= by * mean[f, h] / (np.sqrt(square[f, h] * of) + _TINY)


@njit(cache=True)
def mixed(number):  # type: ignore[no-untyped-def]
    """A number that looks drawn, uint64: Steele et al., Fast splittable pseudorandom number generators (2014)."""
    z = np.uint64(number) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def keep(x, chosen, w, count, kept, kept_of):  # type: ignore[no-untyped-def]
    """Keep a choice, the `count`-th from 0 on, in place of the oldest: its rows are drawn evenly from all others."""
    m, most = len(x), kept.shape[1]
    slot, n, seen = count % len(kept), 1, 0
    drawn = np.empty(most, np.int64)
    drawn[0] = chosen
    for k in range(m):
        if k == chosen:
            continue
        seen += 1
        if n < most:
            drawn[n] = k
            n += 1
        else:
            at = np.int64(mixed(count * m + k) % np.uint64(seen))
            if at < most - 1:
                drawn[at + 1] = k
    for i in range(n):
        for f in range(x.shape[1]):
            kept[slot, i, f] = to_bfloat16(x[drawn[i], f])
    kept_of[slot, 0] = n
    kept_of[slot, 1] = math.log(seen / (n - 1)) if n > 1 else 0.0
    kept_of[slot, 2] = w


@njit(cache=True)
def choose(inputs, picks, chosen, w, published, values, mean, square, kept, kept_of, rate, number, count):  # type: ignore[no-untyped-def]
    """See Net.choose: step `number` by a choice, before which `count` were kept. About 60 us for 120 rows of 38."""
    m, size = len(picks), inputs.shape[1]
    room = max(m, kept.shape[1])
    x, again = np.empty((m, size), np.float32), np.empty((kept.shape[1], size), np.float32)
    for k in range(m):
        for f in range(size):
            x[k, f] = inputs[picks[k], f]
    sums, logits, slopes = np.empty((room + 3, WIDTH), np.float32), np.empty(room), np.empty(room, np.float32)
    steps = np.zeros(values.shape, np.float32)
    forward(x, published, sums, logits[:m])
    loss = loss_of(logits[:m], chosen)
    add_slopes(x, chosen, w, 0.0, values, sums, logits, slopes, steps)
    held = min(count, len(kept))
    for r in range(REPLAYED if held else 0):
        slot = np.int64(mixed(count * REPLAYED + r) % np.uint64(held))
        n = int(kept_of[slot, 0])
        for k in range(n):
            for f in range(size):
                again[k, f] = from_bfloat16(kept[slot, k, f])
        add_slopes(again[:n], 0, kept_of[slot, 2], kept_of[slot, 1], values, sums, logits, slopes, steps)
    adam(values, mean, square, steps, rate, number)
    keep(x, chosen, w, count, kept, kept_of)
    return loss


@njit(cache=True, error_model="numpy")
def parts_of(features, positions, weights, values):  # type: ignore[no-untyped-def]
    """What each coordinate adds to the logits at `positions`, int64 (p,), of `features`, float (c, d), by linear
    `weights`, float64 (d,), and the units of `values`: float64 (p, d). About 5 us for 20.

    Integrated gradients from 0 (Sundararajan et al., Axiomatic attribution for deep networks, 2017): with what a row of
    zeros has they add up to the logit. On the straight path each unit is a function of one number, so that the mean of
    its slope is what it rises by over how far that number goes, and there is nothing to approximate.
    """
    size, n = features.shape[1], len(positions)
    x, by_unit = np.empty((n, size), np.float32), np.empty((WIDTH, size), np.float32)
    for p in range(n):
        x[p] = features[positions[p]]
    for f in range(size):
        for h in range(WIDTH):
            by_unit[h, f] = values[f, h]
    sums, rises, begun = np.empty((n + 1, WIDTH), np.float32), np.empty(WIDTH, np.float32), np.empty(WIDTH, np.float32)
    forward(x, values, sums, np.empty(n))
    for h in range(WIDTH):
        begun[h] = squash(values[size, h])
    parts, of = np.empty((n, size)), np.empty(size, np.float32)
    for p in range(n):
        for h in range(WIDTH):
            begin, end = values[size, h], sums[p, h]
            is_far = abs(end - begin) > _NEAR
            mean = (squash(end) - begun[h]) / (end - begin if is_far else _ONE)
            rises[h] = values[size + 1, h] * (mean if is_far else slope_of(_HALF * (begin + end)))
        rises[0] = np.float32(0.0)  # the linear model's, which is not the net's own here
        of[:] = np.float32(0.0)
        for h in range(0, WIDTH, 4):  # four at once: what is added up is read and written a quarter as often
            r0, r1, r2, r3 = rises[h], rises[h + 1], rises[h + 2], rises[h + 3]
            u0, u1, u2, u3 = by_unit[h], by_unit[h + 1], by_unit[h + 2], by_unit[h + 3]
            for f in range(size):
                of[f] += (r0 * u0[f] + r1 * u1[f]) + (r2 * u2[f] + r3 * u3[f])
        for f in range(size):
            parts[p, f] = x[p, f] * (weights[f] + of[f])
    return parts
