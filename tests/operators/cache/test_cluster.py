"""What CACHE promises of a cluster, held against a real one of three nodes."""

import io
from collections.abc import Iterator

import pytest
from redis.crc import key_slot
from redises import Cluster, cluster
from riverrank.jobs.config.edges import RedisSettings
from riverrank.jobs.config.preflight import check_services
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.errors import UsageError
from riverrank.jobs.serving.slates import get
from riverrank.operators.cache.outbox import Outbox
from riverrank.operators.cache.redis_cache import Cache, CacheAway
from riverrank.operators.cache.rights import times_key
from riverrank.operators.cache.sender import Sender
from riverrank.state.journal import DictEntries
from riverrank.state.messages import POPULAR, CacheWrite, encode
from riverrank.state.records.outgoing import ModelInfo, Slate, Slot, to_json
from streams import wait_until
from valkey_server import erase, put

USERS = [f"u{number}" for number in range(30)]


@pytest.fixture(scope="module")
def running() -> Iterator[Cluster]:
    with cluster() as nodes:
        yield nodes


@pytest.fixture
def scene(running: Cluster) -> Cluster:
    for node in running.nodes:
        if node.pid is None:
            node.start()
        running.admin(node).flushall()
    return running


def keys_of(users: list[str]) -> set[str]:
    return {f"slate:{user}" for user in users}


def test_each_key_is_written_at_the_node_that_has_it_and_no_version_goes_back(scene: Cluster) -> None:
    cache = Cache(scene.url)
    for node in scene.nodes:
        scene.admin(node).config_resetstat()
    assert cache.write([put(user, 2) for user in USERS]) == keys_of(USERS)
    assert not any("errorstat_MOVED" in scene.admin(node).info("errorstats") for node in scene.nodes), "at once"
    assert {scene.of(f"rr:slate:{user}").port for user in USERS} == {node.port for node in scene.nodes}
    assert Cache(scene.url).write([put(user, 1 + 2 * (user == "u7")) for user in USERS]) == keys_of(USERS)
    assert [scene.hget(f"rr:slate:{user}", "version") for user in USERS] == ["3" if u == "u7" else "2" for u in USERS]
    assert cache.write([erase("u7", 5), CacheWrite(POPULAR, 0, 1, b"{}")]) == {"slate:u7", POPULAR}
    assert scene.hget("rr:slate:u7", "version") is None and scene.hget("rr:popular", "slate") == "{}"


@pytest.mark.parametrize("prefix", ["rr:", "{shop}:"])
def test_what_is_gone_is_written_and_read_and_left_out(scene: Cluster, prefix: str) -> None:
    cache = Cache(scene.url, prefix)
    slots = tuple(Slot(item, rank, 0.5, 0.9, ("popular",), ()) for rank, item in enumerate(("a", "b"), 1))
    slate = to_json(Slate("u:1", "u", 1, 1_764_000_000_000, "e", "warm", "control", ModelInfo(1, 1), slots))
    writes = [CacheWrite("slate:u", 0, 1, slate), CacheWrite(POPULAR, 0, 1, slate), CacheWrite("gone:a", 0, 1, b"1")]
    assert cache.write(writes) == {"slate:u", POPULAR, "gone:a"}
    config = Config(redis=RedisSettings(url=scene.url, prefix=prefix))
    assert b'"b"' in (get(config, "u") or b"") and b'"a"' not in (get(config, "u") or b"")
    told = io.StringIO()
    assert b'"b"' in (get(config, "v", told) or b"") and f"this is {prefix}popular" in told.getvalue()


def test_a_key_is_followed_to_the_node_that_its_slot_moves_to(scene: Cluster) -> None:
    cache, user = Cache(scene.url), "mover"
    key, slot = f"rr:slate:{user}", key_slot(f"rr:slate:{user}".encode())
    source = scene.of(key)
    target = next(node for node in scene.nodes if node is not source)
    ids = {node.port: scene.admin(node).execute_command("CLUSTER", "MYID") for node in (source, target)}

    def set_slot(node: object, *words: str) -> None:
        scene.admin(node).execute_command("CLUSTER", "SETSLOT", slot, *words)  # type: ignore[arg-type]

    def version_at(node: object) -> str | None:
        with scene.admin(node).client() as client:  # type: ignore[arg-type]
            client.execute_command("ASKING")
            return client.hget(key, "version")

    cache.write([put(user, 1), *(put(other, 1) for other in USERS)])
    set_slot(target, "IMPORTING", ids[source.port])
    set_slot(source, "MIGRATING", ids[target.port])
    scene.admin(source).delete(key)  # as if it had been moved before the others of its slot
    assert cache.write([put(user, 2), put("u1", 2)]) == {f"slate:{user}", "slate:u1"}, "ASK"
    assert version_at(target) == "2" and scene.hget("rr:slate:u1", "version") == "2"
    for node in (target, source):
        set_slot(node, "NODE", ids[target.port])
    assert cache.write([put(user, 3), put("u1", 3)]) == {f"slate:{user}", "slate:u1"}, "MOVED"
    assert scene.admin(target).hget(key, "version") == "3"
    wait_until(
        lambda: all(
            scene.admin(n).execute_command("CLUSTER", "COUNTKEYSINSLOT", slot) == (n is target) for n in scene.nodes
        )
    )
    scene.admin(target).delete(key)
    set_slot(source, "IMPORTING", ids[target.port])  # who takes a slot so has the word of all that follows
    for node in (source, target):
        set_slot(node, "NODE", ids[source.port])
    assert cache.write([put(user, 4)]) == {f"slate:{user}"}
    assert scene.hget(key, "version") == "4"


