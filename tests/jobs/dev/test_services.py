"""The services are real, come back after an outage, and leave nothing behind; jars are fetched once and checked."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import redis
from kafka import KafkaConsumer, KafkaProducer
from riverrank.jobs.dev import services
from riverrank.jobs.dev.bundle import bundle
from riverrank.jobs.dev.cluster import FlinkCluster
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.flink import jars
from riverrank.jobs.processes import OwnedProcess, ServiceError

CONNECTOR = "flink-sql-connector-kafka-5.0.0-2.2.jar"
# Counts words by key on the cluster: riverrank out of the zip, state on the heap, one file a run.
PROBE_JOB = """
    import sys

    from pyflink.common import Types
    from pyflink.datastream import StreamExecutionEnvironment
    from riverrank.state import records

    target, pair_type = sys.argv[1], Types.TUPLE([Types.STRING(), Types.INT()])

    def write(pair):
        with open(target, "a") as out:
            out.write(f"{pair[0]} {pair[1]}\\n")
        return pair[0]

    env = StreamExecutionEnvironment.get_execution_environment()
    words = env.from_collection(["a", "b", "a", "a"], Types.STRING())
    pairs = words.map(lambda word: (f"{word} {records.__name__}", 1), pair_type)
    counts = pairs.key_by(lambda pair: pair[0], Types.STRING()).reduce(lambda one, two: (one[0], one[1] + two[1]))
    counts.map(write, Types.STRING()).print()
    env.execute("probe")
