"""What slates earned: each feedback is credited to the slate that its user had before it, if it came soon enough."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Generic, TypeVar

from riverrank.state.event_types import INTERACTIONS
from riverrank.state.messages import Feedback

from .log import LoggedSlate

MOST_OF_USER = 64  # open slates of one user: more are those of a robot, or of a window of days
MOST_OPEN = 200_000  # of all users, some 600 MB; those of who came longest ago are closed first

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
    its user's last. What goes on with a story is worth by how much the story is worth more. A slate is open until no
    event within its window can come: SESSION takes none that is older than its user's second newest by more than
    `lateness` milliseconds. `impressions` counts those that were credited, `cut_short` slates that were closed within
    their window, as MOST_OF_USER of their user or `most_open` of all were open.
    """

    def __init__(self, window: int, lateness: int = 0, most_open: int = MOST_OPEN) -> None:
        self.window, self.lateness = window, lateness
        self.impressions = self.cut_short = 0
        self._most, self._count = most_open, 0
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
        second = min(slate.ts, held[-1].slate.ts) if held else slate.ts
        held.append(Earned(slate, beside))
        self._count += 1
        over = sum(1 for _ in takewhile(lambda earned: earned.slate.ts + self.window + self.lateness < second, held))
        yield from self._closed(held[:over], slate.ts)
        del held[:over]
        if len(held) > MOST_OF_USER:
            yield from self._closed([held.pop(0)], slate.ts)
        while self._count > self._most:
            yield from self._closed(self._open.popitem(last=False)[1], slate.ts)

    def close(self, user_id: str | None = None) -> Iterator[Earned[Beside]]:
        """Those of the user, who was erased; of all, at the end."""
        users = list(self._open) if user_id is None else [user_id]
        for user in users:
            held = self._open.pop(user, [])
            self._count -= len(held)
            yield from held

    def _closed(self, given_up: list[Earned[Beside]], now: int) -> list[Earned[Beside]]:
        self._count -= len(given_up)
        self.cut_short += sum(earned.slate.ts + self.window >= now for earned in given_up)
        return given_up

    def _of(self, user_id: str, slate_id: str | None) -> Earned[Beside] | None:
        held = self._open.get(user_id, ())
        if not slate_id:
            return held[-1] if held else None
        return next((earned for earned in held if earned.slate.slate_id == slate_id), None)


def credit_warnings(credit: Credit[Any], seen: bool) -> Iterator[str]:
    """What is to be told of how slates were credited, of those that were `seen` alone or of all."""
    if credit.cut_short:
        yield (
            f"{credit.cut_short} slates were closed within their window, as more than {MOST_OF_USER} of a user, or "
            f"{MOST_OPEN} of all, were open, and may have earned more: give a shorter --window"
        )
    if credit.impressions and not seen:
        yield "impressions say which slates were seen: with --seen only these count"
