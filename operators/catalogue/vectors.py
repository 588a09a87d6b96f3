"""What an item says of itself as a small vector: of its tokens, its embedding and its words. Knows no users."""

import hashlib
import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numba import njit
from river import feature_extraction
from riverrank.state.records.incoming import Item

DIMENSIONS = 48
SHORTEST_WORD = 4  # letters; shorter ones say little in most languages
MOST_WORDS = 64
MOST_TEXT = 4096  # characters that words are looked for in
LONGEST_KEPT = 64  # characters of a token whose direction is kept in memory
WORDS = 0.3  # length of all words together beside that of all tokens
_words_of = feature_extraction.BagOfWords().process_text  # lower case, without accents


def direction(token: str) -> np.ndarray:
    """The token's fixed random direction: float32 (DIMENSIONS,) of +1 and -1, not to be written to.

    Achlioptas, Database-friendly random projections (2003): cosines of sums of these keep those of the tokens' counts.
    """
    return _kept_direction(token) if len(token) <= LONGEST_KEPT else _direction(token)


@lru_cache(maxsize=65_536)
def _kept_direction(token: str) -> np.ndarray:
    return _direction(token)


def _direction(token: str) -> np.ndarray:
    bits = np.frombuffer(hashlib.shake_128(token.encode("utf-8", "surrogatepass")).digest(DIMENSIONS // 8), np.uint8)
    return np.unpackbits(bits).astype(np.float32) * 2 - 1


def vector_of(item: Item, tokens: Sequence[str]) -> np.ndarray:
    """The item's content as a unit vector, float32 (DIMENSIONS,), or zeros where it says nothing: of its `tokens`, of
    its embedding, which counts as much as all of these, and of its words, which count WORDS of that.
    """
    vector = _sum_of(tokens)
    length = math.sqrt(DIMENSIONS * max(1, len(tokens)))
    if item.embedding:
        given = np.asarray(item.embedding, np.float32)
        vector += length * _unit(given @ _projection(len(given)))
    words = [
        word for word in _words_of(f"{item.title or ''} {item.text or ''}"[:MOST_TEXT]) if len(word) >= SHORTEST_WORD
    ]
    vector += WORDS * length * _unit(_sum_of([f"\x00word={word}" for word in words[:MOST_WORDS]]))
    return _unit(vector)


def _sum_of(tokens: Sequence[str]) -> np.ndarray:
    vector = np.zeros(DIMENSIONS, np.float32)
    for token in tokens:
        vector += direction(token)
    return vector


def _unit(vector: np.ndarray) -> np.ndarray:
    """The vector at length 1; zeros as they are."""
    length = float(np.linalg.norm(vector))
    return vector / np.float32(length) if length > 0 else vector


@lru_cache(maxsize=4)
def _projection(dimensions: int) -> np.ndarray:
    return np.stack([direction(f"\x00embedding:{k}") for k in range(dimensions)])


@njit(cache=True)
def dot_of(a, b):  # type: ignore[no-untyped-def]
    """The dot product of two float32 vectors, in four sums: the same on every CPU, and several steps of it at once."""
    first = np.float32(0.0)
    second = np.float32(0.0)
    third = np.float32(0.0)
    fourth = np.float32(0.0)
    whole = len(a) // 4 * 4
    for d in range(0, whole, 4):
        first += a[d] * b[d]
        second += a[d + 1] * b[d + 1]
        third += a[d + 2] * b[d + 2]
        fourth += a[d + 3] * b[d + 3]
    for d in range(whole, len(a)):
        first += a[d] * b[d]
    return (first + second) + (third + fourth)
