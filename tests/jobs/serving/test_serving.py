"""What `get`, `explain` and `erase` promise, against a real valkey-server and a real broker."""

import contextlib
import io
import json
import re

import msgspec
import pytest
import redis
from kafka import KafkaConsumer
from riverrank.jobs.config.edges import KafkaSettings, RedisSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.serving.slates import erase, explain, get
from riverrank.operators.cache.redis_cache import Cache, slate_key
from riverrank.state.messages import CacheWrite
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json
from valkey_server import Server, free_port


@pytest.fixture
def config(server: Server) -> Config:
    redis.Redis(port=server.port).flushall()
    return Config(redis=RedisSettings(url=server.url))


def slate_of(user: str, version: int = 42) -> Slate:
    clicked = Cause("because_you_clicked", item_id="i-3", weight=0.42)
    category = Cause("category", value="sci-fi", weight=0.2)
    return Slate(
        slate_id=f"{user}:{version}",
        user_id=user,
        version=version,
        ts=1_764_000_000_000,
        trigger="e-1",
        strategy="warm",
        arm="control",
        model=ModelInfo(examples=57, global_version=1203),
        items=(
            Slot("i-8", 1, 0.83, 0.91, ("covisit", "embedding"), (clicked, category)),
            Slot("i-9", 2, 0.31, 0.91, ("trending",), (Cause("popular"),)),
        ),
    )


def put(config: Config, key: str, slate: Slate) -> bytes:
    raw = to_json(slate)
    assert Cache(config.redis.url, config.redis.prefix).write([CacheWrite(key, 0, slate.version, raw)]) == {key}
    return raw


def test_get_gives_the_cached_bytes_and_says_nothing(config: Config) -> None:
    raw, told = put(config, slate_key("u-17"), slate_of("u-17")), io.StringIO()
    put(config, "popular", slate_of("nobody"))
    assert get(config, "u-17", told) == raw
    assert told.getvalue() == ""


def test_items_that_are_gone_are_left_out_of_a_slate(config: Config) -> None:
    put(config, slate_key("u-17"), slate_of("u-17"))
    Cache(config.redis.url, config.redis.prefix).write([CacheWrite("gone:i-8", 0, 1, b"1")])
    found = json.loads(get(config, "u-17") or b"")
    assert [slot["item_id"] for slot in found["items"]] == ["i-9"]
    out = io.StringIO()
    explain(config, "u-17", output=out)
    assert "i-9" in out.getvalue() and "i-8" not in out.getvalue()


def test_get_falls_back_to_popular_and_says_so(config: Config) -> None:
    raw, told = put(config, "popular", slate_of("nobody")), io.StringIO()
    assert get(config, "u-18", told) == raw
    assert told.getvalue() == "Redis holds no rr:slate:u-18: this is rr:popular\n"


def test_get_of_an_empty_cache_is_none(config: Config) -> None:
    told = io.StringIO()
    assert get(config, "u-18", told) is None
    assert "no rr:popular either" in told.getvalue()


