"""What a URL of Redis says, and what of it is shown."""

from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from riverrank.operators.cache.connections import Connections
from riverrank.operators.cache.urls import masked, parsed

names = st.from_regex(r"[a-z][a-z0-9-]{0,10}(\.[a-z]{1,5}){0,2}", fullmatch=True)
addresses = st.lists(st.tuples(names | st.just("::1"), st.integers(1, 65_535)), min_size=1, max_size=4, unique=True)
secrets = st.text(st.characters(codec="utf-8", exclude_categories=("Cs", "Cc")), min_size=1, max_size=12)
# So long that no part of a URL is the same by chance.
long_secrets = secrets.map(lambda text: f"{text}-geheim-{text}")


def written(addresses: list[tuple[str, int]]) -> str:
    return ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in addresses)


@given(addresses, st.sampled_from(["redis", "rediss"]), long_secrets, secrets, st.integers(0, 15), st.booleans())
@example([("a", 1)], "redis", "ge@he/i?m#:,%&=-geheim-", "mein dienst/1", 0, True)
def test_a_sentinel_url_says_whom_to_ask_for_what_and_shows_no_password(
    addresses: list[tuple[str, int]], scheme: str, secret: str, service: str, database: int, of_sentinel: bool
) -> None:
    quoted = quote(secret, safe="")
    query = f"?sentinel_password={quoted}" if of_sentinel else ""
    url = f"{scheme}+sentinel://app:{quoted}@{written(addresses)}/{quote(service, safe='')}/{database}{query}"
    said = parsed(url)
    assert (said.kind, said.tls, said.user) == ("sentinel", scheme == "rediss", "app")
    assert said.addresses == tuple(addresses) and said.service == service
    assert dict(said.sentinels) == ({"sentinel_password": secret} if of_sentinel else {})
    assert said.single.startswith(f"{scheme}://app:{quoted}@") and said.single.endswith(f"/{database}")
    for shown in (masked(url), Connections(url).where):
        assert quoted not in shown and "geheim" not in shown and "app:***@" in shown and written(addresses) in shown


@given(addresses, st.sampled_from(["redis", "rediss"]), long_secrets, st.sampled_from(["", "/", "/0"]))
def test_a_cluster_url_says_whom_to_ask_and_shows_no_password(
    addresses: list[tuple[str, int]], scheme: str, secret: str, path: str
) -> None:
    quoted = quote(secret, safe="")
    url = f"{scheme}+cluster://{quoted}@{written(addresses)}{path}?socket_keepalive=1"
    said = parsed(url)
    assert (said.kind, said.tls, said.addresses) == ("cluster", scheme == "rediss", tuple(addresses))
    assert said.single.endswith("/0?socket_keepalive=1")
    assert quoted not in masked(url) and "geheim" not in masked(url) and written(addresses) in masked(url)


@pytest.mark.parametrize(
    "url",
    [
        "redis+sentinel://a:1",
        "redis+sentinel://a:1/",
        "redis+sentinel://a:1/shop/zero",
        "redis+sentinel://a:port/shop/0",
        "redis+sentinel://a:1,/shop/0",
        "redis+sentinel:///shop/0",
        "redis+sentinel://a:1/shop/0?db=1",
        "redis+cluster://a:1/1",
        "redis+cluster://a:1/shop",
        "redis+cluster://a:0",
        "redis+cluster://",
        "redis+cluster://a:1#b",
        "redis+other://a:1",
        "http+cluster://a:1",
        "redis://",
        "redis://a:0",
        "redis://a:port",
        "redis://a/shop",
        "rediss://[::1",
        "http://a:1",
        "unix://",
    ],
)
def test_a_url_that_is_none_says_what_to_write_and_no_password(url: str) -> None:
    with_secret = url.replace("://", "://app:geheim@", 1)
    for function in (parsed, Connections):
        with pytest.raises(ValueError, match=r"expected .*redis(\+(sentinel|cluster))?://HOST:PORT") as raised:
            function(with_secret)
        assert "geheim" not in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("url", ["redis://a/0?maxconnections=1", "rediss+cluster://a?ssl_ca_cert=c"])
def test_an_option_that_is_none_is_a_fault_of_the_url(url: str) -> None:
    with pytest.raises(
        ValueError, match=r"expected redis:.*unexpected keyword argument '(maxconnections|ssl_ca_cert)'"
    ):
        Connections(url)
    Connections("rediss+cluster://a?ssl_ca_certs=c&max_connections=3&socket_timeout=1")


@pytest.mark.parametrize(("given_port", "port"), [("", 26_379), (":7", 7)])
def test_ports_are_the_usual_ones_unless_given(given_port: str, port: int) -> None:
    assert parsed(f"redis+sentinel://a{given_port}/shop").addresses == (("a", port),)
    assert parsed(f"redis+sentinel://a{given_port}/shop").single == f"redis://a:{port}/0"
    assert parsed("redis+cluster://a").addresses == (("a", 6_379),)