def test_a_node_that_is_away_holds_up_no_other_and_nothing_is_lost(scene: Cluster) -> None:
    away = scene.nodes[0]
    theirs = [user for user in USERS if scene.of(f"rr:slate:{user}") is away]
    others = [user for user in USERS if user not in theirs]
    assert theirs and others
    cache = Cache(scene.url)
    cache.write([put(user, 1) for user in USERS])
    away.kill()
    with pytest.raises(CacheAway, match=rf"is away: .*{away.port}") as raised:
        cache.write([put(user, 2) for user in USERS])
    assert raised.value.settled == keys_of(others)
    sender = Sender(cache, 20, 30_000)
    box = Outbox(DictEntries(), sender)
    for user in theirs:
        box.add(encode(put(user, 3)))
    sender.start()
    for version in range(3, 8):  # by another back-off than that of what is away
        for user in others:
            box.add(encode(put(user, version)))
        wait_until(
            lambda version=version: {scene.hget(f"rr:slate:{user}", "version") for user in others} == {str(version)}, 5
        )
    assert len(box) >= len(theirs)
    away.start()
    sender.drain(box)
    assert {scene.hget(f"rr:slate:{user}", "version") for user in theirs} == {"3"}
    sender.close()


def test_keys_of_a_node_that_is_lost_are_written_where_the_cluster_has_them_then() -> None:
    with cluster() as scene:
        lost, other, _ = scene.nodes
        cache = Cache(scene.url)
        assert cache.write([put(user, 1) for user in USERS]) == keys_of(USERS)
        theirs = [user for user in USERS if scene.of(f"rr:slate:{user}") is lost]
        slots = sorted({key_slot(f"rr:slate:{user}".encode()) for user in theirs})
        lost.kill()
        with pytest.raises(CacheAway):
            cache.write([put(user, 2) for user in theirs])
        for command in ("DELSLOTS", "ADDSLOTS"):
            scene.admin(other).execute_command("CLUSTER", command, *slots)

        def is_taken() -> bool:
            """False until the node that is asked where keys are has heard of it."""
            try:
                return cache.write([put(user, 2) for user in theirs]) == keys_of(theirs)
            except CacheAway:
                return False

        wait_until(is_taken, 20)
        assert {scene.admin(other).hget(f"rr:slate:{user}", "version") for user in theirs} == {"2"}


def test_a_cluster_that_is_none_and_a_node_without_its_cluster_are_told_of(scene: Cluster, valkey) -> None:
    with pytest.raises(UsageError, match=r"\(.*cluster support disabled\); that is no cluster: write redis://"):
        check_services(parse({"redis": {"url": f"redis+cluster://127.0.0.1:{valkey.port}"}}))
    node = scene.nodes[0]
    elsewhere = [user for user in USERS if scene.of(f"rr:slate:{user}") is not node]
    with pytest.raises(CacheAway, match=r"MOVED .*that is a node of a cluster: write redis\+cluster://"):
        Cache(node.url).write([put(elsewhere[0], 1)])


@pytest.mark.parametrize("prefix", ["rr:", "", "{shop}:", "a{b}c}{d:", "{}:", "a{b:", "a}b:", "{", "}{a}", "{}{a}:"])
def test_a_prefix_by_which_what_is_written_together_would_lie_apart_is_refused(prefix: str) -> None:
    one, other = f"{prefix}gone", times_key(f"{prefix}gone")
    settings = {"redis": {"url": "redis+cluster://a:1", "prefix": prefix}}
    if key_slot(one.encode()) == key_slot(other.encode()):
        assert parse(settings).redis.prefix == prefix
    else:
        with pytest.raises(UsageError, match=r"^redis\.prefix: expected no braces, or something between them"):
            parse(settings)
    assert parse({"redis": {"url": "redis://a:1", "prefix": prefix}}).redis.prefix == prefix
