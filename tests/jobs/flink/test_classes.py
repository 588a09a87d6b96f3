"""The archive of Flink's classes is used where it is, and does no harm where it is not or is broken."""

import subprocess
from pathlib import Path

import pytest
from riverrank.jobs.flink import classes, jars


def test_java_is_told_of_the_archive_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERRANK_CACHE", str(tmp_path))
    assert classes.options() == []
    classes.archive().parent.mkdir()
    classes.archive().touch()
    assert classes.options() == [f"-XX:SharedArchiveFile={classes.archive()}"]


def test_a_folder_with_a_blank_in_its_name_holds_none_that_can_be_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RIVERRANK_CACHE", str(tmp_path / "a b"))
    classes.archive().parent.mkdir(parents=True)
    classes.archive().touch()
    assert classes.options() == []


def test_java_starts_with_a_broken_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIVERRANK_CACHE", str(tmp_path))
    classes.archive().parent.mkdir()
    classes.archive().write_bytes(b"\0" * 10_000)
    java = jars.java_home() / "bin" / "java"
    subprocess.run([java, *classes.options(), "-version"], check=True, capture_output=True)