def test_get_is_one_round_trip(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    put(config, "popular", slate_of("nobody"))
    sent: list[bytes] = []
    send = redis.Connection.send_packed_command

    def counted(self: redis.Connection, command: list[bytes], check_health: bool = True) -> None:
        sent.append(b"".join(command) if isinstance(command, list) else command)
        send(self, command, check_health)

    monkeypatch.setattr(redis.Connection, "send_packed_command", counted)
    assert get(config, "u-18", io.StringIO())
    assert [packed.count(b"HGET") for packed in sent if b"SELECT" not in packed] == [2]


def test_configured_prefix_is_read(server: Server, config: Config) -> None:
    other = Config(redis=RedisSettings(url=server.url, prefix="shop:"))
    raw = put(other, slate_key("u"), slate_of("u"))
    assert get(other, "u", io.StringIO()) == raw
    assert get(config, "u", io.StringIO()) is None


def test_redis_away_or_not_configured_is_a_usage_error_with_the_mend() -> None:
    with pytest.raises(UsageError, match="--redis redis://HOST:PORT/0"):
        get(Config(), "u")
    url = f"redis://:hunter2@127.0.0.1:{free_port()}/0"
    with pytest.raises(UsageError, match="start Redis, or mend the address") as raised:
        get(Config(redis=RedisSettings(url=url)), "u")
    assert "hunter2" not in str(raised.value)


def test_explain_names_sources_and_reasons_with_weights(config: Config) -> None:
    put(config, slate_key("u-17"), slate_of("u-17"))
    out = io.StringIO()
    explain(config, "u-17", output=out)
    lines = out.getvalue().splitlines()
    assert lines[0] == "# u-17:42: warm, arm control, answers e-1, learner of 57 examples, ranker 1203"
    assert lines[2].split("\t") == [
        "1",
        "i-8",
        "0.8300",
        "0.9100",
        "covisit,embedding",
        "because you clicked i-3 (+0.42), category sci-fi (+0.20)",
    ]
    assert lines[3].endswith("trending\tpopular")
    assert len(lines) == 4


def test_explain_is_a_table_on_a_terminal(config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    put(config, slate_key("u-17"), slate_of("u-17"))
    monkeypatch.setenv("COLUMNS", "160")
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    explain(config, "u-17", output=out)
    assert "because you clicked i-3 (+0.42)" in out.getvalue()
    assert "┃" in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_ids_and_values_of_others_are_no_markup_no_codes_and_no_cells(
    config: Config, monkeypatch: pytest.MonkeyPatch, terminal: bool
) -> None:
    user, hostile = "u[/b]\x1b[31m", "i[/b][red]\x1b]0;owned\x07\t\n\u202e"
    slot = Slot(hostile, 1, 0.83, 0.91, ("covisit",), (Cause("category", value=hostile, weight=0.2),))
    slate = msgspec.structs.replace(slate_of(user), items=(slot,), trigger=hostile)
    put(config, slate_key(user), slate)
    monkeypatch.setenv("COLUMNS", "300")
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    explain(config, user, output=out)
    text = re.sub(r"\x1b\[[013]m", "", out.getvalue())  # the table's own: bold, italic, neither
    assert not {"\x1b", "\x07", "\u202e"} & {*text}
    assert text.count("i[/b][red]\\x1b]0;owned\\x07\\t\\n\\u202e") == 3
    if not terminal:
        assert [len(line.split("\t")) for line in text.splitlines()] == [1, 6, 6]


def test_explain_json_is_the_slate_itself(config: Config) -> None:
    raw, out = put(config, slate_key("u-17"), slate_of("u-17")), io.StringIO()
    explain(config, "u-17", as_json=True, output=out)
    assert json.loads(out.getvalue()) == json.loads(raw)


def test_explain_of_nothing_fails_with_a_sentence(config: Config, server: Server) -> None:
    with pytest.raises(Failure, match="no slate to explain for u-18"):
        explain(config, "u-18", output=io.StringIO())
    redis.Redis(port=server.port).hset("rr:slate:u-19", mapping={"version": 1, "slate": "[]"})
    with pytest.raises(Failure, match="what Redis holds for u-19 is no slate"):
        explain(config, "u-19", output=io.StringIO())


def test_erase_without_kafka_writes_one_event_line() -> None:
    out = io.StringIO()
    event_id = erase(Config(), "käse 17", output=out)
    (line,) = out.getvalue().splitlines()
    event = decode_event(line.encode())
    assert (event.event_id, event.type, event.user_id) == (event_id, "erase", "käse 17")
    assert erase(Config(), "käse 17", output=out) != event_id


@pytest.mark.parametrize("user", ["", "x" * 257])
def test_erase_of_what_is_no_id_is_a_usage_error(user: str) -> None:
    with pytest.raises(UsageError, match="USER: expected a string of 1 to 256 bytes"):
        erase(Config(), user, output=io.StringIO())


def test_erase_with_no_broker_there_is_a_usage_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("riverrank.jobs.serving.slates.BROKER_TIMEOUT_MS", 500)
    with pytest.raises(UsageError, match=r"127\.0\.0\.1:\d+ takes no event .*mend the address"):
        erase(Config(kafka=KafkaSettings(bootstrap=f"127.0.0.1:{free_port()}")), "u")


def test_erase_writes_one_event_keyed_by_user_to_the_events_topic(broker: KafkaBroker) -> None:
    broker.create_topic("erasures")
    config = Config(kafka=KafkaSettings(bootstrap=broker.bootstrap, events="erasures"))
    out = io.StringIO()
    event_id = erase(config, "käse 17", output=out)
    reading = {"auto_offset_reset": "earliest", "consumer_timeout_ms": 3000}
    with contextlib.closing(KafkaConsumer("erasures", **config.kafka.python_arguments(), **reading)) as consumer:
        (record,) = list(consumer)
    event = decode_event(record.value)
    assert (event.event_id, event.type, event.user_id) == (event_id, "erase", "käse 17")
    assert record.key == "käse 17".encode()
    assert out.getvalue() == ""


def test_slate_of_the_tests_is_one_of_the_contract() -> None:
    assert msgspec.json.decode(to_json(slate_of("u")), type=Slate) == slate_of("u")