"""


def gone(pid: int, timeout_seconds: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_seconds
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


# --- Valkey and Kafka -------------------------------------------------------------------------------------------------


def test_valkey_keeps_port_and_data_through_an_outage(valkey: Valkey) -> None:
    url = valkey.url
    with redis.Redis.from_url(url) as client:
        client.set("rr:x", "1")
        valkey.stop()
        with pytest.raises(redis.ConnectionError):
            client.get("rr:x")
        valkey.start()
        assert (client.get("rr:x"), valkey.url) == (b"1", url)


def test_kafka_keeps_port_and_records_through_an_outage() -> None:
    with KafkaBroker() as broker:
        bootstrap = broker.bootstrap
        broker.create_topic("events", partitions=2, config={"cleanup.policy": "compact"})
        produce(bootstrap, [b"before"])
        broker.stop()
        with socket.socket() as probe:
            assert probe.connect_ex(("127.0.0.1", broker.port)) != 0
        broker.start()
        produce(bootstrap, [b"after"])
        assert broker.bootstrap == bootstrap
        assert sorted(consume(bootstrap, 2)) == [b"after", b"before"]


def test_kafka_transactions_commit_and_abort(broker: KafkaBroker) -> None:
    broker.create_topic("transactions")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap, transactional_id="test")
    producer.init_transactions()
    producer.begin_transaction()
    producer.send("transactions", b"aborted")
    producer.flush()
    producer.abort_transaction()
    producer.begin_transaction()
    producer.send("transactions", b"committed")
    producer.commit_transaction()
    producer.close()
    assert consume(broker.bootstrap, 1, "transactions") == [b"committed"]


def produce(bootstrap: str, values: list[bytes], topic: str = "events") -> None:
    producer = KafkaProducer(bootstrap_servers=bootstrap)
    for value in values:
        producer.send(topic, key=value, value=value).get(30)
    producer.close()


def consume(bootstrap: str, count: int, topic: str = "events") -> list[bytes]:
    """That many committed values of a topic, and whatever comes within half a second after."""
    consumer = KafkaConsumer(
        topic, bootstrap_servers=bootstrap, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    values: list[bytes] = []
    deadline = time.monotonic() + 30
    while len(values) < count and time.monotonic() < deadline:
        values += [record.value for batch in consumer.poll(500).values() for record in batch]
    values += [record.value for batch in consumer.poll(500).values() for record in batch]
    consumer.close()
    return values


# --- Processes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_nothing_outlives_the_process_that_started_it(how: signal.Signals) -> None:
    code = """
        import time
        from riverrank.jobs.dev.services import Valkey
        with Valkey() as valkey:
            print(valkey.pid, valkey.log.parent, flush=True)
            time.sleep(60)
    """
    starter = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert starter.stdout is not None
    pid, folder = starter.stdout.readline().split()
    assert Path(f"/proc/{pid}").exists()
    starter.send_signal(how)
    starter.wait(20)
    assert gone(int(pid))
    if how == signal.SIGINT:
        assert not Path(folder).exists()
    shutil.rmtree(folder, ignore_errors=True)


def test_service_outlives_the_thread_that_started_it(tmp_path: Path) -> None:
    process = OwnedProcess("sleep", ["/bin/sleep", "60"], tmp_path / "log")
    thread = threading.Thread(target=process.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    pid = process.pid
    process.stop()
    assert pid is not None
    assert gone(pid)


def test_stop_ends_the_whole_group_and_what_ignores_it(tmp_path: Path) -> None:
    script = 'trap "" TERM; sleep 60 & echo $!; wait; wait'
    process = OwnedProcess("stubborn", ["/bin/bash", "-c", script], tmp_path / "log", grace_seconds=0.5)
    process.start()
    process.wait_until(lambda: (tmp_path / "log").read_text().strip().isdigit(), 10)
    pids = [process.pid, int((tmp_path / "log").read_text())]
    process.stop()
    assert [gone(pid) for pid in pids if pid] == [True, True]


def test_service_that_does_not_come_up_shows_the_end_of_its_log(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        monkeypatch.setattr(services, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(ServiceError, match=r"valkey ended \(exit code 1\)(?s:.*)Address already in use"), Valkey():
            pass


# --- Jars -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def downloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """An empty cache, whose downloads are copied from the real one; which were asked for."""
    (real,) = jars.kafka_connector()
    monkeypatch.setenv("RIVERRANK_CACHE", str(tmp_path / "cache"))
    asked: list[str] = []

    def copy(coordinate: str, scratch: Path) -> Path:
        asked.append(coordinate)
        time.sleep(0.1)
        return Path(shutil.copy(real, scratch))

    monkeypatch.setattr(jars, "_download", copy)
    return asked


def test_jar_is_fetched_once_even_by_two_at_a_time(downloads: list[str], tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: jars.kafka_connector(), range(2)))
    assert found == [[tmp_path / "cache" / "jars" / CONNECTOR]] * 2
    assert downloads == ["org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2"]


def test_damaged_jar_is_fetched_again(downloads: list[str]) -> None:
    (jar,) = jars.kafka_connector()
    whole = jar.stat().st_size
    jar.write_bytes(jar.read_bytes()[:-1])
    jars.kafka_connector()
    assert (len(downloads), jar.stat().st_size) == (2, whole)


def test_jar_with_another_digest_is_refused(
    downloads: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jars, "locked", lambda name: {"group:artifact:1": "0" * 64})
    with pytest.raises(jars.JarsUnavailableError, match=r"^group:artifact:1 has SHA-256 5605c691d11a[^\n]*$"):
        jars.jars("kafka-connector")
    assert len(downloads) == 1
    assert list((tmp_path / "cache" / "jars").rglob("*.jar")) == []


def test_jars_without_a_network_say_the_mend_on_one_line(tmp_path: Path, free_port: int) -> None:
    nowhere = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), f"http://127.0.0.1:{free_port}")
    environment = {**os.environ, **nowhere, "RIVERRANK_CACHE": str(tmp_path), "NO_PROXY": "", "no_proxy": ""}
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.flink.jars"],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("riverrank: org.apache.flink:flink-sql-connector-kafka:5.0.0-2.2 can't be fetched")
    assert "connect to the network" in done.stderr
    assert done.stderr.count("\n") == 1


# --- Flink ------------------------------------------------------------------------------------------------------------


def test_cluster_has_a_jvm_each_and_replaces_a_killed_taskmanager(cluster: FlinkCluster) -> None:
    before = sorted(path.name for path in (jars.flink_home() / "lib").iterdir())
    assert {known["id"] for known in cluster.rest("/taskmanagers")["taskmanagers"]} >= {
        "taskmanager-0",
        "taskmanager-1",
    }
    added = cluster.start_taskmanager()
    assert f"taskmanager-{added}" in {known["id"] for known in cluster.rest("/taskmanagers")["taskmanagers"]}
    cluster.kill_taskmanager(added)
    assert CONNECTOR in {path.name for path in (cluster.folder / "lib").iterdir()}
    assert not [name for name in before if "kafka" in name or "flink-python" in name]


def test_job_runs_on_the_cluster_with_the_zip(cluster: FlinkCluster, tmp_path: Path) -> None:
    (tmp_path / "probe.py").write_text(textwrap.dedent(PROBE_JOB), "utf-8")
    bundle(tmp_path / "riverrank.zip")
    out = tmp_path / "out"
    job = cluster.run("-py", tmp_path / "probe.py", "-pyfs", tmp_path / "riverrank.zip", out)
    cluster.wait_for(job, "FINISHED")
    assert sorted(out.read_text().splitlines())[-1] == "b riverrank.state.records 1"
    assert "a riverrank.state.records 3" in out.read_text()


def test_failed_submission_says_why(cluster: FlinkCluster, tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("raise ValueError('no such thing')\n", "utf-8")
    with pytest.raises(ServiceError, match="ValueError: no such thing"):
        cluster.run("-py", tmp_path / "broken.py")


def test_failed_job_says_its_root_cause(cluster: FlinkCluster, tmp_path: Path) -> None:
    code = """
        from pyflink.common import Types
        from pyflink.datastream import StreamExecutionEnvironment

        env = StreamExecutionEnvironment.get_execution_environment()
        env.from_collection([0], Types.INT()).map(lambda number: 1 // number, Types.INT()).print()
        env.execute("fails")
    """
    (tmp_path / "fails.py").write_text(textwrap.dedent(code), "utf-8")
    job = cluster.run("-D", "restart-strategy.type=none", "-py", tmp_path / "fails.py")
    with pytest.raises(ServiceError, match=r"is FAILED, not FINISHED(?s:.*)ZeroDivisionError"):
        cluster.wait_for(job, "FINISHED")


def test_shared_data_is_skipped_where_absent(needs_shared: Callable[[str], Path]) -> None:
    with pytest.raises(pytest.skip.Exception, match="nothing-like-it is not there"):
        needs_shared("nothing-like-it")
