"""The promises of the job, on a real Flink embedded in the process of `riverrank run`: same answers as `replay`,
whatever the parallelism; every record accounted for; a failure told in one line.
"""

import gzip
import json
import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from riverrank.jobs.dev import services
from streams import TIMEOUT_SECONDS, Record, alone, answers, cached, job_of, popular, received, send, topics, wait_until

START_MS = 1_764_000_000_000
USERS, ITEMS, EVENTS = 8, 30, 160
TASKMANAGERS = min(2, len(os.sched_getaffinity(0)))  # of a run of parallelism 1


def events() -> list[str]:
    """Lines of all that can come: eight users, a redelivery, late events, broken lines, blank ones, an erasure."""
    lines = []
    for number in range(EVENTS):
        user = number % USERS
        event: Record = {"event_id": f"e{number}", "user_id": f"u{user}", "ts": START_MS + 1000 * number}
        item = f"i{(number * 7 + user) % ITEMS}"
        match number % 5:
            case 0 | 1:
                event |= {"type": "click", "item_id": item}
            case 2:
                event |= {"type": "rate", "item_id": item, "value": float(number % 5 + 1)}
            case 3:
                event |= {"type": "impression", "items": [f"i{(number + k) % ITEMS}" for k in range(4)]}
            case _:
                event |= {"type": "request"}
        lines.append(json.dumps(event))
    late = json.dumps({**json.loads(lines[100]), "event_id": "late", "ts": START_MS - 3_600_000})
    erasure = {"event_id": "gone", "type": "erase", "user_id": "u3", "ts": START_MS + 10_000_000}
    after = {"event_id": "back", "type": "request", "user_id": "u3", "ts": START_MS + 10_000_001}
    odd = [lines[50], "", "{broken", late]
    return [*lines[:120], *odd, *lines[120:], '{"event_id":"x"}', json.dumps(erasure), json.dumps(after)]


def items() -> list[str]:
    """Lines of the catalogue, the last of them broken."""
    catalogue = [
        {"item_id": f"i{n}", "ts": START_MS, "title": f"Title {n}", "categories": [f"c{n % 4}"]} for n in range(ITEMS)
    ]
    return [*map(json.dumps, catalogue), "broken"]


def test_a_users_answers_do_not_depend_on_parallelism(inputs: Path, ran: Callable[[int], Path]) -> None:
    riverrank("replay", *files(inputs, inputs / "replay"))
    expected = answers(read(inputs / "replay" / "slates.jsonl"))
    assert len(expected) == USERS
    assert answers(read(ran(1) / "slates.jsonl")) == expected
    assert answers(read(ran(2) / "slates.jsonl")) == expected


def test_learners_that_hear_nothing_of_others_make_the_slates_of_replay_to_the_last_digit(inputs: Path) -> None:
    """So each learned what it learns in replay: the same weights, from the same examples."""
    (inputs / "alone.toml").write_text(alone())
    made = {}
    for command, *flags in (("replay",), ("run", "--parallelism", "2")):
        outputs = inputs / f"alone-{command}"
        riverrank(command, *files(inputs, outputs), "--config", str(inputs / "alone.toml"), *flags)
        made[command] = answers(read(outputs / "slates.jsonl"), whole=True)
    assert len(made["replay"]) == USERS and made["run"] == made["replay"]


def test_redelivered_event_is_answered_once(ran: Callable[[int], Path]) -> None:
    triggers = [slate["trigger"] for slate in read(ran(2) / "slates.jsonl")]
    assert triggers.count("e50") == 1
    assert len(triggers) == len(set(triggers)) == EVENTS * 4 // 5 + 1


