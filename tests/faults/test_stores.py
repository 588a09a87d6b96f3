"""What happens to Kafka and Redis: gone, slow, empty, full, not to be written to, shared with another job."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
import redis
from scene import Scene, Seen, Services, fault, parts
from secured import in_front_of
from shop_events import USERS
from streams import wait_until

SLOW = 0.25  # seconds each way: half a second a call
pytestmark = pytest.mark.timeout(1200)


@contextmanager
def gone(scene: Scene) -> Iterator[None]:
    scene.on.valkey.stop()
    yield
    scene.on.valkey.start()


@contextmanager
def emptied(scene: Scene) -> Iterator[None]:
    """What it held is lost with it: of a user who does not come back, nothing is written again."""
    scene.on.valkey.stop()
    shutil.rmtree(scene.on.valkey.log.parent / "appendonlydir")
    scene.on.valkey.start()
    yield


@contextmanager
def read_only(scene: Scene) -> Iterator[None]:
    """As one is that another became the primary of."""
    with redis.Redis.from_url(scene.on.valkey.url) as client:
        client.execute_command("REPLICAOF", "127.0.0.1", "1")
        yield
        client.execute_command("REPLICAOF", "NO", "ONE")


@contextmanager
def forbidden(scene: Scene) -> Iterator[None]:
    with redis.Redis.from_url(scene.on.valkey.url) as client:
        client.execute_command("ACL", "SETUSER", "default", "-@write")
        yield
        client.execute_command("ACL", "SETUSER", "default", "+@all")


@contextmanager
def full(scene: Scene) -> Iterator[None]:
    with redis.Redis.from_url(scene.on.valkey.url) as client:
        client.config_set("maxmemory-policy", "noeviction")
        client.config_set("maxmemory", 1)
        yield
        client.config_set("maxmemory", 0)


@contextmanager
def of_other_types(scene: Scene) -> Iterator[None]:
    """Somebody put a list and a text where slates belong; the job puts the slates there again."""
    with redis.Redis.from_url(scene.on.valkey.url) as client:
        listed, text = (f"{scene.prefix}slate:{user}" for user in ("u0", "u1"))
        client.delete(listed, text)
        client.rpush(listed, "theirs")
        client.set(text, "theirs")
    yield


Break = Callable[[Scene], AbstractContextManager[None]]


@pytest.mark.parametrize(
    ("how", "seconds"),
    [
        pytest.param(gone, 5, marks=fault("Redis gone for 5 s", short=True)),
        pytest.param(gone, 60, marks=fault("Redis gone for 60 s")),
        pytest.param(gone, 600, marks=fault("Redis gone for 600 s", long=True)),
        pytest.param(emptied, 0, marks=fault("Redis restarted empty")),
        pytest.param(read_only, 5, marks=fault("Redis read-only for 5 s (REPLICAOF a host that is dead)")),
        pytest.param(forbidden, 5, marks=fault("Redis refuses to write by its ACL for 5 s")),
        pytest.param(full, 5, marks=fault("Redis full for 5 s (maxmemory, noeviction)")),
        pytest.param(of_other_types, 0, marks=fault("two users' keys in Redis of another type")),
    ],
)
def test_redis_fails(how: Break, seconds: float, scene: Scene, seen: Callable[[Seen], None]) -> None:
    """Slates on Kafka go on meanwhile."""
    first, second = parts(scene.stream(400), 2)
    scene.give(first)
    scene.wait_for_answers()
    with how(scene):
        scene.give(second)
        scene.wait_for_answers()
        time.sleep(seconds)
    scene.give(scene.stream(200))
    seen(scene.finish())


@fault("kill -9 of the TaskManager while Redis is gone and slates wait")
def test_slates_that_wait_for_redis_outlive_a_taskmanager(
    on: Services, scene: Scene, seen: Callable[[Seen], None]
) -> None:
    """What waits is in a checkpoint, and its events are never read again: it comes from state or not at all."""
    first, second = parts(scene.stream(400), 2)
    (job,), restarts = scene.jobs, scene.restarts()
    scene.give(first)
    scene.wait_for_answers()
    with gone(scene):
        scene.give(second)
        scene.wait_for_answers()
        scene.wait_for_checkpoint(job)
        (worker,) = on.cluster.workers(job)
        on.cluster.kill_taskmanager(worker)
        scene.wait_for_restart(restarts + 1)
    seen(scene.finish())


@pytest.mark.parametrize(
    "scene",
    [
        pytest.param("at-least-once", marks=fault("Kafka gone for 60 s")),
        pytest.param("exactly-once", marks=fault("Kafka gone for 60 s, exactly-once")),
    ],
    indirect=True,
)
def test_kafka_is_gone(on: Services, scene: Scene, seen: Callable[[Seen], None]) -> None:
    """It goes while slates are on their way."""
    first, second, third = parts(scene.stream(600), 3)
    scene.give(first)
    scene.wait_for_answers()
    scene.give(second)
    on.broker.stop()
    try:
        time.sleep(60)
    finally:
        on.broker.start()
    scene.give(third)
    seen(scene.finish(timeout_seconds=300))


@fault("two jobs on one Redis, each with a prefix of its own")
def test_two_jobs_with_prefixes_of_their_own(staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    scenes = [staged(f"prefix-{prefix}", taskmanagers=2, prefix=f"{prefix}:") for prefix in ("a", "b")]
    for number, scene in enumerate(scenes):
        scene.submit()
        scene.give(scene.stream(400 + 100 * number))
    other, one = (scene.finish() for scene in reversed(scenes))
    assert other.users == one.users == USERS
    seen(
        one._replace(note=f"beside one of {other.events} events, {other.found.answers} of {other.wanted} answers equal")
    )


@fault("two jobs with the same prefix and topics")
def test_two_jobs_with_the_same_prefix_and_topics(staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    """Each answer comes twice, and Redis takes no older one from the one that is behind."""
    scene = staged("twice", taskmanagers=2)
    first, second = parts(scene.stream(400), 2)
    scene.submit()
    scene.give(first)
    scene.wait_for_answers()
    scene.submit()
    scene.give(second)
    wait_until(lambda: scene.came() == 2 * len(scene.awaited))
    seen(scene.finish())


@fault("Redis slow: 500 ms a call")
def test_redis_is_slow(on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    with in_front_of(on.valkey.port, delay=SLOW) as port:
        scene = staged("redis-slow", url=f"redis://127.0.0.1:{port}/0")
        scene.submit()
        scene.give(scene.stream(600))
        seen(scene.finish())
