"""Outboxes and the thread that writes for them: in what order, how often, and where Redis is slow, away or refuses."""

import threading
import time

import pytest
from fake_redis import Redis
from riverrank.operators.cache import sender as sender_module
from riverrank.operators.cache.outbox import Outbox
from riverrank.operators.cache.redis_cache import slate_key
from riverrank.operators.cache.sender import WRITES_AT_ONCE, Sender, UndeliveredError
from riverrank.operators.metrics import Counts
from riverrank.state.hashing import pseudonym
from riverrank.state.journal import DictEntries
from riverrank.state.messages import CacheWrite, decode_write, encode

SECRET = b"of the shop"


def write(user: str, version: int = 1, slate: bytes | None = b"{}", epoch: int = 0) -> bytes:
    return encode(CacheWrite(slate_key(user), epoch, version, slate, b"receipt" if slate is None else None))


class Bench:
    """A sender without its thread, whose clock is `now`, and its outboxes."""

    def __init__(self, flush_ms: int = 20) -> None:
        self.redis, self.now = Redis(), 0.0
        self.sender = Sender(self.redis, flush_ms, 1_000, SECRET, clock=lambda: self.now)
        self.outboxes = [Outbox(DictEntries(), self.sender) for _ in range(3)]

    def run(self, seconds: float) -> int:
        """How many round trips are made in that time."""
        before, end = len(self.redis.calls), self.now + seconds
        while True:
            wait = self.sender.attempt()
            if wait is None or self.now + wait > end:
                self.now = end
                return len(self.redis.calls) - before
            self.now += wait

    def settled(self) -> list[str]:
        return [write.key for outbox in self.outboxes for write in outbox.settled()]

    @property
    def in_state(self) -> list[str]:
        return [decode_write(raw).key for outbox in self.outboxes for _, raw in outbox._entries.items()]


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_the_first_write_goes_at_once_and_those_of_the_time_after_it_together_the_newest_of_each_key(bench) -> None:
    bench.outboxes[0].add(write("u"))
    assert bench.run(0.0) == 1
    for version in range(2, 6):
        for box, user in enumerate(("u", "v", "w")):
            bench.outboxes[box].add(write(user, version, b"%d" % version))
    assert bench.run(0.019) == 0
    assert bench.in_state == ["slate:u", "slate:v", "slate:w"]
    assert bench.run(0.002) == 1
    assert sorted(bench.redis.calls[1]) == ["slate:u", "slate:v", "slate:w"] and bench.redis.held["slate:u"] == b"5"
    assert bench.settled() == ["slate:u", "slate:v", "slate:w"]  # of the first nothing: a later one is in its place
    assert bench.in_state == [] and bench.run(60.0) == 0


def test_an_erasure_drops_the_slate_before_it_and_goes_before_the_one_after_it(bench) -> None:
    box = bench.outboxes[0]
    box.add(write("u", 7, b"old"))
    box.add(write("u", 0, None, epoch=5))
    box.add(write("u", 1, b"new", epoch=5))
    assert bench.run(1.0) == 2
    assert bench.redis.held == {"slate:u": b"new"} and bench.redis.calls == [["slate:u"], ["slate:u"]]
    assert [write.receipt for write in box.settled()] == [b"receipt", None]


def test_what_comes_while_its_key_is_on_its_way_is_written_after_it(bench) -> None:
    box = bench.outboxes[0]
    box.add(write("u", 1, b"1"))
    taking = bench.redis.write

    def meanwhile(writes: list[CacheWrite]) -> set[str]:
        bench.redis.write = taking  # type: ignore[method-assign]
        box.add(write("u", 2, b"2"))
        return taking(writes)

    bench.redis.write = meanwhile  # type: ignore[method-assign]
    bench.run(1.0)
    assert bench.redis.held == {"slate:u": b"2"} and len(bench.redis.calls) == 2
    assert len(box) == 1 and bench.settled() == ["slate:u"] and len(box) == 0


def test_redis_away_costs_fewer_and_fewer_attempts_and_loses_nothing(bench, caplog) -> None:
    bench.redis.away = True
    for number in range(50):
        bench.outboxes[number % 3].add(write(f"u{number}"))
    assert 10 < bench.run(60.0) < 20, "100 ms, doubled up to 5 s"
    assert len(bench.in_state) == 50 and bench.settled() == []
    bench.redis.away = False
    assert bench.run(5.0) == 1
    assert len(bench.redis.held) == len(bench.settled()) == 50 and bench.in_state == []
    assert [record.message for record in caplog.records] == [
        "Redis at nowhere is away; slates are kept until it is back",
        "Redis is back",
    ]


