"""Files that are there whole or not at all."""

from pathlib import Path

import pytest
from riverrank.state.runtime import files
from riverrank.state.runtime.files import write_whole


def test_a_file_is_replaced_whole_or_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "kept.json"
    write_whole(target, b"first")
    write_whole(target, b"second")
    assert target.read_bytes() == b"second"

    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(target, b"third")
    assert target.read_bytes() == b"second"
    assert [path.name for path in tmp_path.iterdir()] == ["kept.json"]
