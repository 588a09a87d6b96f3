"""Gaussian noise from a secret: numbers that nobody guesses who lacks it, and that are the same wherever they are asked
for. No generator has a state: each number is ChaCha20 of what it is for (RFC 8439).
"""

import hashlib
import math

import numpy as np
from numba import njit

KEY_WORDS = 8
_MASK = np.uint64(0xFFFFFFFF)
_CONSTANTS = np.frombuffer(b"expand 32-byte k", "<u4").astype(np.uint64)


def key_of(secret: bytes, *parts: str | int | bytes) -> np.ndarray:
    """The key, uint32 (KEY_WORDS,), for what `parts` name: another for any other parts.

    >>> bool((key_of(b"s", "a", 1) == key_of(b"s", "a", 2)).any())
    False
    """
    digest = hashlib.blake2b(digest_size=4 * KEY_WORDS, key=secret[:64])
    for part in parts:
        raw = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return np.frombuffer(digest.digest(), "<u4").astype(np.uint32)


def name_of(secret: bytes, name: str) -> int:
    """What an item is known by to the noise: 64 bits that nobody finds two names for who lacks the secret."""
    raw = name.encode("utf-8", "surrogatepass")
    return int.from_bytes(hashlib.blake2b(raw, digest_size=8, key=secret[:64]).digest(), "little")


def normals(key: np.ndarray, n: int) -> np.ndarray:
    """The first `n` numbers of a key: float64 (n,), of the standard normal distribution."""
    found = np.empty(n)
    _fill(key, found)
    return found


@njit(cache=True)
def _fill(key, found):  # type: ignore[no-untyped-def]
    words = np.empty(16, np.uint64)
    for k in range(len(found)):
        found[k] = normal(key, np.uint64(k), np.uint64(0), words)


@njit(cache=True)
def normal(key, first, second, words):  # type: ignore[no-untyped-def]
    """The number of `key`, uint32 (KEY_WORDS,), that `first` and `second`, uint64, name. `words` uint64 (16,) is
    scratch. By Box and Muller, from 53 bits each: at most 8.6 either way, which leaves out 1e-17 of all. Half a us.
    """
    chacha20(key, first, second, words)
    radius = (np.float64((words[0] | (words[1] << np.uint64(32))) >> np.uint64(11)) + 1.0) * 2.0**-53
    angle = np.float64((words[2] | (words[3] << np.uint64(32))) >> np.uint64(11)) * 2.0**-53
    return math.sqrt(-2.0 * math.log(radius)) * math.cos(2.0 * math.pi * angle)


@njit(cache=True)
def chacha20(key, first, second, words):  # type: ignore[no-untyped-def]
    """One block into `words`, uint64 (16,) of 32 bits each: of a key, uint32 (8,), and of counter and nonce, which are
    the halves of `first` and `second`, uint64, the lower before the upper.
    """
    start = np.empty(16, np.uint64)
    for k in range(4):
        start[k] = _CONSTANTS[k]
    for k in range(8):
        start[4 + k] = np.uint64(key[k])
    start[12], start[13] = first & _MASK, first >> np.uint64(32)
    start[14], start[15] = second & _MASK, second >> np.uint64(32)
    words[:] = start
    for _ in range(10):
        for k in range(4):  # columns, then diagonals
            _quarter(words, k, k + 4, k + 8, k + 12)
        _quarter(words, 0, 5, 10, 15)
        _quarter(words, 1, 6, 11, 12)
        _quarter(words, 2, 7, 8, 13)
        _quarter(words, 3, 4, 9, 14)
    for k in range(16):
        words[k] = (words[k] + start[k]) & _MASK


@njit(cache=True)
def _quarter(words, a, b, c, d):  # type: ignore[no-untyped-def]
    first, second, third, fourth = words[a], words[b], words[c], words[d]
    first = (first + second) & _MASK
    fourth = _turned(fourth ^ first, 16)
    third = (third + fourth) & _MASK
    second = _turned(second ^ third, 12)
    first = (first + second) & _MASK
    fourth = _turned(fourth ^ first, 8)
    third = (third + fourth) & _MASK
    words[b] = _turned(second ^ third, 7)
    words[a], words[c], words[d] = first, third, fourth


@njit(cache=True)
def _turned(word, bits):  # type: ignore[no-untyped-def]
    """A word of 32 bits, turned to the left."""
    return ((word << np.uint64(bits)) | (word >> np.uint64(32 - bits))) & _MASK
