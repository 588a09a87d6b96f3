"""What choices teach the shared linear ranker: one short gradient each, and a step with noise, in RANKER or at an edge.

Knows neither users nor items: who learns from whom is the business of the caller.
"""

import numpy as np
from numba import njit

from .noise import key_of, normals

GRID = 1 << 20  # steps of 1 that gradients and noise are whole numbers of
RATE = 0.02  # of a step, beside that of one choice without noise
PULL = 0.02  # towards the prior, with each step: so noise of long ago is forgotten


def gradient(features: np.ndarray, position: int, weights: np.ndarray, clip: float) -> np.ndarray:
    """Down which way `weights`, float64 (d,), make it likelier that of the rows of `features`, float (n, d), that at
    `position` is chosen: float64 (d,), no longer than `clip`, and on the grid.
    """
    slopes = _slopes(features.astype(np.float64), position, weights)
    slopes *= min(1.0, clip / max(float(np.sqrt((slopes**2).sum())), 1e-12))
    return np.trunc(slopes * GRID) / GRID  # never longer


def noise_of(secret: bytes, number: int, summed: np.ndarray, deviation: float) -> np.ndarray:
    """The noise of the sum of gradients of the `number`-th step, float64 of its shape: on the grid. Another sum has
    other noise, so that no difference of two runs is without.
    """
    key = key_of(secret, "choices", number, summed.tobytes())
    return np.rint(normals(key, summed.size).reshape(summed.shape) * (deviation * GRID)) / GRID


def stepped(weights: np.ndarray, summed: np.ndarray, rate: float, prior: np.ndarray) -> np.ndarray:
    """The next `weights` by a sum of gradients that has its noise, and the `prior`, all float64 of one shape."""
    return weights - RATE * rate * summed + PULL * (prior - weights)


@njit(cache=True)
def _slopes(features, position, weights):  # type: ignore[no-untyped-def]
    """The gradient of minus the log of the softmax at `position`: float64 (d,)."""
    logits = features @ weights
    chances = np.exp(logits - logits.max())
    chances /= chances.sum()
    return chances @ features - features[position]
