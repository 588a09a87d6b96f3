"""What rows share: one cluster, one broker, and the table of what was seen. Without --faults only short rows stand."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import table
from riverrank.jobs.dev import services
from scene import MOST_FAILURES, Scene, Seen, Services
from streams import wait_until
from zookeeper import ZooKeeper

# Quick to notice a loss and to come back. Of flink-conf's limit nothing is left: after ten restarts without five calm
# minutes a job ends there, and rows restart it more often than that.
CONF = {
    "heartbeat.interval": "500 ms",
    "heartbeat.timeout": "6 s",
    "execution.checkpointing.interval": "1 s",
    "execution.checkpointing.min-pause": "500 ms",
    "restart-strategy.exponential-delay.max-backoff": "2 s",
    "restart-strategy.exponential-delay.attempts-before-reset-backoff": 1_000_000,
    "web.exception-history-size": MOST_FAILURES,
}
ROWS = pytest.StashKey[list[table.Row]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[ROWS] = []


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect the rows that were not asked for."""
    left = [item for item in items if (mark := item.get_closest_marker("fault")) and not _is_wanted(config, mark)]
    if left:
        config.hook.pytest_deselected(items=left)
        items[:] = [item for item in items if item not in left]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    report = yield
    mark = item.get_closest_marker("fault")
    if mark is not None and (report.when == "call" or report.outcome != "passed"):
        seen = next((value for name, value in item.user_properties if name == "seen"), None)
        why = "" if report.outcome == "passed" else str(call.excinfo.value if call.excinfo else "")
        item.config.stash[ROWS].append(table.Row(mark.args[0], report.outcome, report.duration, seen, why))
    return report


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, exitstatus: pytest.ExitCode, config: pytest.Config
) -> None:
    """Print the table; a page has none of a run that was interrupted."""
    rows = config.stash[ROWS]
    if not rows:
        return
    lines = table.lines(rows)
    terminalreporter.write_line("\n".join(["", *lines]))
    path = config.getoption("--faults-table")
    if path and exitstatus in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        table.write(Path(path), lines)


def _is_wanted(config: pytest.Config, mark: pytest.Mark) -> bool:
    if mark.kwargs["long"]:
        return bool(config.getoption("--faults-long"))
    return bool(mark.kwargs["short"] or config.getoption("--faults"))


@pytest.fixture(scope="session")
def standalone() -> Iterator[services.FlinkCluster]:
    """The cluster of all rows; a row says how many TaskManagers it needs."""
    with services.FlinkCluster(taskmanagers=2, conf=CONF) as running:
        yield running


@pytest.fixture
def available(tmp_path: Path) -> Iterator[services.FlinkCluster]:
    """A cluster of two TaskManagers whose JobManager's successor takes its jobs up by itself."""
    with ZooKeeper() as store:
        conf = CONF | store.conf(tmp_path / "jobs")
        with services.FlinkCluster(taskmanagers=2, conf=conf) as running:
            yield running


@pytest.fixture(scope="session")
def store() -> Iterator[services.Valkey]:
    """The Redis of all rows; a scene has a prefix of its own."""
    with services.Valkey() as running:
        yield running


@pytest.fixture
def on(
    standalone: services.FlinkCluster,
    broker: services.KafkaBroker,
    store: services.Valkey,
    zipped: Path,
    tmp_path: Path,
) -> Services:
    """All that a row may break."""
    return Services(standalone, broker, store, zipped, tmp_path)


@pytest.fixture(scope="session")
def kept(standalone: services.FlinkCluster, broker: services.KafkaBroker) -> Iterator[list[Scene]]:
    """The scene whose job goes on from row to row, if there is one."""
    scenes: list[Scene] = []
    yield scenes
    _end(scenes)


@pytest.fixture
def staged(on: Services, kept: list[Scene]) -> Iterator[Callable[..., Scene]]:
    """`staged(name, taskmanagers=N, ...)`: a scene on as many TaskManagers, for jobs that end with the row."""
    _end(kept)
    made: list[Scene] = []

    def stage(name: str, taskmanagers: int = 1, **options: object) -> Scene:
        _prepare(on.cluster, taskmanagers)
        made.append(Scene(on, name, **options))
        return made[-1]

    yield stage
    _end(made)


@pytest.fixture
def scene(on: Services, kept: list[Scene], request: pytest.FixtureRequest) -> Scene:
    """A scene whose job runs at parallelism 1 beside a TaskManager that waits, and goes on from row to row, through all
    that they do to it, until one does not hold or jobs of another row come. Parametrized by the delivery.
    """
    delivery = getattr(request, "param", "at-least-once")
    if not (kept and kept[0].is_sound and kept[0].is_exact == (delivery == "exactly-once")):
        _end(kept)
        _prepare(on.cluster, 2)
        kept.append(Scene(on, f"kept-{delivery}-{time.monotonic_ns()}", delivery=delivery))
        kept[0].submit()
    _prepare(on.cluster, 2, ending=False)
    kept[0].on, kept[0].is_sound = on, False
    return kept[0]


def _prepare(cluster: services.FlinkCluster, taskmanagers: int, *, ending: bool = True) -> None:
    """Have that many TaskManagers, or more if none may end."""
    for index in cluster.taskmanagers[taskmanagers:] if ending else ():
        cluster.kill_taskmanager(index)
    while len(cluster.taskmanagers) < taskmanagers:
        cluster.start_taskmanager()
    wait_until(lambda: len(cluster.rest("/taskmanagers")["taskmanagers"]) == len(cluster.taskmanagers))


def _end(scenes: list[Scene]) -> None:
    while scenes:
        scenes.pop().end()


@pytest.fixture
def seen(request: pytest.FixtureRequest) -> Callable[[Seen], None]:
    """Keeps what was seen, for the table."""
    return lambda found: request.node.user_properties.append(("seen", found))
