"""Where tokens for Kafka come from: what the settings say of it, and who asks, without a broker."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from riverrank.jobs.config import text as config_text
from riverrank.jobs.config.schema import parse
from riverrank.jobs.config.tokens import TokenError, Tokens, tokens_of
from riverrank.jobs.errors import UsageError
from tokens import CLIENT, SCOPE, SECRET, TokenIssuer

SHADED = "org.apache.flink.kafka.shaded.org.apache.kafka"
URL = "https://issuer.example/token"


def kafka(folder: Path, **changed: str) -> dict[str, Any]:
    (folder / "secret").write_text('ge"heim\n', "utf-8")
    values = {"bootstrap": "b:1", "security": "SASL_SSL", "mechanism": "OAUTHBEARER", "username": "app"}
    return {"kafka": {**values, "password_file": str(folder / "secret"), "token_url": URL, **changed}}


def test_both_kinds_of_client_are_told_where_tokens_are_and_no_print_shows_the_secret(tmp_path: Path) -> None:
    config = parse(kafka(tmp_path, token_scope="all"))
    assert config.kafka.java_properties() == {
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "OAUTHBEARER",
        "sasl.jaas.config": f"{SHADED}.common.security.oauthbearer.OAuthBearerLoginModule required "
        'clientId="app" clientSecret="ge\\"heim" scope="all";',
        "sasl.login.callback.handler.class": f"{SHADED}.common.security.oauthbearer.OAuthBearerLoginCallbackHandler",
        "sasl.oauthbearer.jwt.validator.class": f"{SHADED}.common.security.oauthbearer.ClientJwtValidator",
        "sasl.oauthbearer.token.endpoint.url": URL,
        "sasl.oauthbearer.header.urlencode": "true",
    }
    assert config.kafka.java_options() == [f"-D{SHADED}.sasl.oauthbearer.allowed.urls={URL}"]
    arguments = config.kafka.python_arguments()
    assert arguments == {
        "bootstrap_servers": "b:1",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "OAUTHBEARER",
        "sasl_oauth_token_provider": tokens_of(URL, "app", 'ge"heim', "all"),
    }
    assert "heim" not in repr(config) + config_text.render(config) + repr(arguments)
    other = parse(kafka(tmp_path, mechanism="PLAIN")).kafka
    assert other.java_options() == [] and other.tokens() is None
    assert "scope" not in parse(kafka(tmp_path)).kafka.java_properties()["sasl.jaas.config"]


@pytest.mark.parametrize(
    "url", ["", "issuer.example/token", "file:///token", "https://", "https://a/b c", "https://a/b,c", "http://a:x/b"]
)
def test_a_token_url_that_is_none_is_refused(tmp_path: Path, url: str) -> None:
    with pytest.raises(UsageError, match=r"^kafka\.token_url: expected https://HOST/PATH"):
        parse(kafka(tmp_path, token_url=url))
    assert parse(kafka(tmp_path, token_url=url, mechanism="PLAIN")).kafka.token_url == url


def test_a_password_in_a_token_url_is_refused_and_not_shown(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^kafka\.token_url: .*app:\*\*\*@a/token") as raised:
        parse(kafka(tmp_path, token_url="https://app:geheim@a/token"))
    assert "geheim" not in str(raised.value)


def test_a_token_is_asked_for_once_and_again_when_it_is_old(tmp_path: Path) -> None:
    with TokenIssuer(tmp_path) as issuer:
        tokens = Tokens(issuer.url, CLIENT, SECRET, SCOPE)
        first = tokens.token()
        assert tokens.token() == first and issuer.asked == [SCOPE]
        tokens._old_at = 0.0
        assert tokens.token() and issuer.asked == [SCOPE, SCOPE]
        assert Tokens(issuer.url, CLIENT, SECRET).token() and issuer.asked[-1] == ""
        with pytest.raises(TokenError, match=r"^kafka\.token_url: \S+ gives job:1 no token \(401 inv") as raised:
            Tokens(issuer.url, CLIENT, "gehe").token()
        assert "gehe" not in str(raised.value)


ANSWERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "/none": (200, {}, b'{"access_token": ""}'),
    "/page": (200, {}, b"<html>"),
    "/list": (200, {}, b"[]"),
    "/years": (200, {}, b'{"access_token": "a", "expires_in": "years"}'),
    "/moved": (302, {"Location": "/elsewhere"}, b""),
    "/tells": (400, {}, json.dumps({"error": "it is gehe+im'7 %"}).encode()),
    "/bare": (200, {}, b'{"access_token": "a"}'),
}


@pytest.fixture
def odd() -> Iterator[str]:
    """The URL of a server that answers as ANSWERS say; what was asked of it otherwise is a fault."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            code, headers, body = ANSWERS[self.path]
            self.send_response(code)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("/none", "answers with no token; mend the URL"),
        ("/page", "answers with no token; mend the URL"),
        ("/list", "answers with no token; mend the URL"),
        ("/years", "answers with no token; mend the URL"),
        ("/moved", "gives job:1 no token (302); mend"),
        ("/tells", "gives job:1 no token (400); mend"),
    ],
)
def test_an_answer_that_is_no_token_is_one_line_without_the_secret(odd: str, path: str, said: str) -> None:
    with pytest.raises(TokenError) as raised:
        Tokens(odd + path, CLIENT, SECRET).token()
    assert str(raised.value).startswith(f"kafka.token_url: {odd}{path} {said}")
    assert "gehe" not in str(raised.value) and "\n" not in str(raised.value)
    assert Tokens(f"{odd}/bare", CLIENT, SECRET).token() == "a"
