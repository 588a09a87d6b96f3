"""A run of one user's events through SESSION, for its tests."""

import dataclasses

from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event

HOUR = 3_600_000


def click(number: int, ts: int, item: str = "i") -> Event:
    return Event(f"e-{number}", "click", "u", ts, item)


@dataclasses.dataclass
class Fed:
    """What a session made of a run of events."""

    state: bytes | None
    feedbacks: list
    rejects: list


def feed(events, behaviour=Behaviour(), state=None) -> Fed:  # noqa: B008 - frozen
    session = Session(behaviour)
    fed = Fed(state, [], [])
    for event in events:
        accepted = session.accept(event, fed.state)
        fed.state = accepted.state
        if accepted.feedback is not None:
            fed.feedbacks.append(accepted.feedback)
        if accepted.reject is not None:
            fed.rejects.append(accepted.reject)
    return fed
