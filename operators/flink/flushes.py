"""When SIGNALS and RANKER tell what they learned."""

from collections.abc import Iterator
from typing import Any, Protocol


class Learns(Protocol):
    """What SIGNALS and RANKER have in common."""

    def due(self) -> bool: ...
    def flush(self) -> list[bytes]: ...


class Flushes:
    """When what a learner has to tell goes out: as soon as it is due, else by a processing-time timer."""

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._armed: set[str] = set()

    def after(self, learner: Learns, ctx: Any) -> Iterator[bytes]:
        """To be called after a feedback was learned."""
        if learner.due():
            yield from learner.flush()
            return
        key = ctx.get_current_key()
        if key not in self._armed:
            self._armed.add(key)
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + self._every_ms)

    def on_timer(self, learner: Learns, ctx: Any) -> Iterator[bytes]:
        """To be called when the timer fires."""
        self._armed.discard(ctx.get_current_key())
        yield from learner.flush()
