"""What CACHE promises of what it writes, held against a real valkey-server."""

import random
import threading
import time

import pytest
import redis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from riverrank.operators.cache.redis_cache import Cache
from riverrank.state.messages import GONE, CacheWrite
from valkey_server import Server, erase, free_port, put, reader

DAY_MS = 86_400_000


def test_write_puts_the_fields_of_the_contract(server: Server) -> None:
    assert Cache(server.url).write([put("u-17", 41, text='{"a":1}')]) == {"slate:u-17"}
    assert reader(server).hgetall("rr:slate:u-17") == {"version": "41", "slate": '{"a":1}'}
    assert Cache(server.url).write([put("u-17", 1, epoch=7, text='{"b":1}')]) == {"slate:u-17"}
    assert reader(server).hgetall("rr:slate:u-17") == {"version": "1", "slate": '{"b":1}', "epoch": "7"}


def test_prefix_stands_before_every_key(server: Server) -> None:
    Cache(server.url, prefix="shop:").write([put("u", 1), CacheWrite("popular", 0, 1, b"{}")])
    assert sorted(reader(server).keys()) == ["shop:popular", "shop:slate:u"]


def test_older_version_never_replaces_a_newer_one_and_is_settled(server: Server) -> None:
    cache = Cache(server.url)
    assert cache.write([put("u", 9)]) == {"slate:u"}
    assert cache.write([put("u", 8), put("v", 1)]) == {"slate:u", "slate:v"}
    assert reader(server).hget("rr:slate:u", "version") == "9"
    assert reader(server).hget("rr:slate:u", "slate") == put("u", 9).slate.decode()


def test_versions_are_compared_as_numbers(server: Server) -> None:
    cache = Cache(server.url)
    cache.write([put("u", 9), put("u", 10), put("u", 9)])
    assert reader(server).hget("rr:slate:u", "version") == "10"


def test_newer_epoch_wins_over_any_version(server: Server) -> None:
    cache = Cache(server.url)
    cache.write([put("u", 500), put("u", 1, epoch=1_764_000_000_000), put("u", 501)])
    assert reader(server).hget("rr:slate:u", "version") == "1"
    assert reader(server).hget("rr:slate:u", "epoch") == "1764000000000"


def test_equal_version_is_not_written_again_but_lives_on(server: Server) -> None:
    Cache(server.url, ttl_ms=5_000).write([put("u", 3, text="first")])
    assert Cache(server.url, ttl_ms=DAY_MS).write([put("u", 3, text="second")]) == {"slate:u"}
    assert reader(server).hget("rr:slate:u", "slate") == "first"
    assert reader(server).pttl("rr:slate:u") > DAY_MS - 10_000


def test_slates_expire_and_popular_does_not(server: Server) -> None:
    Cache(server.url, ttl_ms=60_000).write([put("u", 1), CacheWrite("popular", 0, 1, b"{}")])
    assert 50_000 < reader(server).pttl("rr:slate:u") <= 60_000
    assert reader(server).ttl("rr:popular") == -1
    Cache(server.url, ttl_ms=150).write([put("brief", 1)])
    time.sleep(0.3)
    assert reader(server).exists("rr:slate:brief") == 0
    Cache(server.url, ttl_ms=0).write([put("kept", 1)])
    assert reader(server).ttl("rr:slate:kept") == -1


def test_items_that_are_gone_are_in_a_set_until_they_come_back_or_slates_are_too_old_to_hold_them(
    server: Server,
) -> None:
    cache = Cache(server.url, prefix="shop:", ttl_ms=60_000)
    writes = [CacheWrite(f"gone:{item}", 0, 1, state) for item, state in (("a", b"1"), ("b:c", b"1"), ("d", b"0"))]
    assert cache.write(writes) == {"gone:a", "gone:b:c", "gone:d"}
    assert reader(server).smembers("shop:gone") == {"a", "b:c"}
    assert 50_000 < reader(server).pttl("shop:gone") <= 60_000
    cache.write([CacheWrite("gone:a", 0, 2, b"0")])
    assert reader(server).smembers("shop:gone") == {"b:c"}
    Cache(server.url, ttl_ms=0).write([CacheWrite("gone:a", 0, 2, b"1")])
    assert reader(server).ttl("rr:gone") == -1


def test_a_set_of_what_is_gone_that_another_wrote_to_is_ours_and_is_made_anew(server: Server) -> None:
    cache, held = Cache(server.url, ttl_ms=60_000), reader(server)
    now = int(time.time() * 1000)
    cache.write([CacheWrite(f"gone:{item}", 0, now, b"1") for item in ("a", "b")])
    for key, other in (("rr:gone", "{rr:gone}:since"), ("{rr:gone}:since", "rr:gone")):
        held.delete(key)
        held.set(key, "somebody else's")
        item = f"after {key}"
        assert cache.write([CacheWrite(f"gone:{item}", 0, now, b"1")]) == {f"gone:{item}"}
        assert held.smembers("rr:gone") == set(held.zrange("{rr:gone}:since", 0, -1)) >= {"a", "b", item}, other
    held.delete("rr:gone", "{rr:gone}:since")
    held.hset("rr:gone", "a", "b")
    held.lpush("{rr:gone}:since", "c")
    assert (
        cache.write([CacheWrite("gone:d", 0, now, b"1")])
        == {"gone:d"}
        == {f"gone:{x}" for x in held.smembers("rr:gone")}
    )


