"""Reading Redis for many requests at once: a thread of its own asks for all that wait, in one round trip.

Knows what a key holds no better than its caller does.
"""

import asyncio
import logging
import queue
import threading
from collections.abc import Sequence
from typing import TypeGuard

import redis
from riverrank.jobs.config.edges import RedisSettings
from riverrank.jobs.errors import UsageError
from riverrank.operators.cache.connections import Command, Connections, NodeAway, Reply
from riverrank.operators.cache.faults import line_of
from riverrank.operators.cache.rights import rights_of_reader

COMMANDS_AT_ONCE = 1_000
RETRY_SECONDS = 0.25  # between two looks at a Redis that is away
IDLE_SECONDS = 1.0  # after which one of whom nobody asks is looked at

log = logging.getLogger(__name__)


class RedisAway(Exception):
    """Redis can't be read now: where and why, credentials masked."""


class OfAnotherType(Exception):
    """What a command was answered with where its key holds another type than is asked for."""


class _Asked:
    """Some commands, and who waits for their replies."""

    def __init__(self, commands: Sequence[Command]) -> None:
        self.commands = commands
        self.loop = asyncio.get_running_loop()
        self.replies: asyncio.Future[list[Reply | OfAnotherType]] = self.loop.create_future()

    def settle(self, replies: list[Reply | OfAnotherType] | RedisAway) -> None:
        """Hand over what came; on its loop."""
        if self.replies.done():  # its request has ended
            return
        if isinstance(replies, RedisAway):
            self.replies.set_exception(RedisAway(*replies.args))  # one that is raised twice grows
        else:
            self.replies.set_result(replies)


class Reads:
    """Reads of the Redis of `settings`, none of which takes longer than `timeout_ms` and what is under way.

    While Redis is away nobody waits for it: the thread looks for it again, and `ask` raises at once.

    Raises:
        UsageError: there is no Redis at such a URL.
    """

    def __init__(self, settings: RedisSettings, timeout_ms: int) -> None:
        try:
            self._connections = Connections(settings.url, min(settings.timeout, timeout_ms))
        except ValueError as error:
            raise UsageError(f"redis.url: {error}") from error
        self._rights = rights_of_reader(settings.prefix)
        self._probe = Command(f"{settings.prefix}popular", ("HGET", f"{settings.prefix}popular", "version"))
        self._asked: queue.SimpleQueue[_Asked | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="reads-redis", daemon=True)
        self.away: RedisAway | None = None

    @property
    def ready(self) -> bool:
        """Whether Redis answered when it was asked last."""
        return self.away is None and self._thread.is_alive()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def close(self) -> None:
        """End the thread, once what it does is done."""
        self._asked.put(None)
        self._thread.join()
        self._connections.close()

    async def ask(self, commands: Sequence[Command]) -> list[Reply | OfAnotherType]:
        """The reply to each of `commands`. Raises RedisAway where Redis does not answer, or refuses one of them for
        another reason than what its key holds.
        """
        if self.away is not None:
            raise RedisAway(*self.away.args)
        asked = _Asked(commands)
        self._asked.put(asked)
        return await asked.replies

    def _work(self) -> None:
        while True:
            try:
                asked = self._asked.get(timeout=IDLE_SECONDS if self.away is None else RETRY_SECONDS)
            except queue.Empty:
                self._note(_fault(self._run([self._probe])))
                continue
            if asked is None:
                return
            batch = [asked]
            while len(batch) < COMMANDS_AT_ONCE and not self._asked.empty():
                if (more := self._asked.get()) is None:
                    self._asked.put(None)
                    break
                batch.append(more)
            self._answer(batch)

    def _answer(self, batch: Sequence[_Asked]) -> None:
        """One round trip for all of them, in which what several ask for is asked for once."""
        if self.away is not None:  # they came while that was found out
            _settle([(asked, self.away) for asked in batch])
            return
        commands = list(dict.fromkeys(command for asked in batch for command in asked.commands))
        replies = dict(zip(commands, self._run(commands), strict=True))
        self._note(_fault(list(replies.values())))
        settled: list[tuple[_Asked, list[Reply | OfAnotherType] | RedisAway]] = []
        for asked in batch:
            own = [replies[command] for command in asked.commands]
            fault = next((reply for reply in own if _is_fault(reply)), None)
            settled.append((asked, own if fault is None else self._away(fault)))
        _settle(settled)

    def _run(self, commands: Sequence[Command]) -> list[Reply | OfAnotherType]:
        replies = self._connections.run(commands, self._connections.deadline())
        return [OfAnotherType(str(reply)) if _is_of_another_type(reply) else reply for reply in replies]

    def _note(self, fault: NodeAway | redis.ResponseError | None) -> None:
        """That Redis is away, or back."""
        if fault is None:
            if self.away is not None:
                log.warning("Redis is back")
            self.away = None
            return
        away = self._away(fault)
        if self.away is None:
            log.warning("%s; what was read last is served", away)
            self._connections.close()  # look its name up again
        self.away = away

    def _away(self, fault: NodeAway | redis.ResponseError) -> RedisAway:
        url = self._connections.url
        return RedisAway(f"Redis at {self._connections.where} can't be read: {line_of(fault, url, self._rights)}")


def _is_of_another_type(reply: Reply) -> bool:
    return isinstance(reply, redis.ResponseError) and str(reply).startswith("WRONGTYPE")


def _is_fault(reply: Reply | OfAnotherType) -> TypeGuard[NodeAway | redis.ResponseError]:
    return isinstance(reply, NodeAway | redis.ResponseError)


def _fault(replies: Sequence[Reply | OfAnotherType]) -> NodeAway | redis.ResponseError | None:
    """Why none of these was answered; None where one was."""
    faults = [reply for reply in replies if _is_fault(reply)]
    return faults[0] if len(faults) == len(replies) else None


def _settle(settled: Sequence[tuple[_Asked, list[Reply | OfAnotherType] | RedisAway]]) -> None:
    """Hand over what came, from any thread: a loop is woken once for all, which costs more than the handing over."""

    def hand_over() -> None:
        for asked, replies in settled:
            asked.settle(replies)

    settled[0][0].loop.call_soon_threadsafe(hand_over)


def slate_command(prefix: str, key: str) -> Command:
    """What asks for the slate, or the list, that is kept under `key`.

    >>> slate_command("rr:", "popular").words
    ('HGET', 'rr:popular', 'slate')
    """
    return Command(f"{prefix}{key}", ("HGET", f"{prefix}{key}", "slate"))


def members_command(prefix: str, key: str) -> Command:
    """What asks for all of the set that is kept under `key`."""
    return Command(f"{prefix}{key}", ("SMEMBERS", f"{prefix}{key}"))
