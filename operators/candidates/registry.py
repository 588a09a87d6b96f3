"""All sources of candidates, in the order in which their proposals are taken. A new one is a module in `sources` and a
line here; its number of order is nothing that is ever stored.
"""

from collections.abc import Collection, Sequence

from riverrank.operators.settings import Behaviour

from .source import Source
from .sources.autoencoder import Autoencoder
from .sources.cohort import Cohort
from .sources.content import Content
from .sources.context import EventContext
from .sources.covisit import Covisit
from .sources.domain import Domain
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
    EventContext(),
    Content(),
    Repeat(),
    Embedding(),
    Autoencoder(),
    SessionNeighbours(),
    Covisit(),
)


def sources_of(behaviour: Behaviour) -> tuple[Source, ...]:
    """All there are for this configuration: of domains only where it says what they are."""
    return (*SOURCES, Domain()) if behaviour.domain.attribute else SOURCES


def switched_on(off: Collection[str], sources: Sequence[Source] | None = None) -> list[bool]:
    """Of each of `sources`, all unless said, whether it is asked where those named in `off` are not.

    Raises:
        ValueError: no source has such a name.

    >>> switched_on(["content"]).count(False)
    1
    """
    names = [source.name for source in (*SOURCES, Domain())]
    for name in off:
        if name not in names:
            raise ValueError(f"there is no source {name!r}; expected some of {', '.join(names)}")
    return [source.name not in off for source in (SOURCES if sources is None else sources)]
