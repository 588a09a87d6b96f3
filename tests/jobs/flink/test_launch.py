"""What is refused before Flink starts, what a failure is told with, and which key an event travels by."""

import logging
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kept_savepoints import unpacked
from riverrank.jobs.config.preflight import check_state
from riverrank.jobs.config.schema import parse
from riverrank.jobs.errors import UsageError
from riverrank.jobs.flink.announcing import NOWHERE, announced
from riverrank.jobs.flink.embedded import EmbeddedFlink
from riverrank.jobs.flink.java import mend_of_settings, mend_of_state
from riverrank.jobs.flink.keeping import METADATA, Keeping, kept_in
from riverrank.jobs.flink.savepoint import operators
from riverrank.operators.flink.arrivals import Arrival, event_of
from riverrank.operators.flink.channels import Outputs
from riverrank.operators.flink.parse import ParseEvents
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import pseudonym
from riverrank.state.outputs import OUTPUTS
from riverrank.state.records.decoding import Reject
from riverrank.state.runtime import logs


@pytest.mark.parametrize("field", [output.field for output in OUTPUTS.values()])
def test_a_run_that_goes_on_from_another_writes_no_file_that_the_other_filled(field: str) -> None:
    document = {"kafka": {"bootstrap": "localhost:1"}, "job": {"state": "kept"}}
    check_state(parse(document))
    with pytest.raises(UsageError, match=rf"files\.{field} holds what one run wrote.* give a topic \(kafka\.{field}\)"):
        check_state(parse(document | {"files": {field: "out.jsonl"}}))


def test_a_state_is_not_kept_of_a_run_that_ends_where_its_topics_do() -> None:
    """Flink forgets what a job kept that ended by itself: the next run would begin anew without a word."""
    kafka = {"bootstrap": "localhost:1", "bounded": True}
    check_state(parse({"kafka": kafka}))
    with pytest.raises(UsageError, match=r"job\.state: with kafka\.bounded .* leave out kafka\.bounded"):
        check_state(parse({"kafka": kafka, "job": {"state": "kept"}}))


BOUNDED = "g, from where that group ended to its present end"
BROKER, REDIS = {"bootstrap": "localhost:1"}, {"url": "redis://me:secret@localhost"}
ON_TOPICS = [
    "reads events from topic events at localhost:1, as group riverrank, from its beginning",
    "reads items from topic items at localhost:1, as group riverrank, from its beginning",
    "writes slates to topic slates at localhost:1",
    "writes dead-letters to topic dead-letters at localhost:1",
    "writes receipts to topic receipts at localhost:1",
]


@pytest.mark.parametrize(
    ("document", "goes_on", "told"),
    [
        ({"kafka": BROKER}, False, ON_TOPICS),
        ({"kafka": BROKER, "redis": REDIS}, False, [*ON_TOPICS, "writes slates to Redis at redis://me:***@localhost"]),
        ({"kafka": BROKER}, True, [line.replace("its beginning", "where the state ends") for line in ON_TOPICS]),
        (
            {"kafka": {**BROKER, "start": "committed", "group": "g", "bounded": True, "items": ""}},
            False,
            [ON_TOPICS[0].replace("riverrank, from its beginning", BOUNDED), *ON_TOPICS[2:]],
        ),
        (
            {"kafka": {**BROKER, "start": "latest"}, "files": {"items": "i.jsonl", "slates": "-"}},
            False,
            [
                "reads events from topic events at localhost:1, as group riverrank, from its present end",
                "reads items from i.jsonl",
                "writes slates to standard output",
                *ON_TOPICS[3:],
            ],
        ),
        ({"files": {"events": "-"}}, False, ["reads events from standard input", NOWHERE]),
    ],
)
def test_a_run_says_what_it_reads_from_where_on_and_where_it_writes(
    document: dict[str, dict[str, object]], goes_on: bool, told: list[str]
) -> None:
    assert [*announced(parse(document), goes_on=goes_on)] == told


def test_a_state_is_of_the_topics_that_were_read(tmp_path: Path) -> None:
    """Flink goes on with the partitions that a source knows: the old topic would be read on, by the new one's name."""
    topics = {"events": "events", "items": "items"}
    for other in (topics, {**topics, "events": "other"}):  # nothing was kept yet
        with kept_in(str(tmp_path), other) as keeping:
            assert keeping is not None
            folder = keeping.checkpoints / "job" / "chk-1"
    folder.mkdir(parents=True)
    (folder / METADATA).touch()
    told = r"read kafka\.events 'other', and now it is 'events'; give that, or another --state DIR"
    with pytest.raises(UsageError, match=told), kept_in(str(tmp_path), topics):
        pass
    with kept_in(str(tmp_path), {**topics, "events": "other"}):
        pass
    noted = tmp_path / "riverrank" / "topics.json"
    noted.write_bytes(noted.read_bytes()[:9])
    told = rf"job\.state: {noted} can't be read \(.*\); remove it if you know"
    with pytest.raises(UsageError, match=told), kept_in(str(tmp_path), topics):
        pass


