"""What an error of Redis means to who runs the job: one line, and what to mend where waiting is of no use."""

import redis
from redis.sentinel import MasterNotFoundError
from riverrank.operators import tls

from .connections import NodeAway
from .urls import RedisUrl


def reason_of(error: Exception) -> str:
    """What an error says, on one line; with its kind where it is Redis that says so."""
    told = error.cause if isinstance(error, NodeAway) else error
    text = " ".join(str(told).split()).rstrip(".") or type(told).__name__
    return f"{type(told).__name__}: {text}" if isinstance(told, redis.ResponseError) else text


def line_of(error: Exception, url: RedisUrl, rights: str) -> str:
    """`reason_of`, and the `mend_of` it if there is one."""
    mend = mend_of(error, url, rights)
    return f"{reason_of(error)}; {mend}" if mend else reason_of(error)


def fault_of(error: Exception, url: RedisUrl, rights: str) -> str:
    """What a Redis that we cannot begin with does, and what to mend."""
    told = error.cause if isinstance(error, NodeAway) else error
    if isinstance(told, redis.AuthenticationError):
        what = f"lets nobody in as {url.user} with that password"
    elif isinstance(told, redis.ResponseError):
        what = "does not do what it is asked to"
    else:
        what = "does not answer"
    return f"{what} ({reason_of(error)}); {mend_of(error, url, rights) or _guess(str(told), url)}"


def mend_of(error: Exception, url: RedisUrl, rights: str) -> str:
    """What to mend; "" where it is enough to wait until Redis is back. `rights` is what ACL SETUSER gives a user who
    may not do what we do.
    """
    told = error.cause if isinstance(error, NodeAway) else error
    if isinstance(told, MasterNotFoundError):
        return _mend_of_sentinel(told.__cause__, url)
    text = str(told)
    if isinstance(told, redis.AuthenticationError):
        return "mend the user or the password in the URL"
    if forbids(told):
        return f"ACL SETUSER {url.user} {rights}{_asking(url)}"
    if text.startswith("MOVED"):
        return "that is a node of a cluster: write redis+cluster://HOST:PORT"
    if "cluster support disabled" in text:
        return "that is no cluster: write redis://HOST:PORT/0"
    return _mend_of_tls(text, url)


def forbids(error: BaseException) -> bool:
    """Whether that says that the user lacks a right; from within a script it has no code, and is another before 7."""
    in_script = ("ACL failure in script", "The user executing the script can't")
    return isinstance(error, redis.exceptions.NoPermissionError) or str(error).startswith(in_script)


def _mend_of_sentinel(cause: BaseException | None, url: RedisUrl) -> str:
    if cause is None:
        return "mend the name of the service in the URL"
    if isinstance(cause, redis.AuthenticationError):
        return "mend sentinel_username and sentinel_password in the URL"
    if forbids(cause):
        user = dict(url.sentinels).get("sentinel_username", "default")
        return f"at the Sentinels ACL SETUSER {user} +sentinel|get-master-addr-by-name"
    if "unknown command" in str(cause):
        return "that is no Sentinel: write redis://HOST:PORT/0, or the port of a Sentinel"
    return _mend_of_tls(str(cause), url)


def _mend_of_tls(text: str, url: RedisUrl) -> str:
    if tls.untrusted(text):
        return "its certificate is not trusted: mend ssl_ca_certs in the URL, or the host name"
    if tls.wants_certificate(text):
        return "it wants another certificate of this client: mend ssl_certfile and ssl_keyfile in the URL"
    if tls.speaks_no_tls(text):
        return "it does not speak TLS there: mend the port, or write redis in place of rediss"
    return ""


def _guess(text: str, url: RedisUrl) -> str:
    """What may be to mend of a Redis that never answered yet."""
    is_closed = "Connection closed by server" in text or "reset by peer" in text
    if url.tls and is_closed:
        return "if it wants a certificate of this client, give ssl_certfile and ssl_keyfile in the URL"
    if url.tls and "Timeout connecting" in text:
        return "start Redis; if it does not speak TLS there, write redis in place of rediss"
    if not url.tls and (is_closed or "Protocol Error" in text):
        return "if it wants TLS there, write rediss in place of redis"
    return "start Redis, or mend the address"


def _asking(url: RedisUrl) -> str:
    """What who asks a cluster where keys are must be allowed besides."""
    return " +cluster|slots" if url.kind == "cluster" else ""
