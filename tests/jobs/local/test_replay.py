"""Replay: the whole path without Flink, from files to files."""

import gzip
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from riverrank.jobs.config import schema as config
from riverrank.jobs.errors import Failure
from riverrank.jobs.local import reading, replay
from riverrank.jobs.local.ahead import ahead
from riverrank.operators.recent import MOST
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event

T0 = 1_764_000_000_000
USERS = 3 * MOST // 2


@pytest.fixture(scope="module")
def shop(tmp_path_factory) -> Path:
    """A folder with 600 events of 20 users on 40 items, among them a redelivery, a late and a broken one."""
    folder = tmp_path_factory.mktemp("shop")
    rng = random.Random(4)
    with (folder / "items.jsonl").open("w") as out:
        for k in range(40):
            print(json.dumps({"item_id": f"i{k}", "ts": T0, "categories": [f"c{k % 4}"]}), file=out)
        print("{}", file=out)
    with (folder / "events.jsonl").open("w") as out:
        for k in range(600):
            user = rng.randrange(20)
            event = {"event_id": f"e{k}", "type": "click", "user_id": f"u{user}", "ts": T0 + 1000 * k}
            event["item_id"] = f"i{rng.randrange(10) * 4 + user % 4}"
            print(json.dumps(event), file=out)
            if k == 100:
                print(json.dumps(event), file=out)
                print(json.dumps({**event, "event_id": "late", "ts": T0 - 86_400_000}), file=out)
                print("broken", file=out)
                print(file=out)
    return folder


def run(shop: Path, out: Path, **flags: str) -> None:
    paths = {"events": shop / "events.jsonl", "items": shop / "items.jsonl", "slates": out / "slates.jsonl"}
    replay.run(config.load(None, {f"files.{name}": str(path) for name, path in paths.items()} | flags))


