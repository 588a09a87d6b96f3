"""What slates earned: each feedback is credited to the slate that its user had before it, if it came soon enough."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from riverrank.state.event_types import INTERACTIONS
from riverrank.state.messages import Feedback

from .log import LoggedSlate

OPEN = 4  # slates of a user that may still earn: older ones are named by nothing that follows
MOST_USERS = 50_000  # with open slates; of those who came longest ago they are closed first

Beside = TypeVar("Beside")


@dataclass(slots=True)
class Earned(Generic[Beside]):
    """A slate, what was noted `beside` it as it was given, and what came of it: `rewards` by rank, from 0, of what was
    taken from it; `choices`, of all that its user took next, the rank, 0 for what was not on it; and whether an
    impression, or a reward, says that it was `seen`.
    """

    slate: LoggedSlate
    beside: Beside
    rewards: dict[int, float] = field(default_factory=dict)
    choices: list[int] = field(default_factory=list)
    seen: bool = False

    @property
    def reward(self) -> float:
        """All of it."""
        return sum(self.rewards.values())


class Credit(Generic[Beside]):
    """Slates that may still earn, by user.

    A feedback within `window` milliseconds after a slate is credited to it where it names it, or names none and it is
    its user's last. What goes on with a story is worth by how much the story is worth more. `impressions` counts those
    that were credited.
    """

    def __init__(self, window: int, most_users: int = MOST_USERS) -> None:
        self.window, self.impressions = window, 0
        self._most = most_users
        self._open: OrderedDict[str, list[Earned[Beside]]] = OrderedDict()

    def take(self, feedback: Feedback) -> None:
        """Credit a feedback."""
        event = feedback.event
        earned = self._of(event.user_id, event.slate_id)
        if earned is None or not 0 <= event.ts - earned.slate.ts <= self.window:
            return
        if event.type == "impression":
            earned.seen = True
            self.impressions += 1
        elif event.type in INTERACTIONS:
            rank = next((n for n, slot in enumerate(earned.slate.items) if slot.item_id == event.item_id), -1)
            if feedback.is_choice:
                earned.choices.append(rank + 1)
            if rank >= 0:
                earned.seen = True
                earned.rewards[rank] = earned.rewards.get(rank, 0.0) + feedback.gain

    def open(self, slate: LoggedSlate, beside: Beside) -> Iterator[Earned[Beside]]:
        """From now on the slate may earn; those that no longer may are given back."""
        held = self._open.pop(slate.user_id, [])
        self._open[slate.user_id] = held
        held.append(Earned(slate, beside))
        if len(held) > OPEN:
            yield held.pop(0)
        if len(self._open) > self._most:
            yield from self._open.popitem(last=False)[1]

    def close(self, user_id: str | None = None) -> Iterator[Earned[Beside]]:
        """Those of the user, who was erased; of all, at the end."""
        users = list(self._open) if user_id is None else [user_id]
        for user in users:
            yield from self._open.pop(user, ())

    def _of(self, user_id: str, slate_id: str | None) -> Earned[Beside] | None:
        held = self._open.get(user_id, ())
        if not slate_id:
            return held[-1] if held else None
        return next((earned for earned in held if earned.slate.slate_id == slate_id), None)