def test_a_failure_says_what_is_to_be_done_where_the_state_is_at_fault(tmp_path: Path) -> None:
    new, old = Keeping(tmp_path), Keeping(tmp_path)
    old.last = tmp_path / "checkpoints"
    disk = "Exceeded checkpoint tolerable failure threshold. The latest checkpoint failed due to ..."
    assert f"whether the disk of {tmp_path} is full" in mend_of_state(disk, new) == mend_of_state(disk, old)
    assert f"if {old.last}, which it goes on from, is damaged" in mend_of_state("java.io.EOFException", old)
    assert "job.max_parallelism" in mend_of_state("Max parallelism mismatch between checkpoint/savepoint", old)
    for cause, keeping in (("java.io.EOFException", new), ("a topic is gone", old), ("a topic is gone", new)):
        assert mend_of_state(cause, keeping) == ""


def test_a_state_with_an_operator_more_names_the_setting_that_made_it(tmp_path: Path) -> None:
    ids = {operator.uid: operator.id for operator in operators(unpacked("0.1.0", "alone", tmp_path))}
    cause = "Failed to rollback. Cannot map checkpoint/savepoint state for operator {} to the new program"
    mend = mend_of_settings(cause.format(ids["cache"]), "give another --state DIR")
    assert mend == "; the state is of a run with redis.url: set that as it was, or give another --state DIR"
    assert "another secret (privacy.key_file" in mend_of_settings(cause.format("0" * 32), "")


def test_of_a_folder_in_which_checkpoints_come_and_go_those_that_are_whole_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("chk-1", "chk-2"):
        (folder := tmp_path / "checkpoints" / name).mkdir(parents=True)
        (folder / METADATA).touch()
    stat = Path.stat

    def removed_meanwhile(path: Path, **options: bool) -> os.stat_result:
        if path.parent.name == "chk-2":
            raise FileNotFoundError(path)
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", removed_meanwhile)
    assert Keeping(tmp_path).last == tmp_path / "checkpoints" / "chk-1"


def test_what_operators_log_is_told_once_and_in_whole_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    flink = EmbeddedFlink(parse({}), tmp_path)

    def told() -> list[str]:
        caplog.clear()
        flink.tell()
        return caplog.messages

    assert told() == []
    path = flink._taskmanagers[0].log
    with path.open("ab") as log:
        log.write("2026-01-01 INFO riverrank: no\nriverrank: Redis \u00e4 is away\nriverrank: it is b".encode())
    assert told() == ["Redis \u00e4 is away"]
    with path.open("ab") as log:
        log.write(b"ack\n\xff\nriverrank: another\n")
    assert told() == ["it is back", "another"]
    assert told() == []


@pytest.mark.parametrize("form", [logs.TEXT, logs.JSON])
def test_what_operators_refuse_is_kept_for_the_end_of_the_run_whatever_the_log_looks_like(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, form: str
) -> None:
    flink = EmbeddedFlink(parse({}), tmp_path)
    code = (
        "from riverrank.operators.flink.shipped import tell_on_standard_error as tell, tell_refusal\n"
        "import logging; tell(); logging.getLogger('riverrank.a').warning('Redis is away')\n"
        "from riverrank.state.codec import StateRefused as Refused\n"
        "tell_refusal(Refused('set it to 2')); tell_refusal(Refused('not this'))"
    )
    with flink._taskmanagers[0].log.open("wb") as log:
        environment = {**os.environ, logs.LOG_VARIABLE: form}
        subprocess.run([sys.executable, "-c", code], stderr=log, env=environment, timeout=60, check=True)
    flink.tell()
    assert flink.refusal == "set it to 2" and caplog.messages == ["Redis is away"]


def test_in_a_flink_process_what_is_logged_stands_on_standard_error_with_its_mark() -> None:
    code = (
        "import logging; from riverrank.operators.flink.shipped import tell_on_standard_error as tell\n"
        "tell(); tell(); logging.getLogger('riverrank.operators.cache').warning('Redis is %s', 'away')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == "riverrank: Redis is away\n"
    assert logging.getLogger("riverrank").propagate, "not here"


def keyed(raw: bytes) -> str | None:
    """The key that an event travels by to SESSION; None for a dead letter."""
    parse_events = ParseEvents(lambda value: Arrival(0, 0, 0, value), "events", Outputs(), b"")
    refused: list[Reject] = []
    parse_events.letters = SimpleNamespace(refuse=lambda arrival, reject, topic: refused.append(reject) or [])
    found = list(parse_events.process_element(raw, None))
    assert len(found) + len(refused) == 1
    return found[0][0] if found else None


VALUES = st.sampled_from([b"null", b"5", b"{}", b'"u-1"', b'"u-2"', b'""', b"[]", b'"\\ud800"'])
EXTRA = st.sampled_from([b"", b',"extra":null', b',"item_id":null', b',"extra":1'])


@given(st.lists(VALUES, max_size=3), EXTRA)
def test_an_event_travels_by_the_user_that_it_is_of_whatever_it_says_twice(users: list[bytes], extra: bytes) -> None:
    said = b"".join(b'"user_id":%b,' % user for user in users)
    raw = b'{%b"event_id":"e","type":"request","ts":1764000000000%b}' % (said, extra)
    event, key = event_of(Arrival(0, 0, 1_764_000_000_000, raw), Behaviour()), keyed(raw)
    if not isinstance(event, Reject):
        assert key == pseudonym(event.user_id, b"")
    assert key is not None or isinstance(event, Reject)


def test_a_repeated_key_and_a_null_end_no_job() -> None:
    raw = b'{"user_id":null,"user_id":"u-dn","event_id":"e-dn","type":"request","ts":1764000000000,"item_id":null}'
    assert msgspec.json.decode(raw)["user_id"] == "u-dn" and keyed(raw) == pseudonym("u-dn", b"")
