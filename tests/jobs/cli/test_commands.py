"""What commands promise as they run: results on standard output alone, and nothing left behind when they are ended."""

import contextlib
import gzip
import hashlib
import json
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import streams
from console_script import SCRIPT, assert_one_line, click, replaying, riverrank
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.jobs.local.replay import ANSWERING
from riverrank.state.hashing import pseudonym


def test_replay_writes_a_slate_an_event_and_says_so_on_standard_error(events: Path, items: Path) -> None:
    done = riverrank("replay", "--events", "-", "--items", items, "--slates", "-", stdin=events.read_text("utf-8"))
    assert done.returncode == 0, done.stderr
    slates = [json.loads(line) for line in done.stdout.splitlines()]
    assert [slate["trigger"] for slate in slates] == [f"e{n}" for n in range(60)]
    assert "60 slates" in done.stderr


def test_topics_are_told_and_made_where_they_are_missing(broker: KafkaBroker, tmp_path: Path) -> None:
    names = {stream: f"made-{os.getpid()}-{stream}" for stream in ("events", "items", "slates", "dead-letters")}
    keys = [f'{stream.replace("-", "_")} = "{name}"' for stream, name in names.items()]
    path = tmp_path / "c.toml"
    path.write_text("\n".join(["[kafka]", f'bootstrap = "{broker.bootstrap}"', 'receipts = ""', *keys]), "utf-8")
    assert_one_line(riverrank("run", "--config", path), 2, names["dead-letters"], "riverrank topics --create")
    told = riverrank("topics", "--config", path)
    assert told.returncode == 1
    assert told.stdout == "".join(f"{stream}\t{name}\t0\n" for stream, name in names.items())
    made = riverrank("topics", "--config", path, "--create", "--partitions", "3", "--json")
    assert made.returncode == 0
    expected = [{"stream": stream, "name": name, "partitions": 3} for stream, name in names.items()]
    assert json.loads(made.stdout) == expected
    again = riverrank("topics", "--config", path, "--create")
    assert again.returncode == 0 and again.stdout.count("\t3\n") == 4


def test_convert_writes_both_files_and_says_what_it_left_out(tmp_path: Path) -> None:
    source = tmp_path / "log.csv"
    source.write_text("who,what,at\nu,i,1\nu,j,soon\n", "utf-8")
    out = ("--events", tmp_path / "e.jsonl", "--items", tmp_path / "i.jsonl")
    mapped = ("--map", "user=who, item=what", "--map", "ts=at", "--ts-unit", "ms", "--type", "view")
    done = riverrank("convert", "csv", "--source", source, *mapped, *out, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert (report["events"], report["items"], report["users"], report["bad_rows"]) == (1, 1, 1, 1)
    assert "1 rows left out; the first, log.csv, line 3: " in done.stderr
    assert json.loads((tmp_path / "e.jsonl").read_text("utf-8"))["type"] == "view"
    assert_one_line(riverrank("convert", "csv", "--source", source, *out), 2, "no column user_id, item_id, ts")


def test_converted_events_hold_no_dead_letter(tmp_path: Path, needs_shared: Callable[[str], Path]) -> None:
    out = (tmp_path / "e.jsonl", tmp_path / "i.jsonl.gz")
    source = needs_shared("data/complete_journey")
    done = riverrank("convert", "complete-journey", "--source", source, "--events", out[0], "--items", out[1])
    assert done.returncode == 0, done.stderr
    document = json.loads(riverrank("check", "--events", out[0], "--items", out[1], "--json").stdout)
    assert document["types"] == {"purchase": 75000, "profile": 801}
    assert document["events"]["dead_letters"] == document["items"]["dead_letters"] == {}
    assert document["redeliveries"] == 0


def test_erase_without_kafka_prints_the_event_and_get_without_a_slate_exits_1(valkey: Valkey) -> None:
    event = json.loads(riverrank("erase", "u-17").stdout)
    assert (event["type"], event["user_id"]) == ("erase", "u-17")
    done = riverrank("get", "u-17", "--redis", valkey.url)
    assert (done.returncode, done.stdout) == (1, "")
    assert "rr:slate:u-17" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interruption_leaves_whole_files_and_no_process_and_has_no_word_of_its_own(
    number: signal.Signals, items: Path, tmp_path: Path
) -> None:
    slates = tmp_path / "slates.jsonl.gz"
    with replaying(items, slates, click("e", 1)) as process:
        if number == signal.SIGKILL:
            answering = min(len(os.sched_getaffinity(0)), ANSWERING)
            expected = answering + (answering > 1)  # and what makes the messages, where there are several cores
            streams.wait_until(lambda: len(group(process.pid)) == expected)
        process.send_signal(number)
        streams.wait_until(lambda: not group(process.pid))  # though standard input is still open
        out, err = process.communicate(timeout=30)
    assert b"Traceback" not in out + err
    assert b"riverrank:" not in err
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    if number != signal.SIGKILL:
        gzip.decompress(slates.read_bytes())


def group(leader: int) -> list[int]:
    """The processes of a process group that have not ended."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            state, _, of = path.read_text().rpartition(")")[2].split()[:3]
            if int(of) == leader and state != "Z":
                found.append(int(path.parent.name))
    return found


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    done = subprocess.run(
        f"'{SCRIPT}' check | head -n 1", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("# Durations")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


def test_what_a_log_names_a_user_by_is_told_by_a_command() -> None:
    secret = {"RIVERRANK_PRIVACY_KEY": "a secret of sixteen"}
    named = riverrank("state", "pseudonym", "u-17", environment=secret).stdout.strip()
    assert named == pseudonym("u-17", hashlib.blake2b(b"a secret of sixteen").digest())
    assert riverrank("state", "pseudonym", "u-17").stdout.strip() == pseudonym("u-17", b"") != named
