"""Tokens: what an item or a profile says, as `name=value`. Knows nothing of vectors, and needs no numpy."""

import math
import re
from collections.abc import Iterator, Mapping
from typing import Any

from riverrank.state.records.bounds import fits
from riverrank.state.records.incoming import Item

MAX_TOKENS = 12
CATEGORY = "category="  # begins the token of a category
MAX_VALUE_BYTES = 256  # longer categories and values of attributes name nothing
LARGEST_EXPONENT = 1023  # of a float
COHORT = "\x00"  # begins the name of a cohort's list, which no item can have
MAX_COHORTS = 8


def tokens_of(item: Item) -> list[str]:
    """The item's categories and attributes as `name=value`, at most MAX_TOKENS, categories first.

    >>> tokens_of(Item("i", 1, categories=("sci-fi",), attributes={"brand": "Fox", "year": 1979, "price": 9.9}))
    ['category=sci-fi', 'brand=Fox', 'year=1980~', 'price=8~']
    """
    return list(dict.fromkeys(_tokens(item)))[:MAX_TOKENS]


def _tokens(item: Item) -> Iterator[str]:
    for category in item.categories:
        if names(category):
            yield f"category={category}"
    for name, value in item.attributes.items():
        if not names(name):
            continue
        for single in value if isinstance(value, list) else (value,):
            if isinstance(single, bool) or (isinstance(single, str) and names(single)):
                yield f"{name}={single}"
            elif isinstance(single, int | float):
                yield f"{name}={_bucket(single)}"


def names(text: str) -> bool:
    """Whether a text is short enough to name anything: 1 to MAX_VALUE_BYTES bytes."""
    return text != "" and fits(text, MAX_VALUE_BYTES)


def _bucket(value: float) -> str:
    """A number as the bucket that holds it: a decade for what looks like a year, else the nearest power of two."""
    if isinstance(value, int) and 1000 <= value < 3000:
        return f"{round(value, -1)}~"
    if not math.isfinite(value) or value == 0:
        return "0"
    exponent = min(round(math.log2(abs(value))), LARGEST_EXPONENT)
    return f"{'-' if value < 0 else ''}{2.0**exponent:g}~"


def preferences(attributes: dict[str, object]) -> set[str]:
    """The bare values that a profile states: each string in it, or in a list in it.

    >>> sorted(preferences({"age_band": "25-34", "likes": ["drama", "comedy"]}))
    ['25-34', 'comedy', 'drama']
    """
    values: set[str] = set()
    for value in attributes.values():
        values.update(v for v in (value if isinstance(value, list) else [value]) if isinstance(v, str) and names(v))
    return values


def token_of(rule: str) -> str:
    """The token that a rule is about; raises ValueError, with the mend, for what no item could have.

    A number is kept as the bucket that holds it, which is to be named; text that looks like a number stands in quotes.

    >>> token_of("brand=Acme"), token_of("year=1980~"), token_of('size="42"'), token_of("sale=true")
    ('brand=Acme', 'year=1980~', 'size=42', 'sale=True')
    """
    name, _, value = rule.partition("=")
    if not (name and value):
        raise ValueError(f'"{rule}" is no attribute with its value: expected such as "category=horror"')
    if f"{name}=" == CATEGORY:
        return rule
    if value[0] == value[-1] == '"' and len(value) > 2:
        return f"{name}={value[1:-1]}"
    if value in ("true", "false"):
        return f"{name}={value.capitalize()}"
    if re.fullmatch(r"-?\d+(\.\d+)?", value):
        (bucket,) = tokens_of(Item("", 0, attributes={name: float(value) if "." in value else int(value)}))
        raise ValueError(
            f'"{rule}": a number is kept as a bucket (a decade, or the nearest power of two): write "{bucket}" for the '
            f"one that holds {value}, or '{name}=\"{value}\"' where the attribute is text"
        )
    return rule


def cohorts(attributes: Mapping[str, Any]) -> list[str]:
    """The cohorts that a user with these attributes belongs to: one for each attribute with a single value.

    >>> cohorts({"age_band": "25-34", "likes": ["drama"]})
    ['\\x00age_band=25-34']
    """
    stated = [f"{k}={v}" for k, v in attributes.items() if isinstance(v, str | int | bool) and v != ""]
    return [COHORT + name for name in stated if names(name)][:MAX_COHORTS]