def test_a_part_of_redis_that_is_away_does_not_slow_what_the_other_parts_take(bench) -> None:
    bench.redis.lacks = {"slate:lost"}
    bench.outboxes[0].add(write("lost"))
    bench.run(60.0)
    for number in range(20):
        bench.outboxes[1].add(write(f"u{number}"))
        bench.run(6.0 if number == 0 else 0.3)
        assert f"slate:u{number}" in bench.redis.held
    assert bench.settled() == [f"slate:u{number}" for number in range(20)]
    bench.redis.lacks = set()
    bench.run(6.0)
    assert bench.settled() == ["slate:lost"]


def test_a_refused_key_holds_up_nothing_is_tried_less_and_less_and_told_of_once(bench, caplog) -> None:
    bench.redis.refuses = {f"slate:bad{k}" for k in range(300)}
    for k in range(300):
        bench.outboxes[0].add(write(f"bad{k}"))
    for number in range(20):
        bench.outboxes[1].add(write(f"u{number}"))
        bench.run(0.03)
    assert len(bench.redis.held) == 20
    bench.run(70.0)
    assert len([keys for keys in bench.redis.calls if "slate:bad7" in keys]) < 25
    assert len(caplog.records) == 2, "the first, and after a minute how many more"
    assert f"Redis refuses slate:{pseudonym('bad0', SECRET)}: ResponseError: no" in caplog.text
    assert "and 298 other keys" in caplog.text and "bad" not in caplog.text, "no user is named"
    bench.redis.refuses = set()
    bench.run(5.0)
    assert len(bench.redis.held) == 320 and len(bench.settled()) == 320 and bench.in_state == []
    assert not bench.sender._refused and not bench.sender._given and bench.sender.attempt() is None


def test_a_key_that_is_of_another_bucket_now_is_done_in_both(bench) -> None:
    """As after a change of `cache.buckets`."""
    bench.outboxes[0].add(write("u", 1, b"1"))
    bench.outboxes[1].add(write("u", 2, b"2"))
    bench.run(1.0)
    assert bench.settled() == ["slate:u", "slate:u"] and bench.in_state == []


def test_an_erasure_goes_after_the_older_slate_of_another_bucket(bench) -> None:
    """Else a user who was erased is back in the cache."""
    bench.outboxes[1].add(write("u", 0, None, epoch=5))
    bench.outboxes[0].add(write("u", 9, b"old"))
    bench.run(1.0)
    assert bench.redis.held == {"slate:u": None} and bench.settled() == ["slate:u", "slate:u"]


def test_erasures_go_before_the_slates_of_all_others(bench) -> None:
    bench.redis.away = True
    for number in range(3 * WRITES_AT_ONCE):
        bench.outboxes[0].add(write(f"u{number}"))
    bench.run(30.0)
    bench.outboxes[1].add(write("gone", 0, None, epoch=5))
    bench.outboxes[0].add(write("u2000", 0, None, epoch=5))
    bench.redis.away = False
    bench.redis.calls.clear()
    bench.run(5.0)
    assert bench.redis.calls[0][:2] == ["slate:gone", "slate:u2000"] and len(bench.redis.calls) == 4


def test_a_batch_has_its_bounds(bench) -> None:
    for number in range(2 * WRITES_AT_ONCE):
        bench.outboxes[0].add(write(f"u{number}"))
    for number in range(5):
        bench.outboxes[1].add(write(f"large{number}", slate=bytes(1 << 19)))
    assert bench.run(0.0) == 5, "nobody waits where there is more than one takes"
    assert list(map(len, bench.redis.calls)) == [1000, 1000, 2, 2, 1]


def test_what_was_in_state_before_a_crash_is_written(bench) -> None:
    entries, bench.redis.away = DictEntries(), True
    box = Outbox(entries, bench.sender)
    box.add(write("u"))
    box.add(write("v", 0, None, epoch=3))
    again = Bench()
    restored = Outbox(entries, again.sender)
    again.run(1.0)
    assert again.redis.held == {"slate:u": b"{}", "slate:v": None}
    assert sorted(write.key for write in restored.settled()) == ["slate:u", "slate:v"] and not entries


