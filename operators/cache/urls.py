"""What reaching a Redis takes: defaults, URLs and what they say, and URLs as they may be shown."""

import re
from typing import Literal, NamedTuple
from urllib.parse import SplitResult, parse_qsl, unquote, unquote_plus, urlencode, urlsplit

DEFAULT_PREFIX = "rr:"
DEFAULT_TTL_MS = 7 * 86_400_000
DEFAULT_TIMEOUT_MS = 2_000
MASK = "***"
SENTINEL_PORT, REDIS_PORT = 26_379, 6_379
SENTINELS_OWN = ("sentinel_username", "sentinel_password")  # options of the URL that are for Sentinels alone
FORMS = (
    "redis://HOST:PORT/DB, redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/DB or redis+cluster://HOST:PORT,HOST:PORT "
    "(each with rediss for TLS), or unix://PATH"
)

Address = tuple[str, int]


class RedisUrl(NamedTuple):
    """What a URL says: one server, or which Sentinels or nodes of a cluster to ask for it."""

    kind: Literal["server", "sentinel", "cluster"]
    single: str  # the URL of one server, by the same user and with the same options; its host is for `server` alone
    addresses: tuple[Address, ...] = ()  # of Sentinels, or of nodes
    service: str = ""  # what Sentinels call the server
    sentinels: tuple[tuple[str, str], ...] = ()  # of SENTINELS_OWN, those that are given

    @property
    def tls(self) -> bool:
        """Whether it is spoken to by TLS."""
        return self.single.startswith("rediss:")

    @property
    def user(self) -> str:
        """Who Redis takes us for."""
        parts = urlsplit(self.single)
        return unquote(parts.username or "") or dict(parse_qsl(parts.query)).get("username", "default")


def parsed(url: str) -> RedisUrl:
    """What `url` says. Raises ValueError, which shows no password, where it is none of `FORMS`.

    >>> parsed("redis+sentinel://app:geheim@a:1,b/shop/2?socket_keepalive=1")[:4]
    ('sentinel', 'redis://app:geheim@a:1/2?socket_keepalive=1', (('a', 1), ('b', 26379)), 'shop')
    >>> parsed("rediss+cluster://a,[::1]:2")
    RedisUrl(kind='cluster', single='rediss://a:6379/0', addresses=(('a', 6379), ('::1', 2)), service='', sentinels=())
    >>> parsed("redis+cluster://:geheim@a/1")
    Traceback (most recent call last):
    ...
    ValueError: expected a URL such as redis+cluster://HOST:PORT,HOST:PORT, got 'redis+cluster://:***@a/1'
    """
    scheme, plus, way = url.partition("://")[0].partition("+")
    if plus and (scheme not in ("redis", "rediss") or way not in ("sentinel", "cluster")):
        raise ValueError(f"expected {FORMS}, got {masked(url)!r}")
    try:
        parts = urlsplit(url)
        if not plus:
            return _of_server(url, parts)
        return _of_sentinel(scheme, parts) if way == "sentinel" else _of_cluster(scheme, parts)
    except ValueError:
        form = {"": "redis://HOST:PORT/0", "sentinel": "redis+sentinel://HOST:PORT,HOST:PORT/SERVICE/0"}
        known = form.get(way, "redis+cluster://HOST:PORT,HOST:PORT")
        raise ValueError(f"expected a URL such as {known}, got {masked(url)!r}") from None


def _of_server(url: str, parts: SplitResult) -> RedisUrl:
    database = parts.path.removeprefix("/")
    is_net = parts.scheme in ("redis", "rediss") and parts.hostname and (database or "0").isdecimal()
    if not (parts.path if parts.scheme == "unix" else is_net) or parts.port == 0:
        raise ValueError("no host, no number of a database, or a port that is none")
    return RedisUrl("server", url)


