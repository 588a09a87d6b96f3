"""What tests of the index share: few rows and tokens, a ranking from scratch, and an index with little room."""

from collections.abc import Sequence

import numpy as np
from riverrank.operators.catalogue.tokens import MAX_TOKENS
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, CatalogueSettings

ROWS = 12
TOKENS = 5


def ranking(keys: dict[int, float]) -> list[int]:
    """The rows by key, highest first, of equals the lowest row."""
    return sorted(keys, key=lambda row: (-keys[row], row))


def token_array(tokens: Sequence[Sequence[int]]) -> np.ndarray:
    array = np.full((len(tokens), MAX_TOKENS), -1, np.int32)
    for row, held in enumerate(tokens):
        array[row, : len(held)] = held
    return array


def small_index(limit: int) -> ItemIndex:
    return ItemIndex(Behaviour(catalogue=CatalogueSettings(items=limit)))
