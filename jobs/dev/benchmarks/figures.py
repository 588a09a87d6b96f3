"""What all measures share: a figure is a median with its spread; the machine it was taken on; one thread each.

A measure runs in a process of its own (`alone`), so that none inherits the memory, the compiled code or the
random state of another.
"""

import importlib
import json
import os
import platform
import statistics
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from riverrank.jobs.processes import OwnedProcess

# Threads of the numeric libraries: with more than one they measure how many cores are idle.
ONE_THREAD = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
PACKAGES = ("apache-flink", "numpy", "numba", "river", "msgspec", "vowpalwabbit")


class Spread(NamedTuple):
    """A figure that was taken several times."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """The spread of at least one value.

        >>> Spread.of([3.0, 1.0, 2.0])
        Spread(median=2.0, low=1.0, high=3.0)
        """
        return cls(statistics.median(values), min(values), max(values))

    def text(self, digits: int = 0) -> str:
        """As it is printed: the median, and the extremes in brackets.

        >>> Spread(1234.4, 1000.0, 2000.0).text()
        '1,234 (1,000 to 2,000)'
        """
        return f"{self.median:,.{digits}f} ({self.low:,.{digits}f} to {self.high:,.{digits}f})"


def resident(pid: int | str = "self") -> int:
    """Bytes of memory that a process holds now."""
    return int(Path(f"/proc/{pid}/statm").read_text("utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")


def machine() -> dict[str, str]:
    """What the figures depend on: the processor, the cores that this process may use, memory, and versions."""
    lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": models[0] if models else platform.machine(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GB",
        "load before": f"{os.getloadavg()[0]:.1f}",
        "Linux": platform.release().partition("-")[0],
        "Python": platform.python_version(),
        **{name: found for name in PACKAGES if (found := _version(name))},
    }


def alone(measure: str, arguments: dict[str, Any], folder: Path, timeout_seconds: float = 3600.0) -> Any:
    """What `module.function` of this package, or `folder.module.function`, returns for `arguments`, called in a new
    process of one thread.

    Raises `ServiceError` with the end of its log where it fails.
    """
    number = len(list(folder.glob("*.result")))
    result = folder / f"{number}-{measure}.result"
    result.touch()
    command = [sys.executable, "-m", __name__, measure, json.dumps(arguments), str(result)]
    process = OwnedProcess(measure, command, folder / f"{number}-{measure}.log", ONE_THREAD)
    process.run(timeout_seconds)
    return json.loads(result.read_bytes())


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return ""


def _main(measure: str, arguments: str, result: str) -> None:
    module, _, function = measure.rpartition(".")
    called = getattr(importlib.import_module(f"riverrank.jobs.dev.benchmarks.{module}"), function)
    Path(result).write_text(json.dumps(called(**json.loads(arguments))), "utf-8")


if __name__ == "__main__":
    _main(*sys.argv[1:])
