"""URLs as they may be shown."""

import re

MASK = "***"


def masked(url: str) -> str:
    """A URL without its password; any other text as it is.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim")
    'redis://app:***@cache:6379/0?password=***'
    """
    url = re.sub(r"^([^:/?#]+://[^:@/]*):.*@", rf"\1:{MASK}@", url)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{MASK}", url)
