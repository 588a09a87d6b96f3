"""The SQL of docs/analysts.md runs as it stands, and its figures are those that plain Python counts."""

import json
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest
from riverrank.jobs.experiments.clusters import ratio_of_sums
from riverrank.state.records.outgoing import Prediction, Slate
from shown_shop import made_shop, read

PAGE = Path(__file__).resolve().parent.parent / "docs" / "analysts.md"
WORTH = {"view": 0.3, "click": 1.0, "like": 1.0, "dislike": -1.0, "cart": 1.5, "purchase": 2.0}


def blocks() -> list[str]:
    found = re.findall(r"^```sql\n(.*?)^```$", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) > 8
    return found


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture(scope="module")
def database(shop: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    """With the views and the table of the page."""
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.chdir(shop)
        for block in blocks():
            if block.startswith("CREATE"):
                connection.execute(block)
        yield connection


def rows(database: duckdb.DuckDBPyConnection, holding: str) -> list[dict[str, Any]]:
    """What the query of the page that holds a word gives."""
    (query,) = (block for block in blocks() if not block.startswith("CREATE") and holding in block)
    asked = database.execute(query)
    names = [column[0] for column in asked.description or ()]
    found = [dict(zip(names, row, strict=True)) for row in asked.fetchall()]
    assert found, query
    return found


def shown(shop: Path) -> list[tuple[Slate, int, bool, float]]:
    """Each slot that was shown: its slate, its place from 0, whether it was clicked, and what it earned."""
    events = {event["event_id"]: event for event in read(shop / "events.jsonl")}.values()
    slates = {slate.slate_id: slate for slate in read(shop / "slates.jsonl", Slate)}
    came: dict[tuple[str, str], list[str]] = defaultdict(list)
    for event in events:
        if event["type"] in WORTH and "slate_id" in event:
            came[event["slate_id"], event["item_id"]].append(event["type"])
    found = []
    for event in (event for event in events if event["type"] == "impression"):
        slate = slates[event["slate_id"]]
        for place, item_id in enumerate(event["items"]):
            kinds = came[slate.slate_id, item_id]
            found.append((slate, place, "click" in kinds, max((WORTH[kind] for kind in kinds), default=0.0)))
    assert len(found) > 1000 and sum(clicked for _, _, clicked, _ in found) > 30
    return found


def test_every_query_of_the_page_gives_something(database: duckdb.DuckDBPyConnection) -> None:
    for block in blocks():
        if not block.startswith("CREATE"):
            assert database.execute(block).fetchall(), block


def test_click_through_is_by_arm_and_place_and_a_redelivery_counts_once(
    database: duckdb.DuckDBPyConnection, shop: Path
) -> None:
    places, clicks = Counter[int](), Counter[int]()
    for _, place, clicked, _ in shown(shop):
        places[place + 1] += 1
        clicks[place + 1] += clicked
    found = {row["rank"]: (row["shown"], row["click_through"]) for row in rows(database, "count_if(clicked) AS clicks")}
    assert found == {rank: (n, round(clicks[rank] / n, 4)) for rank, n in places.items()} and len(found) == 10


def test_the_reward_of_a_slate_is_what_its_places_earned(database: duckdb.DuckDBPyConnection, shop: Path) -> None:
    slates = {slate.slate_id for slate, *_ in shown(shop)}
    total = sum(reward for *_, reward in shown(shop))
    (row,) = rows(database, "reward_a_slate")
    assert (row["arm"], row["slates"], row["users"]) == ("control", len(slates), 12)
    assert row["reward_a_slate"] == pytest.approx(total / len(slates), abs=1e-4) and row["error_of_users"] > 0


def test_the_error_of_what_a_slate_earned_is_that_of_a_ratio_of_sums() -> None:
    """Of users who differ in how often they come and in what they earn then, one of whom makes up a third of all."""
    draw = np.random.default_rng(0)
    slates = np.append(draw.integers(1, 6, 60), 90)
    rewards = [draw.binomial(10, 0.8 if n > 5 else 0.2, n) for n in slates]
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE judged (arm VARCHAR, user_id VARCHAR, slate_id VARCHAR, reward DOUBLE)")
        for user, each in enumerate(rewards):
            for number, reward in enumerate(each):
                judged = ["control", f"u{user}", f"u{user}:{number}", float(reward)]
                connection.executemany("INSERT INTO judged VALUES (?, ?, ?, ?)", [judged, [*judged[:3], 1.0]])
        (row,) = rows(connection, "reward_a_slate")
    earned = np.array([[each.sum() + len(each)] for each in rewards], float)
    expected = ratio_of_sums(earned, slates[:, None].astype(float))
    assert (row["users"], row["slates"]) == (61, slates.sum())
    assert row["reward_a_slate"] == pytest.approx(expected.value, abs=1e-4)
    assert row["error_of_users"] == pytest.approx(expected.error, abs=1e-4) and expected.error > 0.5


def test_events_of_two_users_with_the_same_ids_are_both_there_and_each_has_its_predictions(tmp_path: Path) -> None:
    for name in ("slates", "items"):
        (tmp_path / f"{name}.jsonl").write_bytes(b"")
    events = [
        {"event_id": "e", "type": "click", "user_id": user, "ts": 1000, "item_id": "i"} for user in ("u", "v", "v")
    ]
    predictions = [
        {"event_id": "e", "user_id": user, "item_id": "i", "prediction": chance, "label": 1.0, "kind": "click"}
        for user, chance in (("u", 0.5), ("v", 0.25), ("v", 0.25))
    ]
    for name, records in (("events", events), ("predictions", predictions)):
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records), "utf-8")
    with duckdb.connect() as connection, pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        for block in blocks():
            if block.startswith("CREATE"):
                connection.execute(block)
        counted = [connection.execute(f"SELECT count(*) FROM {view}").fetchone() for view in ("events", "predictions")]
        (day,) = rows(connection, "AS log_loss")
    assert counted == [(2,), (2,)]
    assert day["n"] == 2 and day["log_loss"] == pytest.approx(-math.log(0.5 * 0.25) / 2, abs=1e-4)


