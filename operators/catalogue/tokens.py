"""Tokens: what an item or a profile says, as `name=value`. Knows nothing of vectors, and needs no numpy."""

import math
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from riverrank.state.hashing import hash32
from riverrank.state.records.bounds import fits
from riverrank.state.records.incoming import Item

MAX_TOKENS = 12
CATEGORY = "category="  # begins the token of a category
MAX_VALUE_BYTES = 256  # longer categories and values of attributes name nothing
LARGEST_EXPONENT = 1023  # of a float
COHORT = "\x00"  # begins the name of a cohort's list, which no item can have
MAX_COHORTS = 8
EVERY = "*"  # stands for all attributes in a list of them
CONTEXT = COHORT + COHORT  # begins that of the list of what is taken in a context
MAX_CONTEXTS = 4
MOST_SAID = 16  # values of a context that is remembered
CONTEXT_BUCKETS = 4096  # that the values of one name share: what is kept of a context names no value of it
HOUR, HOURS = "hour", 4  # the name of an hour of the day, of which as many are one value


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


def first_value(item: Item, name: str) -> str | None:
    """The first text or whole number that the attribute `name` holds, or "category"; None where there is none.

    >>> first_value(Item("i", 1, categories=("books", "crime")), "category")
    'books'
    >>> first_value(Item("i", 1, attributes={"store": [17, 18]}), "store")
    '17'
    """
    held = item.attributes.get(name)
    values = item.categories if name == "category" else held if isinstance(held, list) else (held,)
    return next(filter(None, map(name_of, values)), None)


def name_of(value: object) -> str | None:
    """What a value names: a short text as it is, a whole number by its digits; None for what names nothing."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) and names(value) else None


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


class ContextValue(NamedTuple):
    """What an event's context says, as the `token` name=value, and the name of the list of what is taken there."""

    token: str
    list_name: str


def context_values(context: Mapping[str, Any] | None) -> tuple[ContextValue, ...]:
    """The first MAX_CONTEXTS names of a context with a single value. An hour of the day is the block of HOURS that it
    lies in; values beyond CONTEXT_BUCKETS of one name share lists. 1 us where it was said lately.

    >>> said = {"device": "mobile", "hour": 22, "app": True, "size": [3, 4], "price": 9.9, "store": 17}
    >>> [value.token for value in context_values(said)]
    ['device=mobile', 'hour=20~', 'app=True', 'store=17']
    """
    if not context:
        return ()
    said = tuple([(k, v, type(v)) for k, v in context.items() if isinstance(v, str | int)])
    return _context_values(said) if len(said) <= MOST_SAID else _context_values.__wrapped__(said)


@lru_cache(maxsize=4096)
def _context_values(said: tuple[tuple[str, str | int, type], ...]) -> tuple[ContextValue, ...]:
    """Their types tell 1 and True apart, which are equal."""
    found = []
    for name, value, _ in said:
        if value != "":
            token = f"{name}={value}"
            if name == HOUR and isinstance(value, int) and 0 <= value < 24:
                token = f"{name}={value // HOURS * HOURS}~"
            if names(token):
                found.append(ContextValue(token, f"{CONTEXT}{name}#{hash32(token) % CONTEXT_BUCKETS}"))
                if len(found) == MAX_CONTEXTS:
                    break
    return tuple(found)


def contexts(context: Mapping[str, Any] | None) -> tuple[str, ...]:
    """The names of the lists of what is taken in a context."""
    return tuple([value.list_name for value in context_values(context)]) if context else ()


def cohorts(attributes: Mapping[str, Any], listed: Collection[str] = (EVERY,)) -> list[str]:
    """The cohorts that a user with these attributes belongs to: one for each attribute that is `listed` and has a
    single value.

    >>> cohorts({"age_band": "25-34", "likes": ["drama"]})
    ['\\x00age_band=25-34']
    """
    if EVERY not in listed:
        attributes = {name: value for name, value in attributes.items() if name in listed}
    stated = [f"{k}={v}" for k, v in attributes.items() if isinstance(v, str | int | bool) and v != ""]
    return [COHORT + name for name in stated if names(name)][:MAX_COHORTS]


def is_listed(cohort: str, listed: Collection[str]) -> bool:
    """Whether a cohort of that name is of an attribute that is `listed`; what is taken in a context always is.

    >>> is_listed(*cohorts({"age_band": "25-34"}), ["country"])
    False
    """
    return EVERY in listed or cohort.startswith(CONTEXT) or cohort.removeprefix(COHORT).partition("=")[0] in listed
