"""A Redis for tests of what writes to it."""

import threading

from riverrank.operators.cache.redis_cache import CacheAway
from riverrank.state.messages import CacheWrite


class Redis:
    """Takes writes, unless it is away or refuses a key."""

    def __init__(self) -> None:
        self.held: dict[str, bytes | None] = {}
        self.calls: list[list[str]] = []
        self.away = False
        self.lacks: set[str] = set()  # keys of a part that is away
        self.refuses: set[str] = set()
        self.refused: dict[str, str] = {}
        self.answers = threading.Event()  # as long as it is not set, no call ends
        self.answers.set()
        self.closed = False

    def write(self, writes: list[CacheWrite]) -> set[str]:
        self.calls.append([write.key for write in writes])
        self.answers.wait(10)
        if self.away:
            raise CacheAway("Redis at nowhere is away")
        if lost := self.lacks.intersection(write.key for write in writes):
            raise CacheAway("a part of it is away", self._taken([w for w in writes if w.key not in lost]))
        self.refused = {write.key: "ResponseError: no" for write in writes if write.key in self.refuses}
        return self._taken([write for write in writes if write.key not in self.refused])

    def _taken(self, writes: list[CacheWrite]) -> set[str]:
        self.held |= {write.key: write.slate for write in writes}
        return {write.key for write in writes}

    def close(self) -> None:
        self.closed = True
