"""The job on a standalone cluster, submitted by `flink run`: Kafka in and out, stopped with a savepoint, restored at
another parallelism, and through the loss of a TaskManager, with nothing learned twice or lost: with nothing broadcast,
slates are those of `replay` to the last digit, and so are the learners that they are made with.
"""

import json
import re
from pathlib import Path

import pytest
from riverrank.jobs.dev import services
from shop_events import CATALOGUE, ITEMS, expected, stream
from streams import Record, alone, answers, cached, job_of, received, send, topics, wait_until

pytestmark = pytest.mark.timeout(900)  # a cluster on a busy machine takes its time


def told(cluster: services.FlinkCluster, job: str, name: str) -> int:
    """What the metrics of that name say together, whatever their labels, of all operators and subtasks."""
    total = 0
    for vertex in cluster.rest(f"/jobs/{job}")["vertices"]:
        path = f"/jobs/{job}/vertices/{vertex['id']}/metrics"
        ids = [each["id"] for each in cluster.rest(path) if re.search(rf"\.riverrank\.(.*\.)?{name}$", each["id"])]
        total += sum(int(each["value"]) for each in cluster.rest(f"{path}?get={','.join(ids)}")) if ids else 0
    return total


@pytest.mark.parametrize("delivery", ["at-least-once", "exactly-once"])
def test_stopped_with_a_savepoint_and_restored_at_another_parallelism_nothing_is_learned_twice_or_lost(
    delivery: str,
    cluster: services.FlinkCluster,
    broker: services.KafkaBroker,
    valkey: services.Valkey,
    zipped: Path,
    tmp_path: Path,
) -> None:
    name = f"restored-{delivery}"
    settings = topics(broker, tmp_path, name, f'delivery = "{delivery}"', alone())
    first, second = stream(400, 1), stream(400, 2)
    before = expected(tmp_path, first).answers
    after = expected(tmp_path, [*first, *second]).answers
    send(broker, f"{name}-items", CATALOGUE)
    send(broker, f"{name}-events", first, key="user_id")
    submitted = job_of(zipped, "--config", settings, "--redis", valkey.url)

    def slates() -> list[Record]:
        committed = received(broker, f"{name}-slates", isolation_level="read_committed")
        return [json.loads(value) for _, value in committed]

    single = cluster.run("-p", 1, *submitted)
    cluster.wait_for(single)
    wait_until(lambda: len(slates()) >= sum(map(len, before.values())))
    wait_until(lambda: told(cluster, single, "cache_written") > 0 == told(cluster, single, "cache_waiting"))
    # Of the last tenth of a second nothing is told before the next record; Flink asks for the numbers every so often.
    wait_until(lambda: 200 < told(cluster, single, "slates") == told(cluster, single, "slate_age"))
    assert 200 < told(cluster, single, "events") <= 400 and told(cluster, single, "redelivered") == 0
    assert 200 < told(cluster, single, "slates") == told(cluster, single, "slate_age") <= sum(map(len, before.values()))
    assert told(cluster, single, "dead_letters") == 0 and ITEMS <= told(cluster, single, "catalogue") <= 2 * ITEMS
    assert 0 < told(cluster, single, "hits") < told(cluster, single, "choices") < told(cluster, single, "learned")
    savepoint = cluster.stop_with_savepoint(single, tmp_path / "savepoints")
    assert answers(slates(), whole=True) == before

    send(broker, f"{name}-events", [*first[-50:], *second], key="user_id")  # redelivered across the restore
    both = cluster.run("-s", savepoint, "-p", 2, *submitted)
    cluster.wait_for(both)
    assert len(cluster.workers(both)) == 2
    wait_until(lambda: len(slates()) >= sum(map(len, after.values())))
    wait_until(lambda: cached(valkey, after) == {user: history[-1][0] for user, history in after.items()})
    cluster.stop_with_savepoint(both, tmp_path / "savepoints")
    assert answers(slates(), whole=True) == after
    assert received(broker, f"{name}-dead-letters") == []


def test_after_the_loss_of_a_taskmanager_state_is_exactly_once_and_slates_come_at_least_once(
    broker: services.KafkaBroker, valkey: services.Valkey, zipped: Path, tmp_path: Path
) -> None:
    conf = {"heartbeat.timeout": "6 s", "execution.checkpointing.interval": "1 s"}
    with services.FlinkCluster(taskmanagers=3, conf=conf) as cluster:
        lose_a_taskmanager(cluster, broker, valkey, zipped, tmp_path)


def lose_a_taskmanager(
    cluster: services.FlinkCluster, broker: services.KafkaBroker, valkey: services.Valkey, zipped: Path, tmp_path: Path
) -> None:
    settings = topics(broker, tmp_path, "lossy", alone())
    first, second = stream(300, 3), stream(300, 4)
    wanted = expected(tmp_path, [*first, *second]).answers
    send(broker, "lossy-items", CATALOGUE)
    submitted = job_of(zipped, "--config", settings, "--redis", valkey.url)
    job = cluster.run("-p", 2, *submitted)
    cluster.wait_for(job)
    send(broker, "lossy-events", first, key="user_id")
    wait_until(lambda: len(received(broker, "lossy-slates")) > 100)
    cluster.kill_taskmanager(min(cluster.workers(job)))
    send(broker, "lossy-events", second, key="user_id")
    wait_until(lambda: cached(valkey, wanted) == {user: history[-1][0] for user, history in wanted.items()})
    cluster.stop_with_savepoint(job, tmp_path / "savepoints")
    slates = [json.loads(value) for _, value in received(broker, "lossy-slates")]
    distinct = {(user, *answer) for user, history in answers(slates, whole=True).items() for answer in history}
    assert distinct == {(user, *answer) for user, history in wanted.items() for answer in history}


def test_what_a_cluster_writes_is_its_owners_alone(cluster: services.FlinkCluster) -> None:
    """Whatever it makes within: checkpoints, savepoints, logs, and its configuration."""
    assert cluster.folder.stat().st_mode & 0o777 == 0o700
    assert {"checkpoints", "savepoints", "log", "conf"} <= {path.name for path in cluster.folder.iterdir()}
