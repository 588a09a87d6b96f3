"""When something that is published of all items is made anew: not what it says."""

import time
from collections.abc import Callable


class Refresh:
    """Once in `every` milliseconds at most: of event time, or of the wall clock where that is sooner, as after an event
    from the future. `clock` gives seconds.

    >>> refresh = Refresh(10_000, lambda: 0.0)
    >>> refresh.is_due(1, events=1), refresh.done(1, events=1), refresh.is_due(9_000, events=2)
    (True, None, False)
    """

    def __init__(self, every: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.every, self.clock = every, clock
        self._done_at: tuple[int, float, int] | None = None  # event time, clock, and feedbacks learned from

    def is_due(self, ts: int, events: int, *, last: bool = False) -> bool:
        """Whether it is time at event time `ts`, with as many `events` learned from: not where nothing was since; and
        the `last` is never too early.
        """
        if self._done_at is None:
            return True
        done_ts, done_at, learned = self._done_at
        is_early = ts < done_ts + self.every and 1000 * (self.clock() - done_at) < self.every
        return events > learned and (last or not is_early)

    def done(self, ts: int, events: int) -> None:
        """Note that it was made then."""
        self._done_at = (ts, self.clock(), events)
