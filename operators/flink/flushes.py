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

    def after(self, learner: Learns, shard: str, ctx: Any) -> Iterator[bytes]:
        """To be called after the learner of `shard`, which is the current key, learned from a feedback."""
        if learner.due():
            yield from learner.flush()
            return
        if shard not in self._armed:
            self._armed.add(shard)
            timers = ctx.timer_service()
            timers.register_processing_time_timer(timers.current_processing_time() + self._every_ms)

    def on_timer(self, learner: Learns, shard: str) -> Iterator[bytes]:
        """To be called when the timer of `shard` fires."""
        self._armed.discard(shard)
        yield from learner.flush()
