"""A mistake is one clear line with the mend, and an exit code."""

import socket
import time
from pathlib import Path

import pytest
from console_script import assert_one_line, riverrank
from riverrank.jobs.dev.services import KafkaBroker


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
            assert_one_line(
                done, 2, f"redis.url: redis://:***@{address}/0 does not answer", "start Redis, or mend the address"
            )
            assert "geheim" not in done.stderr
            assert_one_line(
                riverrank(command, "--kafka", address), 2, f"no broker answers at {address}", "mend --kafka"
            )
        assert time.monotonic() - started < 90


def test_a_topic_that_is_not_there_is_told(broker: KafkaBroker) -> None:
    done = riverrank("check", "--kafka", broker.bootstrap)
    assert_one_line(done, 2, "the broker has no topic 'events', 'items'", "riverrank topics --create")


def test_an_unexpected_exception_is_one_line_and_a_traceback_only_on_request(tmp_path: Path) -> None:
    packed = tmp_path / "e.jsonl.gz"
    packed.write_bytes(b"this is no gzip data")
    done = riverrank("replay", "--events", packed)
    assert_one_line(done, 1, "gzip")
    debugged = riverrank("replay", "--events", packed, environment={"RIVERRANK_DEBUG": "1"})
    assert debugged.returncode != 0
    assert "Traceback" in debugged.stderr
