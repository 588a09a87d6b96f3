"""What a job is given to do: one user's events, many users', and a large catalogue that changes all the time."""

import json
import threading
import time
from collections.abc import Callable

import pytest
from kafka import KafkaProducer
from scene import Scene, Seen, Services, fault
from shop_events import CATALOGUE, START_MS

ONE_USERS = 20_000  # events
MANY_EVENTS, MANY_USERS = 20_000, 10_000
GOODS = 100_000
UPDATES_A_SECOND = 1_000
LOAD_SECONDS = 600  # at most
pytestmark = pytest.mark.timeout(1200)


def driven(scene: Scene, lines: list[str], **options: object) -> Seen:
    """Give the lines to a job that runs, with the rate of its slates."""
    began = time.monotonic()
    scene.give(lines)
    scene.wait_for_answers(LOAD_SECONDS)
    seconds = time.monotonic() - began
    slates = scene.came()
    return scene.finish(LOAD_SECONDS, note=f"{slates / seconds:,.0f} slates a second", **options)


@fault("load: one user")
def test_one_user_with_very_many_events(staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    scene = staged("one-user")
    scene.submit()
    seen(driven(scene, scene.stream(ONE_USERS, users=1)))


@fault("load: many users")
def test_many_users(staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    scene = staged("many-users", taskmanagers=2)
    scene.submit(parallelism=2)
    seen(driven(scene, scene.stream(MANY_EVENTS, users=MANY_USERS)))


def goods(number: int, ts: int) -> str:
    """An item beside those that events name, as of that time."""
    item = {"item_id": f"g{number}", "ts": ts, "published_ts": START_MS, "categories": [f"c{number % 50}"]}
    return json.dumps(item)


@fault(f"load: a catalogue of {GOODS:,} items, updates at up to {UPDATES_A_SECOND:,} a second")
def test_a_large_catalogue_that_is_updated(
    on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]
) -> None:
    """The updates say again what was said, with a newer time: else answers depended on when they come."""
    items = [*CATALOGUE, *(goods(number, START_MS) for number in range(GOODS))]
    scene = staged("goods", items=items)
    scene.submit()
    over, sent = threading.Event(), 0

    def update() -> None:
        nonlocal sent
        with KafkaProducer(bootstrap_servers=on.broker.bootstrap) as producer:
            began = time.monotonic()
            while not over.is_set():
                due = int((time.monotonic() - began) * UPDATES_A_SECOND)
                for number in range(sent, due):
                    producer.send("goods-items", goods(number % GOODS, START_MS + 1 + number).encode(), b"")
                sent = max(sent, due)
                over.wait(0.05)

    thread = threading.Thread(target=update)
    thread.start()
    try:
        began = time.monotonic()
        for _ in range(6):
            scene.give(scene.stream(500))
            scene.wait_for_answers(LOAD_SECONDS)
            time.sleep(3)
        seconds = time.monotonic() - began
        rate = sent / seconds
    finally:
        over.set()
        thread.join()
    found = scene.finish(LOAD_SECONDS, note=f"{rate:,.0f} updates a second for {seconds:.0f} s, {sent:,} in all")
    assert sent > 10_000
    seen(found)
