"""CACHE as Flink drives it, without Java: what waits in state until Redis took it, and where it is slow or away."""

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from adapters import ALL, DAY
from fake_redis import Redis
from harness import EVENT_TIME, PROCESSING_TIME, Harness, Store
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.flink.cache import CacheFunction, SendReceipts
from riverrank.operators.flink.channels import END_OF_INPUT
from riverrank.state import uids
from riverrank.state.messages import CacheWrite, decode_write, encode


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def cache(redis: Redis) -> Iterator[Callable[..., Harness]]:
    """CACHE over that Redis."""
    made: list[Harness] = []

    def make(store: Store | None = None, drain_ms: int = 10_000) -> Harness:
        made.append(Harness(CacheFunction(lambda: redis, 1, drain_ms, b"", DAY), store))  # type: ignore[arg-type, return-value]
        return made[-1]

    yield make
    for harness in made:
        harness.function.close()
    assert "riverrank-cache" not in {thread.name for thread in threading.enumerate()}


def write(user: str, version: int = 1, slate: bytes | None = b"{}", receipt: bytes | None = None) -> bytes:
    return encode(CacheWrite(slate_key(user), 0, version, slate, receipt))


def outbox(harness: Harness) -> dict[str, list[str]]:
    """By bucket, the keys that are in state."""
    maps = harness.store.maps[uids.CACHE_OUTBOX]
    return {
        bucket: [decode_write(each).key for each in entries.values()] for bucket, entries in maps.items() if entries
    }


def until(told: Callable[[], object]) -> None:
    """Wait for what another thread does."""
    end = time.monotonic() + 10
    while not told():
        assert time.monotonic() < end, "it does not come"
        time.sleep(0.001)


def test_what_redis_took_is_found_by_a_timer_and_is_then_no_more_in_state(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness = cache()
    for number in range(20):
        harness.element(write(f"u{number}"), str(number % 2))
    assert {bucket: len(keys) for bucket, keys in outbox(harness).items()} == {"0": 10, "1": 10}
    assert len(harness.timers(PROCESSING_TIME)) == 2, "one a bucket"
    until(lambda: len(redis.held) == 20)
    until(lambda: harness.advance(1) and not outbox(harness))
    assert [harness.metrics[f"riverrank.{name}"] for name in ("cache_written", "cache_waiting", "cache_away")] == [
        20,
        0,
        0,
    ]
    assert harness.advance(60_000) == 0 and harness.timers(PROCESSING_TIME) == []


def test_who_makes_slates_never_waits_and_looks_are_further_apart_while_nothing_is_taken(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness = cache()
    redis.answers.clear()
    began = time.monotonic()
    for number in range(500):
        harness.element(write(f"u{number % 50}", number), str(number % 50 % 4))
    assert 10 <= harness.advance(60_000) // 4 <= 75, "1 ms, doubled up to 1 s"
    assert time.monotonic() - began < 5 and len(redis.calls) <= 1
    assert sum(map(len, outbox(harness).values())) == 50
    redis.answers.set()
    until(lambda: len(redis.held) == 50)
    until(lambda: harness.advance(1_000) + 1 and not outbox(harness))


def test_after_a_crash_the_timer_of_before_writes_what_was_in_state(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), True
    harness.element(write("u"), "0")
    redis.away = False
    again = cache(harness.store)
    again.advance(100)
    until(lambda: redis.held == {"slate:u": b"{}"})
    until(lambda: again.advance(1_000) + 1 and not outbox(again))


def test_a_fault_of_the_thread_fails_the_job_though_nothing_comes_any_more(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), None  # type: ignore[assignment]
    redis.write = lambda writes: {}[0]  # type: ignore[method-assign, index]
    harness.element(write("u"), "0")
    until(lambda: harness.function.sender._fault)
    with pytest.raises(RuntimeError, match="the thread that writes to Redis ended: KeyError"):
        harness.advance(1_000)


def test_end_of_input_writes_what_waits_and_sends_the_receipts_on(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness = cache()
    harness.element(write("u"), "0")
    harness.element(write("u", 0, None, b'{"event_id":"gone"}'), "0")
    harness.element(write("v"), "1")
    assert harness.timers(EVENT_TIME) == [(END_OF_INPUT, "0"), (END_OF_INPUT, "1")]
    assert harness.main == []
    harness.end_of_input()
    assert redis.held == {"slate:u": None, "slate:v": b"{}"} and outbox(harness) == {}
    sent = Harness(SendReceipts(ALL))
    for row in harness.main:
        sent.element(row)
    assert sent.sides == {"receipts-records": [("u", b'{"event_id":"gone"}')]}


def test_redis_that_stays_away_at_the_end_fails_the_job_when_the_time_is_up(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(drain_ms=200), True
    harness.element(write("u"), "0")
    with pytest.raises(
        RuntimeError, match="1 writes to Redis are left at the end of the input: Redis at nowhere is away"
    ):
        harness.end_of_input()
    assert outbox(harness) == {"0": ["slate:u"]}
