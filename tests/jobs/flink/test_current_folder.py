"""What lies around a run, in its folder and its environment, is no part of the job."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from riverrank.jobs.dev import services
from riverrank.jobs.flink.java import OF_ANOTHER

EVENT = '{"event_id":"e","type":"click","user_id":"u","item_id":"i","ts":5}\n'


def ran(folder: Path, *flags: str, environment: Mapping[str, str] | None = None) -> None:
    """A run in that folder, which answers one event."""
    (folder / "e.jsonl").write_text(EVENT)
    script = Path(sys.executable).with_name("riverrank")
    command = [script, "run", "--events", "e.jsonl", "--slates", "s.jsonl", *flags]
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, **(environment or {})},
        capture_output=True, text=True, timeout=200, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (folder / "s.jsonl").read_text().count("\n") == 1


def test_the_current_folder_is_no_place_for_modules_of_the_job(valkey: services.Valkey, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    for name in ("redis", "msgspec", "river", "riverrank"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(marks / name)!r}, 'w').close()\nraise ImportError('taken over')\n"
        )
    ran(tmp_path, "--redis", valkey.url)
    assert list(marks.iterdir()) == []


def test_a_flink_that_the_environment_names_is_not_the_one_that_a_run_starts(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("env.java.opts.all: -Xmx1m\n")
    ran(tmp_path, environment=dict.fromkeys(OF_ANOTHER, str(tmp_path)) | {"FLINK_ENV_JAVA_OPTS": "-Dof.theirs=1"})
