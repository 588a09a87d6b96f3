"""A known stream, events of every kind that teaches, its catalogue, and what `replay` answers to it."""

import json
import random
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from riverrank.jobs.config import schema as config
from riverrank.jobs.local import replay
from streams import Answers, Record, alone, answers

START_MS = 1_764_000_000_000
USERS, ITEMS = 24, 40
CATALOGUE = [json.dumps({"item_id": f"i{n}", "ts": START_MS, "categories": [f"c{n % 4}"]}) for n in range(ITEMS)]


class Expected(NamedTuple):
    """What `replay` makes of a stream: the answers, whole, and the dead letters."""

    answers: Answers
    letters: list[Record]


def stream(count: int, seed: int, users: int = USERS) -> list[str]:
    """Lines of events of every kind that teaches, a second apart, later than those of a lower seed by some hours; user
    u of category u % 4 takes mostly what is of that category.
    """
    rng = random.Random(seed)
    made: list[str] = []
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
        made.append(json.dumps(event))
    return made


def expected(
    folder: Path, events: Iterable[str | bytes], items: Iterable[str] = CATALOGUE, settings: str = ""
) -> Expected:
    """What replay makes of these lines, with these `settings`, or with nothing broadcast; `folder` is for its files."""
    (folder / "replay.toml").write_text(settings or alone())
    given = (line.encode() if isinstance(line, str) else line for line in events)
    (folder / "all.jsonl").write_bytes(b"".join(line + b"\n" for line in given))
    (folder / "items.jsonl").write_text("".join(line + "\n" for line in items))
    names = {"events": "all.jsonl", "items": "items.jsonl", "slates": "slates.jsonl", "dead_letters": "letters.jsonl"}
    paths = {f"files.{field}": str(folder / name) for field, name in names.items()}
    replay.run(config.load(str(folder / "replay.toml"), paths))
    made = {name: (folder / f"{name}.jsonl").read_bytes().splitlines() for name in ("slates", "letters")}
    return Expected(
        answers(map(json.loads, made["slates"]), whole=True), [json.loads(line) for line in made["letters"]]
    )
