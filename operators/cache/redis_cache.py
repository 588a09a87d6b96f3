"""CACHE: writes slates to Redis with a compare-and-set on the server, many in one round trip.

It keeps nothing: what is still to be written (the outbox) and when to try again belong to its caller.
"""

from collections.abc import Iterable, Sequence
from hashlib import sha1

import redis
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import GONE, GONE_ITEM, POPULAR, TRENDING, CacheWrite
from riverrank.state.records.printable import printable

from .connections import Command, Connections, NodeAway, Words
from .faults import forbids, line_of, reason_of
from .rights import rights_of_job, times_key
from .urls import DEFAULT_PREFIX, DEFAULT_TIMEOUT_MS, DEFAULT_TTL_MS

# KEYS: the set, and when each of its items was told to be gone. ARGV: the time of this, in ms; how long slates may be
# cached, 0 for ever; whether the item is gone; and the item, without which all that was told before is over. A key that
# holds another type is ours: it is replaced by what the other one tells.
GONE_SCRIPT = """
local function is_other(key, kind)
  local found = redis.call('TYPE', key).ok
  if found == 'none' or found == kind then return false end
  redis.call('DEL', key)
  return true
end
local no_set, no_times = is_other(KEYS[1], 'set'), is_other(KEYS[2], 'zset')
for _, item in ipairs(no_set and redis.call('ZRANGE', KEYS[2], 0, -1) or {}) do
  redis.call('SADD', KEYS[1], item)
end
for _, item in ipairs(no_times and redis.call('SMEMBERS', KEYS[1]) or {}) do
  redis.call('ZADD', KEYS[2], ARGV[1], item)
end
local function over(...)
  local old = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ...)
  for at = 1, #old do
    redis.call('SREM', KEYS[1], old[at])
    redis.call('ZREM', KEYS[2], old[at])
  end
end
local now, ttl = tonumber(ARGV[1]), tonumber(ARGV[2])
if not ARGV[4] then
  over('(' .. ARGV[1])
elseif ARGV[3] == '0' then
  redis.call('SREM', KEYS[1], ARGV[4])
  redis.call('ZREM', KEYS[2], ARGV[4])
else
  redis.call('SADD', KEYS[1], ARGV[4])
  redis.call('ZADD', KEYS[2], now, ARGV[4])
  if ttl > 0 then
    over(now - ttl, 'LIMIT', 0, 100)
    redis.call('PEXPIRE', KEYS[1], ttl)
    redis.call('PEXPIRE', KEYS[2], ttl)
  end
end
return 1
"""
# KEYS[1]: the key. ARGV: epoch, version, ttl in ms (0: never expires), and the slate, which an erasure does without.
# A key that holds another type, or a hash without a slate, is ours and holds nothing: it is replaced.
SCRIPT = """
local held = redis.pcall('HMGET', KEYS[1], 'epoch', 'version', 'slate')
if held.err then
  if not string.find(held.err, 'WRONGTYPE', 1, true) then return held end
  redis.call('DEL', KEYS[1])
  held = {false, false, false}
end
local epoch, version, ttl = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local held_epoch = tonumber(held[1] or '0') or 0
local held_version = tonumber(held[2] or '0') or 0
if not ARGV[4] then
  if held[3] and held_epoch > epoch then return 0 end
  redis.call('DEL', KEYS[1])
  return 1
end
local written = 0
if held[3] and (held_epoch > epoch or (held_epoch == epoch and held_version > version)) then return 0 end
if not held[3] or held_epoch ~= epoch or held_version ~= version then
  redis.call('HSET', KEYS[1], 'version', ARGV[2], 'slate', ARGV[4])
  if epoch ~= 0 then
    redis.call('HSET', KEYS[1], 'epoch', ARGV[1])
  elseif held[1] then
    redis.call('HDEL', KEYS[1], 'epoch')
  end
  written = 1
end
if ttl > 0 then redis.call('PEXPIRE', KEYS[1], ARGV[3]) else redis.call('PERSIST', KEYS[1]) end
return written
"""
SHA = sha1(SCRIPT.encode(), usedforsecurity=False).hexdigest()

# Error codes that speak of the server, not of one key: nothing else will go through either.
SERVER_WIDE = (
    "READONLY",
    "OOM",
    "MISCONF",
    "NOAUTH",
    "MASTERDOWN",
    "CLUSTERDOWN",
    "NOREPLICAS",
    "BUSY",
    "TRYAGAIN",
    "MOVED",
    "ASK",
    "ERR unknown command",
)

SLATE_OF = "slate:"  # begins the key of a user's slate


