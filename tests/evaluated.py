"""What tests of `riverrank evaluate` share: a made shop, and an evaluation of it."""

import json
import random
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from riverrank.jobs.config.schema import Config, load
from riverrank.jobs.evaluation import evaluate
from riverrank.jobs.local.reading import read_lines
from riverrank.operators.settings import Behaviour

T0 = 1_764_000_000_000
EACH_IS_A_TEST = {"history.story": 0}  # as the judges see it: no interaction goes on with another
POSITIVE = ("view", "click", "like", "cart", "purchase", "rate")


def records(seed: int = 5, events: int = 700) -> list[dict[str, Any]]:
    """Events of 15 users on 60 items, of every type, among them redeliveries, late ones and erasures."""
    rng, found = random.Random(seed), []
    kinds = ["click"] * 5 + ["rate"] * 5 + ["view", "like", "dislike", "cart", "purchase", "request", "impression"]
    for number in range(events):
        user, kind = rng.randrange(15), rng.choice(kinds)
        event: dict[str, Any] = {
            "event_id": f"e{number}",
            "type": kind,
            "user_id": f"u{user}",
            "ts": T0 + 60_000 * number,
        }
        item = min(rng.randrange(60), rng.randrange(60)) // 3 * 3 + user % 3
        if kind == "impression":
            event["items"] = [f"i{item}", f"i{(item + 1) % 60}"]
        elif kind != "request":
            event["item_id"] = f"i{item}"
        if kind == "rate":
            event["value"] = float(rng.randrange(1, 6))
        if number % 150 == 149:
            event = {"event_id": f"x{number}", "type": "erase", "user_id": f"u{user}", "ts": T0 + 60_000 * number}
        found.append(event)
        if number % 90 == 89 and "item_id" in event:
            found += [event, {**event, "event_id": f"late{number}", "ts": T0 - 86_400_000}]
    return found


def made_files(folder: Path) -> Path:
    """In the folder events.jsonl and items.jsonl; one item is not available, one is deleted."""
    items: list[dict[str, Any]] = [
        {"item_id": f"i{k}", "ts": T0, "categories": [f"c{k % 3}"], "attributes": {"brand": f"b{k % 7}"}}
        for k in range(50)  # the last ten are not in the catalogue
    ]
    items[4]["available"] = False
    items[7]["deleted"] = True
    for name, lines in (("items", items), ("events", records())):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return folder


def settings(files: Path, **over: Any) -> Config:
    return load(None, {"files.events": str(files / "events.jsonl"), "files.items": str(files / "items.jsonl")} | over)


def evaluated(
    config: Config,
    baselines: tuple[str, ...] = (),
    variants: Mapping[str, Behaviour] = MappingProxyType({}),
    by: tuple[str, ...] = (),
    exposure: tuple[str, ...] = (),
    cohorts: tuple[str, ...] = (),
) -> evaluate.Evaluation:
    evaluation = evaluate.Evaluation(config, baselines, variants, by, exposure, cohorts)
    for arrival in read_lines(config.files.items):
        evaluation.item(arrival)
    for arrival in read_lines(config.files.events):
        evaluation.event(arrival)
    return evaluation
