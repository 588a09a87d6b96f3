"""All sources of candidates, in the order in which their proposals are taken. A new one is a module in `sources` and a
line here; its number of order is nothing that is ever stored.
"""

from collections.abc import Collection

from .source import Source
from .sources.autoencoder import Autoencoder
from .sources.cohort import Cohort
from .sources.content import Content
from .sources.covisit import Covisit
from .sources.embedding import Embedding
from .sources.new import New
from .sources.popular import Popular
from .sources.repeat import Repeat
from .sources.sessions import SessionNeighbours
from .sources.trending import Trending

SOURCES: tuple[Source, ...] = (
    New(),
    Trending(),
    Popular(),
    Cohort(),
    Content(),
    Repeat(),
    Embedding(),
    Autoencoder(),
    SessionNeighbours(),
    Covisit(),
)


def switched_on(off: Collection[str]) -> list[bool]:
    """Of each source, whether it is asked where those named in `off` are not.

    Raises:
        ValueError: no source has such a name.

    >>> switched_on(["content"]).count(False)
    1
    """
    names = [source.name for source in SOURCES]
    for name in off:
        if name not in names:
            raise ValueError(f"there is no source {name!r}; expected some of {', '.join(names)}")
    return [name not in off for name in names]
