"""What CACHE promises where a Sentinel says which Valkey to write to, held against a real one that fails over."""

import re
from collections.abc import Iterator

import pytest
import redis
from redises import SERVICE, Watched, persistent, watched
from riverrank.jobs.config.edges import RedisSettings
from riverrank.jobs.config.preflight import check_services
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.dev.services import free_port
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.outbox import Outbox
from riverrank.operators.cache.redis_cache import Cache, CacheAway
from riverrank.operators.cache.sender import Sender
from riverrank.state.journal import DictEntries
from riverrank.state.messages import encode
from streams import wait_until
from valkey_server import erase, put

USERS = [f"u{number}" for number in range(20)]


@pytest.fixture
def scene() -> Iterator[Watched]:
    with watched() as running:
        yield running


def versions(port: int) -> list[int]:
    with persistent(port) as client, client.pipeline(transaction=False) as pipeline:
        for user in USERS:
            pipeline.hget(f"rr:slate:{user}", "version")
        return [int(version or 0) for version in pipeline.execute()]


def test_writes_go_on_at_the_new_primary_when_the_old_one_is_killed(
    scene: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    sender = Sender(Cache(scene.url, timeout_ms=1_000), 20, 30_000)
    box = Outbox(DictEntries(), sender)
    sender.start()
    version, seen, read_at = 0, [0] * len(USERS), scene.primary.port
    box.add(encode(erase("nobody", 5)))

    def write_and_look(port: int) -> bool:
        """One more version of each user; none that was there may be followed by an older one."""
        nonlocal version, seen
        version += 1
        for user in USERS:
            box.add(encode(put(user, version)))
        now = versions(port)
        assert all(after >= before for before, after in zip(seen, now, strict=True)), (seen, now)
        seen = now
        return min(now) > 0

    wait_until(lambda: write_and_look(read_at))
    wait_until(lambda: versions(scene.replica.port) == versions(scene.primary.port) and min(seen) > 0)
    scene.primary.kill()
    follower = persistent(scene.replica.port)
    wait_until(lambda: write_and_look(scene.replica.port) and follower.info("replication")["role"] == "master")
    at_takeover = max(versions(scene.replica.port))
    wait_until(lambda: write_and_look(scene.replica.port) and min(seen) > at_takeover)
    sender.drain(box)
    assert versions(scene.replica.port) == [version] * len(USERS)
    assert len(list(box.settled())) >= len(USERS) and len(box) == 0
    sender.close()
    assert re.match(r"Redis at redis\+sentinel://\S+ is away: .*; slates are kept until it is back", caplog.messages[0])
    assert caplog.messages[-1] == "Redis is back"


def test_a_primary_that_was_demoted_while_we_were_connected_is_left_for_the_new_one(scene: Watched) -> None:
    cache = Cache(scene.url, timeout_ms=1_000)
    assert cache.write([put("u0", 1)]) == {"slate:u0"}
    old, new = persistent(scene.primary.port), persistent(scene.replica.port)
    old.replicaof("127.0.0.1", scene.replica.port)  # which ends no connection, as a Sentinel does besides
    with pytest.raises(CacheAway, match="is away: The previous master is now a slave"):
        cache.write([put("u0", 2)])
    old.replicaof("NO", "ONE")
    assert cache.write([put("u0", 2)]) == {"slate:u0"}
    wait_until(lambda: new.hget("rr:slate:u0", "version") == "2")
    redis.Redis(port=scene.sentinel.port).sentinel_failover(SERVICE)
    wait_until(lambda: old.info("replication")["role"] == "slave" and new.info("replication")["role"] == "master")
    assert cache.write([put("u0", 3)]) == {"slate:u0"}
    assert new.hget("rr:slate:u0", "version") == "3"


def refused(url: str) -> str:
    with pytest.raises(UsageError) as raised:
        check_services(Config(redis=RedisSettings(url=url)))
    assert "\n" not in str(raised.value) and "geheim" not in str(raised.value)
    return str(raised.value)


def test_what_is_wrong_with_sentinels_is_one_line_that_says_what_to_mend(scene: Watched) -> None:
    sentinel, nobody = f"127.0.0.1:{scene.sentinel.port}", f"127.0.0.1:{free_port()}"
    check_services(parse({"redis": {"url": f"redis+sentinel://{nobody},{sentinel}/{SERVICE}/0"}}))
    assert "does not answer (no Sentinel knows a service 'else'); mend the name of the service in the URL" in refused(
        f"redis+sentinel://{sentinel}/else/0"
    )
    line = refused(f"redis+sentinel://{nobody}/{SERVICE}/0")
    assert "does not answer (no Sentinel says where 'shop' is: Error 111 connecting to " in line
    assert line.endswith("; start Redis, or mend the address")
    assert "that is no Sentinel" in refused(f"redis+sentinel://127.0.0.1:{scene.primary.port}/{SERVICE}/0")


def test_sentinels_and_the_primary_may_each_ask_for_a_user_of_their_own(scene: Watched) -> None:
    sentinel = f"127.0.0.1:{scene.sentinel.port}"
    for port, rights in (
        (scene.sentinel.port, "~* +sentinel|get-master-addr-by-name"),
        (scene.primary.port, "~* +@all"),
    ):
        admin = redis.Redis(port=port)
        admin.execute_command("ACL", "SETUSER", "app", "on", ">geheim", *rights.split())
    redis.Redis(port=scene.sentinel.port).execute_command("ACL", "SETUSER", "weak", "on", ">geheim", "+ping")
    own = "sentinel_username=app&sentinel_password=geheim"
    check_services(parse({"redis": {"url": f"redis+sentinel://app:geheim@{sentinel}/{SERVICE}/0?{own}"}}))
    line = refused(f"redis+sentinel://app:geheim@{sentinel}/{SERVICE}/0?{own}-not")
    assert "mend sentinel_username and sentinel_password in the URL" in line
    line = refused(f"redis+sentinel://app:geheim@{sentinel}/{SERVICE}/0?{own.replace('app', 'weak')}")
    assert line.endswith("; at the Sentinels ACL SETUSER weak +sentinel|get-master-addr-by-name")
    line = refused(f"redis+sentinel://app:geheim-not@{sentinel}/{SERVICE}/0?{own}")
    assert "lets nobody in as app with that password" in line and "mend the user or the password in the URL" in line
