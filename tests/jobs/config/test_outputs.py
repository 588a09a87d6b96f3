"""No output goes over what a run reads, whatever name that has."""

import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from riverrank.jobs.config.preflight import check_behaviour, check_files
from riverrank.jobs.config.schema import load
from riverrank.jobs.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With events, by two names, a secret, what a password might be in, and a configuration that names these."""
    (tmp_path / "events").write_text('{"event_id":"e","type":"request","user_id":"u","ts":1}\n', "utf-8")
    os.link(tmp_path / "events", tmp_path / "linked")
    (tmp_path / "secret").write_text("0123456789abcdef", "utf-8")
    (tmp_path / "url").write_text("redis://cache:1", "utf-8")
    settings = f'[privacy]\nkey_file = "{tmp_path / "secret"}"\n[redis]\nurl_file = "{tmp_path / "url"}"\n'
    (tmp_path / "config").write_text(settings, "utf-8")
    return tmp_path


@pytest.mark.parametrize(
    ("key", "name", "taken_by"),
    [
        ("files.slates", "linked", "--events"),
        ("files.predictions", "secret", "privacy.key_file"),
        ("files.dead_letters", "url", "redis.url_file"),
        ("files.receipts", "config", "--config"),
    ],
)
def test_an_output_that_is_read_is_refused(folder: Path, key: str, name: str, taken_by: str) -> None:
    config = load(folder / "config", {"files.events": str(folder / "events"), key: str(folder / name)})
    flag = key.removeprefix("files.").replace("_", "-")
    with pytest.raises(UsageError, match=rf"--{flag}: .*{name} is taken by {taken_by}; give each one of its own"):
        check_files(config)


@pytest.mark.parametrize(
    ("name", "taken_by"), [("linked", "--events"), ("secret", "privacy.key_file"), ("config", "--config")]
)
def test_a_prior_does_not_go_over_one(folder: Path, name: str, taken_by: str) -> None:
    config = load(folder / "config", {"files.events": str(folder / "events"), "prior.out": str(folder / name)})
    with pytest.raises(UsageError, match=rf"prior\.out: .*{name} is taken by {taken_by}; give"):
        check_behaviour(config)


def test_devices_may_be_many_things(folder: Path) -> None:
    """As where a shell gives the configuration by <(COMMAND), and what is written goes nowhere."""
    os.mkfifo(folder / "pipe")
    given = {"files.events": str(folder / "events"), "files.slates": os.devnull, "files.receipts": os.devnull}
    check_files(msgspec.structs.replace(load(None, given), path=str(folder / "pipe")))


def test_standard_input_is_a_file_as_well(folder: Path) -> None:
    command = [sys.executable, "-m", "riverrank.jobs.cli", "replay", "--events", "-", "--slates", folder / "linked"]
    before = (folder / "events").read_bytes()
    with (folder / "events").open("rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 2 and "is taken by --events; give each one of its own" in done.stderr
    assert (folder / "events").read_bytes() == before