def test_a_redis_that_does_not_answer_holds_up_nobody() -> None:
    redis = Redis()
    redis.answers.clear()
    sender = Sender(redis, 20, 5_000)
    sender.start()
    box = Outbox(DictEntries(), sender)
    began = time.monotonic()
    for number in range(5_000):
        box.add(write(f"u{number % 100}", number, b"%d" % number))
        assert not list(box.settled())
    assert time.monotonic() - began < 3.0 and len(redis.calls) <= 1
    redis.answers.set()
    sender.drain(box)
    assert len(redis.held) == 100 and len(list(box.settled())) == 100 and len(box) == 0
    assert redis.held["slate:u99"] == b"4999"
    sender.close()
    assert redis.closed and "riverrank-cache" not in {thread.name for thread in threading.enumerate()}


def test_the_end_waits_so_long_for_a_redis_that_is_away() -> None:
    redis = Redis()
    redis.away = True
    sender = Sender(redis, 20, 300)
    box = Outbox(DictEntries(), sender)
    box.add(write("u"))
    began = time.monotonic()
    with pytest.raises(UndeliveredError, match=r"^1 writes to Redis are left .*: Redis at nowhere"):
        sender.drain(box)
    assert 0.25 < time.monotonic() - began < 3.0 and len(box) == 1
    with pytest.raises(UndeliveredError):  # the time is that of all outboxes
        sender.drain(box)
    assert time.monotonic() - began < 3.0
    sender.close()


def test_the_end_does_not_wait_for_the_back_off_of_an_outage_that_is_over(bench) -> None:
    bench.redis.away = True
    bench.outboxes[0].add(write("u"))
    bench.run(30.0)
    bench.redis.away = False
    assert bench.run(0.5) == 0
    bench.sender._try_anew()
    assert bench.run(0.0) == 1 and bench.settled() == ["slate:u"]


def test_what_waits_is_counted_and_how_long_the_oldest_does(bench) -> None:
    counts = Counts()

    def levels() -> tuple[int, int, int]:
        bench.sender.count(counts)
        told = {name: number for name, _, number in counts.take()}
        return told["cache_waiting"], told["cache_age_ms"], told["cache_away"]

    for second in range(5):  # a busy key whose writes all land
        bench.outboxes[0].add(write("busy", second))
        bench.run(1.0)
    assert levels() == (0, 0, 0)
    bench.redis.away = True
    bench.outboxes[0].add(write("u", 1))
    bench.run(10.0)
    bench.outboxes[0].add(write("v", 1))
    bench.outboxes[0].add(write("u", 2))
    assert levels() == (2, 10_000, 1)
    bench.redis.away = False
    bench.run(10.0)
    bench.sender.count(counts)
    assert ("cache_written", "", 2) in list(counts.take())


def test_the_end_tries_a_refused_key_three_times_and_writes_all_else() -> None:
    redis = Redis()
    redis.refuses = {"slate:bad"}
    sender = Sender(redis, 1, 60_000)
    boxes = [Outbox(DictEntries(), sender) for _ in range(2)]
    boxes[0].add(write("bad"))
    boxes[0].add(write("u"))
    boxes[1].add(write("v"))
    told = rf"^1 writes .* input, which refuses slate:{pseudonym('bad', b'')}: ResponseError: no$"
    with pytest.raises(UndeliveredError, match=told):
        sender.drain(boxes[0])
    sender.drain(boxes[1])
    assert 3 <= sum("slate:bad" in keys for keys in redis.calls) <= 5
    assert redis.held == {"slate:u": b"{}", "slate:v": b"{}"}
    sender.close()


def test_a_fault_of_the_thread_is_told_to_who_looks() -> None:
    class Broken(Redis):
        def write(self, writes: list[CacheWrite]) -> set[str]:
            raise KeyError("a fault of ours")

    sender = Sender(Broken(), 20, 1_000)
    box = Outbox(DictEntries(), sender)
    box.add(write("u"))
    sender.check()
    for _ in range(2):
        with pytest.raises(RuntimeError, match="the thread that writes to Redis ended: KeyError"):
            sender.drain(box)
    with pytest.raises(RuntimeError, match="the thread that writes to Redis ended: KeyError"):
        sender.check()
    sender.close()


def test_the_end_waits_as_long_as_redis_takes_something(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever `cache.drain` says, which is for a Redis that is away."""

    class Slow(Redis):
        def write(self, writes: list[CacheWrite]) -> set[str]:
            time.sleep(0.05)
            return super().write(writes)

    monkeypatch.setattr(sender_module, "WRITES_AT_ONCE", 100)
    sender = Sender(Slow(), 1, 0)
    box = Outbox(DictEntries(), sender)
    for number in range(500):
        box.add(write(f"u{number}"))
    sender.drain(box)
    assert len(list(box.settled())) == 500
    sender.close()
