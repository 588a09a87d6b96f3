"""Tokens by which kafka-python shows who it is (OAUTHBEARER), by the client credentials grant of OAuth 2; Flink's
connector asks for its own.
"""

import base64
import functools
import json
import re
import threading
import time
import urllib.request
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError
from urllib.parse import quote_plus, urlencode

from kafka.errors import KafkaError
from kafka.net.sasl.oauth import AbstractTokenProvider

NO_TOKEN = "kafka.token_url: "  # begins what is told
TIMEOUT_SECONDS = 5.0
LONGEST_ANSWER = 1 << 20  # bytes
USED_FOR = 0.8  # of the time that a token holds
HOLDS_SECONDS = 300.0  # where the server does not say


class TokenError(KafkaError):
    """There is no token: why, and the mend, without the secret."""

    def __str__(self) -> str:
        return str(self.args[0])  # without the name of the class


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """Another host is not told the secret."""

    def redirect_request(self, *_: Any) -> None:
        return None


@functools.lru_cache
def tokens_of(url: str, client: str, secret: str, scope: str) -> "Tokens":
    """The one that all connections share."""
    return Tokens(url, client, secret, scope)


class Tokens(AbstractTokenProvider):
    """Gets a token from `url` for `client`, and gives it until it grows old. Any thread may ask."""

    def __init__(self, url: str, client: str, secret: str, scope: str = "") -> None:
        super().__init__()
        self._url, self._client, self._secret, self._scope = url, client, secret, scope
        self._lock = threading.Lock()
        self._token, self._old_at = "", 0.0

    def __repr__(self) -> str:
        return f"Tokens({self._url!r}, {self._client!r})"

    def token(self) -> str:
        """A token that still holds. Raises `TokenError`."""
        with self._lock:
            if not self._token or time.monotonic() >= self._old_at:
                began = time.monotonic()
                self._token, seconds = self._asked()
                self._old_at = began + USED_FOR * seconds
            return self._token

    def _asked(self) -> tuple[str, float]:
        """A new token, and how many seconds it holds."""
        try:
            with urllib.request.build_opener(_NoRedirects).open(self._request(), timeout=TIMEOUT_SECONDS) as reply:
                answer = json.loads(reply.read(LONGEST_ANSWER))
            token, seconds = answer["access_token"], float(answer.get("expires_in", HOLDS_SECONDS))
        except HTTPError as error:
            raise TokenError(
                f"{NO_TOKEN}{self._url} gives {self._client} no token ({error.code}{_code_of(error)}); mend "
                "kafka.username, the password, kafka.token_scope, or the URL"
            ) from error
        except (OSError, HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise TokenError(f"{NO_TOKEN}{self._url} does not answer ({reason}); start it, or mend the URL") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise TokenError(f"{NO_TOKEN}{self._url} answers with no token; mend the URL") from error
        if not (isinstance(token, str) and token):
            raise TokenError(f"{NO_TOKEN}{self._url} answers with no token; mend the URL")
        return token, seconds

    def _request(self) -> urllib.request.Request:
        asked = {"grant_type": "client_credentials"} | ({"scope": self._scope} if self._scope else {})
        who = f"{quote_plus(self._client)}:{quote_plus(self._secret)}"
        headers = {"Authorization": f"Basic {base64.b64encode(who.encode()).decode()}", "Accept": "application/json"}
        return urllib.request.Request(self._url, urlencode(asked).encode(), headers)


def _code_of(error: HTTPError) -> str:
    """The code of the standard, such as invalid_client, where the answer has one."""
    try:
        code = str(json.loads(error.read(LONGEST_ANSWER))["error"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return f" {code}" if re.fullmatch(r"[a-z_]{1,40}", code) else ""
