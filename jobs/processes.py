"""One operating-system process that this one owns: started on request, watched, and never left behind.

Not for: what the processes are (`services.py`, `cluster.py`).
"""

from __future__ import annotations

import ctypes
import inspect
import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

# Ports that are listened on come from below the range out of which Linux takes those of outgoing connections
# (32768 and up): a port stays ours while its service is down, however much is connected to meanwhile.
PORTS = range(15_000, 32_000)
POLL_SECONDS = 0.1
TAIL_LINES = 25

# The kernel ends the child when the thread that started it ends, so all are started by one thread that lives as long
# as the interpreter; and a child whose parent has gone before it asked for that ends at once.
_starter = ThreadPoolExecutor(1, thread_name_prefix="process-starter")


def end_with_parent(parent: int) -> None:
    """In a child of `parent`: end at once where that ends, however it does. Raises SystemExit where it has gone, or the
    kernel refuses.
    """
    set_parent_death_signal = 1
    if ctypes.CDLL(None, use_errno=True).prctl(set_parent_death_signal, int(signal.SIGKILL), 0, 0, 0):
        sys.exit("prctl: " + os.strerror(ctypes.get_errno()))
    if os.getppid() != parent:
        sys.exit("the parent is gone")


_DIE_WITH_PARENT = f"""
import ctypes, os, signal, sys
{inspect.getsource(end_with_parent)}
end_with_parent(int(sys.argv[1]))
os.execv(sys.argv[2], sys.argv[2:])
"""


class ServiceError(RuntimeError):
    """A service did not come up, or did not do what was asked; the message holds the end of its log."""


class OwnedProcess:
    """A command in a process group of its own, its output in a log file; ended by its own id, with its group."""

    def __init__(
        self,
        name: str,
        command: Sequence[str | Path],
        log: Path,
        environment: Mapping[str, str] | None = None,
        grace_seconds: float = 10.0,
    ) -> None:
        self.name = name
        self.log = log
        self.command = [str(part) for part in command]
        self.grace_seconds = grace_seconds
        self._environment = {**os.environ, **(environment or {})}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Its process id (the process group's as well) while it runs."""
        return self._process.pid if self._process and self.ending is None else None

    @property
    def ending(self) -> str | None:
        """How it ended by itself; None while it runs, and when it was not started or was stopped.

        Leaves it unreaped: until it is stopped nobody else can be given its id.
        """
        if self._process is None:
            return None
        result = os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG)
        if result is None:
            return None
        if result.si_code == os.CLD_EXITED:
            return f"exit code {result.si_status}"
        return signal.Signals(result.si_status).name

    def start(self) -> None:
        """Start the command; it is the caller that waits for what it serves."""
        if self.pid is not None:
            raise ServiceError(f"{self.name} runs already (process {self.pid})")
        self.kill()  # what is left of a run that ended by itself
        launcher = [sys.executable, "-I", "-S", "-c", _DIE_WITH_PARENT, str(os.getpid()), *self.command]

        def start() -> subprocess.Popen[bytes]:
            with self.log.open("ab") as log:
                return subprocess.Popen(
                    launcher,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    env=self._environment,
                    cwd=self.log.parent,
                    start_new_session=True,
                )

        self._process = _starter.submit(start).result()

    def wait_until(self, ready: Callable[[], bool], timeout_seconds: float) -> None:
        """Poll `ready` until it is true.

        Raises:
            ServiceError: the process ended before, or the time is up.
        """
        deadline = time.monotonic() + timeout_seconds
        # Its own end comes first: another process may answer on its port.
        while self.pid is not None and not ready():
            if time.monotonic() > deadline:
                raise self.error(f"is not ready after {timeout_seconds:.0f} s")
            time.sleep(POLL_SECONDS)
        if self.pid is None:
            raise self.error(f"ended ({self.ending or 'stopped'})")

    def run(self, timeout_seconds: float) -> None:
        """Start it, and wait until it has done its work and ended with exit code 0.

        Raises:
            ServiceError: it ended otherwise, or the time is up.
        """
        self.start()
        try:
            deadline = time.monotonic() + timeout_seconds
            while (ending := self.ending) is None:
                if time.monotonic() > deadline:
                    raise self.error(f"has not ended after {timeout_seconds:.0f} s")
                time.sleep(POLL_SECONDS)
            if ending != "exit code 0":
                raise self.error(f"failed ({ending})")
        finally:
            self.kill()

    def error(self, what: str) -> ServiceError:
        """An error that says what happened and shows the end of the log."""
        return ServiceError(f"{self.name} {what}; the end of its log {self.log}:\n{tail(self.log)}")

    def stop(self) -> None:
        """Ask it to end, wait, and end it for sure; then whatever else is left of its group."""
        if self._process is None:
            return
        os.kill(self._process.pid, signal.SIGTERM)
        deadline = time.monotonic() + self.grace_seconds
        while self.ending is None and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS / 2)
        self.kill()

    def kill(self) -> None:
        """End it without a warning, as a crash would, with its whole group.

        Its children (the Python workers of a TaskManager) are in its group, and would outlive it.
        """
        if self._process is None:
            return
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._process = None


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    for port in random.sample(PORTS, k=1000):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise ServiceError(f"no free port found between {PORTS.start} and {PORTS.stop}: end what listens there")


def accepts_connections(port: int) -> bool:
    """Whether something listens on that port of 127.0.0.1."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """The last lines of a log file."""
    if not log.is_file():
        return "(no log)"
    return "\n".join(log.read_text("utf-8", "replace").splitlines()[-lines:]) or "(empty)"
