"""A shop whose customers look at the slates that they are given, in files as a job and its topics have them: for tests
of what is read from these.
"""

from pathlib import Path

import msgspec
from riverrank.jobs.config.schema import parse
from riverrank.jobs.evaluation.shop import Shop, ShopSettings
from riverrank.jobs.local.recommender import Recommender
from riverrank.state.records.outgoing import Slate, to_json

START_MS = 1_764_000_000_000
SETTINGS = {"exploration": {"rate": 0.2}, "slate": {"size": 10}}


def made_shop(folder: Path, customers: int = 12, rounds: int = 12) -> Path:
    """In the folder events.jsonl, items.jsonl, slates.jsonl and predictions.jsonl; the first slate and the first event
    are there twice, as what is delivered at least once may be.
    """
    shop = Shop(ShopSettings(items=80, customers=customers, reserve=-2.5))
    recommender, ts = Recommender(parse(SETTINGS)), START_MS
    records: dict[str, list[bytes]] = {"items": [], "events": [], "slates": [], "predictions": []}
    records["items"] = [to_json(item) for item in shop.catalogue(START_MS)]
    assert recommender.items(records["items"]) == []
    latest: dict[int, Slate] = {}
    for _ in range(rounds):
        for customer in range(customers):
            ts += 20_000
            slate = latest.get(customer)
            ids = [slot.item_id for slot in slate.items] if slate else []
            for event in shop.visit(customer, slate.slate_id if slate else None, ids, ts).events:
                answer = recommender.event(event)
                records["events"].append(to_json(event))
                records["predictions"] += map(to_json, recommender.predictions)
                if isinstance(answer, Slate):
                    latest[customer] = answer
                    records["slates"].append(to_json(answer))
    records["predictions"] += map(to_json, recommender.finish())
    for name in ("slates", "events"):
        records[name].append(records[name][0])
    for name, lines in records.items():
        (folder / f"{name}.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
    return folder


def read(path: Path, kind: type = dict) -> list:  # type: ignore[type-arg]
    """The records of a file."""
    return [msgspec.json.decode(line, type=kind) for line in path.read_bytes().splitlines()]
