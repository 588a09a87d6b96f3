"""What `explain` says of items by their titles, and of the popular slate, against a real valkey-server and a broker."""

import io
import json
from pathlib import Path

import msgspec
import pytest
import redis
from kafka import KafkaProducer
from riverrank.jobs.config.edges import FileSettings, KafkaSettings, RedisSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.errors import UsageError
from riverrank.jobs.serving.slates import explain
from riverrank.jobs.serving.titles import titles_of
from riverrank.operators.cache.redis_cache import Cache, slate_key
from riverrank.state.messages import CacheWrite
from riverrank.state.records.outgoing import Cause, ModelInfo, Slate, Slot, to_json
from valkey_server import Server

SLATE = Slate(
    slate_id="u:7", user_id="u", version=7, ts=1, trigger="e", strategy="warm", arm="control", model=ModelInfo(1, 2),
    items=(Slot("i-8", 1, 0.8, 1.0, ("covisit",), (Cause("because_you_clicked", item_id="i-3", weight=0.5),)),),
)  # fmt: skip
RECORDS = [
    {"item_id": "i-8", "ts": 5, "title": "Red\ttent\u001b[31m"},
    {"item_id": "i-8", "ts": 3, "title": "Old name"},
    {"item_id": "i-3", "ts": 3, "title": "Small stove"},
    {"item_id": "i-4", "ts": 3, "title": "Of no interest"},
]


@pytest.fixture
def config(server: Server) -> Config:
    redis.Redis(port=server.port).flushall()
    made = Config(redis=RedisSettings(url=server.url))
    cache = Cache(made.redis.url, made.redis.prefix)
    popular = msgspec.structs.replace(SLATE, slate_id="popular:7", user_id="popular", trigger="popular")
    cache.write([CacheWrite(slate_key("u"), 0, 7, to_json(SLATE)), CacheWrite("popular", 0, 7, to_json(popular))])
    return made


@pytest.fixture
def items(tmp_path: Path) -> Path:
    path = tmp_path / "items.jsonl"
    path.write_text("".join(json.dumps(record) + "\n" for record in [*RECORDS, "no item"]), "utf-8")
    return path


def with_items(config: Config, path: Path) -> Config:
    return msgspec.structs.replace(config, files=FileSettings(items=str(path)))


def explained(config: Config, user: str = "u") -> tuple[str, str]:
    out, warnings = io.StringIO(), io.StringIO()
    explain(config, user, output=out, warnings=warnings)
    return out.getvalue(), warnings.getvalue()


def test_items_have_the_titles_of_their_newest_records_and_titles_are_no_codes(config: Config, items: Path) -> None:
    text, warnings = explained(with_items(config, items))
    head, columns, row = text.splitlines()
    assert head.startswith("# u:7: warm") and warnings == ""
    assert columns.split("\t")[:3] == ["rank", "item", "title"]
    assert row.split("\t")[:3] == ["1", "i-8", "Red\\ttent\\x1b[31m"]
    assert row.endswith("because you clicked Small stove (+0.50)")


def test_only_titles_that_are_asked_for_are_held(config: Config, items: Path) -> None:
    assert titles_of(with_items(config, items), {"i-3", "i-99"}) == {"i-3": "Small stove"}
    with items.open("a") as file:
        file.write('{"item_id":"i-3","ts":9,"deleted":true}\n')
    assert titles_of(with_items(config, items), {"i-3"}) == {}


def test_a_table_on_a_terminal_shows_titles(
    config: Config, items: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: True)
    explain(with_items(config, items), "u", output=out)
    assert "Red\\ttent" in out.getvalue() and "Small stove" in out.getvalue() and "i-8" not in out.getvalue()


@pytest.mark.parametrize("terminal", [True, False])
def test_the_popular_slate_says_that_it_is_one(config: Config, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    out = io.StringIO()
    monkeypatch.setattr(out, "isatty", lambda: terminal)
    explain(config, "stranger", output=out, warnings=io.StringIO())
    assert "stranger has no slate; popular with everyone, popular:7" in out.getvalue()
    assert "has no slate" not in explained(config)[0]


def test_a_file_that_is_not_there_is_a_usage_error(config: Config, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--items: .*none\.jsonl is not there"):
        explained(with_items(config, tmp_path / "none.jsonl"))


def test_titles_come_from_the_topic_and_a_broker_that_is_away_costs_only_them(
    config: Config, broker: KafkaBroker, free_port: int
) -> None:
    broker.create_topic("titled")
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for record in RECORDS:
        producer.send("titled", key=record["item_id"].encode(), value=json.dumps(record).encode())
    producer.close()

    def reading(bootstrap: str) -> Config:
        return msgspec.structs.replace(config, kafka=KafkaSettings(bootstrap=bootstrap, items="titled"))

    assert "because you clicked Small stove" in explained(reading(broker.bootstrap))[0]
    text, warnings = explained(reading(f"127.0.0.1:{free_port}"))
    assert "because you clicked i-3" in text
    assert warnings.startswith("titles are left out: kafka.bootstrap: no broker answers")
