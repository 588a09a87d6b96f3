"""What happens to records: broken ones, delivered again, out of order, of clocks that are off, tombstones."""

import json
import random
import time
from collections.abc import Callable, Iterator

import pytest
from kafka import KafkaProducer
from scene import Scene, Seen, Services, fault
from shop_events import CATALOGUE, ITEMS

HOUR_MS = 3_600_000
pytestmark = pytest.mark.timeout(600)
# What cannot be used, whoever sends it: each its own way.
POISON = [
    b"{broken",
    b"[]",
    b'{"event_id":"p","type":"click","user_id":"u1","ts":1764000000000}',
    b'{"event_id":"p","type":"click","user_id":"u1","item_id":"i1","ts":"soon"}',
    b'{"event_id":"p","type":"stare","user_id":"u1","item_id":"i1","ts":1764000000000}',
    b'{"event_id":"p","type":"click","user_id":"","item_id":"i1","ts":1764000000000}',
    b'{"event_id":"p","type":"rate","user_id":"u1","item_id":"i1","ts":1764000000000,"value":1e300}',
    b'{"event_id":"\xff\xfe","type":"click","user_id":"u1","item_id":"i1","ts":1764000000000}',
    b'{"event_id":"p","type":"request","user_id":"u1","ts":1764000000000,"context":' + b"[" * 200 + b"]" * 200 + b"}",
]


def with_poison(lines: list[str]) -> Iterator[str | bytes]:
    """One record of ten is poison."""
    for number, line in enumerate(lines):
        if number % 9 == 8:
            yield POISON[number // 9 % len(POISON)]
        yield line


@fault("10 % poison records", short=True)
def test_poison_among_the_records(scene: Scene, seen: Callable[[Seen], None]) -> None:
    scene.give(with_poison(scene.stream(600)))
    found = scene.finish()
    assert found.found.letters == 600 // 9
    seen(found)


@fault("the whole stream delivered again")
def test_the_whole_stream_comes_again(scene: Scene, seen: Callable[[Seen], None]) -> None:
    lines = scene.stream(600)
    scene.give(lines)
    scene.wait_for_answers()
    scene.give(lines)
    found = scene.finish()
    assert found.found.slates == found.wanted
    seen(found)


@fault("the order shuffled within allowed lateness")
def test_the_order_is_another(scene: Scene, seen: Callable[[Seen], None]) -> None:
    lines = scene.stream(600)
    random.Random(33).shuffle(lines)
    scene.give(lines)
    found = scene.finish()
    assert found.found.letters == 0  # 600 events a second apart: none is an hour late
    seen(found)


@fault("clocks off: 20 events ahead by a day, 20 late by three hours")
def test_clocks_are_off(scene: Scene, seen: Callable[[Seen], None]) -> None:
    lines = scene.stream(600)
    ahead = int(time.time() * 1000) + 24 * HOUR_MS
    for number in range(590, 190, -20):
        event = json.loads(lines[number])
        late = {**event, "event_id": f"late-{number}", "ts": event["ts"] - 3 * HOUR_MS}
        lines[number:number] = [json.dumps(late), json.dumps({**event, "event_id": f"ahead-{number}", "ts": ahead})]
    scene.give(lines)
    found = scene.finish()
    assert found.found.letters == 40
    seen(found)


@fault("tombstones and null values on both topics")
def test_tombstones_and_nulls(on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    """Four items deleted by tombstones, one without a key, and nulls among the events."""
    deleted = [f"i{number}" for number in range(ITEMS - 4, ITEMS)]
    scene = staged("nulls")
    with KafkaProducer(bootstrap_servers=on.broker.bootstrap) as producer:
        for key in (*deleted, ""):
            producer.send("nulls-items", None, key.encode())
    now = int(time.time() * 1000)
    scene.items = [*CATALOGUE, *(json.dumps({"item_id": item, "ts": now, "deleted": True}) for item in deleted)]
    scene.submit()
    lines: list[str | None] = [*scene.stream(600)]
    for number in range(500, 0, -100):
        lines[number:number] = [None]
    scene.give(lines)
    nulls = [{"topic": "events", "reason": "bad_json", "raw": ""}] * 5
    scene.letters = [*nulls, {"topic": "items", "reason": "bad_field", "raw": ""}]
    seen(scene.finish())
