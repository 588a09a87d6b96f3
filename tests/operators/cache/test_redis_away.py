"""What CACHE promises where Redis is away, starts again, is slow, or refuses, held against a real valkey-server."""

import os
import signal
import socket
import threading
import time
from pathlib import Path

import pytest
from riverrank.jobs.config.schema import load
from riverrank.jobs.errors import Failure
from riverrank.jobs.local import replay
from riverrank.operators.cache import redis_cache as cache_module
from riverrank.operators.cache.redis_cache import Cache, CacheAway
from riverrank.operators.cache.urls import masked
from riverrank.state.hashing import pseudonym
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from valkey_server import Server, erase, free_port, put, reader


def test_script_flush_is_mended_within_the_write(server: Server) -> None:
    cache = Cache(server.url)
    cache.write([put("u", 1)])
    reader(server).script_flush()
    assert cache.write([put("u", 2), put("v", 1)]) == {"slate:u", "slate:v"}
    assert reader(server).hget("rr:slate:u", "version") == "2"


def test_writes_go_on_after_a_restart(own: Server) -> None:
    cache = Cache(own.url)
    cache.write([put("u", 1)])
    own.stop()
    with pytest.raises(CacheAway):
        cache.write([put("u", 2)])
    own.start()
    assert cache.write([put("u", 2)]) == {"slate:u"}
    assert reader(own).hget("rr:slate:u", "version") == "2"
    own.stop()
    own.start()
    assert cache.write([put("u", 3)]) == {"slate:u"}, "a restart between two writes costs none"


def test_redis_away_is_said_at_once_and_without_secrets() -> None:
    port = free_port()
    cache = Cache(f"redis://me:hunter2@127.0.0.1:{port}/0")
    started = time.monotonic()
    with pytest.raises(CacheAway, match=rf"redis://me:\*\*\*@127\.0\.0\.1:{port}/0 is away: .*refused") as raised:
        cache.write([put("u", 1)])
    assert time.monotonic() - started < 1
    assert "hunter2" not in str(raised.value) + repr(cache)
    assert masked("redis://:hunter2@h:1/0?password=hunter2") == "redis://:***@h:1/0?password=***"


@pytest.mark.parametrize("connected", [True, False])
def test_frozen_server_blocks_no_longer_than_the_timeout(own: Server, connected: bool) -> None:
    cache = Cache(own.url, timeout_ms=400)
    if connected:
        cache.write([put("u", 1)])
    os.kill(own.process.pid, signal.SIGSTOP)
    try:
        started = time.monotonic()
        with pytest.raises(CacheAway, match="is away"):
            cache.write([put(f"u-{number}", 1) for number in range(100)])
        assert time.monotonic() - started < 0.6
    finally:
        os.kill(own.process.pid, signal.SIGCONT)
    assert cache.write([put("u", 2)]) == {"slate:u"}, "late answers of the frozen write are not taken for this one's"
    assert reader(own).hget("rr:slate:u", "version") == "2"


def test_slowly_dripping_server_blocks_no_longer_than_the_timeout() -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = listener.accept()
        with peer:
            try:
                while True:
                    peer.sendall(b":1\r\n")
                    time.sleep(0.1)
            except OSError:
                return  # the client gave up, as it should

    thread = threading.Thread(target=drip, daemon=True)
    thread.start()
    cache = Cache(f"redis://127.0.0.1:{listener.getsockname()[1]}/0", timeout_ms=500)
    started = time.monotonic()
    with pytest.raises(CacheAway):
        cache.write([put(f"u-{number}", 1) for number in range(1000)])
    assert time.monotonic() - started < 0.9
    listener.close()
    thread.join(2)


def test_server_that_takes_no_writes_is_away(own: Server) -> None:
    admin, cache = reader(own), Cache(own.url)
    cache.write([put("u", 1), put("gone", 1)])
    admin.config_set("maxmemory", 1)
    with pytest.raises(CacheAway, match="takes no writes: OutOfMemoryError") as raised:
        cache.write([put("u", 2), erase("gone", 5)])
    assert raised.value.settled == {"slate:gone"}, "an erasure needs no memory"
    admin.config_set("maxmemory", 0)
    admin.replicaof("127.0.0.1", free_port())
    with pytest.raises(CacheAway, match="ReadOnlyError"):
        cache.write([put("u", 2)])
    admin.replicaof("NO", "ONE")
    assert cache.write([put("u", 2)]) == {"slate:u"}


def test_wrong_password_is_away() -> None:
    server = Server("--requirepass", "right")
    try:
        with pytest.raises(CacheAway, match=r"Authentication required|NOAUTH"):
            Cache(server.url).write([put("u", 1)])
        with pytest.raises(CacheAway, match="is away"):
            Cache(f"redis://:wrong@127.0.0.1:{server.port}/0").write([put("u", 1)])
        assert Cache(f"redis://:right@127.0.0.1:{server.port}/0").write([put("u", 1)]) == {"slate:u"}
    finally:
        server.stop()


def test_loading_server_is_away(tmp_path: Path) -> None:
    slow = "--key-load-delay 200 --loading-process-events-interval-bytes 1024"
    server = Server("--dir", str(tmp_path), *slow.split())
    try:
        admin = reader(server)
        admin.mset({f"k-{number}": "x" for number in range(20_000)})
        admin.save()
        server.stop()
        server.start()
        with pytest.raises(CacheAway, match="loading"):
            Cache(server.url).write([put("u", 1)])
    finally:
        server.stop()


def test_one_key_that_is_refused_leaves_the_rest_alone(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = "if string.find(KEYS[1], 'bad') then return redis.error_reply('ERR no luck') end\n" + cache_module.SCRIPT
    monkeypatch.setattr(cache_module, "SCRIPT", broken)
    monkeypatch.setattr(cache_module, "SHA", reader(server).script_load(broken))
    cache = Cache(server.url)
    assert cache.write([put("a", 1), put("bad", 1), put("b", 1)]) == {"slate:a", "slate:b"}
    assert cache.refused == {"slate:bad": "ResponseError: no luck"}


def test_replay_ends_with_the_reason_where_redis_refuses_a_key_and_writes_all_others(
    server: Server, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    broken = "if string.find(KEYS[1], 'bad') then return redis.error_reply('ERR no luck') end\n" + cache_module.SCRIPT
    monkeypatch.setattr(cache_module, "SCRIPT", broken)
    monkeypatch.setattr(cache_module, "SHA", reader(server).script_load(broken))
    events = [Event(f"e{n}", "click", user, 1_000 + n, "i") for n, user in enumerate(("a", "bad", "c"))]
    (tmp_path / "events.jsonl").write_bytes(b"".join(to_json(event) + b"\n" for event in events))
    config = load(None, {"files.events": str(tmp_path / "events.jsonl"), "redis.url": server.url})
    with pytest.raises(Failure, match=f"which refuses slate:{pseudonym('bad', b'')}: ResponseError: no luck"):
        replay.run(config)
    assert set(reader(server).keys("rr:slate:*")) == {"rr:slate:a", "rr:slate:c"}
