"""What the configuration promises: defaults for all, one clear line for a mistake."""

import pickle
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Annotated, Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta
from riverrank.jobs.config import text as config_text
from riverrank.jobs.config.edges import FileSettings, KafkaSettings
from riverrank.jobs.config.fields import schema_of
from riverrank.jobs.config.preflight import check_behaviour
from riverrank.jobs.config.schema import Config, load, parse
from riverrank.jobs.errors import UsageError
from riverrank.operators.settings import Behaviour, Section, SlateSettings
from riverrank.state.outputs import OUTPUTS
from riverrank.state.runtime.durations import duration, milliseconds

ROOT = Path(config_text.__file__).resolve().parents[2]

DURATION_KEYS = {
    "allowed_ahead",
    "allowed_lateness",
    "impression.window",
    "signals.flush_every",
    "ranker.flush_every",
    "redis.timeout",
    "cache.ttl",
    "cache.popular_every",
    "cache.flush_every",
    "cache.drain",
    "job.checkpoint_every",
    "job.state_ttl",
    "noise.window",
    "prior.every",
    "history.story",
    "serve.timeout",
    "serve.wait",
    "serve.refresh",
    "serve.drain",
}


def document(dotted: str, value: object) -> dict[str, Any]:
    """The TOML document that sets one key."""
    section, _, key = dotted.rpartition(".")
    return {section: {key: value}} if section else {key: value}


def value_of(config: Config, dotted: str) -> object:
    value: Any = config_text.as_document(config)
    for key in dotted.split("."):
        value = value[key]
    return value


def written(text: str, folder: Path) -> Path:
    path = folder / "riverrank.toml"
    path.write_text(text, "utf-8")
    return path


def test_no_file_and_an_empty_file_are_the_defaults(tmp_path: Path) -> None:
    path = written("", tmp_path)
    assert load() == Config() and load(path) == Config(path=str(path))
    assert load().cache.ttl == 7 * 24 * 3600 * 1000
    assert load().behaviour.slate.size == 20


def test_the_printed_configuration_parses_back_to_itself() -> None:
    changed = {
        "allowed_lateness": "90m",
        "learner": {
            "model": "naive_bayes.BernoulliNB",
            "parameters": {"a b": [1, 2.5e-9, True, 'q"\\\x7f\u20ac'], "c": {}},
        },
        "kafka": {"bootstrap": "one:9092,two:9092", "delivery": "exactly-once"},
        "redis": {"url": "redis://cache:6379/0"},
        "cache": {"drain": 0, "flush_every": 7},
        "diversity": {"strength": 1},
    }
    for config in (Config(), parse(changed)):
        assert parse(tomllib.loads(config_text.render(config))) == config
    assert parse(changed) != Config()


def test_every_setting_is_printed_once_with_what_its_field_says() -> None:
    printed = config_text.render(parse({"slate": {"size": 7}})).splitlines()
    settings = schema_of(Config).settings
    assert len(settings) == sum(" = " in line.split("#")[0] for line in printed) > 60
    assert "size = 7  # items on a slate, at most: a whole number from 1 to 200; default 20" in printed
    assert (
        "novelty = 0.0  # what the least popular items gain, in logits: a number from 0 to 10; default 0.0" in printed
    )
    for setting in settings.values():
        assert setting.meaning, f"{setting.key} has no description"
        assert any(line.startswith(f"{setting.name} = ") and setting.meaning in line for line in printed)


def test_the_page_of_settings_is_what_its_command_writes() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.config.text"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == (ROOT / "docs/settings.md").read_text("utf-8"), config_text.__doc__
    for setting in schema_of(Config).settings.values():
        assert f"| `{setting.name}` | {setting.meaning}" in done.stdout


class ToySettings(SlateSettings):
    """A section with one setting more."""

    toys: Annotated[int, Meta(ge=1, le=9, description="toys on a slate", extra={"unit": "toys"})] = 3


