"""Secrets of the configuration: where they come from, and that no print holds one."""

import json
import tomllib
from pathlib import Path

import pytest
from riverrank.jobs.config import text as config_text
from riverrank.jobs.config.schema import Config, load, parse
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.urls import masked


def test_a_url_from_a_file_is_used_and_what_is_printed_leads_back_to_it(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("redis://:geheim@cache:6379/0\n", "utf-8")
    config = parse({"redis": {"url_file": str(secret)}})
    assert config.redis.url == "redis://:geheim@cache:6379/0"
    assert parse(tomllib.loads(config_text.render(config))) == config
    assert load(None, {"redis.url": "redis://flag:1"}).redis.url == "redis://flag:1"
    with pytest.raises(UsageError, match="give one of them"):
        parse({"redis": {"url_file": str(secret), "url": "redis://cache:6379"}})


@pytest.mark.parametrize(
    "url",
    [
        "redis://:geheim@cache:6379/0",
        "rediss://app:ge:h@geheim@cache/0",
        "redis://cache/0?db=1&password=geheim",
        "redis://cache/0?p%61ssword=geheim",
    ],
)
def test_no_password_is_ever_printed(url: str) -> None:
    config = parse({"redis": {"url": url}})
    assert config.redis.url == url
    printed = (repr(config), str(config), config_text.render(config), json.dumps(config_text.as_document(config)))
    assert all("geheim" not in text and "***" in text and "cache" in text for text in printed)
    with pytest.raises(UsageError, match="masked; give the URL in the environment variable RIVERRANK_REDIS_URL"):
        parse(tomllib.loads(config_text.render(config)))


URL = "redis://app:geheim@cache:1/0"


@pytest.mark.parametrize(
    "table",
    [
        {"redis": URL},
        {"redis": [URL]},
        {"redis": {"url": [URL]}},
        {"redis": {"url": {"url": URL}}},
        {"redis": {"url": {URL: 1}}},
        {"redis": {"timeout": URL}},
        {"redis": {"timeout": [URL]}},
        {"redis": {"url_file": URL}},
        {"redis": {"url_file": "geheim"}},
        {"redis": {"url": "redis://cache:port/0?p%61ssword=geheim"}},
        {"kafka": {"bootstrap": URL}},
        {"kafka": {"security": "SASL_SSL", "username": "app", "password_file": "geheim", "bootstrap": "b:1"}},
        {"privacy": {"key_file": "geheim\0"}},
        {"redis": {"url": "redis://app:geheim/0"}},
        {"redis": {"url": "redis://h:port/0?password=a&geheim"}},
        {"redis": {URL: 1}},
        {"kafka": ["sasl.jaas.config=geheim"]},
        {"kafka": {"properties": "sasl.password=geheim"}},
        {"kafka": {"bootstrap": "u:geheim@h:x"}},
        {
            "kafka": {
                "bootstrap": "b:1",
                "security": "SASL_SSL",
                "mechanism": "OAUTHBEARER",
                "username": "app",
                "token_url": "https://h/x?client_secret=geheim with",
            }
        },
        {"slate": {"size": URL}},
        {"rules": {"pin": URL}},
        {"allowed_lateness": URL},
    ],
)
def test_what_stands_in_the_wrong_place_is_told_of_without_the_secret_that_it_may_be(table: dict[str, object]) -> None:
    with pytest.raises(UsageError) as raised:
        parse(table)
    assert "geheim" not in str(raised.value), raised.value


def test_a_wrong_url_is_told_without_its_password() -> None:
    with pytest.raises(UsageError) as raised:
        parse({"redis": {"url": "http://app:geheim@cache"}})
    assert "geheim" not in str(raised.value)
    assert "http://app:***@cache" in str(raised.value)
    assert masked("redis://cache:6379/0") == "redis://cache:6379/0"


def test_kafka_credentials_reach_both_kinds_of_client_and_no_print(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text('ge"heim\n', "utf-8")
    kafka = {"bootstrap": "b:1", "security": "SASL_SSL", "username": "app", "ca_file": "ca.pem"}
    config = parse({"kafka": {**kafka, "password_file": str(secret)}})
    assert config.kafka.java_properties() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "PLAIN",
        "sasl.jaas.config": "org.apache.flink.kafka.shaded.org.apache.kafka.common.security.plain.PlainLoginModule "
        'required username="app" password="ge\\"heim";',
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "ca.pem",
    }
    assert config.kafka.python_arguments() == {
        "bootstrap_servers": "b:1",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "PLAIN",
        "sasl_plain_username": "app",
        "sasl_plain_password": 'ge"heim',
        "ssl_cafile": "ca.pem",
    }
    assert "heim" not in repr(config) + config_text.render(config)
    monkeypatch.setenv("RIVERRANK_KAFKA_PASSWORD", "other")
    assert parse({"kafka": kafka}).kafka.python_arguments()["sasl_plain_password"] == "other"
    assert Config().kafka.java_properties() == {}


def test_the_secret_of_pseudonyms_is_one_wherever_it_comes_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is too short, or not there yet, would name users by what can be guessed for as long as there is a state."""
    file = tmp_path / "key"
    given = {"privacy": {"key_file": str(file)}}
    with pytest.raises(UsageError, match=r"privacy\.key_file: cannot read"):
        parse(given)
    for short in ("", " \n", "x" * 15):
        file.write_text(short)
        with pytest.raises(UsageError, match=r"privacy\.key_file: expected a secret of 16 characters or more"):
            parse(given)
    file.write_text(f"{'x' * 16}\n")
    by_file = parse(given).privacy.key()
    assert len(by_file) == 64 and parse({}).privacy.key() == b""
    monkeypatch.setenv("RIVERRANK_PRIVACY_KEY", "x" * 16 + "\n")
    assert parse({}).privacy.key() == by_file
    monkeypatch.setenv("RIVERRANK_PRIVACY_KEY", " ")
    with pytest.raises(UsageError, match="RIVERRANK_PRIVACY_KEY: expected a secret"):
        parse({})


def test_what_is_no_property_of_kafka_is_named_without_the_others() -> None:
    properties = {"ssl.key.password": "geheim", "max.poll.records": 5}
    with pytest.raises(UsageError, match=r"kafka\.properties.*max\.poll\.records = int") as raised:
        parse({"kafka": {"properties": properties}})
    assert "geheim" not in str(raised.value)
