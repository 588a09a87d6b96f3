"""Exports by the local pipeline and `replay`: whole, the same on any number of cores, and without a trace in slates."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_redis import Redis
from riverrank.jobs.config import schema as config
from riverrank.jobs.local import cache as local_cache
from riverrank.jobs.local import replay
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.pieces import Collector
from shop_pipeline import Shop

T0 = 1_764_000_000_000
USERS = 30


def events(*, with_exports: bool) -> Iterator[dict[str, Any]]:
    """Users who click, see lists, are erased, and ask for what is kept of them, some of them twice by one event."""
    for k in range(300):
        user, ts = f"u{k % USERS}", T0 + 1_000 * k
        yield {"event_id": f"e{k}", "type": "click", "user_id": user, "ts": ts, "item_id": f"i{k % 7 * 4 + k % 4}"}
        shown = {"event_id": f"s{k}", "type": "impression", "user_id": user, "ts": ts + 1, "items": ["i1", "i6", "i2"]}
        if k % 5 == 0:
            yield shown
        if k % 41 == 0:
            yield {"event_id": f"g{k}", "type": "erase", "user_id": user, "ts": ts + 3}
        if with_exports and k % 7 == 0:
            # Half an hour ahead of all others: who went by its time would close lists, and find what follows late.
            asked = {"event_id": f"x{k}", "type": "export", "user_id": user, "ts": ts + 1_800_000}
            yield asked
            yield asked


def replayed(folder: Path, *, with_exports: bool) -> tuple[bytes, list[dict[str, Any]]]:
    """The slates, and the records of the exports."""
    folder.mkdir()
    paths = {name: folder / f"{name}.jsonl" for name in ("events", "items", "slates", "exports")}
    paths["items"].write_text(
        "".join(json.dumps({"item_id": f"i{k}", "ts": T0, "categories": [f"c{k % 4}"]}) + "\n" for k in range(40))
    )
    paths["events"].write_text("".join(json.dumps(each) + "\n" for each in events(with_exports=with_exports)))
    replay.run(config.load(None, {f"files.{name}": str(path) for name, path in paths.items()}))
    return paths["slates"].read_bytes(), [json.loads(line) for line in paths["exports"].read_text().splitlines()]


def test_exports_of_a_replay_are_whole_on_any_number_of_cores_and_slates_are_those_without_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "cores", lambda: [0])
    slates, none = replayed(tmp_path / "without", with_exports=False)
    assert none == [] and len(slates) > 100_000
    made = {}
    for cores in (1, 3):
        monkeypatch.setattr(replay, "cores", lambda cores=cores: list(range(cores)))
        same, made[cores] = replayed(tmp_path / str(cores), with_exports=True)
        assert same == slates
    assert made[1] == made[3]
    by_event: dict[str, list[dict[str, Any]]] = {}
    for record in made[1]:
        by_event.setdefault(record["event_id"], []).append(record)
    assert set(by_event) == {f"x{k}" for k in range(0, 300, 7)}
    for records in by_event.values():
        assert [record["part"] for record in records] == ["sessions", "learner"]
        session, learner = (record["kept"] for record in records)
        assert len(session.get("history", [])) >= learner.get("learner", {}).get("examples", 0) - 6  # and items shown
    assert "history" not in by_event["x287"][0]["kept"]  # just erased
    assert set(by_event["x287"][0]["kept"]) == {"erased", "event_ids"} and by_event["x287"][1]["kept"] == {}


def lived(*, with_exports: bool) -> Shop:
    shop = Shop()
    for k in range(40):
        user = f"u{k % 5}"
        slate = shop.send(user, ("click", "request", "purchase")[k % 3], None if k % 3 == 1 else f"i{k}")
        assert slate is not None
        if k % 4 == 0:
            shop.send(user, "impression", items=tuple(slot.item_id for slot in slate.items[:6]))
        if with_exports:
            asked = Event(f"x{k}", "export", user, 1_000_000_000 + k)
            assert shop.pipeline.take(asked, Arrival(0, k, 0, None)) is None
    return shop


def test_what_is_kept_of_users_is_byte_for_byte_what_it_is_without_exports() -> None:
    with_them, without = lived(with_exports=True), lived(with_exports=False)
    assert with_them.users == without.users and len(without.users) == 5
    assert with_them.predictions == without.predictions != []
    assert with_them.pipeline.tally.accepted == without.pipeline.tally.accepted + 40


def test_cache_tells_of_what_waits_for_a_redis_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    away = Redis()
    away.away = True
    monkeypatch.setattr(local_cache, "Cache", lambda *_: away)
    records: list[bytes | None] = []
    outputs = {"exports": lambda key, value: records.append(value)}
    settings = config.parse({"redis": {"url": "redis://nowhere"}, "cache": {"drain": "0s"}})
    cache = local_cache.LocalCache(settings, outputs)
    pipeline = Pipeline(settings.behaviour, outputs, cache)
    asked = Event("x", "export", "u", 2)
    for number, event in enumerate((Event("e", "click", "u", 1, "i"), asked)):
        pipeline.take(event, Arrival(0, number, 0, None))
    collector = Collector(asked)
    for record in records:
        collector.take(record)
    whole = collector.whole()
    assert whole is not None and list(whole) == ["sessions", "learner", "cache"]
    assert (whole["cache"]["slate"]["trigger"], len(whole["sessions"]["history"])) == ("e", 1)


def test_an_export_needs_no_more_than_a_user_and_a_time() -> None:
    event = decode_event(b'{"event_id":"x","type":"export","user_id":"u","ts":1,"items":["i"],"attributes":{"a":1}}')
    assert event == Event("x", "export", "u", 1)
