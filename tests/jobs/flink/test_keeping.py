"""A folder of state is its owner's alone."""

import logging
import os
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from riverrank.jobs.flink.keeping import METADATA, kept_in

NOBODY = 65534


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody may enter, as those of pytest are not."""
    folder = Path(tempfile.mkdtemp(prefix="riverrank-public-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def usual_umask() -> Iterator[None]:
    before = os.umask(0o022)
    yield
    os.umask(before)


def checkpointed(state: Path) -> Path:
    """The metadata of a checkpoint that a run with --state wrote, with the umask that there is."""
    with kept_in(str(state), {}) as keeping:
        assert keeping is not None
        folder = keeping.checkpoints / "job" / "chk-1"
        folder.mkdir(parents=True)
        (folder / METADATA).write_bytes(b"what users did")
    return folder / METADATA


def opened_by_another(path: Path) -> bool:
    """Whether another user of this machine can read it; to try that takes root."""
    if os.geteuid():
        pytest.skip("only root can try what another user can open")
    done = subprocess.run(["cat", path], user=NOBODY, group=NOBODY, capture_output=True, check=False)
    return done.returncode == 0


def test_a_folder_that_is_made_for_state_is_its_owners_alone(public: Path, caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = checkpointed(public / "state")
    assert stat.S_IMODE((public / "state" / "riverrank").stat().st_mode) == 0o700
    assert caplog.records == []
    (public / "beside").write_bytes(b"anything")
    assert opened_by_another(public / "beside") and not opened_by_another(checkpoint)


@pytest.mark.parametrize("mode", [0o755, 0o750, 0o701])
def test_a_folder_that_was_there_stays_as_it_is_and_is_warned_of(
    mode: int, public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = public / "riverrank"
    folder.mkdir()
    folder.chmod(mode)
    checkpoint = checkpointed(public)
    assert stat.S_IMODE(folder.stat().st_mode) == mode
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage() == (
        f"job.state: others than its owner may enter {folder}, which holds what users did: chmod 700 it"
    )
    assert opened_by_another(checkpoint) is (mode != 0o750)


def test_a_folder_within_one_that_nobody_else_may_enter_is_not_warned_of(
    public: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (public / "mine").mkdir(0o700)
    (public / "mine" / "riverrank").mkdir(0o755)
    checkpoint = checkpointed(public / "mine")
    assert caplog.records == []
    assert not opened_by_another(checkpoint)
