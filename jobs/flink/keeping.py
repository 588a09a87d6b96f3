"""Where an embedded run keeps its state, so that the next one goes on from there: `run --state DIR`.

In DIR are the checkpoints of each run in a folder of its own, the savepoint that a run ends with, and a lock: one run
at a time.
"""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from riverrank.jobs.errors import UsageError

METADATA = "_metadata"  # what Flink writes last of a checkpoint or a savepoint


class Keeping:
    """The folder of a run's state. `last` is the newest whole checkpoint or savepoint of runs before, or None."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.savepoints = folder / "savepoints"
        whole = sorted(folder.glob(f"*/**/{METADATA}"), key=lambda path: path.stat().st_mtime_ns)
        self.last = whole[-1].parent if whole else None

    def forget_older(self) -> None:
        """Remove what is older than `last`: the run that goes on from it needs nothing else."""
        for path in [*self.checkpoints.glob("*"), *self.savepoints.glob("*")]:
            if self.last is not None and path not in (self.last, *self.last.parents):
                shutil.rmtree(path, ignore_errors=True)

    def __str__(self) -> str:
        if self.last is None:
            return f"state: kept in {self.folder}, where there is none yet"
        then = datetime.fromtimestamp((self.last / METADATA).stat().st_mtime, UTC)
        return f"state: goes on from that of {then:%Y-%m-%d %H:%M:%S} UTC in {self.folder}"


@contextmanager
def kept_in(folder: str) -> Iterator[Keeping | None]:
    """The state in `folder`, which is made where it is not there; None for no folder.

    Raises:
        UsageError: another run keeps its state there, or the folder can't be written to.
    """
    if not folder:
        yield None
        return
    path = Path(folder).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise UsageError(f"job.state: {path} can't be written to ({error.strerror}); mend --state DIR") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UsageError(
                f"job.state: another run keeps its state in {path}; end it, or give --state DIR"
            ) from error
        keeping = Keeping(path)
        keeping.forget_older()
        yield keeping
