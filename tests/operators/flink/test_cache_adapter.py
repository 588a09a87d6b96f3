"""CACHE as Flink drives it, without Java: what it writes at once, what waits in state, and what if Redis is away."""

from collections.abc import Callable

import pytest
from adapters import ALL
from harness import EVENT_TIME, PROCESSING_TIME, Harness, Store
from riverrank.operators.cache.redis_cache import CacheAway, slate_key
from riverrank.operators.flink.cache import CacheFunction, SendReceipts
from riverrank.operators.flink.channels import END_OF_INPUT
from riverrank.state import uids
from riverrank.state.messages import CacheWrite, decode_write, encode


class Redis:
    """Takes writes, unless it is away or refuses a key."""

    def __init__(self) -> None:
        self.held: dict[str, bytes | None] = {}
        self.calls: list[list[str]] = []
        self.away = False
        self.refuses: set[str] = set()
        self.refused: dict[str, str] = {}

    def write(self, writes: list[CacheWrite]) -> set[str]:
        self.calls.append([write.key for write in writes])
        if self.away:
            raise CacheAway("Redis at nowhere is away")
        self.refused = {write.key: "ResponseError: no" for write in writes if write.key in self.refuses}
        taken = [write for write in writes if write.key not in self.refused]
        self.held |= {write.key: write.slate for write in taken}
        return {write.key for write in taken}

    def close(self) -> None: ...


@pytest.fixture
def redis() -> Redis:
    return Redis()


@pytest.fixture
def cache(redis: Redis, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Harness]:
    """CACHE over that Redis, with one clock for it all, which sleeping moves."""

    def made(store: Store | None = None, drain_ms: int = 10_000) -> Harness:
        harness = Harness(CacheFunction(lambda: redis, 20, drain_ms), store)  # type: ignore[arg-type, return-value]
        sender = harness.function.sender
        monkeypatch.setattr(sender, "_clock", lambda: harness.now / 1000)
        monkeypatch.setattr(
            sender, "_sleep", lambda seconds: setattr(harness, "now", harness.now + round(1000 * seconds))
        )
        return harness

    return made


def write(user: str, version: int = 1, slate: bytes | None = b"{}", receipt: bytes | None = None) -> bytes:
    return encode(CacheWrite(slate_key(user), 0, version, slate, receipt))


def outbox(harness: Harness) -> dict[str, list[str]]:
    """By bucket, the keys that are in state."""
    maps = harness.store.maps[uids.CACHE_OUTBOX]
    return {
        bucket: [decode_write(each).key for each in entries.values()] for bucket, entries in maps.items() if entries
    }


def test_first_write_goes_out_at_once_and_is_never_in_state(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness = cache()
    harness.element(write("u"), "0")
    assert redis.held == {"slate:u": b"{}"}
    assert outbox(harness) == {} and harness.timers(PROCESSING_TIME) == []


def test_under_load_writes_of_a_bucket_go_together_the_newest_of_each_key(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness = cache()
    for version in range(1, 6):
        harness.element(write("u", version, b"%d" % version), "0")
        harness.element(write("v", version), "0")
    assert redis.calls == [["slate:u"]]
    assert outbox(harness) == {"0": ["slate:v", "slate:u"]}
    assert harness.advance(20) == 1
    assert redis.calls[1:] == [["slate:u", "slate:v"]] and redis.held["slate:u"] == b"5"
    assert outbox(harness) == {} and harness.advance(1_000) == 0


def test_redis_away_costs_fewer_and_fewer_attempts_and_loses_nothing(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), True
    for number in range(50):
        harness.element(write(f"u{number}"), str(number % 4))
    assert len(redis.calls) == 1
    harness.advance(60_000)
    assert 10 < len(redis.calls) < 40, "100 ms, doubled up to 5 s"
    assert sum(map(len, outbox(harness).values())) == 50
    redis.away = False
    harness.advance(5_000)
    assert len(redis.held) == 50 and outbox(harness) == {} and harness.advance(60_000) == 0


def test_after_a_crash_the_timer_of_before_writes_what_was_in_state(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.away = cache(), True
    harness.element(write("u"), "0")
    redis.away = False
    again = cache(harness.store)
    again.advance(100)
    assert redis.held == {"slate:u": b"{}"} and outbox(again) == {} and again.advance(60_000) == 0


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
    harness, redis.away = cache(drain_ms=3_000), True
    harness.element(write("u"), "0")
    began = harness.now
    with pytest.raises(
        RuntimeError, match="1 writes to Redis are left at the end of the input: Redis at nowhere is away"
    ):
        harness.end_of_input()
    assert 2_900 <= harness.now - began <= 3_200
    assert outbox(harness) == {"0": ["slate:u"]}


def test_a_refused_key_holds_up_nothing_and_is_tried_less_and_less(redis: Redis, cache: Callable[..., Harness]) -> None:
    harness, redis.refuses = cache(), {"slate:bad"}
    harness.element(write("bad"), "0")
    for number in range(20):
        harness.element(write(f"u{number}"), "0")
        harness.advance(30)
    assert len(redis.held) == 20
    tried = [keys for keys in redis.calls if "slate:bad" in keys]
    assert 2 <= len(tried) <= 5
    harness.advance(60_000)
    assert len([keys for keys in redis.calls if "slate:bad" in keys]) < 25
    redis.refuses = set()
    harness.advance(5_000)
    assert "slate:bad" in redis.held and outbox(harness) == {} and harness.advance(60_000) == 0


def test_a_refused_key_ends_a_bounded_job_after_three_tries_and_all_else_is_written(
    redis: Redis, cache: Callable[..., Harness]
) -> None:
    harness, redis.refuses = cache(), {"slate:bad"}
    for user, bucket in (("bad", "0"), ("u", "0"), ("v", "1"), ("v", "1")):
        harness.element(write(user), bucket)
    before = len(redis.calls)
    with pytest.raises(RuntimeError, match="input, which refuses slate:bad: ResponseError: no"):
        harness.end_of_input()
    assert sum("slate:bad" in keys for keys in redis.calls[before:]) <= 4
    assert redis.held == {"slate:u": b"{}", "slate:v": b"{}"}