def test_weights_are_one_over_the_propensity(database: duckdb.DuckDBPyConnection, shop: Path) -> None:
    first = [(slate.items[0], clicked) for slate, place, clicked, _ in shown(shop) if place == 0]
    for row in rows(database, "self_normalised"):
        mine = [(slot.propensity, clicked) for slot, clicked in first if slot.item_id == row["item_id"]]
        weights, gained = sum(1 / p for p, _ in mine), sum(clicked / p for p, clicked in mine)
        assert row["times"] == len(mine)
        assert row["inverse_propensity"] == pytest.approx(gained / len(first), abs=1e-4)
        assert row["self_normalised"] == pytest.approx(gained / weights, abs=1e-4)
        assert row["effective"] == pytest.approx(weights**2 / sum(p**-2 for p, _ in mine), abs=0.06)


def test_reasons_explored_places_and_predictions_are_counted(database: duckdb.DuckDBPyConnection, shop: Path) -> None:
    codes = Counter(reason.code for slate, place, _, _ in shown(shop) for reason in slate.items[place].reasons)
    assert {row["code"]: row["places"] for row in rows(database, "mean_weight")} == dict(codes)
    explored = {row["explored"]: row["places"] for row in rows(database, "AS explored")}
    assert explored[True] == codes["exploration"] > 20
    predictions = read(shop / "predictions.jsonl", Prediction)
    assert sum(row["n"] for row in rows(database, "AS foretold")) == len(predictions)
    (shares,) = (rows(database, "of_exposure"),)
    assert 0.3 < sum(row["of_exposure"] for row in shares) <= 1.001
