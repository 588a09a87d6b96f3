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
        self.refused = {write.key: "ResponseError: no" for write in writes if write.key in self.refuses}
        taken = [write for write in writes if write.key not in self.refused]
        self.held |= {write.key: write.slate for write in taken}
        return {write.key for write in taken}

    def close(self) -> None:
        self.closed = True
