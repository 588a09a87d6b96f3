"""Flink's classes, read out of their jars and verified once: an archive that each Java of an embedded run maps into
memory as it starts (class data sharing). Without it, or with one that is damaged or of other jars, Java starts as ever,
and takes a second more of processor time for it.

    python -m riverrank.jobs.flink.classes    make it, where there is none for this Java and these jars (`make setup`)
"""

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from riverrank.state.runtime.environment import cache_dir

from . import jars

TIMEOUT_SECONDS = 300
_EVENT = {"event_id": "e1", "user_id": "u1", "ts": 1, "type": "click", "item_id": "i1"}
_ITEM = {"item_id": "i1", "ts": 1, "title": "one"}


def options() -> list[str]:
    """Java's, that have it use the archive; none where there is no archive."""
    path = archive()
    usable = path.is_file() and not any(letter.isspace() for letter in str(path))  # PyFlink splits options at blanks
    return [f"-XX:SharedArchiveFile={path}"] if usable else []


def archive() -> Path:
    """Where it is kept, by the Java and the jars that it is of."""
    parts = [(jars.java_home() / "release").read_text("utf-8")]
    for jar in jars.flink():
        status = jar.stat()
        parts.append(f"{jar} {status.st_size} {status.st_mtime_ns}")
    return cache_dir() / "classes" / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:24]}.jsa"


def make() -> Path:
    """Make the archive, of the classes that a run over one event loads.

    Raises:
        subprocess.CalledProcessError: the run failed, or Java wrote no archive.
    """
    target = archive()
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as name:
        folder = Path(name)
        (folder / "all").write_text("\n".join(_loaded(folder)), "utf-8")
        made = folder / target.name
        command = ["-Xshare:dump", f"-XX:SharedClassListFile={folder / 'all'}", f"-XX:SharedArchiveFile={made}"]
        path = os.pathsep.join(map(str, jars.flink()))
        _call([str(jars.java_home() / "bin" / "java"), *command, "-cp", path])
        made.replace(target)
    return target


def _loaded(folder: Path) -> list[str]:
    """What the class lists of a run's Javas have in common form: a class, or a call site, a line."""
    for name, record in (("events", _EVENT), ("items", _ITEM)):
        (folder / f"{name}.jsonl").write_text(json.dumps(record) + "\n", "utf-8")
    files = [part for name in ("events", "items", "slates") for part in (f"--{name}", str(folder / f"{name}.jsonl"))]
    listing = f"-Xshare:off -XX:DumpLoadedClassList={folder / '%p.classes'}"
    _call([sys.executable, "-m", "riverrank.jobs.cli", "run", *files], JAVA_TOOL_OPTIONS=listing)
    lines: dict[str, None] = {}
    for path in sorted(folder.glob("*.classes")):
        for line in path.read_text("utf-8").splitlines():
            if not line.startswith("#") and " source: " not in line:  # that of another class loader than Java's own
                lines[line.partition(" id: ")[0]] = None  # a number of that list alone
    return list(lines)


def _call(command: list[str], **environment: str) -> None:
    subprocess.run(
        command,
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        timeout=TIMEOUT_SECONDS,
    )


def main() -> int:
    """The command of the module docstring; where it can't be made, that is said, and does no harm."""
    started = time.monotonic()
    try:
        where = archive() if archive().is_file() else make()
    except (OSError, subprocess.SubprocessError) as error:
        print(f"riverrank: no archive of Flink's classes, runs start 1 or 2 s later: {error}", file=sys.stderr)
        return 0
    print(f"classes: archived in {time.monotonic() - started:.1f} s, in {where}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
