"""What the console script promises: exit codes, one clear line for a mistake, results on standard output alone."""

import contextlib
import gzip
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import streams
from riverrank.jobs.config.fields import schema_of
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.state.outputs import OUTPUTS
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import to_json

ROOT = Path(__file__).resolve().parents[3]
SCRIPT = Path(sys.executable).with_name("riverrank")
COMMANDS = ("run", "replay", "evaluate", "get", "explain", "erase", "check", "convert", "demo", "starters", "drift")


def riverrank(
    *arguments: object, stdin: str = "", environment: dict[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """One run of the console script as it is installed."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith("RIVERRANK_")}
    return subprocess.run(
        [SCRIPT, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=120,
        env=clean | (environment or {}),
        check=False,
    )


def assert_one_line(done: subprocess.CompletedProcess[str], code: int, *told: str) -> None:
    """It failed with `code`, and says why in one plain line."""
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith("riverrank: ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
    for words in told:
        assert words in done.stderr


def lines(*records: Any) -> str:
    return "".join(to_json(record).decode() + "\n" for record in records)


def click(event_id: str, ts: int, item_id: str = "i", user_id: str = "u") -> Event:
    return Event(event_id=event_id, type="click", user_id=user_id, item_id=item_id, ts=ts)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_text(lines(*(click(f"e{n}", 1000 + n, f"i{n % 7}", f"u{n % 3}") for n in range(60))), "utf-8")
    return path


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text(lines(*(Item(item_id=f"i{n}", ts=0, title=f"Item {n}") for n in range(12))), "utf-8")
    return path


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_without_boxes(command: str) -> None:
    done = riverrank(command, "--help")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith(f"Usage: riverrank {command} ")
    assert "\u2500" not in done.stdout


def test_the_help_lists_every_command_and_starts_fast() -> None:
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    done = riverrank("--help")
    assert (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before < 2
    )  # seconds of work: others share the machine
    listed = [line.split()[0] for line in done.stdout.partition("Commands:")[2].splitlines() if line.strip()]
    assert [name for name in listed if name in COMMANDS] == list(COMMANDS)
    loaded = (
        "import sys; from riverrank.jobs.cli.main import main; main(['replay', '--help']); main(['--help']); "
        "print([m for m in ('numpy', 'numba', 'river', 'pyflink', 'kafka', 'redis') if m in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", loaded], text=True).splitlines()[-1] == "[]"


def test_the_readme_names_every_command() -> None:
    named = set(re.findall(r"riverrank ([a-z]+) ", (ROOT / "README.md").read_text("utf-8")))
    assert set(COMMANDS) - {"demo"} <= named


def test_a_flag_says_what_its_setting_says() -> None:
    shown = " ".join(riverrank("replay", "--help").stdout.split())
    for key in ("files.events", "files.dead_letters", "kafka.bootstrap", "redis.url", "job.parallelism"):
        meaning = schema_of(Config).settings[key].meaning
        assert f"{meaning[0].upper()}{meaning[1:]}." in shown
        assert f"Sets {key}." in shown


def test_the_job_file_takes_the_flags_that_a_cluster_can_serve() -> None:
    command = [sys.executable, ROOT / "jobs/recommend.py"]
    done = subprocess.run([*command, "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert {f"--{name}" for name in ("config", "events", "items", "kafka", "redis", *OUTPUTS)} <= set(
        done.stdout.split()
    )
    assert_one_line(subprocess.run(command, capture_output=True, text=True, timeout=120, check=False), 2, "no events")


TOY_OUTPUT = """
import sys
from riverrank.state.outputs import OUTPUTS, Origin, Output
OUTPUTS["toy-answers"] = Output("toy-answers", "toys", "", Origin.ANSWER, lambda answer: (b"%d" % answer.version,))
from riverrank.jobs.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


def test_an_output_is_added_by_one_entry(events: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-c", TOY_OUTPUT]
    shown = subprocess.run([*command, "replay", "--help"], capture_output=True, text=True, timeout=120, check=True)
    assert "--toy-answers FILE Path for toys; - is standard output. Sets files.toy_answers." in " ".join(
        shown.stdout.split()
    )
    written = tmp_path / "toys"
    flags = ["--events", str(events), "--toy-answers", str(written)]
    subprocess.run([*command, "replay", *flags], capture_output=True, timeout=120, check=True)
    assert written.read_text().split() == [str(1 + n // 3) for n in range(60)]  # three users take turns


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ((), "Missing command"),
        (("replay", "--nonsense"), "No such option: --nonsense"),
        (("repaly",), "Did you mean 'replay'"),
        (("run", "--parallelism", "two"), "--parallelism"),
        (("replay",), "no events to read: give --events FILE (- is standard input) or --kafka HOST:PORT"),
        (("run",), "no events to read: give --events FILE (- is standard input) or --kafka HOST:PORT"),
        (("replay", "--events", "absent.jsonl"), "--events: absent.jsonl is not there"),
        (("run", "--events", "absent.jsonl"), "--events: absent.jsonl is not there"),
        (("replay", "--events", "."), "--events: . is a folder"),
        (("replay", "--events", "-", "--items", "-"), "--items: standard input is taken by --events"),
        (("replay", "--events", "-", "--slates", "absent/s"), "--slates: the folder absent is not there"),
        (("replay", "--events", "-", "--slates", "-", "--receipts", "-"), "standard output is taken by --slates"),
        (("replay", "--config", "absent.toml"), "absent.toml: cannot read it (No such file or directory)"),
        (("replay", "--kafka", "nowhere"), "kafka.bootstrap: expected HOST:PORT"),
        (("get", "u", "--redis", "nowhere"), "redis.url: expected a URL such as redis://HOST:PORT/0"),
        (("get", "u"), "redis.url: no Redis is configured"),
        (("get",), "Missing argument 'USER'"),
        (("check", "--sample", "0"), "--sample"),
        (("convert", "nothing", "--events", "e", "--items", "i"), "no data set 'nothing'; there are movielens-100k,"),
        (("convert", "serenade", "--events", "e", "--items", "i"), "--source: give the file or folder of serenade"),
        (("convert", "csv", "--map", "user", "--events", "e", "--items", "i"), "--map: expected FIELD=COLUMN"),
        (("convert", "serenade", "--source", "x"), "Missing option '--events'"),
    ],
)
def test_a_usage_error_is_one_line_with_the_mend_and_exit_code_2(arguments: tuple[str, ...], told: str) -> None:
    assert_one_line(riverrank(*arguments), 2, told)


def test_an_output_never_overwrites_an_input(events: Path) -> None:
    before = events.read_bytes()
    done = riverrank("replay", "--events", events, "--slates", events)
    assert_one_line(done, 2, "is taken by --events")
    assert events.read_bytes() == before != b""


def test_a_mistake_in_the_configuration_names_file_and_key(tmp_path: Path, events: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text("[exploration]\nrat = 0.1\n", "utf-8")
    done = riverrank("replay", "--config", path, "--events", events)
    assert_one_line(done, 2, f"{path}: exploration.rat: no such key; the nearest is exploration.rate")


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ('model = "linear_model.Nothing"', "linear_model.Nothing"),
        ('model = "optim.SGD"', "optim.SGD"),
        ('optimizer = "nowhere.SGD"', "nowhere.SGD"),
        ("parameters = { l3 = 1.0 }", "learner.parameters"),
    ],
)
def test_a_learner_that_river_has_not_is_a_configuration_error(
    tmp_path: Path, events: Path, setting: str, told: str
) -> None:
    path = tmp_path / "c.toml"
    path.write_text(f"[learner]\n{setting}\n", "utf-8")
    assert_one_line(riverrank("replay", "--config", path, "--events", events), 2, "learner", told)


def test_services_that_do_not_answer_are_told_within_seconds(events: Path) -> None:
    with socket.socket() as bound:  # bound, and not listening: nobody else takes the port
        bound.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{bound.getsockname()[1]}"
        started = time.monotonic()
        for command in ("run", "replay", "check"):
            done = riverrank(command, "--events", events, "--redis", f"redis://:geheim@{address}/0")
            assert_one_line(done, 2, f"redis.url: redis://:***@{address}/0 does not answer", "start it, or mend")
            assert "geheim" not in done.stderr
            assert_one_line(
                riverrank(command, "--kafka", address), 2, f"no broker answers at {address}", "mend --kafka"
            )
        assert time.monotonic() - started < 90


def test_replay_writes_a_slate_an_event_and_says_so_on_standard_error(events: Path, items: Path) -> None:
    done = riverrank("replay", "--events", "-", "--items", items, "--slates", "-", stdin=events.read_text("utf-8"))
    assert done.returncode == 0, done.stderr
    slates = [json.loads(line) for line in done.stdout.splitlines()]
    assert [slate["trigger"] for slate in slates] == [f"e{n}" for n in range(60)]
    assert "60 slates" in done.stderr


def test_the_effective_configuration_is_on_standard_output_and_is_toml(tmp_path: Path) -> None:
    path = tmp_path / "c.toml"
    path.write_text('allowed_lateness = "2h"\n[slate]\nsize = 7\n', "utf-8")
    done = riverrank("check", "--config", path)
    assert done.returncode == 0, done.stderr
    expected = parse({"allowed_lateness": "2h", "slate": {"size": 7}})
    assert parse(tomllib.loads(done.stdout)) == expected != Config()
    document = json.loads(riverrank("check", "--config", path, "--json").stdout)
    assert document["config"]["allowed_lateness"] == 7_200_000
    assert document["config"]["slate"]["size"] == 7
    assert (document["events"], document["items"]) == (None, None)


def test_no_secret_of_the_environment_is_printed(valkey: Valkey) -> None:
    secret = {"RIVERRANK_REDIS_URL": f"{valkey.url.rstrip('/')}?password=geheim"}
    for arguments in (("check",), ("check", "--json")):
        done = riverrank(*arguments, environment=secret)
        assert "geheim" not in done.stdout + done.stderr
        assert "***" in done.stdout + done.stderr


def bad_stream() -> tuple[str, str]:
    """Events and items with one of each fault."""
    hour = 3_600_000
    good = [click("e1", 10 * hour), click("e2", 10 * hour, "unknown"), click("e3", 10 * hour, "gone", "v")]
    events = (
        lines(*good, good[0], click("e4", 8 * hour)) + "{not json\n" + '{"event_id":"e5"}\n\n' + '{"event_id":"e6"}\n'
    )
    items = lines(Item(item_id="i", ts=1), Item(item_id="gone", ts=2, deleted=True), Item(item_id="gone", ts=1))
    return events, items + '{"item_id":7,"ts":1}\n'


def test_check_says_what_would_be_dead_letters_and_what_the_catalogue_lacks(tmp_path: Path) -> None:
    for name, text in zip(("e", "i"), bad_stream(), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    arguments = ("check", "--events", tmp_path / "e", "--items", tmp_path / "i")
    document = json.loads(riverrank(*arguments, "--json").stdout)
    late = "ts: 28800000 is older than the user's second newest event 36000000 by more than 3600000 ms"
    assert document["events"] == {
        "origin": str(tmp_path / "e"),
        "is_topic": False,
        "records": 8,
        "complete": True,
        "dead_letters": {
            "late": {"count": 1, "where": "line 4", "detail": late},
            "bad_json": {
                "count": 1,
                "where": "line 5",
                "detail": document["events"]["dead_letters"]["bad_json"]["detail"],
            },
            "bad_field": {"count": 2, "where": "line 6", "detail": "type: a required field, none is there"},
        },
    }
    assert document["items"]["dead_letters"]["bad_field"]["count"] == 1
    assert (document["types"], document["users"], document["redeliveries"]) == ({"click": 3}, 2, 1)
    assert document["unknown_items"] == {"items": 2, "events": 2, "examples": ["unknown", "gone"]}
    printed = riverrank(*arguments).stdout
    assert tomllib.loads(printed)["files"]["events"] == str(tmp_path / "e")
    assert "#   4 would be dead letters\n" in printed
    assert f"#     1 late; the first, line 4: {late}\n" in printed
    assert "# 2 items that 2 events name are not in the catalogue, such as unknown, gone\n" in printed
    assert "#   times from 1970-01-01 08:00:00 UTC to 1970-01-01 10:00:00 UTC\n" in printed
    assert "#   all of them lie in 1970: are these seconds? ts is in milliseconds since 1970\n" in printed


def rated(number: int, value: float, ts: int) -> str:
    event = Event(f"e{number}", "rate", f"u{number}", ts, "i", value)
    return lines(event)


def test_check_tells_of_a_scale_of_ratings_that_is_not_the_one_that_is_set(tmp_path: Path) -> None:
    for values, said in (
        ([80.0, 30.0, 5.0], "2 of 3 ratings are outside reward.rate_least to reward.rate_most"),
        ([-1.0, 1.0, 0.0], "of 3 ratings none reaches reward.rate_from"),
        ([5.0, 4.0, 4.5], "of 3 ratings each reaches reward.rate_from"),
    ):
        text = "".join(rated(number, value, 1_764_000_000_000 + number) for number, value in enumerate(values))
        (tmp_path / "e").write_text(text, "utf-8")
        assert said in riverrank("check", "--events", tmp_path / "e").stdout


def test_check_tells_of_a_file_in_reverse_order(tmp_path: Path) -> None:
    text = "".join(rated(number, 3.0, 1_764_000_000_000 - number) for number in range(20))
    (tmp_path / "e").write_text(text, "utf-8")
    printed = riverrank("check", "--events", tmp_path / "e").stdout
    assert "19 events are older than the one before them: the input is in reverse order" in printed


def test_what_check_counts_is_what_replay_sets_aside(tmp_path: Path) -> None:
    for name, text in zip(("e", "i"), bad_stream(), strict=True):
        (tmp_path / name).write_text(text, "utf-8")
    inputs = ("--events", tmp_path / "e", "--items", tmp_path / "i")
    document = json.loads(riverrank("check", *inputs, "--json").stdout)
    done = riverrank("replay", *inputs, "--dead-letters", "-")
    letters = [json.loads(line) for line in done.stdout.splitlines()]
    counted = [r for name in ("events", "items") for r in document[name]["dead_letters"].values()]
    assert len(letters) == sum(rejected["count"] for rejected in counted) == 5


def test_a_sample_that_ends_early_says_so_and_judges_no_catalogue(events: Path, items: Path) -> None:
    document = json.loads(riverrank("check", "--events", events, "--items", items, "--sample", "5", "--json").stdout)
    assert (document["events"]["records"], document["events"]["complete"]) == (5, False)
    assert document["unknown_items"] is None


def test_check_samples_topics(broker: KafkaBroker, tmp_path: Path) -> None:
    from kafka import KafkaProducer  # noqa: PLC0415

    names = {"events": f"events-{os.getpid()}", "items": f"items-{os.getpid()}"}
    for name in names.values():
        broker.create_topic(name)
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for name, text in zip(names.values(), bad_stream(), strict=True):
        for line in filter(None, text.splitlines()):
            producer.send(name, line.encode(), key=b"u", partition=0)
    producer.send(names["items"], None, key=b"i", partition=0)
    producer.flush()
    producer.close()
    path = tmp_path / "c.toml"
    path.write_text(f'[kafka]\nevents = "{names["events"]}"\nitems = "{names["items"]}"\n', "utf-8")
    document = json.loads(riverrank("check", "--config", path, "--kafka", broker.bootstrap, "--json").stdout)
    assert document["events"]["records"] == 8
    assert document["events"]["dead_letters"]["late"]["where"] == "partition 0, offset 4"
    assert document["unknown_items"]["examples"] == ["i", "unknown", "gone"]  # a tombstone deleted i


def test_a_topic_that_is_not_there_is_told(broker: KafkaBroker) -> None:
    done = riverrank("check", "--kafka", broker.bootstrap)
    assert_one_line(done, 2, "the broker has no topic 'events', 'items'", "riverrank topics --create")


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
    process = subprocess.Popen(
        [SCRIPT, "replay", "--events", "-", "--items", items, "--slates", slates],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(lines(click("e", 1)))
        process.stdin.flush()
        streams.wait_until(slates.exists)  # all is imported and opened: it works, or waits for more events
        if number == signal.SIGKILL:
            streams.wait_until(lambda: len(group(process.pid)) == min(2, len(os.sched_getaffinity(0))))
        process.send_signal(number)
        streams.wait_until(lambda: not group(process.pid))  # though standard input is still open
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert "Traceback" not in out + err
    assert "riverrank:" not in err
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


def test_an_unexpected_exception_is_one_line_and_a_traceback_only_on_request(tmp_path: Path) -> None:
    packed = tmp_path / "e.jsonl.gz"
    packed.write_bytes(b"this is no gzip data")
    done = riverrank("replay", "--events", packed)
    assert_one_line(done, 1, "gzip")
    debugged = riverrank("replay", "--events", packed, environment={"RIVERRANK_DEBUG": "1"})
    assert debugged.returncode != 0
    assert "Traceback" in debugged.stderr


def test_a_reader_that_has_seen_enough_ends_it_quietly() -> None:
    done = subprocess.run(
        f"'{SCRIPT}' check | head -n 1", shell=True, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.startswith("# Durations")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr
