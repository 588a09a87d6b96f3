"""What the page asks of the service: slates, titles, and that an event is written. Nothing here knows HTTP."""

from dataclasses import dataclass
from typing import Protocol

from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Slate


class Unavailable(Exception):
    """Redis or Kafka is away, or refuses; the message says which, for whoever reads the page."""


@dataclass(frozen=True)
class ShownSlate:
    """A slate as a user is served it now: whether it is the popular one, for want of an own, and whether it is what was
    read before Redis went away.
    """

    slate: Slate
    is_popular: bool = False
    is_stale: bool = False


@dataclass(frozen=True)
class FoundItem:
    """An item of the catalogue."""

    item_id: str
    title: str
    about: str = ""  # its categories and brand, in a few words


@dataclass(frozen=True)
class Trending:
    """Items with their scores, best first, and whether they are the popular ones in place of the trending."""

    items: tuple[tuple[str, float], ...]
    is_popular: bool


class Previewer(Protocol):
    """Answers what would be if a user clicked an item."""

    async def preview(self, user: str, item: str) -> Slate:
        """The slate that a click of `user` on `item` would be answered with. Nothing is learned from it or written.
        Raises Unavailable.
        """


class PageSource(Protocol):
    """The service, as the page sees it. All but titles raise Unavailable."""

    @property
    def previewer(self) -> Previewer | None:
        """Who answers previews; None where nobody does."""

    async def slate(self, user: str) -> ShownSlate | None:
        """What is served to `user` now: the own slate, else the popular one; None where there is neither."""

    async def answer(self, user: str, event_id: str) -> Slate | None:
        """The slate of `user` that answers the event, once it is there; None where it does not come in the time that
        requests may wait.
        """

    async def trending(self) -> Trending | None:
        """What is trending, else what is popular; None where neither is known."""

    async def send(self, event: Event) -> None:
        """Write an event to the events topic, and return once the broker has it."""

    def titles(self, item_ids: list[str]) -> dict[str, str]:
        """The titles of those items that the catalogue knows."""

    async def search(self, words: str, most: int) -> list[FoundItem]:
        """Items whose titles hold all of the words, in any case."""
