"""What expires, and when: by Flink, what is kept of users; by the job, what waits for Redis, and timers."""

import json
from collections.abc import Iterator
from itertools import islice

import hostile
import pytest
from adapters import ALL, DAY, KEY, parsed
from fake_redis import Redis
from harness import EVENT_TIME, PROCESSING_TIME, Harness
from kept import SLATE_MS, SMALL
from riverrank.operators.cache.outbox import MOST_ERASURES, Outbox
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.cache.sender import Sender
from riverrank.operators.flink import session as session_adapter
from riverrank.operators.flink.cache import CacheFunction
from riverrank.operators.flink.channels import value_state
from riverrank.operators.flink.session import TIMERS_EVERY_MS, SessionFunction
from riverrank.state.journal import DictEntries
from riverrank.state.messages import CacheWrite, decode_write, encode


class Away:
    """An outbox whose Redis is away, and what it keeps in state."""

    def __init__(self, entries: DictEntries | None = None) -> None:
        self.redis = Redis()
        self.redis.away = True
        self.entries = DictEntries() if entries is None else entries
        self.sender = Sender(self.redis, 0, 0, clock=lambda: self.seconds)  # type: ignore[arg-type]
        self.seconds = 0.0
        self.outbox = Outbox(self.entries, self.sender, SLATE_MS)

    def slate(self, user: str, made: int, version: int = 1) -> None:
        self.outbox.add(encode(CacheWrite(slate_key(user), 0, version, b"{}", made=made)))

    def erase(self, user: str, epoch: int) -> None:
        self.outbox.add(encode(CacheWrite(slate_key(user), epoch, 0, None, b"%d" % epoch)))

    def keys(self) -> list[str]:
        return sorted(decode_write(raw).key for raw in self.entries.values())


@pytest.fixture
def away() -> Away:
    return Away()


def test_slates_that_redis_would_have_dropped_by_now_wait_no_more_the_newest_of_a_user_does(away: Away) -> None:
    for k in range(10):
        away.slate(f"u{k}", made=1_000 + k)
    away.slate("u0", made=2_000, version=2)
    away.outbox.add(encode(CacheWrite("popular", 0, 1, b"{}", made=1_000)))
    away.erase("v", 5)
    away.sender.attempt()
    before = len(away.outbox)
    assert before == 12 and away.outbox.expire(SLATE_MS + 999) == 0
    assert away.outbox.expire(SLATE_MS + 1_009) == 9
    assert away.keys() == ["popular", "slate:u0", "slate:v"] and len(away.outbox) == 3
    away.redis.away, away.seconds = False, 60.0
    while away.sender.attempt() is not None:
        away.seconds += 1.0
    assert away.redis.held == {"popular": b"{}", "slate:u0": b"{}", "slate:v": None}
    assert len(list(away.outbox.settled())) == 3 and away.sender.is_idle


def test_what_waits_expires_by_when_it_was_made_whatever_failed_since(away: Away) -> None:
    for k, made in enumerate((3_000, 1_000, 2_000)):
        away.slate(f"u{k}", made)
    again = Away(DictEntries(away.entries))
    assert again.outbox.expire(SLATE_MS + 2_000) == 2 and again.keys() == ["slate:u0"]


def test_redis_away_for_ever_leaves_the_users_of_the_time_that_slates_are_cached_for(away: Away) -> None:
    sizes = []
    for n in range(4 * SLATE_MS // 1_000):
        away.slate(f"u{n}", made=1 + n * 1_000)
        away.outbox.expire(1 + n * 1_000)
        sizes.append((len(away.entries), len(away.sender._given), len(away.sender._ready), len(away.sender._since)))
    assert max(sizes) == (SLATE_MS // 1_000,) * 4 == sizes[-1]


def test_of_a_user_who_is_erased_again_and_again_the_last_erasures_wait_with_their_receipts(away: Away) -> None:
    for epoch in range(1, 100):
        away.slate("u", made=epoch)
        away.erase("u", epoch)
    assert away.keys() == ["slate:u"] * MOST_ERASURES
    away.redis.away = False
    while away.sender.attempt() is not None:
        away.seconds += 1.0
    receipts = [write.receipt for write in away.outbox.settled()]
    assert receipts == [b"%d" % epoch for epoch in range(100 - MOST_ERASURES, 100)] and not away.entries


def test_cache_drops_what_is_over_when_it_looks_what_redis_took() -> None:
    redis = Redis()
    redis.away = True
    harness = Harness(CacheFunction(lambda: redis, 1, 100, b"", SLATE_MS), now=10)  # type: ignore[arg-type, return-value]
    for n in range(20):
        write = CacheWrite(slate_key(f"u{n}"), 0, 1, b"{}", made=harness.now)
        harness.element(encode(write), "0")
        harness.advance(SLATE_MS // 10)
    held = harness.store.maps["outbox"]["0"]
    harness.function.close()
    assert 9 <= len(held) <= 11


def test_flink_drops_what_is_kept_of_a_user_who_did_not_come_for_the_time_that_is_set() -> None:
    ttl = value_state("session", 90_000)._ttl_config
    assert ttl.get_ttl().to_milliseconds() == 90_000
    assert ttl.get_update_type().name == "OnCreateAndWrite"
    assert ttl.get_cleanup_strategies().get_incremental_cleanup_strategy().get_cleanup_size() == 1
    assert ttl.get_cleanup_strategies().in_full_snapshot()


def shown(lists: int) -> Iterator[str]:
    for raw in islice(hostile.short_impressions(), lists):
        yield json.dumps({**json.loads(raw), "user_id": "u"})


def test_timers_of_a_user_are_those_of_one_window_and_an_erasure_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    harness = Harness(SessionFunction(SMALL, "events", ALL, DAY, KEY))
    monkeypatch.setattr(session_adapter, "wall_ms", lambda: harness.now)
    window, most = SMALL.impression.window, 0
    for key, value in parsed(*shown(300)):
        harness.element(value, key)
        harness.advance(window // 100)
        most = max(most, len(harness.store.timers))
    assert 10 < most <= window // TIMERS_EVERY_MS + 2
    for key, value in parsed(json.dumps({"event_id": "x", "type": "erase", "user_id": "u", "ts": hostile.START_MS})):
        harness.element(value, key)
    harness.advance(2 * window + 2 * TIMERS_EVERY_MS)
    assert harness.timers(PROCESSING_TIME) == [] == harness.timers(EVENT_TIME)