class ToyBehaviour(Behaviour):
    slate: ToySettings = ToySettings()


class ToyConfig(Config):
    behaviour: ToyBehaviour = ToyBehaviour()


def test_a_setting_is_added_by_one_field() -> None:
    config = parse({"slate": {"toys": 5}}, kind=ToyConfig)
    assert config.behaviour.slate.toys == 5
    assert "toys = 5  # toys on a slate, in toys: a whole number from 1 to 9; default 3" in config_text.render(config)
    assert "| `toys` | toys on a slate, in toys | a whole number from 1 to 9 | `3` |" in config_text.page(ToyConfig)
    with pytest.raises(UsageError, match=r"slate\.toys: expected a whole number from 1 to 9, got 10"):
        parse({"slate": {"toys": 10}}, kind=ToyConfig)
    with pytest.raises(UsageError, match=r"the nearest is slate\.toys"):
        parse({"slate": {"toyz": 5}}, kind=ToyConfig)
    with pytest.raises(UsageError, match=r"slate\.toys: no such key"):
        parse({"slate": {"toys": 5}})


def test_a_source_that_is_not_there_is_named_with_those_that_are() -> None:
    check_behaviour(parse({"sources": {"off": ["content"]}}))
    with pytest.raises(UsageError, match=r"sources\.off: there is no source 'txt'; expected some of new, trending, "):
        check_behaviour(parse({"sources": {"off": ["content", "txt"]}}))


