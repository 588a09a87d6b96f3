"""Shared fixtures: the real services, and the data beside the project."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import hypothesis
import pytest
from riverrank.jobs.dev import bundle, services
from secured import Authority

# Machines are noisy, and a run must not depend on luck: no deadlines, the same examples every time.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=True)
hypothesis.settings.load_profile("steady")

# Whoever starts the tests in the background makes them, and all that they start, deaf to Ctrl-C, or by nohup to the end
# of a terminal, which some test.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("RIVERRANK_SHARED", ROOT.parent / "shared"))

# What whoever starts the tests has set for jobs of their own is nothing to these.
OF_TESTS = ("RIVERRANK_CACHE", "RIVERRANK_SHARED", "RIVERRANK_FUZZ", "RIVERRANK_CORE")
for _name in [name for name in os.environ if name.startswith("RIVERRANK_") and name not in OF_TESTS]:
    del os.environ[_name]


def pytest_addoption(parser: pytest.Parser) -> None:
    """What `tests/faults` goes by; here, as pytest looks for options before it collects."""
    group = parser.getgroup("faults")
    group.addoption("--faults", action="store_true", help="all rows of tests/faults, not the short ones alone")
    group.addoption("--faults-long", action="store_true", help="the rows of many minutes too")
    group.addoption("--faults-table", metavar="PAGE", help="write the table of what was seen into that page")


@pytest.fixture(scope="session")
def broker() -> Iterator[services.KafkaBroker]:
    """One Kafka broker for the whole run: a test names its own topics."""
    with services.KafkaBroker() as running:
        yield running


@pytest.fixture
def valkey() -> Iterator[services.Valkey]:
    """An empty Valkey for this test alone (it starts in a fifth of a second)."""
    with services.Valkey() as running:
        yield running


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Who signs certificates for 127.0.0.1."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="session")
def zipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The job's code, the same for the whole run: a TaskManager keeps that of its first job."""
    path = tmp_path_factory.mktemp("code") / "riverrank.zip"
    bundle.bundle(path)
    return path


@pytest.fixture(scope="session")
def one_cluster() -> Iterator[services.FlinkCluster]:
    """One Flink cluster for the whole run, two TaskManagers of one slot."""
    with services.FlinkCluster(taskmanagers=2) as running:
        yield running


@pytest.fixture
def cluster(one_cluster: services.FlinkCluster) -> Iterator[services.FlinkCluster]:
    """The run's Flink cluster. A job that a test leaves, as one that fails does, would take the slots of the next."""
    yield one_cluster
    for job in one_cluster.rest("/jobs")["jobs"]:
        if job["status"] not in ("FINISHED", "CANCELED", "FAILED"):
            one_cluster.cancel(job["id"])


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on."""
    return services.free_port()


@pytest.fixture
def needs_shared() -> Callable[[str], Path]:
    """`needs_shared("data/x")`: that path beside the project, or the test is skipped where it is absent."""

    def path_or_skip(path: str) -> Path:
        if not (SHARED / path).exists():
            pytest.skip(f"{path} is not there: this test needs the folder shared/ beside the project")
        return SHARED / path

    return path_or_skip