def slates(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_same_events_give_the_same_slates_byte_for_byte(shop, tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        run(shop, tmp_path / name)
    one = (tmp_path / "one/slates.jsonl").read_bytes()
    assert len(one) > 100_000
    assert one == (tmp_path / "two/slates.jsonl").read_bytes()


def more_users_than_are_remembered() -> Iterator[dict]:
    """Each comes twice, the second time with the slate of the first; some are erased, some see what they were shown."""
    for k in range(3 * MOST):
        user, ts = f"u{k % USERS}", T0 + 1000 * k
        yield {"event_id": f"e{k}", "type": "click", "user_id": user, "ts": ts, "item_id": f"i{k % 7 * 4 + k % 4}"}
        shown = {"event_id": f"s{k}", "type": "impression", "user_id": user, "ts": ts + 1, "items": ["i1", "i6", "i2"]}
        if k % 5 == 0:
            yield {**shown, "slate_id": f"{user}:{1 + k // USERS}"}
        if k % 5 < 2:
            yield {"event_id": f"c{k}", "type": "click", "user_id": user, "ts": ts + 2, "item_id": "i6"}
        if k % 41 == 0:
            yield {"event_id": f"g{k}", "type": "erase", "user_id": user, "ts": ts + 3}


def test_outputs_are_the_same_whatever_number_of_processes_answers(shop, tmp_path, monkeypatch):
    """One does all on one core; on several another makes the messages, and as many answer as there are cores, of which
    no more than ANSWERING are used. What they remember of users must not depend on whom else they answer.
    """
    events, made, asked = tmp_path / "events.jsonl", {}, []
    events.write_text("".join(json.dumps(event) + "\n" for event in (*more_users_than_are_remembered(), {})))
    monkeypatch.setattr(replay, "ahead", lambda *args: asked.append(args[2]) or ahead(*args))
    for cores in (1, 2, 3, 8):
        (tmp_path / str(cores)).mkdir()
        monkeypatch.setattr(replay, "cores", lambda cores=cores: list(range(cores)))
        outputs = {name: tmp_path / f"{cores}/{name}.jsonl" for name in ("predictions", "dead_letters", "receipts")}
        flags = {f"files.{name}": str(path) for name, path in outputs.items()}
        run(shop, tmp_path / str(cores), **flags, **{"files.events": str(events)})
        made[cores] = [path.read_bytes() for path in (tmp_path / f"{cores}/slates.jsonl", *outputs.values())]
        assert all(made[cores])
    assert made[1] == made[2] == made[3] == made[8]
    assert asked == [1, 2, replay.ANSWERING - 1]
    assert all(json.loads(line)["erased"] == ["sessions", "learner"] for line in made[1][3].splitlines())


def test_strings_hash_as_they_like_and_slates_stay_the_same(shop, tmp_path):
    """Order must never come from a set or from Python's own hashes, which differ from process to process."""
    digests = set()
    for seed in ("1", "2"):
        path = tmp_path / f"{seed}.jsonl"
        flags = ["--events", shop / "events.jsonl", "--items", shop / "items.jsonl", "--slates", path]
        command = [sys.executable, "-m", "riverrank.jobs.cli", "replay", *map(str, flags)]
        subprocess.run(command, check=True, env={"PYTHONHASHSEED": seed, "PATH": ""}, timeout=120, capture_output=True)
        digests.add(path.read_bytes())
    assert len(digests) == 1 and len(digests.pop()) > 100_000


def test_every_event_is_answered_once_and_every_bad_record_is_kept_with_its_line(shop, tmp_path):
    dead = tmp_path / "dead.jsonl"
    run(shop, tmp_path, **{"files.dead_letters": str(dead), "files.predictions": str(tmp_path / "p.jsonl")})
    answers = slates(tmp_path / "slates.jsonl")
    assert [slate["trigger"] for slate in answers] == [f"e{k}" for k in range(600)]
    letters = [(d["topic"], d["offset"], d["reason"]) for d in slates(dead)]
    assert letters == [("items", 40, "bad_field"), ("events", 102, "late"), ("events", 103, "bad_json")]
    assert len(slates(tmp_path / "p.jsonl")) == 600


def test_slates_are_better_than_chance_at_the_next_click(shop, tmp_path):
    run(shop, tmp_path, **{"slate.hide": (), "exploration.rate": 0.0})
    last: dict[str, list[str]] = {}
    hits = tests = 0
    for line, slate in zip(_events(shop), slates(tmp_path / "slates.jsonl"), strict=True):
        user = line["user_id"]
        if user in last and int(line["event_id"][1:]) > 200:
            tests += 1
            hits += line["item_id"] in last[user][:10]
        last[user] = [slot["item_id"] for slot in slate["items"]]
    assert tests > 300
    assert hits / tests > 0.8  # a user keeps to 10 of 40 items: chance is 0.25


def test_gz_in_and_out(shop, tmp_path):
    packed = tmp_path / "events.jsonl.gz"
    packed.write_bytes(gzip.compress((shop / "events.jsonl").read_bytes()))
    run(shop, tmp_path)
    run(shop, tmp_path, **{"files.events": str(packed), "files.slates": str(tmp_path / "slates.jsonl.gz")})
    with gzip.open(tmp_path / "slates.jsonl.gz", "rb") as unpacked:
        assert unpacked.read() == (tmp_path / "slates.jsonl").read_bytes() != b""


def _events(shop: Path) -> list[dict]:
    lines = [line for line in (shop / "events.jsonl").read_text().splitlines() if line.startswith("{")]
    events = {event["event_id"]: event for event in map(json.loads, lines) if event["event_id"] != "late"}
    return list(events.values())


ODD = (
    b"\xef\xbb\xbf" + b'{"event_id":"bom","type":"request","user_id":"u","ts":1}\n',
    b'{"event_id":"crlf","type":"request","user_id":"u","ts":2}\r\n',
    b'{"event_id":"torn",\r"type":"request","user_id":"u","ts":3}\n',
    b'{"event_id":"two","type":"request","user_id":"u","ts":4}\r{"event_id":"three","type":"request"}\n',
    b"\n",
    b'{"event_id":"last","type":"request","user_id":"u","ts":5}',
)


@pytest.mark.parametrize("name", ["odd.jsonl", "odd.jsonl.gz"])
def test_a_line_ends_with_lf_alone_and_what_flink_would_read_otherwise_is_copied(name, tmp_path):
    (tmp_path / name).write_bytes(gzip.compress(b"".join(ODD)) if name.endswith("gz") else b"".join(ODD))
    read = [(arrival.offset, arrival.value) for arrival in reading.read_lines(str(tmp_path / name))]
    ids = [event.event_id if isinstance(event := decode_event(value), Event) else event.reason for _, value in read]
    assert ids == ["bom", "crlf", "torn", "bad_json", "last"] and [offset for offset, _ in read] == [0, 1, 2, 3, 5]
    with (tmp_path / "copy.jsonl").open("wb") as copy:
        assert reading.plain_copy(str(tmp_path / name), copy)
    held = (tmp_path / "copy.jsonl").read_bytes()
    assert b"\r" not in held and not held.startswith(b"\xef")
    assert [(arrival.offset, arrival.value) for arrival in reading.read_lines(str(tmp_path / "copy.jsonl"))] == read


def test_a_file_that_flink_reads_alike_is_not_copied(tmp_path):
    (tmp_path / "e.jsonl").write_bytes(b"".join(ODD[1:2]) * 3)
    with (tmp_path / "copy.jsonl").open("wb") as copy:
        assert not reading.plain_copy(str(tmp_path / "e.jsonl"), copy)
    assert (tmp_path / "copy.jsonl").read_bytes() == b""


@pytest.mark.parametrize("size", [2, 3, 1 << 20])
def test_a_cr_alone_is_found_wherever_a_block_ends(size, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "BUFFER_BYTES", size)
    for held in map(bytes, product(b"a\r\n", repeat=6)):
        (tmp_path / "e.jsonl").write_bytes(held)
        with (tmp_path / "copy.jsonl").open("wb") as copy:
            assert reading.plain_copy(str(tmp_path / "e.jsonl"), copy) == (b"\r" in held.replace(b"\r\n", b"\n")), held


def test_what_was_read_of_a_damaged_file_is_counted(shop, tmp_path, caplog):
    whole = gzip.compress((shop / "events.jsonl").read_bytes())
    (tmp_path / "cut.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level("INFO"), pytest.raises(Failure, match="damaged gzip data"):
        run(shop, tmp_path, **{"files.events": str(tmp_path / "cut.jsonl.gz")})
    assert any("dead letter" in message for message in caplog.messages), caplog.messages
