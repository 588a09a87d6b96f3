"""Who gives out tokens (OAuth 2, client credentials), and signs them so that a broker can tell."""

import base64
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, unquote_plus

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

CLIENT, SECRET = "job:1", "gehe+im'7 %"
SCOPE, AUDIENCE, ISSUER = "kafka.all", "the-broker", "http://issuer.example"
KEY_ID = "1"


class TokenIssuer:
    """An HTTP server at `url` that gives CLIENT a token for its SECRET, and tells a broker of its key by a file.

    `asked` are the scopes that were asked for; `strange` is whether tokens are signed with a key that nobody knows.
    """

    def __init__(self, folder: Path) -> None:
        self.key, self.strange = generate_private_key(65_537, 2048), False
        self.asked: list[str] = []
        self.jwks = folder / "jwks.json"
        public = self.key.public_key().public_numbers()
        told = {
            "kty": "RSA",
            "kid": KEY_ID,
            "use": "sig",
            "alg": "RS256",
            "n": _number(public.n),
            "e": _number(public.e),
        }
        self.jwks.write_text(json.dumps({"keys": [told]}), "utf-8")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever)

    @property
    def url(self) -> str:
        """Where tokens are given out."""
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def java_options(self) -> list[str]:
        """What a broker's Java needs to be let look at the key."""
        allowed = "-Dorg.apache.kafka.sasl.oauthbearer.allowed"
        return [f"{allowed}.urls={self.jwks.as_uri()}", f"{allowed}.files={self.jwks}"]

    def broker_properties(self, listener: str) -> dict[str, object]:
        """By which a broker takes its tokens there. Kafka's own choice of a validator (4.1) looks at no signature."""
        modules = "org.apache.kafka.common.security.oauthbearer"
        return {
            f"{listener}.sasl.jaas.config": f"{modules}.OAuthBearerLoginModule required;",
            f"{listener}.sasl.server.callback.handler.class": f"{modules}.OAuthBearerValidatorCallbackHandler",
            "sasl.oauthbearer.jwt.validator.class": f"{modules}.BrokerJwtValidator",
            "sasl.oauthbearer.jwks.endpoint.url": self.jwks.as_uri(),
            "sasl.oauthbearer.expected.audience": AUDIENCE,
            "sasl.oauthbearer.expected.issuer": ISSUER,
        }

    def token(self, scope: str) -> str:
        """A JWT of RS256."""
        now = int(time.time())
        claims = {"sub": CLIENT, "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 60, "scope": scope}
        head = {"alg": "RS256", "typ": "JWT", "kid": KEY_ID}
        text = ".".join(_word(json.dumps(part).encode()) for part in (head, claims))
        key: RSAPrivateKey = generate_private_key(65_537, 2048) if self.strange else self.key
        return f"{text}.{_word(key.sign(text.encode(), PKCS1v15(), SHA256()))}"

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                who = base64.b64decode(self.headers["Authorization"].removeprefix("Basic ")).decode()
                if [unquote_plus(word) for word in who.split(":")] != [CLIENT, SECRET]:
                    self._answer(401, {"error": "invalid_client", "error_description": f"not {who}"})
                elif form["grant_type"] != ["client_credentials"] or self.path != "/token":
                    self._answer(400, {"error": "unsupported_grant_type"})
                else:
                    (scope,) = form.get("scope", [""])
                    issuer.asked.append(scope)
                    self._answer(200, {"access_token": issuer.token(scope), "token_type": "Bearer", "expires_in": 60})

            def _answer(self, code: int, told: dict[str, Any]) -> None:
                body = json.dumps(told).encode()
                self.send_response(code)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        return Handler


def _word(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _number(number: int) -> str:
    return _word(number.to_bytes((number.bit_length() + 7) // 8, "big"))
