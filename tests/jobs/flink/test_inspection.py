"""`riverrank state inspect` on the kept savepoints: it finds what was put there, and tells in a line what is none."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from console_script import assert_one_line, riverrank
from hypothesis import given
from hypothesis import strategies as st
from kept_savepoints import ERASURE, SHAPES, kept_of, unpacked
from riverrank.jobs.flink.keeping import METADATA
from riverrank.jobs.flink.savepoint import payload
from riverrank.state import uids
from riverrank.state.hashing import pseudonym
from shop_events import ITEMS

VERSION = "0.1.0"
READ = """
import json, sys
from pathlib import Path
from riverrank.jobs.flink.savepoint import operators
from riverrank.state.learners import decode_learner
from riverrank.state.sessions import decode_session
DECODE = {"session": decode_session, "learner": decode_learner}
read = {}
for operator in operators(Path(sys.argv[1])):
    for entry in operator.entries():
        if entry.state in DECODE:
            stored = DECODE[entry.state](entry.value)
            told = len(stored.history) if entry.state == "session" else stored.version
            read.setdefault(entry.state, {})[entry.key] = (told, len(entry.value))
print(json.dumps(read))
"""


@pytest.fixture
def savepoint(tmp_path: Path) -> Path:
    return unpacked(VERSION, "told", tmp_path)


def inspected(path: Path) -> dict[str, Any]:
    done = riverrank("state", "inspect", path, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    return dict(json.loads(done.stdout))


def states(found: dict[str, Any], uid: str) -> dict[str, Any]:
    """The states of the operator whose uid begins so, by name."""
    (operator,) = [each for each in found["operators"] if each["uid"].startswith(uid)]
    return {state["name"]: state for state in operator["states"]}


@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_told_of_users_is_what_their_state_holds(kind: str, tmp_path: Path) -> None:
    """By another way: each value is read as the operators read it, and knows what its user was answered."""
    path, kept = unpacked(VERSION, kind, tmp_path), kept_of(VERSION, kind)
    done = subprocess.run([sys.executable, "-c", READ, path], capture_output=True, text=True, timeout=120, check=True)
    read = json.loads(done.stdout)
    versions = {pseudonym(user, b""): slates[-1][0] for user, slates in kept.before.items()}
    if kind == "told":
        gone = pseudonym(ERASURE["user_id"], b"")
        assert versions.pop(gone) and gone not in read["learner"]
    assert {key: version for key, (version, _) in read["learner"].items()}.items() >= versions.items()
    assert max(length for length, _ in read["session"].values()) > 3
    found = inspected(path)
    assert found["users"] == {"session": len(read["session"]), "recommend": len(read["learner"])}
    sizes = sorted(
        sum(read[state].get(key, (0, 0))[1] for state in read) for key in {*read["session"], *read["learner"]}
    )
    told = found["bytes_a_user"]
    assert (told["max"], told["mean"]) == (sizes[-1], pytest.approx(sum(sizes) / len(sizes)))
    assert sizes[len(sizes) // 2 - 1] <= told["median"] <= sizes[len(sizes) // 2] <= told["p99"] <= told["max"]


def test_operators_journals_views_and_layouts_are_told(savepoint: Path) -> None:
    found = inspected(savepoint)
    by_uid = {operator["uid"].partition("-")[0]: operator for operator in found["operators"]}
    ours = uids.SESSION, uids.SIGNALS, uids.RANKER, uids.RECOMMEND, uids.CACHE
    assert {(each["parallelism"], each["max_parallelism"]) for each in found["operators"]} == {(1, 128)}
    assert all(by_uid[uid]["bytes"] > 1000 for uid in ours)
    signals = states(found, uids.SIGNALS)[uids.SIGNALS_JOURNAL]
    assert (signals["kind"], signals["keys"]) == ("map", 1)
    assert signals["layouts"]["block"] == {"4": signals["entries"]["block"]}
    ranker = states(found, uids.RANKER)
    assert {"model", "latest", "vectors", "co-counts"} <= ranker[uids.RANKER_JOURNAL]["entries"].keys()
    for view in (ranker[uids.RANKER_VIEW], states(found, uids.RECOMMEND)[uids.RECOMMEND_VIEW]):
        assert (view["kind"], view["entries"]["item"], view["entries"]["meta"]) == ("broadcast", ITEMS, 1)
    users = states(found, uids.SESSION)[uids.SESSION_VALUE], states(found, uids.RECOMMEND)[uids.LEARNER_VALUE]
    assert [state["layouts"] for state in users] == [{"value": {"3": state["keys"]}} for state in users]
    assert states(found, uids.CACHE)[uids.CACHE_OUTBOX]["entries"]["slate"] > 0
    printed = riverrank("state", "inspect", savepoint).stdout
    assert f"users: {found['users']['recommend']} in recommend" in printed
    assert "learner (value)" in printed and "\n\n" not in printed


@pytest.mark.parametrize("share", [0.0, 0.001, 0.3, 0.9, 0.999])
def test_a_savepoint_that_was_cut_off_is_told_in_one_line(savepoint: Path, share: float) -> None:
    whole = (savepoint / METADATA).read_bytes()
    (savepoint / METADATA).write_bytes(whole[: int(share * len(whole))])
    assert_one_line(riverrank("state", "inspect", savepoint), 1, f"{savepoint}: damaged")


def test_a_savepoint_whose_bytes_are_others_is_told_in_one_line(savepoint: Path) -> None:
    whole = (savepoint / METADATA).read_bytes()
    at = whole.rfind(b"\x80\x04\x95") + 11  # a pickle and its frame, and what it then is of
    assert whole[at : at + 1] in (b"B", b"C")
    (savepoint / METADATA).write_bytes(whole[:at] + b"]" + whole[at + 1 :])
    assert_one_line(riverrank("state", "inspect", savepoint), 1, f"{savepoint}: damaged", "pickle")


def test_where_there_is_no_savepoint_that_is_told_in_one_line(tmp_path: Path) -> None:
    assert_one_line(riverrank("state", "inspect", tmp_path), 2, f"{tmp_path}: no savepoint is there")


@given(st.binary(max_size=300), st.integers(3, 5))
def test_bytes_are_taken_out_of_a_pickle_of_bytes(held: bytes, protocol: int) -> None:
    assert payload(pickle.dumps(held, protocol)) == held


NO_BYTES = [[b"a"], (b"a",), "a", bytearray(b"a"), {"a": b"a"}, Path("a"), None, 5]


@pytest.mark.parametrize("pickled", [*(pickle.dumps(each) for each in NO_BYTES), b"", b"\x80\x05", b"\x80\x05C\x05ab."])
def test_a_pickle_of_anything_else_is_refused_unloaded(pickled: bytes) -> None:
    with pytest.raises(ValueError, match="pickle"):
        payload(pickled)


def test_nothing_may_follow_the_pickle() -> None:
    with pytest.raises(ValueError, match="something else"):
        payload(pickle.dumps(b"a") + b"more")


def test_the_newest_that_is_whole_is_told_as_flink_takes_it(tmp_path: Path) -> None:
    assert riverrank("state", "last", tmp_path).stdout == riverrank("state", "last", tmp_path / "none").stdout == ""
    (tmp_path / "file").touch()
    for no_folder, told in ((tmp_path / "file", "can't be looked through"), ("s3://a/b", "copy it here first")):
        refused = riverrank("state", "last", no_folder)
        assert refused.returncode == 2 and told in refused.stderr and not refused.stdout
    written = ("checkpoints/a/chk-9", "savepoints/savepoint-b", "checkpoints/c/chk-2")
    for age, name in enumerate(written):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / METADATA).touch()
        os.utime(tmp_path / name / METADATA, (1_000 + age, 1_000 + age))
    (tmp_path / "checkpoints/c/chk-3").mkdir()  # one that was not finished
    assert riverrank("state", "last", tmp_path).stdout == f"{(tmp_path / written[-1]).as_uri()}\n"
    (tmp_path / written[-1] / METADATA).unlink()
    assert riverrank("state", "last", tmp_path).stdout == f"{(tmp_path / written[1]).as_uri()}\n"
