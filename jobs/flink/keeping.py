"""Where an embedded run keeps its state, so that the next one goes on from there: `run --state DIR`.

In DIR/riverrank are the checkpoints of each run in a folder of its own, the savepoint that a run ends with, the topics
that were read, and a lock: one run at a time. Nothing else in DIR is looked at.
"""

import fcntl
import logging
import os
import shutil
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec
from riverrank.jobs.errors import UsageError
from riverrank.state.runtime.files import write_whole

METADATA = "_metadata"  # what Flink writes last of a checkpoint or a savepoint
OURS = "riverrank"  # the folder within DIR
TOPICS = "topics.json"
OWNER_ALONE = 0o700  # of what is in such a folder nobody else can read anything

log = logging.getLogger(__name__)


class Keeping:
    """The folder of a run's state. `last` is the newest whole checkpoint or savepoint that is there, or None."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.savepoints = folder / "savepoints"
        self.last = newest(self.checkpoints, self.savepoints)

    def require_topics(self, topics: Mapping[str, str]) -> None:
        """Note which topics are read, by stream. Raises UsageError where the state is of others: a source goes on with
        those that it read, whatever it is told.
        """
        noted = self.folder / TOPICS
        if self.last is not None and noted.is_file():
            try:
                before = msgspec.json.decode(noted.read_bytes(), type=dict[str, str])
            except (OSError, msgspec.DecodeError) as error:
                raise UsageError(
                    f"job.state: {noted} can't be read ({error}); remove it if you know that the state is of these "
                    "topics, or give another --state DIR"
                ) from error
            for stream, topic in topics.items():
                if before.get(stream, topic) != topic:
                    raise UsageError(
                        f"job.state: {self.folder} is of a run that read kafka.{stream} {before[stream]!r}, and now it "
                        f"is {topic!r}; give that, or another --state DIR"
                    )
        write_whole(noted, msgspec.json.encode(topics))

    def next_run(self) -> str:
        """What the next run goes on from, where this one could not be stopped in order."""
        if newest(self.checkpoints, self.savepoints) is None:
            return "no checkpoint was taken yet: the next run begins anew"
        return "the next run goes on from the last checkpoint"

    def forget_older(self) -> None:
        """Remove all but `last`: what goes on from it needs nothing else."""
        for path in [*self.checkpoints.glob("*"), *self.savepoints.glob("*")]:
            if self.last is not None and path not in (self.last, *self.last.parents):
                try:
                    shutil.rmtree(path)
                except OSError as error:
                    log.warning("state: %s, which is no longer needed, can't be removed: %s", path, error.strerror)

    def __str__(self) -> str:
        if self.last is None:
            return f"state: kept in {self.folder}, where there is none yet"
        then = datetime.fromtimestamp((self.last / METADATA).stat().st_mtime, UTC)
        return f"state: goes on from that of {then:%Y-%m-%d %H:%M:%S} UTC in {self.folder}"


def newest(*folders: Path) -> Path | None:
    """The newest checkpoint or savepoint below these folders that is whole, or None. Raises OSError for what is no
    folder, or can't be read: there might be one.
    """
    whole = [found for folder in folders for found in _whole(folder)]
    return max(whole)[1] if whole else None


def _whole(root: Path) -> Iterator[tuple[int, Path]]:
    """When each whole checkpoint or savepoint below `root` was written, and its folder. Flink may remove some of them
    meanwhile: as one ends, or for a newer one.
    """
    for folder, _, files in os.walk(root, onerror=_unless_absent):
        if METADATA in files:
            with suppress(FileNotFoundError):
                yield (Path(folder) / METADATA).stat().st_mtime_ns, Path(folder)


def _unless_absent(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


@contextmanager
def kept_in(folder: str, topics: Mapping[str, str]) -> Iterator[Keeping | None]:
    """The state in `folder`, which is made where it is not there, for its owner alone; None for no folder. `topics` are
    read, by stream.

    Raises:
        UsageError: another run keeps its state there, or read others; or the folder can't be written to.
    """
    if not folder:
        yield None
        return
    path = Path(folder).absolute() / OURS
    try:
        path.mkdir(OWNER_ALONE, parents=True, exist_ok=True)
        lock = (path / "lock").open("w")
    except OSError as error:
        raise UsageError(f"job.state: {path} can't be written to ({error.strerror}); mend --state DIR") from error
    if _lets_others_in(path):
        log.warning("job.state: others than its owner may enter %s, which holds what users did: chmod 700 it", path)
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise UsageError(
                f"job.state: another run keeps its state in {path}; end it, or give another --state DIR"
            ) from error
        except OSError as error:
            raise UsageError(
                f"job.state: {path} can't be locked ({error.strerror}); give --state DIR on a disk of this machine"
            ) from error
        try:
            keeping = Keeping(path)
        except OSError as error:
            raise UsageError(
                f"job.state: {error.filename} can't be read ({error.strerror}); mend its rights"
            ) from error
        keeping.require_topics(topics)
        try:
            yield keeping
        finally:
            now = Keeping(path)
            if now.last != keeping.last:  # else what this run began with may have been no good
                now.forget_older()


def _lets_others_in(path: Path) -> bool:
    """Whether the group or all others may enter the folder, and those that it is in."""
    modes = [folder.stat().st_mode for folder in (path, *path.parents)]
    return any(all(mode & enter for mode in modes) for enter in (stat.S_IXGRP, stat.S_IXOTH))
