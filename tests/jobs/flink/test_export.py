"""Exports by the job on a real Flink: what each operator keeps of a user, on a topic, as `replay` tells it."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
from riverrank.jobs.dev import services
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import Collector
from streams import TIMEOUT_SECONDS, Record, alone, lines, received, send, topics

pytestmark = pytest.mark.timeout(900)  # a cluster on a busy machine takes its time
T0 = 1_764_000_000_000
USERS, CLICKS = 6, 10


def events() -> list[Record]:
    """Users who click and see a list; one is erased; then each asks, by an event that comes twice."""
    made: list[Record] = []
    for k in range(USERS * CLICKS):
        user = {"user_id": f"u{k % USERS}", "ts": T0 + 1_000 * k}
        made.append({"event_id": f"e{k}", "type": "click", "item_id": f"i{k % 13}", **user})
        if k % 7 == 0:
            made.append({"event_id": f"s{k}", "type": "impression", "items": ["i1", "i2", "i3"], **user})
    made.append({"event_id": "gone", "type": "erase", "user_id": "u0", "ts": T0 + 90_000})
    asked = [{"event_id": f"x{k}", "type": "export", "user_id": f"u{k}", "ts": T0 + 100_000} for k in range(USERS)]
    return [*made, *asked, *asked]


def riverrank(*arguments: object) -> None:
    command = [sys.executable, "-m", "riverrank.jobs.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert done.returncode == 0, done.stderr


def whole(records: Iterable[bytes]) -> dict[str, dict[str, Any]]:
    """By user, all that is kept, without what only the wall clock says."""
    held, found = list(records), {}
    for k in range(USERS):
        collector = Collector(Event(f"x{k}", "export", f"u{k}", T0))
        for record in held:
            collector.take(record)
        kept = collector.whole()
        assert kept is not None, collector.missing()
        for row in kept["sessions"].get("impressions", []):
            del row["arrived"]
        found[f"u{k}"] = kept
    return found


def rounded(kept: Any) -> Any:
    """Of numbers nine digits: the job's rows have another order, and sums over them other last digits."""
    if isinstance(kept, dict):
        return {name: rounded(value) for name, value in kept.items()}
    if isinstance(kept, list):
        return [rounded(value) for value in kept]
    return float(f"{kept:.9g}") if isinstance(kept, float) else kept


def test_the_job_tells_on_a_topic_what_replay_tells_and_what_cache_keeps(
    broker: services.KafkaBroker, valkey: services.Valkey, tmp_path: Path
) -> None:
    """Learners that hear nothing of others, which are the same in both, so that each number is."""
    broker.create_topic("export-exports")
    config = topics(broker, tmp_path, "export", 'bounded = true\nexports = "export-exports"', alone())
    send(broker, "export-items", lines({"item_id": f"i{n}", "ts": T0, "categories": ["c"]} for n in range(13)))
    send(broker, "export-events", lines(events()), key="user_id")
    riverrank("replay", "--config", config, "--exports", tmp_path / "exports.jsonl")
    expected = whole((tmp_path / "exports.jsonl").read_bytes().splitlines())
    riverrank("run", "--config", config, "--redis", valkey.url, "--parallelism", "2")
    records = received(broker, "export-exports")
    assert {(key.decode(), json.loads(value)["user_id"]) for key, value in records} == {
        (f"u{k}", f"u{k}") for k in range(USERS)
    }
    assert len(records) == 3 * USERS
    told = whole(value for _, value in records)
    assert all("cache" in kept for kept in told.values())
    of_users = {user: {part: kept[part] for part in ("sessions", "learner")} for user, kept in told.items()}
    assert rounded(of_users) == rounded(expected)
    assert set(told["u0"]["sessions"]) == {"erased", "event_ids"} and told["u0"]["learner"] == {}
    assert len(told["u1"]["sessions"]["history"]) == CLICKS