@pytest.mark.parametrize("prefix", ["shop:", "{shop}:"])
def test_the_set_of_what_is_gone_forgets_what_no_slate_can_hold_and_what_an_earlier_job_told(
    server: Server, prefix: str
) -> None:
    cache = Cache(server.url, prefix=prefix, ttl_ms=60_000)

    def tell(now: int, *items: str) -> set[str]:
        cache.write([CacheWrite(f"gone:{item}", 0, now, b"1") for item in items])
        return set(reader(server).smembers(f"{prefix}gone"))

    assert tell(1_000, "a", "b") == {"a", "b"}
    assert tell(30_000, "b", "c") == {"a", "b", "c"}
    assert tell(61_001, "d") == {"b", "c", "d"}, "a week later nobody reads of a"
    assert cache.write([CacheWrite(GONE, 0, 30_001, b"0")]) == {GONE}
    assert reader(server).smembers(f"{prefix}gone") == {"d"}
    assert len(reader(server).keys("*since")) == 1


def test_default_ttl_is_seven_days(server: Server) -> None:
    Cache(server.url).write([put("u", 1)])
    assert 7 * 86_400 - 10 < reader(server).ttl("rr:slate:u") <= 7 * 86_400


def test_erasure_takes_what_came_before_it_and_nothing_after(server: Server) -> None:
    cache = Cache(server.url)
    cache.write([put("u", 500), put("v", 2, epoch=300)])
    assert cache.write([erase("u", 200), erase("v", 200), erase("nobody", 200)]) == {
        "slate:u",
        "slate:v",
        "slate:nobody",
    }
    assert reader(server).keys() == ["rr:slate:v"]


def test_two_writers_converge_whatever_the_order(server: Server) -> None:
    versions = st.tuples(st.integers(0, 2), st.integers(1, 12))
    orders = st.lists(st.lists(st.tuples(st.booleans(), versions), min_size=1, max_size=6), min_size=1, max_size=6)
    writers = {True: Cache(server.url), False: Cache(server.url)}
    look = reader(server)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(orders)
    def holds(batches: list[list[tuple[bool, tuple[int, int]]]]) -> None:
        look.delete("rr:slate:u")
        newest = (0, 0)
        for batch in batches:
            for who in (True, False):
                mine = [put("u", version, epoch) for writer, (epoch, version) in batch if writer is who]
                assert writers[who].write(mine) == ({"slate:u"} if mine else set())
                newest = max([newest, *((write.epoch, write.version) for write in mine)])
                if newest == (0, 0):
                    continue
                held = look.hgetall("rr:slate:u")
                assert (int(held.get("epoch", 0)), int(held["version"])) == newest
                assert held["slate"] == put("u", newest[1], newest[0]).slate.decode()

    holds()


def test_two_jobs_at_once_leave_the_newest_of_every_user(server: Server) -> None:
    users = [f"u-{number}" for number in range(20)]
    faults: list[BaseException] = []

    def job(seed: int) -> None:
        try:
            cache, order = Cache(server.url), random.Random(seed)
            for _ in range(60):
                cache.write([put(user, order.randint(1, 100)) for user in order.sample(users, 8)])
            cache.write([put(user, 100 + seed) for user in users])
        except BaseException as fault:
            faults.append(fault)

    seen: dict[str, int] = {}
    jobs = [threading.Thread(target=job, args=(seed,)) for seed in (1, 2)]
    for thread in jobs:
        thread.start()
    look = reader(server)
    while any(thread.is_alive() for thread in jobs):
        for user in users:
            version = int(look.hget(f"rr:slate:{user}", "version") or 0)
            assert version >= seen.get(user, 0)
            seen[user] = version
    assert not faults
    assert {user: look.hget(f"rr:slate:{user}", "version") for user in users} == dict.fromkeys(users, "102")


def test_many_writes_are_one_round_trip(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[int] = []
    send = redis.Connection.send_packed_command
    cache = Cache(server.url)
    cache.write([put("warm", 1)])

    def counted(self: redis.Connection, command: list[bytes], check_health: bool = True) -> None:
        sent.append(len(command))
        send(self, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)
    writes = [put(f"u-{number}", 1) for number in range(1000)]
    assert cache.write(writes) == {write.key for write in writes}
    assert len(sent) == 1
    assert reader(server).dbsize() == 1001


def test_nothing_to_write_needs_no_redis() -> None:
    assert Cache(f"redis://127.0.0.1:{free_port()}/0").write([]) == set()


def test_key_of_another_type_is_replaced_and_holds_up_nothing(server: Server) -> None:
    look = reader(server)
    look.set("rr:slate:odd", "a string")
    look.rpush("rr:slate:list", "a", "b")
    look.hset("rr:slate:hash", mapping={"version": "99"})
    look.hset("rr:slate:text", mapping={"version": "many", "slate": "?"})
    users = ["odd", "list", "hash", "text", "fine"]
    assert Cache(server.url).write([put(user, 1) for user in users]) == {f"slate:{user}" for user in users}
    assert {user: look.hget(f"rr:slate:{user}", "version") for user in users} == dict.fromkeys(users, "1")
    look.set("rr:slate:odd2", "a string")
    assert Cache(server.url).write([erase("odd2", 5)]) == {"slate:odd2"}
    assert look.exists("rr:slate:odd2") == 0


@pytest.mark.parametrize("url", ["127.0.0.1:6379", "http://h:1", "", "redis://h:port/0"])
def test_url_that_is_none_says_what_to_write(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected a URL such as redis://HOST:PORT/0, got "):
        Cache(url)


def test_user_ids_of_any_characters_are_keys(server: Server) -> None:
    users = ["sp ace", "new\nline", "käse", "{tag}", "'quote\"", "x" * 256]
    Cache(server.url).write([put(user, 1, text="{}") for user in users])
    assert {key.removeprefix("rr:slate:") for key in reader(server).keys()} == set(users)  # noqa: SIM118
