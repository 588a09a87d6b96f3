"""What an item says of itself, as tokens and as a small vector. Knows nothing of users."""

import hashlib
import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from river import feature_extraction

from ..state.records import Item

DIMENSIONS = 48
MAX_TOKENS = 12
SHORTEST_WORD = 4  # letters; shorter ones say little in most languages
MOST_WORDS = 64
_words_of = feature_extraction.BagOfWords().process_text  # lower case, without accents


def tokens_of(item: Item) -> list[str]:
    """The item's categories and attributes as `name=value`, at most MAX_TOKENS, categories first.

    >>> tokens_of(Item("i", 1, categories=("sci-fi",), attributes={"brand": "Fox", "year": 1979, "price": 9.9}))
    ['category=sci-fi', 'brand=Fox', 'year=1980~', 'price=8~']
    """
    return list(dict.fromkeys(_tokens(item)))[:MAX_TOKENS]


def _tokens(item: Item) -> Iterator[str]:
    for category in item.categories:
        yield f"category={category}"
    for name, value in item.attributes.items():
        for single in value if isinstance(value, list) else (value,):
            if isinstance(single, bool | str) and single != "":
                yield f"{name}={single}"
            elif isinstance(single, int | float):
                yield f"{name}={_bucket(single)}"


def _bucket(value: float) -> str:
    """A number as the bucket that holds it: a decade for what looks like a year, else the nearest power of two."""
    if isinstance(value, int) and 1000 <= value < 3000:
        return f"{round(value, -1)}~"
    if not math.isfinite(value) or value == 0:
        return "0"
    return f"{'-' if value < 0 else ''}{2.0 ** round(math.log2(abs(value))):g}~"


def preferences(attributes: dict[str, object]) -> set[str]:
    """The bare values that a profile states: each string in it, or in a list in it.

    >>> sorted(preferences({"age_band": "25-34", "likes": ["drama", "comedy"]}))
    ['25-34', 'comedy', 'drama']
    """
    values: set[str] = set()
    for value in attributes.values():
        values.update(v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str) and v)
    return values


@lru_cache(maxsize=65_536)
def direction(token: str) -> np.ndarray:
    """The token's fixed random direction: float32 (DIMENSIONS,) of +1 and -1.

    Achlioptas, Database-friendly random projections (2003): cosines of sums of these keep those of the tokens' counts.
    """
    bits = np.frombuffer(hashlib.shake_128(token.encode("utf-8", "surrogatepass")).digest(DIMENSIONS // 8), np.uint8)
    return np.unpackbits(bits).astype(np.float32) * 2 - 1


def vector_of(item: Item, tokens: list[str]) -> np.ndarray:
    """The item's content as a unit vector, float32 (DIMENSIONS,), or zeros where it says nothing."""
    vector = np.zeros(DIMENSIONS, np.float32)
    for token in tokens:
        vector += direction(token)
    if item.embedding:
        given = np.asarray(item.embedding, np.float32)
        projected = given @ _projection(len(given))
        length = float(np.linalg.norm(projected))
        if length > 0:
            vector += projected * (math.sqrt(DIMENSIONS * max(1, len(tokens))) / length)
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


def text_of(item: Item) -> np.ndarray:
    """The words of title and text as a unit vector, float32 (DIMENSIONS,), or zeros where there are none."""
    words = [word for word in _words_of(f"{item.title or ''} {item.text or ''}") if len(word) >= SHORTEST_WORD]
    vector = np.zeros(DIMENSIONS, np.float32)
    for word in words[:MOST_WORDS]:
        vector += direction(f"\x00word={word}")
    length = float(np.linalg.norm(vector))
    return vector / length if length > 0 else vector


@lru_cache(maxsize=4)
def _projection(dimensions: int) -> np.ndarray:
    return np.stack([direction(f"\x00embedding:{k}") for k in range(dimensions)])
