"""The records of the oracle's streams: items and events, and lines of them with those that cannot be used."""

import json
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from oracle_streams import Stream

T0 = 1_764_000_000_000
CATEGORIES = ("drama", "comedy", "sci-fi", "crime", "nature", "sport")
BRANDS = ("Fox", "Aldra", "Lynx", "Møre", "Isbre")
ADJECTIVES = ("quiet", "bright", "northern", "hidden", "endless", "borrowed", "electric")
NOUNS = ("harbour", "winter", "machine", "garden", "witness", "river", "kingdom", "orchestra")
AGES = ("18-24", "25-34", "35-49")
ANSWERED = ("view", "click", "like", "dislike", "cart", "purchase", "rate", "request")
Record = dict[str, Any]


def made_items(stream: Stream) -> Iterator[Record]:
    """The catalogue, then what becomes of it: updates, deletions, and records that are older than what is known."""
    rng = random.Random(f"items:{stream.seed}")
    for k in range(stream.items):
        yield _item(rng, k, T0 - 1000 * k)
    for k in range(0, stream.items, 7):
        changed = _item(rng, k, T0 + 500)
        if k % 3 == 0:
            changed = {"item_id": _id(k), "ts": T0 + 500, "deleted": True}
        elif k % 3 == 1:
            changed["ts"] = T0 - 10_000_000
        yield changed


def made_events(stream: Stream) -> Iterator[Record]:
    """What users do, in the order in which it arrives."""
    rng = random.Random(f"events:{stream.seed}")
    crowd = _Crowd(stream, rng)
    types, weights = list(stream.mix), list(stream.mix.values())
    for number in range(stream.events):
        user, kind = int(stream.users * rng.random() ** 1.5), rng.choices(types, weights)[0]
        if rng.random() < 0.06:  # one who looks around, and takes nothing
            user, kind = stream.users + rng.randrange(5), rng.choice(("request", "request", "profile", "impression"))
        yield crowd.event(number, user, kind)


def made_lines(stream: Stream) -> tuple[list[bytes], list[bytes]]:
    """The lines of the items and of the events, those that cannot be used among them."""
    rng = random.Random(f"lines:{stream.seed}")
    items = [_line(item) for item in made_items(stream)]
    events: list[bytes] = []
    for number, event in enumerate(made_events(stream)):
        events.append(_line(event))
        if stream.dirty and rng.random() < 0.06:
            events.append(events[-1 - rng.randrange(min(len(events), 40))])
        if stream.dirty and rng.random() < 0.02:
            events.append(_line(event | {"event_id": f"late-{number}", "ts": event["ts"] - 86_400_000}))
    if stream.dirty:
        items = _with(items, _bad_items())
        events = _with(events, _bad_events())
    return items, events


