"""What reaching a Redis takes: defaults, and URLs as they may be shown."""

import re

DEFAULT_PREFIX = "rr:"
DEFAULT_TTL_MS = 7 * 86_400_000
DEFAULT_TIMEOUT_MS = 2_000
MASK = "***"


def masked(url: str) -> str:
    """A URL without its passwords, nor a user's name that stands alone, which may be one; any other text as it is.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim"), masked("redis://geheim@cache")
    ('redis://app:***@cache:6379/0?password=***', 'redis://***@cache')
    """
    url = re.sub(r"^([^:/?#]+://[^:@/]*):.*@", rf"\1:{MASK}@", url)
    url = re.sub(r"^([^:/?#]+://)[^:@/]+@", rf"\1{MASK}@", url)
    return re.sub(r"([?&][^=&]*password=)[^&]*", rf"\1{MASK}", url)
