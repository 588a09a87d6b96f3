"""When SIGNALS and RANKER tell what they learned."""

from collections.abc import Iterator
from typing import Any, Protocol

from .channels import END_OF_INPUT


class Learns(Protocol):
    """What SIGNALS and RANKER have in common."""

    def due(self) -> bool: ...
    def flush(self, *, last: bool = False) -> list[bytes]: ...


class Flushes:
    """When what a learner has to tell goes out: as soon as it is due, else by a processing-time timer, and what is left
    at the end of the input.
    """

    def __init__(self, every_ms: int) -> None:
        self._every_ms = every_ms
        self._armed: set[str] = set()
        self._ends: set[str] = set()  # shards that hear of the end of the input

    def after(self, learner: Learns, shard: str, ctx: Any) -> Iterator[bytes]:
        """To be called after the learner of `shard`, which is the current key, learned from a feedback."""
        timers = ctx.timer_service()
        if shard not in self._ends:
            self._ends.add(shard)
            timers.register_event_time_timer(END_OF_INPUT)
        if learner.due():
            yield from learner.flush()
            return
        if shard not in self._armed:
            self._armed.add(shard)
            timers.register_processing_time_timer(timers.current_processing_time() + self._every_ms)

    def on_timer(self, timestamp: int, learner: Learns, shard: str) -> Iterator[bytes]:
        """To be called when a timer of `shard` fires."""
        self._armed.discard(shard)
        yield from learner.flush(last=timestamp == END_OF_INPUT)