def test_every_unusable_record_becomes_a_dead_letter(ran: Callable[[int], Path]) -> None:
    for parallelism in (1, 2):
        letters = read(ran(parallelism) / "dead_letters.jsonl")
        found = sorted((letter["topic"], letter["offset"], letter["reason"], letter["ts"]) for letter in letters)
        assert found == [
            ("events", 122, "bad_json", 0),
            ("events", 123, "late", 0),
            ("events", EVENTS + 4, "bad_field", 0),
            ("items", ITEMS, "bad_json", 0),
        ]


def test_erased_user_starts_again(ran: Callable[[int], Path]) -> None:
    assert [receipt["event_id"] for receipt in read(ran(2) / "receipts.jsonl")] == ["gone"]
    last = answers(read(ran(2) / "slates.jsonl"))["u3"][-1]
    assert last == (1, "back", 0)


def test_predictions_are_those_of_replay_in_number_and_kind(inputs: Path, ran: Callable[[int], Path]) -> None:
    riverrank("replay", *files(inputs, inputs / "oracle"))
    expected = named(inputs / "oracle")
    assert expected
    assert named(ran(1)) == expected
    assert named(ran(2)) == expected


def test_paths_may_be_relative_and_hold_blanks(inputs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Operators read the items in processes that have working directories of their own."""
    folder = tmp_path / "50%20 of all"
    folder.mkdir()
    lines = (inputs / "events.jsonl").read_bytes().splitlines(keepends=True)[:10]
    (folder / "e v.jsonl").write_bytes(b"".join(lines))
    (folder / "i t.gz").write_bytes((inputs / "items.jsonl.gz").read_bytes())
    monkeypatch.chdir(folder)
    riverrank("run", "--events", "e v.jsonl", "--items", "i t.gz", "--slates", "s l.gz", "--dead-letters", "d l.gz")
    slates, letters = (gzip.decompress((folder / name).read_bytes()).splitlines() for name in ("s l.gz", "d l.gz"))
    assert len(slates) == 8 and len(json.loads(slates[0])["items"]) == 20
    assert [json.loads(letter)["topic"] for letter in letters] == ["items"]


def test_standard_input_to_standard_output(inputs: Path) -> None:
    lines = (inputs / "events.jsonl").read_bytes().splitlines(keepends=True)[:10]
    done = riverrank("run", "--events", "-", "--slates", "-", given=b"".join(lines))
    assert [json.loads(line)["trigger"] for line in done.stdout.splitlines()] == [
        f"e{number}" for number in range(10) if number % 5 != 3
    ]


def test_another_execution_mode_is_refused(inputs: Path, cluster: services.FlinkCluster, zipped: Path) -> None:
    """Only a cluster's configuration can ask for one: an embedded Flink has none of its own."""
    job = job_of(zipped, "--events", inputs / "events.jsonl")
    with pytest.raises(services.ServiceError, match=r"riverrank: python\.execution-mode is process: .* leave it out"):
        cluster.flink("run", "-Dpython.execution-mode=process", *job)


def test_failure_of_the_job_is_one_line_with_the_root_cause(inputs: Path, tmp_path: Path, free_port: int) -> None:
    """Redis is away from the start, and still at the end of the input: the slates can't be delivered."""
    away = f"redis://127.0.0.1:{free_port}"
    flags = {"files.events": str(inputs / "events.jsonl"), "redis.url": away, "cache.drain": 500}
    imports = "from riverrank.jobs.config.schema import parse; from riverrank.jobs.flink import launch"
    code = f"{imports}; launch.run(parse({{}}, {flags!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=TIMEOUT_SECONDS, check=False)
    last = done.stderr.decode().strip().splitlines()[-1]
    assert done.returncode == 1
    assert "are left at the end of the input: Redis at redis://127.0.0.1" in last


def test_kafka_and_redis_hold_what_replay_answers(
    inputs: Path, broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    riverrank("replay", *files(inputs, inputs / "beside"))
    expected = answers(read(inputs / "beside" / "slates.jsonl"))
    config = topics(broker, tmp_path, "bounded", "bounded = true")
    send(broker, "bounded-items", [line for line in items() if line])
    send(broker, "bounded-events", [line for line in events() if line], key="user_id")
    send(broker, "bounded-events", [None], key="user_id")
    riverrank("run", "--config", str(config), "--redis", valkey.url, "--parallelism", "2")

    records = received(broker, "bounded-slates")
    told = [(key.decode(), value) for key, value in records if value is not None]
    slates = [json.loads(value) for _, value in told]
    assert answers(slates) == expected
    assert [key for key, _ in told] == [slate["user_id"] for slate in slates]
    (tombstone,) = (k for k, (_, value) in enumerate(records) if value is None)
    after = [json.loads(value)["version"] for key, value in records[tombstone + 1 :] if key == b"u3"]
    assert records[tombstone][0] == b"u3" and after[0] == 1
    letters = [json.loads(value) for _, value in received(broker, "bounded-dead-letters")]
    assert sorted((letter["topic"], letter["reason"]) for letter in letters) == [
        ("bounded-events", "bad_field"),
        ("bounded-events", "bad_json"),
        ("bounded-events", "bad_json"),  # the one without a value
        ("bounded-events", "late"),
        ("bounded-items", "bad_json"),
    ]
    receipts = [json.loads(value) for _, value in received(broker, "bounded-receipts")]
    assert [receipt["erased"] for receipt in receipts] == [["sessions", "learner", "slates", "cache"]]
    assert cached(valkey, expected) == {user: history[-1][0] for user, history in expected.items()}


def test_a_bounded_run_ends_with_the_popular_slate_of_replay(
    inputs: Path, valkey: services.Valkey, tmp_path: Path
) -> None:
    """Though it is written once a day at most, and the last of the signals are told once a day at most."""
    rare = tmp_path / "rare.toml"
    held = {}
    for command in ("replay", "run"):
        rare.write_text(
            '[cache]\npopular_every = "1d"\n[signals]\nflush_every = "1d"\nflush_events = 1000000\n'
            f'[redis]\nprefix = "{command}:"\n'
        )
        riverrank(command, *files(inputs, tmp_path / command), "--config", str(rare), "--redis", valkey.url)
        held[command] = popular(valkey, f"{command}:")
    assert held["run"] == held["replay"]
    scores = [slot["score"] for slot in held["run"]["items"]]
    assert held["run"]["ts"] >= START_MS + 1000 * (EVENTS - 1)
    assert len({*scores}) > 5 and scores == sorted(scores, reverse=True)  # of what was learned, at the end


def test_unbounded_run_outlives_redis_and_drains_when_it_is_stopped(
    broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    config = topics(broker, tmp_path, "unbounded")
    wanted, target = events()[:120], tmp_path / "slates.jsonl"
    flags = ["--config", str(config), "--redis", valkey.url, "--slates", str(target)]
    command = [sys.executable, "-m", "riverrank.jobs.cli", "run", *flags]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        send(broker, "unbounded-events", wanted[:60], key="user_id")
        wait_until(lambda: target.exists() and len(read(target)) == 48)
        threads = [environment["OPENBLAS_NUM_THREADS"] for environment in javas(running.pid).values()]
        assert threads == ["1"] * (1 + TASKMANAGERS), "one thread in each Java"
        valkey.stop()
        send(broker, "unbounded-events", wanted[60:90], key="user_id")
        wait_until(lambda: len(read(target)) == 72)
        valkey.start()
        send(broker, "unbounded-events", wanted[90:], key="user_id")
        wait_until(lambda: sum(cached(valkey, {f"u{user}" for user in range(USERS)}).values()) == 96)
        os.killpg(running.pid, signal.SIGTERM)  # as service managers send it: to all that it started, too
        assert running.wait(TIMEOUT_SECONDS) == 130
    finally:
        running.kill()
        _, told = running.communicate()
    assert "stopping" in told and "Traceback" not in told and "Exception" not in told
    assert told.count("slates are kept until it is back") == told.count("Redis is back") == 1
    given = answers(read(target))
    assert sum(map(len, given.values())) == 96
    assert cached(valkey, given) == {user: history[-1][0] for user, history in given.items()}
    assert not list(tmp_path.glob(".*parts*"))


@pytest.mark.parametrize(("how", "times"), [(signal.SIGTERM, 1), (signal.SIGKILL, 1), (signal.SIGINT, 3)])
def test_a_run_that_keeps_its_state_goes_on_where_the_last_one_ended(
    how: signal.Signals, times: int, broker: services.KafkaBroker, tmp_path: Path
) -> None:
    name, state = f"kept-{how.name.lower()}", tmp_path / "state"
    config = topics(broker, tmp_path, name)
    command = [sys.executable, "-m", "riverrank.jobs.cli", "run", "--config", str(config), "--state", str(state)]
    versions: dict[bytes, list[int]] = {}

    def slates() -> list[tuple[bytes, int]]:
        return [(key, json.loads(value)["version"]) for key, value in received(broker, f"{name}-slates")]

    for number, part in enumerate((events()[:60], events()[60:120]), 1):
        send(broker, f"{name}-events", part, key="user_id")
        running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda wanted=48 * number: len(set(slates())) == wanted)
            wait_until(lambda: any(state.glob("*/**/_metadata")))
            refused = subprocess.run(command, capture_output=True, text=True, check=False)
            assert refused.returncode == 2 and "another run keeps its state in" in refused.stderr
            if how == signal.SIGKILL:
                time.sleep(2.5)  # two checkpoints: what came before the last of them is not answered again
            for _ in range(times):  # at once, which is one interruption
                os.kill(running.pid, how)
            assert running.wait(TIMEOUT_SECONDS) == (-how if how == signal.SIGKILL else 130)
        finally:
            running.kill()
            _, told = running.communicate()
        assert "Traceback" not in told and "could not be stopped in order" not in told
        assert stat.S_IMODE((state / "riverrank").stat().st_mode) == 0o700
        assert ("where there is none yet" if number == 1 else "goes on from that of") in told
        assert how == signal.SIGKILL or "\n60 events accepted, 48 slates\n" in told
    for user, version in slates():
        versions.setdefault(user, []).append(version)
    assert [sorted(found) for found in versions.values()] == [list(range(1, 13))] * USERS
    assert len(list(state.glob("*/**/_metadata"))) <= 3


@pytest.mark.parametrize(
    ("number", "after", "times"),
    [(signal.SIGTERM, 1.5, 1), (signal.SIGHUP, 3.0, 1), (signal.SIGINT, 2.0, 1), (signal.SIGINT, 4.0, 3)],
)
def test_a_run_that_is_ended_while_it_starts_leaves_nothing(
    number: signal.Signals, after: float, times: int, tmp_path: Path
) -> None:
    scratch, target = tmp_path / "scratch", tmp_path / "slates.jsonl"
    scratch.mkdir()
    (tmp_path / "events.jsonl").write_text("\n".join(events()))
    command = [sys.executable, "-m", "riverrank.jobs.cli", "run", "--events", "-", "--slates", str(target)]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with (tmp_path / "events.jsonl").open() as file:
        running = subprocess.Popen(
            command, stdin=file, stderr=subprocess.PIPE, text=True, start_new_session=True, env=environment
        )
    try:
        time.sleep(after)  # what is tried is any moment: none of them is to be waited for
        started = javas(running.pid)
        for _ in range(times):
            os.killpg(running.pid, number)
        assert running.wait(TIMEOUT_SECONDS) == 130
    finally:
        running.kill()
        _, told = running.communicate()
    assert "Traceback" not in told and "Error" not in told
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("lost", ["a TaskManager", "the JobManager", "riverrank itself"])
def test_the_loss_of_a_process_ends_the_run_and_leaves_none(
    lost: str, broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    name, target = lost.replace(" ", "-"), tmp_path / "slates.jsonl"
    flags = ["--config", str(topics(broker, tmp_path, name)), "--redis", valkey.url, "--slates", str(target)]
    command = [sys.executable, "-m", "riverrank.jobs.cli", "run", *flags]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        send(broker, f"{name}-events", events()[:60], key="user_id")
        wait_until(lambda: target.exists() and len(read(target)) == 48)
        started = javas(running.pid)
        taskmanagers = [pid for pid in started if "RIVERRANK_CORE" in started[pid]]
        assert len(taskmanagers) == TASKMANAGERS
        (jobmanager,) = started.keys() - taskmanagers
        killed = {"a TaskManager": taskmanagers[-1], "the JobManager": jobmanager, "riverrank itself": running.pid}[
            lost
        ]
        os.kill(killed, signal.SIGKILL)
        assert running.wait(TIMEOUT_SECONDS) == (-signal.SIGKILL if killed == running.pid else 1)
    finally:
        running.kill()
        _, told = running.communicate()
    if lost == "a TaskManager":
        assert "taskmanager-" in told and "ended (SIGKILL); see whether" in told and " INFO " not in told
    if lost == "the JobManager":
        assert told.endswith(
            "\nriverrank: the Java of Flink's JobManager ended: see whether the machine was out of memory\n"
        )
        assert "Traceback" not in told and "Exception" not in told
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in started))


def javas(parent: int) -> dict[int, dict[str, str]]:
    """The environment of each Java that a process started, or that one of those started, by process id."""
    found = {}
    for line in subprocess.run(
        ["ps", "-eo", "pid,ppid,comm"], capture_output=True, text=True, check=True
    ).stdout.splitlines()[1:]:
        pid, ppid, command = line.split(maxsplit=2)
        if int(ppid) == parent and command == "java":
            variables = Path(f"/proc/{pid}/environ").read_text().split("\0")
            found[int(pid)] = dict(each.split("=", 1) for each in variables if "=" in each)
            found |= javas(int(pid))
    return found


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inputs")
    (folder / "events.jsonl").write_text("\n".join(events()) + "\n")
    with gzip.open(folder / "items.jsonl.gz", "wt") as file:
        file.write("\n".join(items()) + "\n")
    return folder


@pytest.fixture(scope="module")
def ran(inputs: Path) -> Iterator[Callable[[int], Path]]:
    """The folder with the outputs of a run of that parallelism; each runs once."""
    done: dict[int, Path] = {}

    def run(parallelism: int) -> Path:
        if parallelism not in done:
            done[parallelism] = inputs / f"parallelism-{parallelism}"
            riverrank("run", *files(inputs, done[parallelism]), "--parallelism", str(parallelism))
        return done[parallelism]

    yield run


def riverrank(
    *arguments: str, given: bytes = b"", code: int = 0, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess[bytes]:
    """The command line in a process of its own, which must end with that exit code."""
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.cli", *arguments],
        input=given,
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, **(env or {})},
        check=False,
    )
    assert done.returncode == code, done.stderr.decode()
    return done


def files(inputs: Path, outputs: Path) -> list[str]:
    outputs.mkdir(exist_ok=True)
    names = ("slates", "predictions", "dead_letters", "receipts")
    flags = ["--events", str(inputs / "events.jsonl"), "--items", str(inputs / "items.jsonl.gz")]
    return flags + [word for n in names for word in (f"--{n.replace('_', '-')}", str(outputs / f"{n}.jsonl"))]


def read(path: Path) -> list[Record]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def named(outputs: Path) -> list[tuple[str, str, float, str]]:
    """Predictions without the number: what was predicted of what, and the truth."""
    predictions = read(outputs / "predictions.jsonl")
    return sorted((p["event_id"], p["item_id"], p["label"], p["kind"]) for p in predictions)
