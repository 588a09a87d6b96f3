"""What tests of the operators as Flink drives them share: records on their way, and functions to send them to."""

import json
from collections.abc import Iterable
from typing import Any

from harness import Harness
from riverrank.operators.flink.arrivals import Lines
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.parse import ParseEvents
from riverrank.operators.flink.recommend import CacheRoute, RecommendFunction
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.settings import Behaviour
from riverrank.state.messages import Feedback, encode
from riverrank.state.records.incoming import Event, Item

ALL = Outputs(
    lines=frozenset({"slates", "predictions"}),
    records=frozenset({"slates", "dead-letters", "receipts", "exports", "previews"}),
)
DAY = 86_400_000
KEY = b"a secret"  # of pseudonyms
CATALOGUE = [Item(f"i{n}", 1, f"Title {n}", categories=(f"c{n % 3}",)) for n in range(12)]
BEHAVIOUR = Behaviour()


def line(
    event_id: str, kind: str = "click", item: str | None = "i1", user: str = "u", ts: int = 1_000, **more: Any
) -> str:
    record = {"event_id": event_id, "type": kind, "user_id": user, "ts": ts, **more}
    return json.dumps(record if item is None else {**record, "item_id": item})


def parsed(*lines: str) -> list[Any]:
    """Rows (key, arrival) as parse makes them."""
    parse = Harness(ParseEvents(Lines(), "events", ALL, KEY))
    for each in lines:
        parse.element(each)
    assert len(parse.main) == len(lines)
    return parse.main


def feedback(event_id: str, kind: str = "click", item: str | None = "i1", ts: int = 1_000, user: str = "u") -> bytes:
    event = Event(event_id, kind, user, ts, item)  # type: ignore[arg-type]
    return encode(Feedback(event, 1.0 if kind == "click" else 0.0, ()))


def session() -> SessionFunction:
    return SessionFunction(BEHAVIOUR, "events", ALL, DAY, KEY)


def recommend(outputs: Outputs = ALL, cache: CacheRoute | None = None, items: Iterable[Item] = CATALOGUE) -> Harness:
    return Harness(recommend_function(outputs, cache, items))


def recommend_function(
    outputs: Outputs = ALL, cache: CacheRoute | None = None, items: Iterable[Item] = CATALOGUE
) -> RecommendFunction:
    return RecommendFunction(BEHAVIOUR, lambda: items, outputs, DAY, cache)
