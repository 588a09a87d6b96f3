"""A Kafka that wants tokens (OAUTHBEARER): by the right client the job runs, with a wrong one a line says which."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from riverrank.jobs.config.preflight import check_services
from riverrank.jobs.config.schema import parse
from riverrank.jobs.config.tokens import tokens_of
from riverrank.jobs.dev import services
from riverrank.jobs.errors import UsageError
from ruamel.yaml import YAML
from secured import Authority, SecuredBroker
from streams import TIMEOUT_SECONDS, job_of, received, send, topics
from tokens import CLIENT, SCOPE, SECRET, TokenIssuer

pytestmark = pytest.mark.timeout(400)
ROOT = Path(__file__).parents[3]
START_MS = 1_764_000_000_000
SCRIPT = Path(sys.executable).with_name("riverrank")


@pytest.fixture(scope="module")
def issuer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TokenIssuer]:
    with TokenIssuer(tmp_path_factory.mktemp("issuer")) as running:
        yield running


@pytest.fixture(scope="module")
def secured(issuer: TokenIssuer, authority: Authority) -> Iterator[SecuredBroker]:
    with SecuredBroker(authority, issuer) as broker:
        yield broker


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """No token of another test."""
    tokens_of.cache_clear()


def kafka_of(secured: SecuredBroker, folder: Path, **changed: str) -> dict[str, str]:
    """The right answers, but for what is `changed`."""
    assert secured.issuer is not None
    by_tokens = {"token_url": secured.issuer.url, "token_scope": SCOPE}
    return secured.answers("OAUTHBEARER", CLIENT, changed.pop("secret", SECRET), folder) | by_tokens | changed


def configured(secured: SecuredBroker, folder: Path, name: str) -> Path:
    """Topics, their events, and the configuration of a bounded job that speaks to the broker so."""
    path = topics(secured, folder, name, "bounded = true")
    lines = [line for line in path.read_text("utf-8").splitlines() if not line.startswith("bootstrap")]
    values = kafka_of(secured, folder)
    path.write_text("\n".join([*lines, *(f"{key} = {json.dumps(value)}" for key, value in values.items())]), "utf-8")
    events = [
        {"event_id": f"e{k}", "type": "click", "user_id": f"u{k % 3}", "item_id": f"i{k % 7}", "ts": START_MS + k}
        for k in range(30)
    ]
    send(secured, f"{name}-events", [json.dumps(event) for event in events], key="user_id")
    return path


def test_the_job_reads_and_writes_by_tokens_and_tells_its_secret_to_nobody(
    secured: SecuredBroker, issuer: TokenIssuer, tmp_path: Path
) -> None:
    command = [SCRIPT, "run", "--config", configured(secured, tmp_path, "tokens")]
    issuer.asked.clear()
    ran = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False)
    assert ran.returncode == 0, ran.stderr
    assert len(received(secured, "tokens-slates")) == 30
    assert len(issuer.asked) > 1 and set(issuer.asked) == {SCOPE}, "one is of the check before the start"
    assert SECRET not in ran.stderr + ran.stdout and "geheim" not in ran.stderr + ran.stdout


def test_on_a_cluster_the_job_does_so_with_the_java_option_that_is_documented(
    secured: SecuredBroker, issuer: TokenIssuer, zipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLINK_ENV_JAVA_OPTS", "-Xshare:auto")  # a cluster goes by its own, whoever starts it
    path = configured(secured, tmp_path, "clustered")
    option = f"-Dorg.apache.flink.kafka.shaded.org.apache.kafka.sasl.oauthbearer.allowed.urls={issuer.url}"
    assert option.partition("=")[0] in (ROOT / "docs" / "integrate.md").read_text("utf-8")
    options = YAML(typ="safe").load(ROOT / "flink-conf" / "config.yaml")["env"]["java"]["opts"]["all"]
    with services.FlinkCluster(taskmanagers=1, conf={"env.java.opts.all": f"{options} {option}"}) as cluster:
        job = cluster.run("-p", 1, *job_of(zipped, "--config", path))
        cluster.wait_for(job, "FINISHED")
        logs = [path.read_text("utf-8", "replace") for path in cluster.folder.rglob("*.log")]
        shown = [*logs, *(str(cluster.rest(f"/jobs/{job}{page}")) for page in ("", "/config", "/plan"))]
    assert len(received(secured, "clustered-slates")) == 30
    assert logs and not any("gehe" in text for text in shown)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"secret": "not the secret"}, "gives job:1 no token (401 invalid_client); mend kafka.username, the password"),
        ({"username": "else"}, "gives else no token (401 invalid_client)"),
        ({"token_url": "NOBODY"}, "does not answer ([Errno 111] Connection refused); start it, or mend the URL"),
        (
            {"token_url": "THE BROKER"},
            "http://127.0.0.1:PORT/token does not answer (",
        ),
        ({"mechanism": "PLAIN"}, "lets nobody in as job:1 by PLAIN with that password"),
        ({"bootstrap": "BROKER"}, "does not speak TLS at that port; mend the port, or kafka.security"),
    ],
)
def test_what_is_wrong_is_one_line_that_says_which_it_was(
    secured: SecuredBroker, tmp_path: Path, free_port: int, changed: dict[str, str], said: str
) -> None:
    stands_for = {"NOBODY": f"http://127.0.0.1:{free_port}/token", "BROKER": secured.bootstrap}
    stands_for["THE BROKER"] = f"http://{secured.bootstrap}/token"
    answers = {key: stands_for.get(value, value) for key, value in changed.items()}
    config = parse({"kafka": kafka_of(secured, tmp_path, **answers)})
    with pytest.raises(UsageError, match=r"^kafka") as caught:
        check_services(config)
    assert said.replace("PORT", str(secured.port)) in str(caught.value) and "\n" not in str(caught.value)
    assert SECRET not in str(caught.value) and "not the secret" not in str(caught.value)


def test_a_token_that_the_broker_does_not_take_is_told_of_as_such(
    secured: SecuredBroker, issuer: TokenIssuer, tmp_path: Path
) -> None:
    issuer.strange = True
    try:
        with pytest.raises(UsageError, match=r"does not take the token that job:1 got.*; mend kafka\.token_url"):
            check_services(parse({"kafka": kafka_of(secured, tmp_path)}))
    finally:
        issuer.strange = False
