"""Who may see the page and act on it: sessions of those who gave a key, requests of the page itself, and headers."""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping

from riverrank.jobs.serving.http.guards import host_of

COOKIE = "riverrank_session"
SESSION_SECONDS = 12 * 3600
MOST_SESSIONS = 1_000
HEADERS = {
    "content-security-policy": "default-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'; "
    "object-src 'none'",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}


class Sessions:
    """Tokens of those who signed in, kept hashed, each for SESSION_SECONDS; the oldest goes where there are too many.
    `clock` gives seconds.

    >>> sessions = Sessions()
    >>> token = sessions.begin()
    >>> sessions.holds(token), sessions.holds(token + "x")
    (True, False)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._ends: OrderedDict[bytes, float] = OrderedDict()

    def begin(self) -> str:
        """A new token, for a cookie."""
        token = secrets.token_urlsafe(32)
        self._ends[_hashed(token)] = self._clock() + SESSION_SECONDS
        if len(self._ends) > MOST_SESSIONS:
            self._ends.popitem(last=False)
        return token

    def holds(self, token: str | None) -> bool:
        """Whether it is one, and in time. Tokens are looked for by their hash, so a look-up's time tells nothing."""
        return token is not None and self._ends.get(_hashed(token), -1.0) > self._clock()

    def end(self, token: str | None) -> None:
        """Forget it."""
        self._ends.pop(_hashed(token or ""), None)


def is_of_the_page(headers: Mapping[str, str]) -> bool:
    """Whether a request was sent by a page of the same host: by Sec-Fetch-Site, by Origin where a browser sends none.

    >>> is_of_the_page({"host": "a:1", "origin": "https://a:1"}), is_of_the_page({"host": "a:1", "origin": "https://b"})
    (True, False)
    """
    origin = headers.get("origin")
    if origin is not None and host_of(origin) != headers.get("host", "").lower():
        return False
    site = headers.get("sec-fetch-site")
    return site == "same-origin" if site is not None else origin is not None


def _hashed(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()