class CacheAway(Exception):
    """Redis can't be written now: where and why, credentials masked. `settled` are the keys that still went through."""

    def __init__(self, message: str, settled: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.settled = frozenset(settled)


def slate_key(user_id: str) -> str:
    """The `CacheWrite.key` of a user's slate; in Redis the prefix stands before it.

    >>> slate_key("u-17")
    'slate:u-17'
    """
    return f"{SLATE_OF}{user_id}"


def user_of(key: str) -> str:
    """The user whose slate a key of `slate_key` is of.

    >>> user_of(slate_key("u:17"))
    'u:17'
    """
    return key.removeprefix(SLATE_OF)


def without_user(key: str, secret: bytes) -> str:
    """A `CacheWrite.key` as a log may have it: with the pseudonym of the user, made with `secret`, in place of the id.

    >>> without_user("slate:u-17", b""), without_user("popular", b"")
    ('slate:a083b24ee327c41c2f516469d684728b', 'popular')
    """
    user_id = user_of(key)
    return printable(key) if user_id == key else f"{SLATE_OF}{pseudonym(user_id, secret)}"


class Cache:
    """Writes to the Redis at `url`; the connection is made by the first write, and anew by the one after a failure.

    Not for use by several threads at once.

    Args:
        url: one of `urls.FORMS`, with credentials where the server wants them.
        prefix: what every key begins with.
        ttl_ms: how long a slate or a list is kept after its last write, 0 for ever. `rr:popular` and `rr:trending`
            never expire.
        timeout_ms: what a call to `write` may take at most, but for Sentinels or nodes that have to be asked before.

    Raises:
        ValueError: `url` is none.
    """

    def __init__(
        self,
        url: str,
        prefix: str = DEFAULT_PREFIX,
        ttl_ms: int = DEFAULT_TTL_MS,
        timeout_ms: int = DEFAULT_TIMEOUT_MS,
    ) -> None:
        self._connections = Connections(url, timeout_ms)
        self.where = self._connections.where
        self._prefix = prefix
        self._ttl_ms = ttl_ms
        self.refused: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Cache({self.where!r}, prefix={self._prefix!r})"

    def write(self, writes: Sequence[CacheWrite]) -> set[str]:
        """Put or erase what `writes` say, in their order, in one pipelined round trip.

        Returns the keys that are settled: they hold what was asked for, or something newer. A key that is missing
        was refused by the server for a reason of its own, which is in `refused` until the next call; it may be tried
        again.

        An erasure takes whatever was written in its epoch or before: when in doubt it deletes.

        Raises:
            CacheAway: connection, time-out, or a server that takes no writes (loading, read-only, out of memory).
        """
        deadline = self._connections.deadline()
        settled: set[str] = set()
        self.refused = {}
        left = self._attempt(writes, deadline, settled)
        if left:  # the server is a new one, was restarted or flushed
            left = self._attempt(left, deadline, settled, ("SCRIPT", "LOAD", SCRIPT))
        if left:
            raise CacheAway(f"Redis at {self.where} forgets the script as soon as it is loaded", settled)
        return settled

    def close(self) -> None:
        """Close the connection; a later write opens a new one."""
        self._connections.close()

    def _attempt(
        self, writes: Sequence[CacheWrite], deadline: float, settled: set[str], first: Words | None = None
    ) -> list[CacheWrite]:
        """One round trip. Fills `settled` and `refused`; returns what met no script. Raises CacheAway."""
        replies = self._connections.run([self._command(write) for write in writes], deadline, first)
        again, away, failed = [], [], []
        for write, reply in zip(writes, replies, strict=True):
            if not isinstance(reply, NodeAway | redis.ResponseError):
                settled.add(write.key)
                continue
            settled.discard(write.key)
            if isinstance(reply, NodeAway):
                away.append(reply)
            elif isinstance(reply, redis.exceptions.NoScriptError):
                again.append(write)
            elif _server_wide(reply):
                failed.append(reply)
            else:
                self.refused[write.key] = reason_of(reply)
        if away or failed:
            self._connections.close()  # a server that was demoted or locked: look its name up again
            error = (failed or away)[0]
            line = line_of(error, self._connections.url, rights_of_job(self._prefix))
            raise CacheAway(f"Redis at {self.where} {'takes no writes' if failed else 'is away'}: {line}", settled)
        return again

    def _command(self, write: CacheWrite) -> Command:
        if write.key == GONE or write.key.startswith(GONE_ITEM):
            key, item = self._prefix + GONE, () if write.key == GONE else (write.key.removeprefix(GONE_ITEM),)
            given = (write.version, self._ttl_ms, write.slate or b"0", *item)
            return Command(key, ("EVAL", GONE_SCRIPT, 2, key, times_key(key), *given))
        key = self._prefix + write.key
        ttl_ms = 0 if write.key in (POPULAR, TRENDING) else self._ttl_ms
        head = ("EVALSHA", SHA, 1, key, write.epoch, write.version, ttl_ms)
        return Command(key, head if write.slate is None else (*head, write.slate))


_PARSED = (
    redis.exceptions.ReadOnlyError,
    redis.exceptions.OutOfMemoryError,
)


def _server_wide(error: redis.ResponseError) -> bool:
    """redis-py strips the code of the errors that it has a class for."""
    return isinstance(error, _PARSED) or forbids(error) or str(error).startswith(SERVER_WIDE)
