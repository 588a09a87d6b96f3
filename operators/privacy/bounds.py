"""What one user may contribute in a window, read off the feedback alone: no state by user is kept for it."""

from typing import NamedTuple

from riverrank.operators.settings import Behaviour
from riverrank.state.messages import Feedback


class Contribution(NamedTuple):
    """An item that the user took, or refused, first in this window; and what was taken `before` it there, newest first,
    none where it was refused.
    """

    item_id: str
    liked: bool
    before: tuple[str, ...]


def window_of(ts: int, window: int) -> int:
    """The number of the window, of `window` milliseconds, that a time is in."""
    return ts // window


def contribution_of(feedback: Feedback, behaviour: Behaviour) -> Contribution | None:
    """What the feedback contributes: an item that the user did nothing with in this window before, one of the first
    `noise.contributions` there. None for any other, and where the history does not tell, as it may not reach back to
    the window's beginning. A user who was erased contributes no more: what of, the mark of an erasure does not say.

    >>> from riverrank.state.records.incoming import Event
    >>> from riverrank.state.messages import Seen
    >>> click = Feedback(Event("e", "click", "u", 9, "b"), 1.0, (Seen("a", 8, 1.0),))
    >>> contribution_of(click, Behaviour())
    Contribution(item_id='b', liked=True, before=('a',))
    """
    event, noise = feedback.event, behaviour.noise
    if event.item_id is None or not feedback.reward:
        return None
    start = window_of(event.ts, noise.window) * noise.window
    history = feedback.history
    reaches = len(history) < behaviour.history.size or history[0].ts < start
    if not reaches or feedback.epoch:
        return None
    of_window = history.since(start).before(start + noise.window)
    met = {item_id for item_id, reward, _ in of_window.newest_first() if reward}
    if event.item_id in met or len(met) >= noise.contributions:
        return None
    liked = feedback.reward > 0
    past = dict.fromkeys(of_window.before(event.ts + 1).taken()) if liked else {}
    return Contribution(event.item_id, liked, tuple(past)[: noise.pairs])
