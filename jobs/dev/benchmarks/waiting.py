"""How long a user waits: from an event in Kafka to its slate in Redis, of the job and of the empty one, in turns."""

import json
import sys
from pathlib import Path
from typing import Any

from riverrank.jobs.processes import OwnedProcess, ServiceError

from .figures import ONE_THREAD, Spread

MEASURE = "riverrank.jobs.dev.latency"
COLUMNS = ("p50", "p90", "p99", "highest", "warming")
TIMEOUT_SECONDS = 3600.0
# Runs the measure and writes what it prints to a file: the log holds whatever else the processes say.
TO_FILE = f"""
import contextlib, sys
from {MEASURE} import main
with open(sys.argv[1], "w", encoding="utf-8") as file, contextlib.redirect_stdout(file):
    code = main(sys.argv[2:])
sys.exit(code)
"""


def latency(rounds: int, warm: int, seconds: int, folder: Path) -> dict[str, dict[str, Spread]] | str:
    """Milliseconds by job and percentile over rounds; or why there are none: this comes last in a run of an hour, and
    is no reason to lose all other figures.
    """
    result = folder / "latency.json"
    flags = ["--empty", "--json", "--rounds", str(rounds), "--warm", str(warm), "--seconds", str(seconds)]
    command: list[str | Path] = [sys.executable, "-c", TO_FILE, result, *flags]
    try:
        OwnedProcess("latency", command, folder / "latency.log", ONE_THREAD).run(TIMEOUT_SECONDS)
    except ServiceError as error:
        print(f"bench: {error}", file=sys.stderr)
        return "Not measured: it failed"
    runs: list[dict[str, Any]] = json.loads(result.read_bytes())
    jobs = dict.fromkeys(run["job"] for run in runs)
    return {
        job: {name: Spread.of([run[name] for run in runs if run["job"] == job]) for name in COLUMNS} for job in jobs
    }
