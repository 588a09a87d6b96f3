"""What is measured of a job that runs: memory of its processes, Java's heap after a collection, state, and Redis."""

import re
import statistics
import subprocess
import time
from collections.abc import Mapping

import redis
from riverrank.jobs.dev import services
from riverrank.jobs.dev.benchmarks.figures import resident
from riverrank.jobs.flink import jars
from riverrank.jobs.processes import ServiceError

from .trend import Bins, Trend, trend_of

EVERY_SECONDS = 2.0
COLLECT_EVERY_SECONDS = 15.0  # a collection stops the job for some tenths of a second
PYTHONS = ("taskmanager-0",)  # processes in which Python runs
MB = 1e6


class Watch:
    """Series by name, in MB, of a job of that cluster and of what it writes to."""

    def __init__(self, cluster: services.FlinkCluster, job: str, valkey: services.Valkey) -> None:
        self._cluster, self._job = cluster, job
        self._redis = redis.Redis.from_url(valkey.url)
        self._seconds: dict[str, list[float]] = {}
        self._values: dict[str, list[float]] = {}
        self._began, self._collect_at = time.monotonic(), 0.0

    def look(self) -> None:
        """Measure all of it once, where it is time also the heap; a part that does not answer now is left out."""
        for name, pid in self._cluster.pids.items():
            self._note(f"{name}: resident", resident(pid))
        used = _used(self._redis)
        self._note("Redis: used", used)
        completed = self._cluster.rest(f"/jobs/{self._job}/checkpoints")["latest"]["completed"]
        if completed is not None:
            self._note("checkpoint", completed["state_size"])
        if time.monotonic() >= self._collect_at:
            self._collect_at = time.monotonic() + COLLECT_EVERY_SECONDS
            for name, pid in self._cluster.pids.items():
                self._note(f"{name}: Java's heap, collected", _collected(pid))
                own = _committed(pid)
                self._note(f"{name}: all that Java asked for", own)
                if name in PYTHONS:
                    self._note(f"{name}: resident beside that", resident(pid) - own)

    def trends(self) -> Mapping[str, Trend]:
        """The trend of each series, by its name."""
        lowest: Bins = min  # a collection may be waited for
        kinds: Mapping[bool, Bins] = {True: lowest, False: statistics.median}
        return {
            name: trend_of(self._seconds[name], values, kinds["heap" in name])
            for name, values in sorted(self._values.items())
        }

    def series(self) -> Mapping[str, tuple[list[float], list[float]]]:
        """Seconds and MB of each series."""
        return {name: (self._seconds[name], values) for name, values in self._values.items()}

    def _note(self, name: str, number: float) -> None:
        self._seconds.setdefault(name, []).append(time.monotonic() - self._began)
        self._values.setdefault(name, []).append(number / MB)


def _used(client: redis.Redis) -> int:
    """Bytes that Redis has in use."""
    told = client.info("memory")
    assert isinstance(told, dict)
    return int(told["used_memory"])


def _collected(pid: int) -> int:
    """Bytes of Java's heap that are in use after a full collection."""
    _jcmd(pid, "GC.run")
    told = _jcmd(pid, "GC.heap_info")
    used = [int(kilobytes) for kilobytes in re.findall(r"(?:heap|generation|space)\s+total \d+K, used (\d+)K", told)]
    if not used:
        raise ServiceError(f"jcmd {pid} GC.heap_info tells no heap:\n{told}")
    return 1024 * sum(used)


def _committed(pid: int) -> int:
    """Bytes of memory that Java asked for, of whatever it has in use but what others in its process asked for, as
    Python; without what it mapped and did not touch.
    """
    told = _jcmd(pid, "VM.native_memory")
    if (total := re.search(r"^Total: reserved=\d+KB, committed=(\d+)KB", told, re.MULTILINE)) is None:
        raise ServiceError(f"jcmd {pid} VM.native_memory tells no sum; NativeMemoryTracking is to be on:\n{told}")
    return 1024 * int(total[1])


def _jcmd(pid: int, command: str) -> str:
    java = jars.java_home() / "bin" / "jcmd"
    done = subprocess.run([java, str(pid), command], capture_output=True, text=True, timeout=60, check=False)
    if done.returncode:
        raise ServiceError(f"jcmd {command} failed (exit code {done.returncode}): {done.stdout}{done.stderr}")
    return done.stdout
