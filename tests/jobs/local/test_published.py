"""Lists of items through the local pipeline: what Redis holds of them, that slates know nothing of it, and restarts."""

import random
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
import redis
from riverrank.jobs.config.schema import parse
from riverrank.jobs.local.cache import LocalCache
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.messages import CacheWrite
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import ItemList

KINDS, ITEMS, USERS = 4, 24, 60
MOST_BYTES = 3_000  # that Redis takes for a list of 20 items with such ids


def stream(events: int) -> Iterator[Event]:
    """Users who each take items of one kind, always the same."""
    draw = random.Random(3)
    for number in range(events):
        user = draw.randrange(USERS)
        item = KINDS * draw.randrange(ITEMS // KINDS) + user % KINDS
        yield Event(f"e{number}", "click", f"u{user}", 60_000 * (1 + number), f"i{item}")


def fill(pipeline: Pipeline) -> None:
    for number in range(ITEMS):
        pipeline.lessons.item(Item(f"i{number}", 1, categories=(f"c{number % KINDS}",)))
    pipeline.open()


def send(pipeline: Pipeline, events: int, skipped: int = 0) -> list[bytes]:
    """The slates of a stream."""
    slates = []
    for number, event in enumerate(stream(events)):
        answer = pipeline.take(event, Arrival(0, number, 0, None))
        assert answer is not None and answer.slate is not None
        slates.append(answer.slate)
    return slates[skipped:]


class Kept:
    """A cache that keeps all that it is given."""

    def __init__(self) -> None:
        self.writes: list[CacheWrite] = []

    def put(self, write: CacheWrite) -> None:
        self.writes.append(write)

    def lists(self) -> list[CacheWrite]:
        return [write for write in self.writes if not write.key.startswith(("slate:", "gone", "popular"))]


def made(lists: float, events: int = 300) -> tuple[list[bytes], list[CacheWrite], str]:
    """The slates, the lists, and the digest of the learners."""
    kept = Kept()
    pipeline = Pipeline(parse({}).behaviour, {}, kept, lists=lists)
    fill(pipeline)
    slates = send(pipeline, events)
    pipeline.refresh_popular(last=True)
    return slates, kept.lists(), pipeline.learners_digest()


def test_slates_and_learners_are_the_same_with_lists_and_without() -> None:
    slates, none, digest = made(0.0)
    same, lists, same_digest = made(2.0)
    assert (same, same_digest, none) == (slates, digest, [])
    assert {write.key.partition(":")[0] for write in lists} == {"similar", "together", "trending"}


def test_the_same_events_make_the_same_lists() -> None:
    (_, one, _), (_, other, _) = made(0.5, 200), made(0.5, 200)
    assert [(write.key, write.version, write.slate) for write in one] == [
        (write.key, write.version, write.slate) for write in other
    ]
    assert len(one) > 20


@pytest.fixture
def client(valkey) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(valkey.url) as connection:
        yield connection


def run(url: str, events: int, settings: dict[str, Any] | None = None) -> None:
    config = parse({"redis": {"url": url}, "cache": {"lists": 2.0, **(settings or {})}})
    cache = LocalCache(config, {})
    every, ttl = config.cache.popular_every, config.cache.ttl
    pipeline = Pipeline(config.behaviour, {}, cache, every, ttl, lists=config.cache.lists)
    fill(pipeline)
    send(pipeline, events)
    pipeline.refresh_popular(last=True)
    cache.finish()


def lists_in(client: redis.Redis) -> dict[str, ItemList]:
    """By key. Each hash says its version twice."""
    found = {}
    for key in client.scan_iter("rr:*"):
        if key.startswith((b"rr:similar:", b"rr:together:", b"rr:trending")):
            version, raw = client.hmget(key, "version", "slate")
            found[key.decode()] = msgspec.json.decode(raw, type=ItemList)
            assert found[key.decode()].version == int(version)
    return found


def test_redis_holds_two_lists_of_each_item_which_expire_and_what_trends(valkey, client: redis.Redis) -> None:
    run(valkey.url, 300)
    held = lists_in(client)
    names = {f"i{number}" for number in range(ITEMS)}
    assert {f"rr:similar:{name}" for name in names} | {"rr:trending"} <= held.keys()
    assert len([key for key in held if key.startswith("rr:together:")]) > ITEMS // 2
    for key, listed in held.items():
        ids = [slot.item_id for slot in listed.items]
        scores = [slot.score for slot in listed.items]
        assert set(ids) <= names - {listed.item_id} and len(set(ids)) == len(ids) <= 20
        assert scores == sorted(scores, reverse=True) and 0 < min(scores) <= max(scores) <= 1
        assert [slot.rank for slot in listed.items] == [*range(1, len(ids) + 1)]
        expires = client.pttl(key)
        assert expires == -1 if key == "rr:trending" else 0 < expires <= 7 * 86_400_000
        assert client.memory_usage(key) < MOST_BYTES
        if listed.item_id is not None:
            assert key == f"rr:{listed.key}:{listed.item_id}"
            kinds = {int(item_id[1:]) % KINDS for item_id in ids}
            assert int(listed.item_id[1:]) % KINDS in kinds, "of those who took it, and of what is like it"


def test_no_version_falls_when_a_run_begins_anew_and_all_is_newer_once_it_is_further(
    valkey, client: redis.Redis
) -> None:
    run(valkey.url, 300)
    before = lists_in(client)
    run(valkey.url, 100)  # which begins with nothing, and comes less far
    assert lists_in(client) == before
    run(valkey.url, 400)
    after = lists_in(client)
    assert all(after[key].version >= listed.version for key, listed in before.items())
    assert sum(after[key].version > listed.version for key, listed in before.items()) > len(before) // 2


def test_without_the_setting_redis_holds_no_list(valkey, client: redis.Redis) -> None:
    run(valkey.url, 50, {"lists": 0.0})
    assert lists_in(client) == {} and client.exists("rr:popular")
