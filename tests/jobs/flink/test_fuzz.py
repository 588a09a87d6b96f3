"""Broken records among good ones, through `replay` and through a running job: nothing stops, and each bad one becomes
one dead letter. RIVERRANK_FUZZ=100000 says how many; by default a few thousand.
"""

import json
import math
import os
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from riverrank.jobs.config.schema import Config
from riverrank.state.records.decoding import Reject, decode_event, decode_item
from riverrank.state.records.incoming import Event, Item

RECORDS = int(os.environ.get("RIVERRANK_FUZZ", "3000"))
START_MS, USERS, ITEMS = 1_764_000_000_000, 60, 200
ANY_TIME = {"late", "ahead"}  # reasons that are not in the bytes alone
WILD: list[Any] = [
    None, True, "", "\0", "x" * 257, "é" * 129, "\ud800", -1, 0, 1 << 62, 1 << 64, -(1 << 70), 1.79e308, -1e39, 5e-324,
    [], {}, [[]], ["i1"] * 1001, {"a": "x" * 9000}, {"price": 1.7e308, "brand": None}, [1e6] * 40, ["i1", "i1", ""],
    "9" * 5000, {"deep": [[[[[[[[1]]]]]]]]}, START_MS * 1000, START_MS // 1000,
]  # fmt: skip
pytestmark = pytest.mark.timeout(1800)


def plain(draw: random.Random, number: int) -> tuple[str, dict[str, Any]]:
    """A stream, and a record of it as it should be."""
    ts = START_MS + 500 * number
    if draw.random() < 0.1:
        item = {"item_id": f"i{draw.randrange(ITEMS)}", "ts": ts, "categories": [f"c{draw.randrange(9)}"]}
        return "items", item | {"title": "A thing", "attributes": {"price": 9.5}, "embedding": [0.5, draw.random()]}
    kind = draw.choice(("view", "click", "click", "purchase", "rate", "dislike", "request", "impression", "profile"))
    event = {"event_id": f"e{number}", "type": kind, "user_id": f"u{draw.randrange(USERS)}", "ts": ts}
    event |= {"item_id": f"i{draw.randrange(ITEMS)}", "value": draw.randrange(1, 6)}
    return "events", event | {"items": [f"i{draw.randrange(ITEMS)}" for _ in range(5)], "attributes": {"age": "x"}}


def broken(draw: random.Random, record: dict[str, Any]) -> bytes:
    """The record as it came, a line of a file; mostly as somebody's mistake made it."""
    kind = draw.randrange(9)
    if kind < 4:  # a field is something else, or not there
        names = Event.__struct_fields__ if "type" in record else Item.__struct_fields__
        for name in draw.sample(names, draw.randrange(1, 3)):
            record[name] = draw.choice(WILD)
            if draw.random() < 0.2:
                del record[name]
    raw = bytearray(json.dumps(record).encode())
    if kind == 4:
        for _ in range(draw.randrange(1, 6)):
            raw[draw.randrange(len(raw))] = draw.randrange(256)
    elif kind == 5:
        del raw[draw.randrange(len(raw)) :]
    elif kind == 6:
        at = draw.randrange(len(raw))
        raw[at:at] = draw.randbytes(draw.randrange(1, 30))
    elif kind == 8:  # a field is there twice, and another may be null
        name = draw.choice([*record])
        other = {"context": None} if draw.random() < 0.5 else {}
        twice = [{**other, name: draw.choice(WILD)}, {name: record[name]}]
        draw.shuffle(twice)
        return b"{%b}" % b",".join(json.dumps(part)[1:-1].encode() for part in (*twice, {**record, name: record[name]}))
    elif kind == 7 and draw.random() < 0.02:
        raw[-1:] = b',"context":{"much":"%s"}}' % (b"x" * draw.choice((2_000, 1_000_000, 1_100_000)))
    return bytes(raw).translate(bytes.maketrans(b"\n\r", b"  ")).strip() or b"{"


def written(folder: Path) -> dict[str, list[bytes]]:
    """The lines of both streams, which are in `folder` then."""
    draw = random.Random(20)
    lines: dict[str, list[bytes]] = {"events": [], "items": []}
    for number in range(RECORDS):
        stream, record = plain(draw, number)
        lines[stream].append(broken(draw, record) if draw.random() < 0.5 else json.dumps(record).encode())
    for stream, of_stream in lines.items():
        (folder / f"{stream}.jsonl").write_bytes(b"\n".join(of_stream) + b"\n")
    return lines


def bad(lines: dict[str, list[bytes]]) -> Counter[tuple[str, int]]:
    """Stream and number of the lines that hold no record, whatever the time."""
    latest = int(time.time() * 1000) + Config().behaviour.allowed_ahead
    found = Counter[tuple[str, int]]()
    for stream, decode in (("events", decode_event), ("items", decode_item)):
        for number, line in enumerate(lines[stream]):
            record = decode(line, latest=latest)
            if isinstance(record, Reject) and record.reason not in ANY_TIME:
                found[stream, number] += 1
    return found


def records(path: Path) -> Iterator[Any]:
    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} in {path.name}")

    for line in path.read_bytes().splitlines():
        yield json.loads(line, parse_constant=refuse)


@pytest.mark.parametrize("command", ["replay", "run"])
def test_each_broken_record_becomes_one_dead_letter_and_stops_nothing(command: str, tmp_path: Path) -> None:
    lines = written(tmp_path)
    flags = [f"--{name}={tmp_path / name}.jsonl" for name in ("events", "items", "slates", "dead-letters")]
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.cli", command, *flags], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert "Traceback" not in done.stderr and "Warning" not in done.stderr
    letters = Counter(
        (letter["topic"], letter["offset"])
        for letter in records(tmp_path / "dead-letters.jsonl")
        if letter["reason"] not in ANY_TIME
    )
    expected = bad(lines)
    assert len(expected) > RECORDS // 10 and letters == expected
    slates = 0
    for slate in records(tmp_path / "slates.jsonl"):
        slates += 1
        assert slate["items"], slate["trigger"]
        for slot in slate["items"]:
            numbers = (slot["score"], slot["propensity"], *(reason.get("weight", 0.0) for reason in slot["reasons"]))
            assert all(math.isfinite(number) for number in numbers) and 0 <= slot["score"] <= 1
    assert slates > RECORDS // 4
