"""What tests of the command line share: the console script as it is installed, and lines to give it."""

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from streams import wait_until

SCRIPT = Path(sys.executable).with_name("riverrank")


def riverrank(
    *arguments: object, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One run of the console script as it is installed."""
    return subprocess.run(
        [SCRIPT, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **(environment or {})},
        check=False,
    )


@contextmanager
def replaying(items: Path, slates: Path, *events: Event) -> Iterator[subprocess.Popen[bytes]]:
    """A replay, leader of a process group, that was given these events on standard input and waits for more there: all
    is imported, and the file of its slates opened.
    """
    process = subprocess.Popen(
        [SCRIPT, "replay", "--events", "-", "--items", items, "--slates", slates],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(lines(*events).encode())
        process.stdin.flush()
        wait_until(slates.exists)
        yield process
    finally:
        process.kill()


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    """It failed with `code`, and says why in one plain line."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("riverrank: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr


def lines(*records: Any) -> str:
    return "".join(to_json(record).decode() + "\n" for record in records)


def click(event_id: str, ts: int, item_id: str = "i", user_id: str = "u") -> Event:
    return Event(event_id=event_id, type="click", user_id=user_id, item_id=item_id, ts=ts)
