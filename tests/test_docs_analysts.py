"""The SQL of docs/analysts.md runs as it stands, and its figures are those that plain Python counts."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
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
    found = {
        row["rank"]: (row["shown"], row["click_through"])
        for row in rows(database, "AS click_through FROM judged GROUP")
    }
    assert found == {rank: (n, round(clicks[rank] / n, 4)) for rank, n in places.items()} and len(found) == 10


def test_the_reward_of_a_slate_is_what_its_places_earned(database: duckdb.DuckDBPyConnection, shop: Path) -> None:
    slates = {slate.slate_id for slate, *_ in shown(shop)}
    total = sum(reward for *_, reward in shown(shop))
    (row,) = rows(database, "reward_a_slate")
    assert (row["arm"], row["slates"], row["users"]) == ("control", len(slates), 12)
    assert row["reward_a_slate"] == pytest.approx(total / len(slates), abs=1e-4) and row["error_of_users"] > 0


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
