"""`riverrank check`: the effective configuration, and what its inputs hold, before anything runs."""

import json
import os
import tomllib
from pathlib import Path

from console_script import click, lines, riverrank
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.dev.services import KafkaBroker, Valkey
from riverrank.state.records.incoming import Event, Item


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


def test_check_says_which_rules_and_floors_name_nothing(tmp_path: Path) -> None:
    (tmp_path / "i").write_text(lines(Item(item_id="i", ts=1, categories=("tents",), attributes={"brand": "Tarn"})))
    written = """
        rules = { pin = ["category=tents"], bury = { "category=tent" = 1.0 } }
        fairness = { floors = { "brand=Tarn" = 0.1, "brand=Torn" = 0.2 } }
        experiment = { arms = { a = { share = 0.5, "rules.pin" = ["brand=Trn"] } } }
    """
    (tmp_path / "c.toml").write_text(written)
    done = riverrank("check", "--config", tmp_path / "c.toml", "--items", tmp_path / "i")
    told = [line for line in done.stdout.splitlines() if line.lstrip("# ").startswith("no item is")]
    assert [line.split(",")[0].lstrip("# ") for line in told] == [
        f"no item is {name}" for name in ("category=tent", "brand=Torn", "brand=Trn")
    ]


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