def _of_sentinel(scheme: str, parts: SplitResult) -> RedisUrl:
    service, _, database = parts.path.removeprefix("/").partition("/")
    if not service or not (database or "0").isdecimal():
        raise ValueError("no service, or no number of a database")
    addresses = _addresses(parts, SENTINEL_PORT)
    own = tuple((name, value) for name, value in _options(parts) if name in SENTINELS_OWN)
    return RedisUrl("sentinel", _single(scheme, parts, addresses[0], database or "0"), addresses, unquote(service), own)


def _of_cluster(scheme: str, parts: SplitResult) -> RedisUrl:
    if parts.path not in ("", "/", "/0"):
        raise ValueError("a cluster has one database")
    addresses = _addresses(parts, REDIS_PORT)
    return RedisUrl("cluster", _single(scheme, parts, addresses[0], "0"), addresses)


def _addresses(parts: SplitResult, default_port: int) -> tuple[Address, ...]:
    return tuple(_address(host, default_port) for host in parts.netloc.rpartition("@")[2].split(","))


def _single(scheme: str, parts: SplitResult, address: Address, database: str) -> str:
    """A URL that redis-py knows."""
    given, at, _ = parts.netloc.rpartition("@")
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    query = urlencode([(name, value) for name, value in _options(parts) if name not in SENTINELS_OWN])
    return f"{scheme}://{given}{at}{host}:{address[1]}/{database}{query and f'?{query}'}"


def _options(parts: SplitResult) -> list[tuple[str, str]]:
    options = parse_qsl(parts.query, keep_blank_values=True)
    if parts.fragment or any(name == "db" for name, _ in options):
        raise ValueError("the database stands in the path")
    return options


def _address(text: str, default_port: int) -> Address:
    """HOST:PORT, HOST or [IPv6]:PORT. Raises ValueError where it is none."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or parts.port == 0 or parts.path or parts.query or parts.username is not None:
        raise ValueError("no host")
    return unquote(parts.hostname), parts.port or default_port


def masked(url: str) -> str:
    """A URL without its passwords, nor a user's name that stands alone, which may be one, nor what stands where a port
    belongs; of what is no URL only what comes after its last @.

    >>> masked("redis://app:geheim@cache:6379/0?password=geheim"), masked("redis://geheim@cache")
    ('redis://app:***@cache:6379/0?password=***', 'redis://***@cache')
    >>> masked("redis:/app:geheim@cache:6379"), masked("cache:6379")
    ('***@cache:6379', 'cache:6379')
    >>> masked("redis://cache/0?password=ge@he&im"), masked("redis://app:geheim/0")
    ('redis://cache/0?password=***', 'redis://app:***/0')
    >>> masked("rediss+sentinel://app:geheim@a:1,b:2/shop/0?sentinel_password=geheim")
    'rediss+sentinel://app:***@a:1,b:2/shop/0?sentinel_password=***'
    """
    url = re.sub(r"([?&][^=&]*)=[^&]*(?:&[^=&]*(?=&|$))*", _masked_option, url)
    head, at, rest = url.rpartition("@")
    if at:
        scheme, slashes, given = head.partition("://")
        name, colon, _ = given.partition(":")
        shown = f"{name}:" if colon and "/" not in name else ""
        url = f"{scheme}://{shown}{MASK}@{rest}" if slashes else f"{MASK}@{rest}"
    return re.sub(r"(?<=://)[^/?#]*", _masked_ports, url, count=1)


def _masked_option(option: re.Match[str]) -> str:
    """Its name may be quoted, as its value may."""
    name = unquote_plus(option[1]).lower()
    return f"{option[1]}={MASK}" if any(word in name for word in ("password", "secret", "token")) else option[0]


def _masked_ports(place: re.Match[str]) -> str:
    """HOST:PORT, or several with commas between, with whom it is for before them."""
    who, at, hosts = place[0].rpartition("@")
    return who + at + ",".join(re.sub(r"(?<=:)(?!\d*$)[^:\]]+$", MASK, host) for host in hosts.split(","))
