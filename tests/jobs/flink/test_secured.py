"""Kafka and Redis that ask who is there: with the right answer the job runs, with a wrong one it says which it was."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from riverrank.jobs.config.preflight import check_services
from riverrank.jobs.config.schema import parse
from riverrank.jobs.dev import services
from riverrank.jobs.errors import UsageError
from riverrank.jobs.serving.slates import get
from riverrank.operators.cache.redis_cache import Cache, CacheAway
from riverrank.state.messages import CacheWrite
from secured import MECHANISMS, PASSWORD, USER, Authority, SecuredBroker, in_front_of
from streams import TIMEOUT_SECONDS, cached, received, send, topics

START_MS = 1_764_000_000_000
SCRIPT = Path(sys.executable).with_name("riverrank")


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[SecuredBroker]:
    with SecuredBroker(authority) as broker:
        yield broker


def kafka_of(secured: SecuredBroker, folder: Path, **changed: str) -> dict[str, str]:
    """The right answers to the secured port, but for what is `changed`."""
    return secured.answers("SCRAM-SHA-512", USER, PASSWORD, folder) | changed


def by_certificate(secured: SecuredBroker) -> dict[str, str]:
    """The right answers to the port that asks for a certificate."""
    return {
        "bootstrap": f"127.0.0.1:{secured.certified_port}",
        "security": "SSL",
        "ca_file": str(secured.authority.ca),
        "client_file": str(secured.authority.keystore),
    }


def configured(secured: SecuredBroker, folder: Path, name: str, values: dict[str, str]) -> Path:
    """Topics, their events, and the configuration of a bounded job that speaks to the broker so."""
    path = topics(secured, folder, name, "bounded = true")
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("bootstrap")]
    path.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]), "utf-8")
    events = [
        {"event_id": f"e{k}", "type": "click", "user_id": f"u{k % 3}", "item_id": f"i{k % 7}", "ts": START_MS + k}
        for k in range(30)
    ]
    send(secured, f"{name}-events", [json.dumps(event) for event in events], key="user_id")
    return path


def riverrank(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)


@pytest.mark.parametrize("way", [MECHANISMS[0], MECHANISMS[-1], "CERTIFICATE"])  # one of each login module
def test_the_job_runs_over_tls_by_password_or_certificate_and_tells_its_secrets_to_nobody(
    secured: SecuredBroker, valkey: services.Valkey, authority: Authority, tmp_path: Path, way: str
) -> None:
    name = way.lower()
    values = by_certificate(secured) if way == "CERTIFICATE" else kafka_of(secured, tmp_path, mechanism=way)
    config = configured(secured, tmp_path, name, values)
    with in_front_of(valkey.port, authority) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.ca}"
        ran = riverrank("run", "--config", config, "--redis", url)
    assert ran.returncode == 0, ran.stderr
    assert len(received(secured, f"{name}-slates")) == 30
    assert cached(valkey, ["u0", "u1", "u2"]) == {"u0": 10, "u1": 10, "u2": 10}
    assert PASSWORD not in ran.stderr + ran.stdout


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"password_file": "WRONG"}, "lets nobody in as app by SCRAM-SHA-512 with that password"),
        ({"username": "else"}, "lets nobody in as else by SCRAM-SHA-512"),
        ({"username": "else", "mechanism": "PLAIN"}, "lets nobody in as else by PLAIN"),
        ({"ca_file": "OTHER"}, "has a certificate that is not trusted: unable to get local issuer certificate; mend"),
        ({"ca_file": ""}, "has a certificate that is not trusted"),
        ({"security": "SASL_PLAINTEXT"}, "wants TLS"),
        ({"security": "PLAINTEXT"}, "wants TLS or SASL there"),
        ({"bootstrap": "PLAIN PORT"}, "does not speak TLS at that port; mend the port, or kafka.security"),
        ({"bootstrap": "CERTIFIED", "security": "SSL"}, "wants a certificate of this client"),
        (
            {"bootstrap": "CERTIFIED", "security": "SSL", "client_file": "OTHER'S"},
            "does not trust a certificate of this client; see kafka.client_file",
        ),
        ({"bootstrap": "NOBODY"}, "no broker answers at 127.0.0.1"),
    ],
)
def test_a_wrong_answer_is_one_line_that_says_which_it_was(
    secured: SecuredBroker, tmp_path: Path, free_port: int, changed: dict[str, str], said: str
) -> None:
    (tmp_path / "wrong").write_text("not the password", "utf-8")
    stands_for = {
        "WRONG": str(tmp_path / "wrong"),
        "OTHER": str(Authority(tmp_path / "other").ca),
        "OTHER'S": str(Authority(tmp_path / "others").keystore),
        "PLAIN PORT": secured.bootstrap,
        "CERTIFIED": f"127.0.0.1:{secured.certified_port}",
        "NOBODY": f"127.0.0.1:{free_port}",
    }
    answers = {key: stands_for.get(value, value) for key, value in changed.items()}
    config = parse({"kafka": kafka_of(secured, tmp_path, **answers)})
    with pytest.raises(UsageError) as caught:
        check_services(config)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    assert PASSWORD not in str(caught.value) and "not the password" not in str(caught.value)


def test_a_certificate_of_another_host_is_refused_for_redis_unless_asked_not_to(
    valkey: services.Valkey, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "elsewhere.example")
    with in_front_of(valkey.port, other) as port:
        url = f"rediss://:geheim@127.0.0.1:{port}/0?ssl_ca_certs={other.ca}"
        with pytest.raises(UsageError, match=r"does not answer .*certificate is not valid for '127") as caught:
            check_services(parse({"redis": {"url": url}}))
        assert "geheim" not in str(caught.value)
        with pytest.raises(CacheAway, match=r"certificate is not valid for '127\.0\.0\.1'"):
            Cache(url).write([CacheWrite("slate:u", 0, 1, b"{}")])
        plain = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={other.ca}&ssl_check_hostname=false"
        assert Cache(plain).write([CacheWrite("slate:u", 0, 1, b"{}")]) == {"slate:u"}
        unchecked = f"rediss://127.0.0.1:{port}/0?ssl_cert_reqs=none"
        check_services(parse({"redis": {"url": unchecked}}))
        assert Cache(unchecked).write([CacheWrite("slate:u", 0, 2, b"{}")]) == {"slate:u"}
        at_odds = parse({"redis": {"url": f"{unchecked}&ssl_check_hostname=true"}})
        with pytest.raises(UsageError, match="does not answer"):
            check_services(at_odds)
        with pytest.raises(UsageError, match="can't be reached"):
            get(at_odds, "u")
    own = Authority(tmp_path / "own")
    with in_front_of(valkey.port, own) as port, pytest.raises(UsageError, match="CERTIFICATE_VERIFY_FAILED"):
        check_services(parse({"redis": {"url": f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={other.ca}"}}))
