"""The choice of items to ask a new user about: near the best there is, spread out, known to many, always the same."""

import json
import random
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from riverrank.jobs.cli import main as cli
from riverrank.operators.catalogue.starters import choose, together, unit
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

GROUPS = ("noir", "western", "musical")


def worth(known: np.ndarray, vectors: np.ndarray, places: tuple[int, ...] | list[int]) -> float:
    """What a choice covers, written out as the docstring says it."""
    total = 0.0
    for item in range(len(known)):
        cosines = [max(0.0, float(unit(vectors)[item] @ unit(vectors)[place])) for place in places]
        chances = [float(np.sqrt(known[place] / known.max())) for place in places]
        total += float(known[item]) * max(c * chance for c, chance in zip(cosines, chances, strict=True))
    return total / float(known.sum())


@pytest.mark.parametrize("seed", range(12))
def test_the_choice_is_within_its_bound_of_the_best_there_is(seed: int) -> None:
    draw = np.random.default_rng(seed)
    known, vectors = draw.integers(1, 100, 9).astype(float), draw.normal(size=(9, 3))
    places, covered = choose(known, vectors, 3)
    best = max(worth(known, vectors, chosen) for chosen in combinations(range(9), 3))
    assert len(set(places)) == 3
    assert covered[-1] == pytest.approx(worth(known, vectors, places))
    assert (1 - 1 / np.e) * best <= covered[-1] <= best + 1e-9
    assert covered[0] == pytest.approx(max(worth(known, vectors, (one,)) for one in range(9)))


def test_of_what_says_the_same_only_the_best_known_is_asked() -> None:
    known = np.array([90.0, 80.0, 70.0, 20.0, 10.0])
    vectors = np.array([[1.0, 0.0], [1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [0.0, 3.0]])
    assert choose(known, vectors, 5)[0] == [0, 3]  # nothing is left to cover after these
    assert choose(np.zeros(0), np.zeros((0, 2)), 3)[0] == []


def test_several_kinds_of_vectors_count_alike() -> None:
    content, taken = np.array([[3.0, 0.0], [1.0, 0.0], [0.0, 0.0]]), np.array([[0.0, 1.0], [5.0, 0.0], [0.0, 2.0]])
    cosines = unit(together(content, taken)) @ unit(together(content, taken)).T
    assert cosines[0, 1] == pytest.approx(0.5)  # one and nothing
    assert cosines[0, 2] == pytest.approx(np.sqrt(0.5))  # only one kind is known of the third


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """30 users of each of three groups of 20 films, who rate those of their own; the first films are known to most."""
    folder, draw = tmp_path_factory.mktemp("starters"), random.Random(3)
    with (folder / "items.jsonl").open("wb") as out:
        for number in range(60):
            group = GROUPS[number // 20]
            item = Item(f"{group}-{number % 20}", 1, f"A {group}", categories=(group,), available=number != 20)
            out.write(to_json(item) + b"\n")
        out.write(b"broken\n")
    with (folder / "events.jsonl").open("wb") as out:
        for number in range(1500):
            user = draw.randrange(90)
            film = min(draw.randrange(20), draw.randrange(20))
            value = float(draw.randrange(2, 6))
            group = GROUPS[0 if user < 50 else 1 if user < 70 else 2]  # noir is the most popular
            event = Event(f"e{number}", "rate", f"u{user}", 1000 * number, f"{group}-{film}", value)
            out.write(to_json(event) + b"\n" + (b"broken\n" if number == 7 else b""))
    return folder


def starters(files: Path, capsys: pytest.CaptureFixture[str], *more: str) -> str:
    paths = ["--events", str(files / "events.jsonl"), "--items", str(files / "items.jsonl")]
    assert cli.main(["starters", *paths, *more]) == 0
    return capsys.readouterr().out


def test_starters_are_of_every_group_known_to_many_and_always_the_same(
    files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = starters(files, capsys, "-n", "3", "--json")
    found = json.loads(printed)
    assert {starter["item_id"].partition("-")[0] for starter in found} == set(GROUPS)
    assert found[0]["item_id"].startswith("noir")
    assert all(starter["known"] > 10 for starter in found), found
    covered = [starter["covered"] for starter in found]
    assert covered == sorted(covered)
    assert 0.1 < covered[0] < covered[2] <= 1.0
    assert starters(files, capsys, "-n", "3", "--json") == printed


def test_nothing_is_asked_about_that_cannot_be_served(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(starters(files, capsys, "-n", "60", "--json"))
    named = [starter["item_id"] for starter in found]
    assert len(named) == len(set(named)) > 10
    assert "western-0" not in named


def test_the_reader_sees_titles_and_shares(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    head, *rows = starters(files, capsys).splitlines()
    assert head.split() == ["item", "known", "covered", "title"]
    assert len(rows) == 10
    assert all("%  A " in row for row in rows)


def test_what_is_lacking_is_told(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["starters", "--items", str(files / "items.jsonl")]) == 2
    assert "give --events FILE" in capsys.readouterr().err
    (files / "none.jsonl").write_bytes(to_json(Event("e", "request", "u", 1)) + b"\n")
    assert cli.main(["starters", "--events", str(files / "none.jsonl")]) == 1
    assert "positive interaction" in capsys.readouterr().err