@pytest.mark.parametrize(
    ("learner", "said"),
    [
        (
            {"parameters": {"l2": "x"}},
            r"^learner: linear_model.LogisticRegression with optim.SGD and its parameters can't",
        ),
        ({"parameters": {"loss": "x"}}, "can't learn here .*; mend learner.model, learner.optimizer or learner.param"),
        ({"optimizer": "optim.Averager"}, "^learner"),
        ({"optimizer": "optim.base.Optimizer"}, "^learner"),
        (
            {"model": "ensemble.BaggingClassifier"},
            "^learner.model: ensemble.BaggingClassifier is made of another model",
        ),
    ],
)
def test_a_learner_that_cannot_learn_is_found_before_anything_starts(learner: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        check_behaviour(parse({"learner": learner}))


def test_a_learner_that_learns_is_tried_and_passes(caplog: pytest.LogCaptureFixture) -> None:
    check_behaviour(parse({"learner": {"rate": 0.0, "optimizer": "optim.Adam"}}))
    check_behaviour(parse({"slate": {"hide": ["purchase:30d"]}}))
    assert not caplog.records
    with pytest.raises(UsageError, match=r"^slate\.hide: 'dance' is no interaction"):
        check_behaviour(parse({"slate": {"hide": ["dance"]}}))


def test_a_section_made_at_run_time_is_a_table_like_any_other() -> None:
    fields = [(name, Annotated[bool, Meta(description=f"whether {name} is a source")], True) for name in ("one", "two")]
    sources = msgspec.defstruct("Sources", fields, bases=(Section,))
    behaviour = msgspec.defstruct("Made", [("sources", sources, sources())], bases=(Behaviour,))
    kind = msgspec.defstruct("MadeConfig", [("behaviour", behaviour, behaviour())], bases=(Config,))
    config = parse({"sources": {"two": False}}, kind=kind)
    assert (config.behaviour.sources.one, config.behaviour.sources.two) == (True, False)
    assert config_text.as_document(config)["sources"] == {"one": True, "two": False}
    assert parse(tomllib.loads(config_text.render(config)), kind=kind) == config
    with pytest.raises(UsageError, match=r"sources\.three: no such key"):
        parse({"sources": {"three": True}}, kind=kind)


def test_every_output_has_a_path_and_a_topic() -> None:
    assert OUTPUTS
    for output in OUTPUTS.values():
        config = parse({"files": {output.field: "out.jsonl"}, "kafka": {output.field: "elsewhere"}})
        assert (config.files.of(output), config.kafka.of(output)) == ("out.jsonl", "elsewhere")
        assert (FileSettings().of(output), KafkaSettings().of(output)) == ("", output.topic)
        assert output.meaning in config_text.render(config)


@pytest.mark.parametrize("dotted", sorted(DURATION_KEYS))
def test_a_duration_is_a_text_with_a_unit_or_whole_milliseconds(dotted: str) -> None:
    month = 30 * 86_400_000
    for value in ("30d", "720h", "43200m", "2592000s", "2592000000ms", month):
        config = parse(document(dotted, value))
        assert value_of(config, dotted) == month
        assert f'{dotted.rpartition(".")[2]} = "30d"' in config_text.render(config)


def test_these_keys_are_the_durations() -> None:
    assert {key for key, setting in schema_of(Config).settings.items() if setting.is_duration} == DURATION_KEYS


@given(st.integers(0, 10**12))
def test_a_duration_printed_is_the_same_duration(value: int) -> None:
    assert milliseconds(duration(value)) == value


@pytest.mark.parametrize(
    "value", ["", "soon", "-1s", "1 fortnight", "1.5ms", 1.5, True, None, [], "36501d", "1e3s", -1]
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(UsageError, match=r"^cache\.ttl: expected a duration"):
        parse(document("cache.ttl", value))


@pytest.mark.parametrize(
    ("dotted", "nearest"),
    [
        ("exploration.rat", "exploration.rate"),
        ("slate.strength", "diversity.strength"),
        ("rank", "ranker"),
        ("kafka.bootstrap_servers", "kafka.bootstrap"),
        ("alowed_lateness", "allowed_lateness"),
        ("behaviour", "seed"),
        ("cache.TTL", "cache.ttl"),
    ],
)
def test_an_unknown_key_is_an_error_that_names_the_nearest(dotted: str, nearest: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(document(dotted, 1))
    told = str(raised.value)
    assert told.startswith(f"{dotted}: no such key; the nearest is ")
    assert dotted == "behaviour" or told.endswith(nearest)


@pytest.mark.parametrize(
    ("dotted", "value", "told"),
    [
        ("job.parallelism", 0, "job.parallelism: expected a whole number from 1 to 1000000000, got 0"),
        ("job.parallelism", "4", "job.parallelism: expected a whole number from 1 to 1000000000, got '4'"),
        ("job.parallelism", 1000, "job.parallelism: expected at most job.max_parallelism (128), got 1000"),
        ("exploration.rate", 1.5, "exploration.rate: expected a number from 0 to 1, got 1.5"),
        ("exploration.rate", float("nan"), "exploration.rate: expected a finite number, got nan"),
        ("reward.view", float("inf"), "reward.view: expected a finite number, got inf"),
        ("learner.parameters", {"l2": float("nan")}, "learner.parameters: expected a finite number, got nan"),
        ("signals.half_life_events", 1 << 70, "signals.half_life_events: expected a whole number from 1 to 1000000000"),
        ("catalogue.new_items", 1 << 62, "catalogue.new_items: expected a whole number from 1 to 100000"),
        ("embedding.warmup_events", -1, "embedding.warmup_events: expected a whole number from 0 to 1000000000"),
        ("slate.hide", 1, "slate.hide: expected a list, each a text, got 1"),
        ("kafka.start", "begin", "kafka.start: expected one of committed, earliest, latest, got 'begin'"),
        ("kafka.bootstrap", "broker", "kafka.bootstrap: expected HOST:PORT, or several with commas between"),
        ("kafka.bootstrap", "broker:99999", "kafka.bootstrap: expected HOST:PORT"),
        ("kafka.events", "", "kafka.events: expected a text that matches"),
        ("kafka.items", "events", "kafka: two streams are on the topic 'events'"),
        ("kafka.security", "SASL_SSL", "kafka.username: SASL_SSL needs a user name, and a password"),
        ("redis.url", "cache:6379", "redis.url: expected a URL such as redis://HOST:PORT/0"),
        ("redis.url", "redis://cache:6379/zero", "redis.url: expected a URL such as redis://HOST:PORT/0"),
        ("redis.url", "redis://cache:port", "redis.url: expected a URL such as redis://HOST:PORT/0"),
        ("redis.url_file", "/absent/secret", "redis.url_file: cannot read the file that it names (No such"),
        ("job.state_ttl", "1m", "job.state_ttl: expected at least allowed_lateness"),
        ("ranker", 3, "ranker: expected a table, [ranker], got int"),
        ("files.events", ["a"], "files.events: expected a text, got ['a']"),
        ("cache.ttl", 0, "cache.ttl: expected a duration of at least 1 ms, got 0"),
        ("cache.depth", 19, "cache.depth: expected at least slate.size (20), or 0 for as many, got 19"),
        ("cache.depth", 201, "cache.depth: expected a whole number from 0 to 200, got 201"),
    ],
)
def test_a_wrong_value_names_its_key_what_was_expected_and_what_was_got(dotted: str, value: object, told: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse(document(dotted, value))
    assert str(raised.value).startswith(told)


def test_what_is_kept_of_an_erasure_outlasts_every_cached_slate() -> None:
    document = {"job": {"state_ttl": "8d"}, "cache": {"ttl": "8d"}}
    assert parse(document).job.state_ttl == parse(document).cache.ttl  # nothing is cached
    for flags in ({"redis.url": "redis://cache:6379/0"}, {"redis.url": "redis://cache:6379/0", "cache.ttl": "9d"}):
        with pytest.raises(UsageError, match=r"^job\.state_ttl: expected more than cache\.ttl \([89]d\), got 8d: "):
            parse(document, flags)
    assert parse(document, {"redis.url": "redis://cache:6379/0", "cache.ttl": "7d"}).cache.ttl == 7 * 86_400_000


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    for path, reason in (
        (tmp_path / "absent.toml", "No such file"),
        (tmp_path, "Is a directory"),
        (written("a = ", tmp_path), "not TOML"),
    ):
        with pytest.raises(UsageError, match=reason) as raised:
            load(path)
        assert str(path) in str(raised.value)
    broken = tmp_path / "broken.toml"
    broken.write_bytes(b'[job]\nname = "\xff"')
    with pytest.raises(UsageError, match="not UTF-8"):
        load(broken)


def test_a_mistake_names_the_file_where_the_file_is_at_fault_and_only_then(tmp_path: Path) -> None:
    good, bad = written("seed = 1", tmp_path), tmp_path / "bad.toml"
    bad.write_text("sed = 1", "utf-8")
    with pytest.raises(UsageError, match=r"bad\.toml: sed: no such key; the nearest is seed"):
        load(bad)
    with pytest.raises(UsageError, match=r"^job\.parallelism: expected a whole number from 1 to 1000000000"):
        load(good, {"job.parallelism": 0})


def test_flags_go_before_the_environment_and_that_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written('[redis]\nurl = "redis://file:1"\n[job]\nparallelism = 2', tmp_path)
    assert load(path, {"job.parallelism": None}).job.parallelism == 2
    assert load(path, {"job.parallelism": 4}).job.parallelism == 4
    assert load(path).redis.url == "redis://file:1"
    monkeypatch.setenv("RIVERRANK_REDIS_URL", "redis://environment:1")
    assert load(path).redis.url == "redis://environment:1"
    assert load(path, {"redis.url": "redis://flag:1"}).redis.url == "redis://flag:1"


def test_a_configuration_can_be_pickled_into_the_job() -> None:
    config = parse({"slate": {"size": 5}, "redis": {"url": "redis://:geheim@cache"}})
    assert pickle.loads(pickle.dumps(config)) == config
