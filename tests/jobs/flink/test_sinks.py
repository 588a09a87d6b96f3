"""How parts that Flink's writers finish get into the file that was asked for."""

import gzip
import os
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from uuid import uuid4

import pytest
from riverrank.jobs.errors import Failure
from riverrank.jobs.flink.sinks import Assembly


def test_parts_of_a_writer_are_put_together_in_their_order(tmp_path: Path) -> None:
    target, writer = tmp_path / "slates.jsonl.gz", uuid4()
    with Assembly({"slates": str(target)}) as assembly:
        for number in (2, 0, 1):
            (assembly.directories["slates"] / f"part-{writer}-{number}").write_text(f"{number}\n")
    assert gzip.decompress(target.read_bytes()) == b"0\n1\n2\n"
    assert [*tmp_path.iterdir()] == [target]


@pytest.fixture
def full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file on a disk that is full; its parts can't lie beside it."""
    if not Path("/dev/full").exists():
        pytest.skip("no device that is always full")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    target = tmp_path / "full.jsonl"
    target.symlink_to("/dev/full")
    return target


def test_what_could_not_be_written_is_told_and_kept_and_the_others_are_written(full: Path, tmp_path: Path) -> None:
    other, writer = tmp_path / "other.jsonl", uuid4()
    with pytest.raises(Failure) as told, Assembly({"slates": str(full), "predictions": str(other)}) as assembly:
        for folder in assembly.directories.values():
            (folder / f"part-{writer}-0").write_text("{}\n")
        lacking = assembly.directories["slates"]
    assert str(told.value) == f"cannot write {full}: No space left on device; what it lacks is in {lacking}"
    assert (lacking / f"part-{writer}-0").read_text() == other.read_text() == "{}\n"
    assert lacking.parent == tmp_path / "scratch" and [*tmp_path.glob(".other*")] == []


def test_a_run_hears_at_once_of_what_cannot_be_written(full: Path) -> None:
    with pytest.raises(Failure, match="No space left"), Assembly({"slates": str(full)}) as assembly:
        assembly.require_written()
        (assembly.directories["slates"] / f"part-{uuid4()}-0").write_text("{}\n")
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            assembly.require_written()
            time.sleep(0.05)
        pytest.fail("nothing was told")


def test_nothing_is_left_of_targets_where_one_cannot_be_opened(tmp_path: Path) -> None:
    first, second = tmp_path / "first.jsonl", tmp_path / "away" / "second.jsonl"
    with pytest.raises(Failure, match=r"cannot write .*second\.jsonl: No such file"):
        Assembly({"slates": str(first), "predictions": str(second)}).__enter__()
    assert [*tmp_path.iterdir()] == [first]


def test_what_stopped_the_run_is_raised_and_what_could_not_be_written_is_told_beside_it(
    full: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ValueError, match="the job"), Assembly({"slates": str(full)}) as assembly:
        (assembly.directories["slates"] / f"part-{uuid4()}-0").write_text("{}\n")
        raise ValueError("the job")
    assert f"cannot write {full}: No space left on device" in caplog.text


def test_a_reader_of_standard_output_that_has_seen_enough_is_no_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    reading, writing = os.pipe()
    os.close(reading)
    with pytest.raises(BrokenPipeError), os.fdopen(writing, "wb", buffering=0) as closed:
        monkeypatch.setattr(sys, "stdout", SimpleNamespace(buffer=closed))
        with Assembly({"slates": "-"}) as assembly:
            (assembly.directories["slates"] / f"part-{uuid4()}-0").write_text("{}\n")
    assert [*tmp_path.iterdir()] == []