class _Crowd:
    """Users with a taste each, who mostly go on from what they took last."""

    def __init__(self, stream: Stream, rng: random.Random) -> None:
        self.stream, self.rng, self.now = stream, rng, T0 + 3_600_000
        self.last: dict[int, int] = {}
        self.shown: dict[int, tuple[str, str]] = {}  # the item of an impression that will be taken, and its slate
        self.answers: Counter[int] = Counter()

    def event(self, number: int, user: int, kind: str) -> Record:
        """The next event, of user `user`; a tenth of them arrive out of order."""
        rng = self.rng
        self.now += rng.randrange(200, 12_000)
        ts = self.now - rng.randrange(600_000) if rng.random() < 0.1 else self.now
        event: Record = {"event_id": f"e-{number}", "type": kind, "user_id": f"u-{user}", "ts": ts}
        if kind == "impression":
            self._show(event, user, number)
        elif kind == "profile":
            event["attributes"] = {"age_band": rng.choice(AGES), "likes": rng.sample(CATEGORIES, rng.randrange(3))}
        elif kind == "erase":
            event["ts"] = self.now
        elif kind != "request":
            self._take(event, user, number)
        if kind in ANSWERED:
            self.answers[user] += 1
            if rng.random() < 0.2:
                event["context"] = {"device": rng.choice(("mobile", "tv")), "hour": rng.randrange(24)}
            if self.stream.asks and rng.random() < 0.5:
                event["context"] = event.get("context", {}) | {"domain": rng.choice(self.stream.asks)}
        return event

    def _turned(self, number: int) -> bool:
        return self.stream.turns and number > self.stream.events // 2

    def _show(self, event: Record, user: int, number: int) -> None:
        """Items at random; where tastes change, one, which is nearly always taken, and afterwards never."""
        rng, turns = self.rng, self.stream.turns
        names = [_id(rng.randrange(self.stream.items)) for _ in range(1 if turns else rng.randrange(1, 6))]
        if rng.random() < (0.0 if turns else 0.3):
            names.append(f"x-{rng.randrange(20)}")
        event["items"] = names
        slate = f"u-{user}:{self.answers[user]}" if rng.random() < 0.5 else ""
        if slate:
            event["slate_id"] = slate
        chance = 0.6 if not turns else 0.0 if self._turned(number) else 1.0
        if rng.random() < chance:
            self.shown[user] = rng.choice(names), slate

    def _take(self, event: Record, user: int, number: int) -> None:
        rng, kind = self.rng, event["type"]
        if user in self.shown and rng.random() < 0.8:
            event["item_id"], slate = self.shown.pop(user)
            if slate:
                event["slate_id"] = slate
        elif rng.random() < 0.08:
            event["item_id"] = f"x-{rng.randrange(20)}"
        else:
            self.last[user] = self._next(user, number)
            event["item_id"] = _id(self.last[user])
        if kind == "rate":
            event["value"] = float(rng.choice((1, 2, 3, 3.5, 4, 4.5, 5, 5)))

    def _next(self, user: int, number: int) -> int:
        rng, n, size = self.rng, len(CATEGORIES), self.stream.items
        taste = (user + 3 * self._turned(number)) % n
        if user in self.last and rng.random() < 0.5 and self.last[user] % n == taste:
            return (self.last[user] + n * rng.randrange(1, 4)) % size
        if rng.random() < 0.8:
            return taste + n * int(size // n * rng.random() ** 2)
        return rng.randrange(size)


def _id(k: int) -> str:
    return f"i-{k:03}"


def _item(rng: random.Random, k: int, ts: int) -> Record:
    """Item `k`: every eleventh says nothing of itself, and of the others each a different part."""
    item: Record = {"item_id": _id(k), "ts": ts}
    if k % 11 == 10:
        return item
    category = CATEGORIES[k % len(CATEGORIES)]
    item["title"] = f"{rng.choice(BRANDS)} {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}"
    item["categories"] = [category, rng.choice(CATEGORIES)] if rng.random() < 0.3 else [category]
    item["attributes"] = {
        "brand": rng.choice(BRANDS),
        "year": rng.randrange(1970, 2025),
        "price": round(2 + 60 * rng.random(), 2),
        "sale": rng.random() < 0.2,
        "moods": rng.sample(ADJECTIVES, 2),
    }
    if k % 2:
        item["text"] = f"A {category} about the {rng.choice(NOUNS)} of a {rng.choice(ADJECTIVES)} {rng.choice(NOUNS)}."
        item["published_ts"] = T0 - rng.randrange(10**9)
    if k % 3 == 0:
        item["embedding"] = [round(rng.gauss(0, 1), 3) for _ in range(6)]
    if k % 17 == 5:
        item["available"] = False
    return item


def _line(record: Record) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def _with(lines: list[bytes], others: Sequence[bytes]) -> list[bytes]:
    """The `others` among the `lines`, evenly."""
    made, step = list(lines), max(1, len(lines) // (len(others) + 1))
    for place, other in reversed(list(enumerate(others, start=1))):
        made.insert(place * step, other)
    return made


def _bad_events() -> list[bytes]:
    good = {"event_id": "bad", "type": "click", "user_id": "u-1", "item_id": "i-001", "ts": T0}
    faults: list[Record] = [
        {"item_id": None},
        {"type": "buy"},
        {"type": "rate"},
        {"type": "impression"},
        {"type": "impression", "items": []},
        {"user_id": ""},
        {"event_id": "e" * 257},
        {"ts": -1},
        {"ts": "yesterday"},
        {"value": "much"},
        {"context": {"deep": 2**70}},
    ]
    lines = [_line(good | fault) for fault in faults]
    lines += [b"{broken", b"[]", b"", b'{"event_id":"\xff\xfe"}', _line(good)[:-9], b'{"type":"click"}']
    return [*lines, _line(good | {"context": {"long": "x" * (1 << 20)}})]


def _bad_items() -> list[bytes]:
    faults: list[Record] = [{"item_id": ""}, {"ts": 1.5}, {"published_ts": -1}, {"categories": "drama"}]
    lines = [_line({"item_id": "i-bad", "ts": T0} | fault) for fault in faults]
    return [*lines, b"null", b"item", b"\x80", _line({"item_id": "i-bad", "ts": T0, "text": "x" * (1 << 20)})]
