"""What reaching a Redis takes: defaults, and URLs as they may be shown."""

import re

DEFAULT_PREFIX = "rr:"
DEFAULT_TTL_MS = 7 * 86_400_000
DEFAULT_TIMEOUT_MS = 2_000
MASK = "***"


def masked(url: str) -> str:
    """A URL without its passwords, nor a user's name that stands alone, which may be one; of what is no URL only what
    comes after its last @.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim"), masked("redis://geheim@cache")
    ('redis://app:***@cache:6379/0?password=***', 'redis://***@cache')
    >>> masked("redis:/app:geheim@cache:6379"), masked("cache:6379")
    ('***@cache:6379', 'cache:6379')
    >>> masked("redis://cache/0?password=ge@heim")
    'redis://cache/0?password=***'
    """
    url = re.sub(r"([?&][^=&]*password=)[^&]*", rf"\1{MASK}", url)
    head, at, rest = url.rpartition("@")
    if at:
        scheme, slashes, given = head.partition("://")
        name, colon, _ = given.partition(":")
        shown = f"{name}:" if colon and "/" not in name else ""
        url = f"{scheme}://{shown}{MASK}@{rest}" if slashes else f"{MASK}@{rest}"
    return url
