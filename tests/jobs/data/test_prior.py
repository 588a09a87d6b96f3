"""`riverrank prior`: what one shop's events teach, in a file without an id, is what another shop starts from."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from riverrank.jobs.cli import main as cli
from riverrank.jobs.config.schema import load
from riverrank.state.prior import from_file, to_file

T0 = 1_764_000_000_000


def made_shop(folder: Path, name: str, seed: int, events: int) -> None:
    """Users who take what lies next to what they took, of 60 items of four categories; some rate it 4 or 5."""
    draw = random.Random(seed)
    with (folder / f"{name}-items.jsonl").open("w") as out:
        for k in range(60):
            print(json.dumps({"item_id": f"{name}-item-{k}", "ts": T0, "categories": [f"c{k % 4}"]}), file=out)
    at = [draw.randrange(60) for _ in range(30)]
    with (folder / f"{name}-events.jsonl").open("w") as out:
        for k in range(events):
            user = draw.randrange(30)
            at[user] = (at[user] + draw.choice((1, 1, 4))) % 60
            event = {"event_id": f"{name}-event-{k}", "type": "click", "user_id": f"{name}-user-{user}"}
            event |= {"ts": T0 + 1000 * k, "item_id": f"{name}-item-{at[user]}"}
            if k % 4 == 0:
                event |= {"type": "rate", "value": 4.0 + k // 4 % 2}
            print(json.dumps(event), file=out)


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("shops")
    made_shop(folder, "old", 1, 900)
    made_shop(folder, "new", 2, 300)
    assert cli.main(["prior", "--out", str(folder / "old.prior"), *inputs(folder, "old")]) == 0
    (folder / "from.toml").write_text(f'[prior]\nfile = "{folder}/old.prior"\n')
    return folder


def inputs(folder: Path, name: str) -> list[str]:
    return ["--events", str(folder / f"{name}-events.jsonl"), "--items", str(folder / f"{name}-items.jsonl")]


def replayed(folder: Path, out: Path, *more: str) -> list[dict]:
    assert cli.main(["replay", *inputs(folder, "new"), "--slates", str(out), *more]) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_a_new_shop_starts_from_what_the_old_one_learned(shops: Path, tmp_path: Path) -> None:
    plain = replayed(shops, tmp_path / "plain")
    started = replayed(shops, tmp_path / "started", "--config", str(shops / "from.toml"))
    assert len(plain) == len(started) == 300
    assert plain[0]["items"] != started[0]["items"] and len(started[0]["items"]) == 20  # from the first slate on
    again = replayed(shops, tmp_path / "again", "--config", str(shops / "from.toml"))
    assert again == started


def test_no_id_is_in_the_file_and_what_is_there_is_small(shops: Path) -> None:
    raw = (shops / "old.prior").read_bytes()
    for word in (b"old", b"user", b"item", b"event-", b"c1", b"categor"):
        assert word not in raw
    prior = from_file(raw)
    assert prior.learned_from == 900
    assert prior.ratings == (pytest.approx(0.9, abs=0.01), 220.0)  # what a user rates again counts once
    assert len(raw) < 1 << 17


def test_a_replay_and_evaluate_leave_and_take_a_prior_alike(shops: Path, tmp_path: Path, capsys) -> None:
    """A replay, which answers as well, learns the same."""
    (tmp_path / "out.toml").write_text(f'[prior]\nout = "{tmp_path}/left.prior"\n')
    paths = ["--slates", str(tmp_path / "slates"), "--config", str(tmp_path / "out.toml")]
    assert cli.main(["replay", *inputs(shops, "old"), *paths]) == 0
    assert (tmp_path / "left.prior").read_bytes() == (shops / "old.prior").read_bytes() != b""
    capsys.readouterr()
    against = ["--baselines", "popular", "--against", str(shops / "from.toml"), "--json"]
    assert cli.main(["evaluate", *inputs(shops, "new"), *against]) == 0
    assert "from.toml" in capsys.readouterr().out


def flipped(raw: bytes) -> bytes:
    return raw[:-9] + bytes([raw[-9] ^ 1]) + raw[-8:]


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (None, "prior.file: cannot read"),
        (lambda raw: b"", "no file that `riverrank prior` wrote"),
        (lambda raw: b"PK\x03\x04" + raw, "no file that `riverrank prior` wrote"),
        (lambda raw: raw[:500], "damaged: its checksum is of other bytes"),
        (flipped, "damaged: its checksum is of other bytes"),
        (lambda raw: raw + bytes(1 << 25), "bytes: expected 16777216 at most"),
        (lambda raw: to_file(type(from_file(raw))(b"\x91\x7f")), "it was written by a newer riverrank"),
    ],
)
@pytest.mark.parametrize("command", ["replay", "evaluate", "drift", "check"])
def test_what_cannot_be_started_from_is_one_line_and_exit_code_2(
    shops: Path, tmp_path: Path, capsys, command: str, spoil: Callable[[bytes], bytes] | None, told: str
) -> None:
    if spoil is not None:
        (tmp_path / "bad.prior").write_bytes(spoil((shops / "old.prior").read_bytes()))
    (tmp_path / "c.toml").write_text(f'[prior]\nfile = "{tmp_path}/bad.prior"\n')
    given = [] if command == "drift" else inputs(shops, "new")
    assert cli.main([command, *given, "--config", str(tmp_path / "c.toml")]) == 2
    error = capsys.readouterr().err
    assert told in error and "bad.prior" in error and error.count("\n") == 1 and "prior.file" in error


def test_a_file_that_cannot_be_written_and_an_input_that_teaches_nothing_are_told(
    shops: Path, tmp_path: Path, capsys
) -> None:
    assert cli.main(["prior", *inputs(shops, "new")]) == 2
    assert "prior.out: no file to write; give --out FILE" in capsys.readouterr().err
    assert cli.main(["prior", *inputs(shops, "new"), "--out", str(tmp_path / "no" / "file")]) == 2
    assert "prior.out: the folder" in capsys.readouterr().err
    events = Path(inputs(shops, "new")[1])
    (tmp_path / "c.toml").write_text(events.read_text())
    for taken, told in (
        (events, "is taken by"),
        (tmp_path / "c.toml", "is no prior"),
        (tmp_path, "the path of a file"),
    ):
        before = taken.read_bytes() if taken.is_file() else b""
        assert cli.main(["prior", *inputs(shops, "new"), "--out", str(taken)]) == 2
        assert told in capsys.readouterr().err
        assert not taken.is_file() or taken.read_bytes() == before != b""
    (tmp_path / "nothing.jsonl").write_text("{}\n")
    out = tmp_path / "none.prior"
    assert cli.main(["prior", "--events", str(tmp_path / "nothing.jsonl"), "--out", str(out)]) == 1
    assert "no event that teaches anything" in capsys.readouterr().err and not out.exists()
    assert cli.main(["prior", "--out", str(out)]) == 2


def test_what_a_file_holds_is_no_setting(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text('[prior]\nlearned = "x"\n')
    with pytest.raises(Exception, match=r"prior\.learned: no such key"):
        load(tmp_path / "c.toml")
