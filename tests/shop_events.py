"""A stream of events of every kind that teaches, its catalogue, and what `replay` answers to it."""

import json
import random
from pathlib import Path
from typing import Any

from riverrank.jobs.config import schema as config
from riverrank.jobs.local import replay
from streams import Record, alone, answers

START_MS = 1_764_000_000_000
USERS, ITEMS = 24, 40
CATALOGUE = [{"item_id": f"i{n}", "ts": START_MS, "categories": [f"c{n % 4}"]} for n in range(ITEMS)]


def stream(count: int, seed: int, users: int = USERS) -> list[Record]:
    """Events of every kind that teaches; user u of category u % 4 takes mostly what is of that category."""
    rng = random.Random(seed)
    made: list[Record] = []
    for number in range(count):
        user = rng.randrange(users)
        event: Record = {"event_id": f"{seed}-{number}", "user_id": f"u{user}", "ts": START_MS + 1000 * number}
        event["ts"] += seed * 10_000_000
        item = f"i{rng.randrange(ITEMS // 4) * 4 + user % 4}"
        kind = rng.choice(("click", "click", "purchase", "rate", "request", "impression"))
        event["type"] = kind
        if kind == "impression":
            event["items"] = [item, f"i{rng.randrange(ITEMS)}x"]
        elif kind != "request":
            event["item_id"] = item
            event["value"] = float(rng.randrange(1, 6))
        made.append(event)
    return made


def lines(events: list[Record]) -> list[str]:
    """Them as JSON, one each."""
    return [json.dumps(event) for event in events]


def expected(events: list[Record], folder: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What replay answers to the same events, with nothing broadcast, whole."""
    (folder / "alone.toml").write_text(alone())
    (folder / "all.jsonl").write_text("\n".join(lines(events)) + "\n")
    (folder / "items.jsonl").write_text("\n".join(lines(CATALOGUE)) + "\n")
    names = {"files.events": "all.jsonl", "files.items": "items.jsonl", "files.slates": "slates.jsonl"}
    replay.run(config.load(str(folder / "alone.toml"), {key: str(folder / name) for key, name in names.items()}))
    return answers([json.loads(line) for line in (folder / "slates.jsonl").read_bytes().splitlines()], whole=True)
