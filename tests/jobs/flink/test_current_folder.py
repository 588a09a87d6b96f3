"""What lies in the current folder is no part of the job."""

import subprocess
import sys
from pathlib import Path

from riverrank.jobs.dev import services


def test_the_current_folder_is_no_place_for_modules_of_the_job(valkey: services.Valkey, tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    for name in ("redis", "msgspec", "river", "riverrank"):
        (tmp_path / f"{name}.py").write_text(
            f"open({str(marks / name)!r}, 'w').close()\nraise ImportError('taken over')\n"
        )
    (tmp_path / "e.jsonl").write_text('{"event_id":"e","type":"click","user_id":"u","item_id":"i","ts":5}\n')
    script = Path(sys.executable).with_name("riverrank")
    command = [script, "run", "--events", "e.jsonl", "--slates", "s.jsonl", "--redis", valkey.url]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stderr
    assert list(marks.iterdir()) == [] and (tmp_path / "s.jsonl").read_text().count("\n") == 1
