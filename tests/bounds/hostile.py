"""Streams without end that are made to break a bound: records as bytes, each of them one that the job takes."""

import json
from collections.abc import Iterator
from itertools import count
from typing import Any

from riverrank.state.records.bounds import MAX_ID_BYTES, MAX_IMPRESSION_ITEMS, MAX_SLATE_ID_BYTES

START_MS, SECOND, WINDOW = 1_764_000_000_000, 1_000, 700_000  # the last is longer than an impression waits
ATTRIBUTES = 12


def long(name: str, most: int = MAX_ID_BYTES) -> str:
    """The longest id that begins with that name."""
    return f"{name}-".ljust(most, "x")


def event(number: int, kind: str, user: str, at: int = -1, **more: Any) -> bytes:
    """The event of that number, a second after the one before it unless said."""
    ts = START_MS + (number * SECOND if at < 0 else at)
    return json.dumps({"event_id": long(f"e{number}"), "type": kind, "user_id": user, "ts": ts, **more}).encode()


def one_user() -> Iterator[bytes]:
    """One user takes ever new items, all ids of the most bytes, names a slate of the most bytes, and states all there
    is room for.
    """
    slate = long("s", MAX_SLATE_ID_BYTES)
    for n in count():
        if n % 200 == 0:
            yield event(n, "profile", long("u"), attributes={"a": [0.5] * 1_800})
        else:
            yield event(n, "click", long("u"), item_id=long(f"i{n}"), slate_id=slate)


def late_events() -> Iterator[bytes]:
    """One user's clock stands a day back, after two events of now."""
    for n in count():
        yield event(n, "click", "u", 86_400_000 + n if n < 2 else n, item_id="i")


def one_user_of_a_catalogue() -> Iterator[bytes]:
    """One user takes and rates items that say much of themselves, and asks."""
    for k in range(200):
        attributes = {f"a{j}": f"v{k}-{j}" for j in range(ATTRIBUTES)}
        yield json.dumps({"item_id": f"i{k}", "ts": START_MS, "attributes": attributes}).encode()
    for n in count():
        kind = ("click", "rate", "request")[n % 3]
        yield event(n, kind, "u", item_id=f"i{n * 7 % 200}", value=float(n % 5))


def impressions_that_stay_open() -> Iterator[bytes]:
    """One user is shown ever new items, as many as a list may have, and does nothing."""
    for n in count():
        items = [long(f"i{n}-{k}") for k in range(MAX_IMPRESSION_ITEMS)]
        yield event(n, "impression", long("u"), items=items, slate_id=long("s", MAX_SLATE_ID_BYTES))


def impressions_that_are_resolved() -> Iterator[bytes]:
    """The same, each so long after the one before that it resolves it: everybody learns of it."""
    for n in count():
        items = [long(f"i{n}-{k}") for k in range(MAX_IMPRESSION_ITEMS)]
        yield event(n, "impression", "u", n * WINDOW, items=items)


def short_impressions() -> Iterator[bytes]:
    """Users are shown one item each, and do not come back."""
    for n in count():
        yield event(n, "impression", long(f"u{n}"), items=[long(f"i{n % 300}")])


def profiles() -> Iterator[bytes]:
    """One user states ever new attributes of all they may take, in numbers that take more as they are kept."""
    for n in count():
        stated = {f"a{n}": [0.5] * 1_800, f"b{n}": "x"}
        yield event(n, "profile", long("u"), attributes=stated)


def cohorts() -> Iterator[bytes]:
    """Users state ever new values, so that each is stated by two, or by one alone; and take something."""
    for n in count():
        user = f"u{n % 40}"
        if n % 2:
            yield event(n, "click", f"u{(n - 1) % 40}", item_id=f"i{n % 40}")
        else:
            value = long(f"v{n // 4}", 200) if n % 8 < 4 else long(f"w{n}", 200)
            yield event(n, "profile", user, attributes={"band": value})


def contexts() -> Iterator[bytes]:
    """Events say ever new names of where they are."""
    for n in count():
        yield event(n, "click", f"u{n % 40}", item_id=f"i{n % 40}", context={f"name{n}-{k}": "x" for k in range(40)})


def strangers() -> Iterator[bytes]:
    """Nobody comes twice."""
    for n in count():
        yield event(n, "click", long(f"u{n}"), item_id=f"i{n % 300}")


def shelves() -> Iterator[bytes]:
    """Ever new items that say the same of themselves, by ids of the most bytes, and a request after each."""
    for n in count():
        yield json.dumps({"item_id": long(f"i{n}"), "ts": START_MS, "categories": ["all"]}).encode()
        yield event(n, "request", "u")


def goods() -> Iterator[bytes]:
    """Ever new items with the longest lists of attributes, words of 4,000 letters, and of each second the end."""
    for n in count():
        attributes = {long(f"a{n}-{k}", 200): long("v", 200) for k in range(ATTRIBUTES)}
        item: dict[str, Any] = {"item_id": long(f"i{n}"), "ts": START_MS + n, "attributes": attributes}
        yield json.dumps({**item, "title": long(f"t{n}", 4_000)}).encode()
        if n % 2:
            yield json.dumps({"item_id": long(f"i{n}"), "ts": START_MS + n + 1, "deleted": True}).encode()


def erasures() -> Iterator[bytes]:
    """Some users ask to be forgotten again and again, and one between takes something."""
    for n in count():
        if n % 5:
            yield event(n, "erase", long(f"u{n % 7}"))
        else:
            yield event(n, "click", long(f"u{n % 7}"), item_id=f"i{n % 40}")


def ratings() -> Iterator[bytes]:
    """One user rates ever new items, wildly."""
    for n in count():
        yield event(n, "rate", "u", item_id=long(f"i{n}"), value=1e6 if n % 2 else -1e6)
