"""URLs as they may be shown."""

import re

MASK = "***"


def masked(url: str) -> str:
    """A URL without its passwords, nor a user's name that stands alone, which may be one; any other text as it is.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim"), masked("redis://geheim@cache")
    ('redis://app:***@cache:6379/0?password=***', 'redis://***@cache')
    """
    url = re.sub(r"^([^:/?#]+://[^:@/]*):.*@", rf"\1:{MASK}@", url)
    url = re.sub(r"^([^:/?#]+://)[^:@/]+@", rf"\1{MASK}@", url)
    return re.sub(r"([?&][^=&]*password=)[^&]*", rf"\1{MASK}", url)
