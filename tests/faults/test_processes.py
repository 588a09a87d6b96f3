"""What happens to processes: TaskManagers and the JobManager killed or stopped, a disk that is full, a job moved to
other parallelisms, a run in one process ended again and again.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from riverrank.jobs.dev import services
from scene import Scene, Seen, Services, fault, parts
from streams import TIMEOUT_SECONDS, wait_until

SCRIPT = Path(sys.executable).with_name("riverrank")
PAUSE_SECONDS = 30
RUNS = 4
DISK = "2m"  # its size; a checkpoint of these rows has some 100 KB, and two are kept
pytestmark = pytest.mark.timeout(900)


@fault("kill -9 of one of two TaskManagers, 20 times")
def test_taskmanagers_are_killed_again_and_again(
    on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]
) -> None:
    """A third one waits, and another is started each time."""
    scene = staged("killed", taskmanagers=3)
    scene.submit(parallelism=2)
    kill(scene, 20)
    seen(scene.finish())


def kill(scene: Scene, times: int) -> None:
    """Kill a TaskManager that works, while events come, that often."""
    cluster, (job,), rng, before = scene.on.cluster, scene.jobs, random.Random(times), scene.restarts()
    for number in range(1, times + 1):
        came = scene.came()
        scene.give(scene.stream(100))
        if number % 2:
            time.sleep(rng.random() / 2)  # any moment
        else:
            wait_until(lambda came=came: scene.came() > came, every=0.05)  # amid the answers
        cluster.kill_taskmanager(rng.choice(sorted(cluster.workers(job))))
        cluster.start_taskmanager()
        scene.wait_for_restart(before + number)
    scene.give(scene.stream(100))


@pytest.mark.parametrize(
    "delivery",
    [
        pytest.param("at-least-once", marks=fault("kill -9 of the JobManager, resubmitted from its last checkpoint")),
        pytest.param("exactly-once", marks=fault("the same, exactly-once")),
    ],
)
def test_the_jobmanager_is_killed_and_the_job_resubmitted(
    delivery: str, on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]
) -> None:
    scene = staged(f"headless-{delivery}", taskmanagers=2, delivery=delivery)
    first, second, third = parts(scene.stream(600), 3)
    job = scene.submit()
    scene.give(first)
    scene.wait_for_answers()
    scene.wait_for_checkpoint(job)
    scene.give(second)
    on.cluster.kill_jobmanager()
    checkpoint = on.cluster.last_checkpoint(job)
    on.cluster.start_jobmanager()
    scene.resubmit(checkpoint)
    scene.give(third)
    seen(scene.finish())


@fault("kill -9 of the JobManager with high availability, 3 times")
def test_with_high_availability_a_jobmanager_takes_its_jobs_up_by_itself(
    available: services.FlinkCluster, on: Services, seen: Callable[[Seen], None]
) -> None:
    """Nothing is resubmitted: the successor finds the job, and its last checkpoint, by ZooKeeper."""
    scene = Scene(on._replace(cluster=available), "available")
    portions = parts(scene.stream(800), 4)
    job = scene.submit()
    scene.give(portions[0])
    scene.wait_for_answers()
    for portion in portions[1:]:
        scene.wait_for_checkpoint(job)
        scene.give(portion)
        available.kill_jobmanager()
        available.start_jobmanager()
        scene.restarts_by_hand += 1
        wait_until(lambda: [job] == [known["jid"] for known in available.rest("/jobs/overview")["jobs"]])
        available.wait_for(job)
    seen(scene.finish())
    scene.end()


@fault("the disk of the checkpoints is full, then has room again")
def test_the_disk_of_checkpoints_is_full(
    disk: Path, on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]
) -> None:
    """Answers go on until Flink gives up on checkpoints and starts the job anew, as often as it takes."""
    scene = staged("full-disk", taskmanagers=1)
    first, second, third = parts(scene.stream(600), 3)
    job = scene.submit(f"-Dexecution.checkpointing.dir={disk.as_uri()}")
    scene.give(first)
    scene.wait_for_answers()
    scene.wait_for_checkpoint(job)
    filler = disk / "filler"
    _fill(filler)
    _, failed = scene.checkpoints(job)
    scene.give(second)
    wait_until(lambda: scene.checkpoints(job)[1] > failed)
    wait_until(lambda: scene.restarts() > 0)
    filler.unlink()
    scene.give(third)
    scene.wait_for_checkpoint(job)
    seen(scene.finish())


@fault("rescaled from 1 to 4 to 2 by savepoints, exactly-once")
def test_rescaled_by_savepoints(on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]) -> None:
    scene = staged("rescaled", taskmanagers=4, delivery="exactly-once")
    portions = parts(scene.stream(900), 3)
    job = scene.submit()
    scene.give(portions[0])
    for parallelism, portion in zip((4, 2), portions[1:], strict=True):
        wait_until(lambda: scene.came() > 0)
        savepoint = on.cluster.stop_with_savepoint(job, on.folder / "savepoints")
        scene.give(portion)
        job = scene.resubmit(savepoint, parallelism)
        assert len(on.cluster.workers(job)) == parallelism
    seen(scene.finish())


@fault(f"SIGTERM to the group of `riverrank run --state`, started again, {RUNS - 1} times")
def test_an_embedded_run_is_ended_again_and_again(
    on: Services, staged: Callable[..., Scene], seen: Callable[[Seen], None]
) -> None:
    scene = staged("embedded", taskmanagers=1)
    for portion in parts(scene.stream(600), RUNS):
        before = scene.came()
        scene.give(portion)
        with running(scene) as process:
            wait_until(lambda before=before: scene.came() > before)
            if len(scene.given) < 600:
                os.killpg(process.pid, signal.SIGTERM)
                assert process.wait(TIMEOUT_SECONDS) == 130
                scene.restarts_by_hand += 1
            else:
                found = scene.finish()
    seen(found)


@pytest.mark.parametrize(
    ("scene", "kills"),
    [
        pytest.param("exactly-once", 4, marks=fault("kill -9 of the TaskManager, 4 times, exactly-once")),
        pytest.param("at-least-once", 2, marks=fault("kill -9 of the TaskManager, 2 times", short=True)),
    ],
    indirect=["scene"],
)
def test_the_taskmanager_is_killed(kills: int, scene: Scene, seen: Callable[[Seen], None]) -> None:
    kill(scene, kills)
    seen(scene.finish())


@fault("SIGSTOP of the TaskManager for 30 s, then SIGCONT")
def test_the_taskmanager_stands_still(on: Services, scene: Scene, seen: Callable[[Seen], None]) -> None:
    """Another one takes over; what the first still held when it goes on must spoil nothing."""
    first, second, third = parts(scene.stream(600), 3)
    (job,), restarts = scene.jobs, scene.restarts()
    scene.give(first)
    scene.wait_for_answers()
    (worker,) = on.cluster.workers(job)
    scene.give(second)
    on.cluster.pause_taskmanager(worker)
    paused = time.monotonic()
    try:
        scene.wait_for_restart(restarts + 1)
        scene.wait_for_answers()
        assert worker not in on.cluster.workers(job)
        time.sleep(max(0.0, PAUSE_SECONDS - (time.monotonic() - paused)))
    finally:
        on.cluster.resume_taskmanager(worker)
    scene.give(third)
    time.sleep(5)  # what it still has to say
    seen(scene.finish())


@contextmanager
def running(scene: Scene) -> Iterator[subprocess.Popen[bytes]]:
    """`riverrank run` of the scene, in a group of its own, with its state in the row's folder."""
    flags = ["--config", scene.settings, "--redis", scene.url, "--state", scene.on.folder / "state"]
    with (scene.on.folder / "run.log").open("ab") as log:
        process = subprocess.Popen([SCRIPT, "run", *flags], stdout=log, stderr=log, start_new_session=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of that size, in memory, until the job is gone; the row is skipped where nothing may be mounted."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "riverrank-faults", folder]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def _fill(path: Path) -> None:
    """Write to a file until there is no room."""
    with path.open("wb", buffering=0) as file:
        for size in (1 << 16, 1):
            try:
                while True:
                    file.write(bytes(size))
            except OSError:
                continue
