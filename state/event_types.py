"""The types of events, one entry each: to add an interaction, add an entry. What is none means something of its own to
operators, which ask for it by name: SESSION for `impression`, `profile`, `erase`, `export` and `preview`, RANKER and
RECOMMEND for `impression`, SIGNALS and RECOMMEND for `erase`, RECOMMEND's adapter for `export` and `preview`.
"""

import math
from collections.abc import Callable, Collection, Iterator
from operator import attrgetter

import msgspec

EXPORT = "export"  # asks for all that is kept of its user
PREVIEW = "preview"  # asks which slate would answer a click on its item
PREVIEWED = "click"  # what a preview is of
ASKING = (EXPORT, PREVIEW)  # nothing but their ids is kept of them, and their time counts for nothing


class EventType(msgspec.Struct, frozen=True):
    """One type of event.

    Args:
        name: its `type` in a record.
        code: the number it is stored by, in histories, below 254; one that was given never changes, nor is it given
            again.
        needs: the fields of a record that it cannot be without.
        uses: fields of any size, `items` and `attributes`, that it has a use for besides; of others they are dropped.
        interaction: whether by it a user shows interest in the item it names.
        answered: whether a slate answers it.
        reward: what it is worth unless `reward.<name>` says otherwise; None: it has no such setting.
        verb: what the user did, in the reason `because_you_<verb>`.
    """

    name: str
    code: int
    needs: tuple[str, ...] = ()
    uses: tuple[str, ...] = ()
    interaction: bool = False
    answered: bool = False
    reward: float | None = None
    verb: str = ""

    @property
    def stage(self) -> float:
        """How far along it is on the way from a look to a verdict, whatever the settings say it is worth.

        >>> sorted(("rate", "purchase", "click", "view", "cart"), key=lambda name: EVENT_TYPES[name].stage)
        ['view', 'click', 'cart', 'purchase', 'rate']
        """
        return math.inf if self.reward is None else self.reward

    @property
    def is_rating(self) -> bool:
        """Whether it is judged by its `value`, against `reward.rate_from`: an interaction without a reward of its own.

        >>> [entry.name for entry in EVENT_TYPES.values() if entry.is_rating]
        ['rate']
        """
        return self.interaction and self.reward is None


def interaction(name: str, code: int, verb: str, reward: float) -> EventType:
    """An interaction of a fixed reward, which is answered."""
    return EventType(name, code, ("item_id",), interaction=True, answered=True, reward=reward, verb=verb)


EVENT_TYPES: dict[str, EventType] = {
    entry.name: entry
    for entry in (
        interaction("view", 0, "viewed", reward=0.3),
        interaction("click", 1, "clicked", reward=1.0),
        interaction("like", 2, "liked", reward=1.0),
        interaction("dislike", 3, "disliked", reward=-1.0),
        interaction("cart", 4, "carted", reward=1.5),
        interaction("purchase", 5, "bought", reward=2.0),
        EventType("rate", 6, ("item_id", "value"), interaction=True, answered=True, verb="rated"),
        EventType("impression", 7, ("items",)),
        EventType("profile", 8, uses=("attributes",)),
        EventType("request", 9, answered=True),
        EventType("erase", 10),
        EventType(EXPORT, 11),
        EventType(PREVIEW, 12, ("item_id",)),
    )
}


class Names(Collection[str]):
    """The names of those types that something holds of, as the registry stands when it is asked.

    >>> "click" in INTERACTIONS, "request" in INTERACTIONS, "dance" in INTERACTIONS
    (True, False, False)
    """

    def __init__(self, holds: Callable[[EventType], bool]) -> None:
        self._holds = holds

    def __contains__(self, name: object) -> bool:
        entry = EVENT_TYPES.get(name)  # type: ignore[call-overload]
        return entry is not None and self._holds(entry)

    def __iter__(self) -> Iterator[str]:
        return (entry.name for entry in EVENT_TYPES.values() if self._holds(entry))

    def __len__(self) -> int:
        return sum(1 for _ in self)


INTERACTIONS = Names(attrgetter("interaction"))
ANSWERED = Names(attrgetter("answered"))


_STAGES = {entry.code: entry.stage for entry in EVENT_TYPES.values()}


def stage_of(code: int) -> float:
    """The stage of the type of that code, as histories have it; not a number where there is no such type any more.

    >>> stage_of(5), stage_of(99)
    (2.0, nan)
    """
    return _STAGES.get(code, math.nan)


def verbs() -> dict[int, str]:
    """What a user did, by the code of the interaction's type.

    >>> verbs()[1]
    'clicked'
    """
    return {entry.code: entry.verb for entry in EVENT_TYPES.values() if entry.interaction}
