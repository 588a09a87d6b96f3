"""What a user of Redis must be allowed to do, for the job and for whoever reads slates; and whether Redis allows it."""

import json
from collections.abc import Iterator, Sequence

import redis
from riverrank.state.messages import GONE

from .connections import Connections, NodeAway, Words
from .faults import fault_of

# By key, what scripts do with it, with arguments as Redis needs them to find the keys among them; @ is the key.
_WITH_SLATE = ("HMGET @ f", "DEL @", "HSET @ f v", "HDEL @ f", "PEXPIRE @ 1", "PERSIST @")
_WITH_BOTH = ("TYPE @", "DEL @", "PEXPIRE @ 1")
_WITH_GONE = ("SMEMBERS @", "SADD @ m", "SREM @ m", *_WITH_BOTH)
_WITH_TIMES = ("ZRANGE @ 0 1", "ZRANGEBYSCORE @ 0 1", "ZADD @ 1 m", "ZREM @ m", *_WITH_BOTH)
_OUTSIDE = ("EVAL s 1 @", "EVALSHA s 1 @", "SCRIPT LOAD s")
# ARGV[1]: commands with their arguments, as JSON. Redis before 7 can't say what is allowed.
_SCRIPT = """
local missing = {}
for _, words in ipairs(redis.acl_check_cmd and cjson.decode(ARGV[1]) or {}) do
  if not redis.acl_check_cmd(unpack(words)) then missing[#missing + 1] = table.concat(words, ' ', 1, 2) end
end
return missing
"""


def times_key(gone_key: str) -> str:
    """The key of when each item went, on the node of a cluster that has `gone_key`: that is what the first braces in a
    key say there.

    >>> times_key("rr:gone"), times_key("{shop}:gone")
    ('{rr:gone}:since', '{shop}:gone:since')
    """
    return f"{gone_key}:since" if "{" in gone_key else f"{{{gone_key}}}:since"


def rights_of_job(prefix: str) -> str:
    """The rules of ACL SETUSER for the job.

    >>> rights_of_job("rr:")[:58]
    '~rr:* ~{rr:gone}:since +del +eval +evalsha +hdel +hmget +h'
    """
    words = {line.partition(" @")[0].split(" s")[0] for _, line in _lines(prefix)}
    commands = sorted(word.lower().replace(" ", "|") for word in words)
    times = times_key(f"{prefix}{GONE}")
    keys = [_pattern(prefix) + "*", *([] if times.startswith(prefix) else [_pattern(times)])]
    return " ".join([*(f"~{key}" for key in keys), *(f"+{command}" for command in commands)])


def rights_of_reader(prefix: str) -> str:
    """The rules of ACL SETUSER for who reads slates.

    >>> rights_of_reader("rr:")
    '~rr:* +hget +smembers'
    """
    return f"~{_pattern(prefix)}* +hget +smembers"


def refusal(connections: Connections, prefix: str) -> str:
    """Why the job could not write there, and what to mend; "" where it could. Nothing is written to find out. One line,
    without secrets.
    """
    commands = [[key if word == "@" else word for word in line.split(" ")] for key, line in _lines(prefix)]
    words: Words = ("EVAL", _SCRIPT, 0, json.dumps(commands))
    url, rights = connections.url, rights_of_job(prefix)
    for node, reply in connections.everywhere(words, connections.deadline()):
        where = f"{connections.where}{node and f', at {node},'}"
        if isinstance(reply, NodeAway | redis.ResponseError):
            return f"{where} {fault_of(reply, url, rights)}"
        if reply:
            missing = ", ".join(dict.fromkeys(line.decode(errors="replace") for line in reply))
            return f"{where} does not allow {url.user} to {missing}; ACL SETUSER {url.user} {rights}"
    return ""


def _lines(prefix: str) -> Iterator[tuple[str, str]]:
    """Each key, and a command with it."""
    gone = f"{prefix}{GONE}"
    keys: tuple[tuple[str, Sequence[str]], ...] = (
        (f"{prefix}slate:", (*_OUTSIDE, *_WITH_SLATE)),
        (gone, _WITH_GONE),
        (times_key(gone), _WITH_TIMES),
    )
    return ((key, line) for key, lines in keys for line in lines)


def _pattern(key: str) -> str:
    """A key as Redis' patterns have it."""
    return "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in key)
