"""A Redis that asks who is there, and lets each do only what it must: with the right answer all is written and read,
with a wrong one a line says which it was, and what to mend.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redises import SecuredNode, SecuredValkey, cluster
from riverrank.jobs.config import text as config_text
from riverrank.jobs.config.edges import RedisSettings
from riverrank.jobs.config.preflight import check_services
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.dev import services
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.flink.announcing import announced
from riverrank.jobs.serving.slates import get
from riverrank.operators.cache.redis_cache import Cache, CacheAway
from riverrank.operators.cache.rights import rights_of_job, rights_of_reader
from riverrank.state.messages import GONE, POPULAR, CacheWrite
from secured import Authority
from valkey_server import erase, put

ROOT = Path(__file__).resolve().parents[3]
SECRET = "gehe;im'7"
QUOTED = "gehe%3Bim%277"
SLATE = (
    b'{"slate_id":"u:1","user_id":"u","version":1,"ts":1,"trigger":"e","strategy":"warm","arm":"control",'
    b'"model":{"examples":1,"global_version":1},"items":[]}'
)


@pytest.fixture(scope="module")
def secured(authority: Authority) -> Iterator[SecuredValkey]:
    with SecuredValkey(authority) as running:
        yield running


@pytest.fixture
def admin(secured: SecuredValkey) -> Iterator[redis.Redis]:
    """Of a server that holds nothing, and lets nobody in but by a user's name."""
    with redis.Redis.from_url(secured.url, decode_responses=True) as client:
        client.flushall()
        users = client.acl_list()
        client.script_flush()
        yield client
        for line in client.acl_list():
            if line not in users:
                client.acl_deluser(line.split()[1])


def let(client: redis.Redis, user: str, *rules: str) -> None:
    client.execute_command("ACL", "SETUSER", user, "reset", "on", f">{SECRET}", *rules)


def url_of(secured: SecuredValkey, user: str, secret: str = QUOTED) -> str:
    return secured.secured_url.replace("//", f"//{user}:{secret}@")


def write_all(url: str, prefix: str = "rr:") -> None:
    """Whatever the job writes, by each way that a script takes."""
    cache = Cache(url, prefix)
    gone = [CacheWrite("gone:a", 0, 1, b"1"), CacheWrite("gone:b", 0, 2, b"1"), CacheWrite("gone:b", 0, 3, b"0")]
    slates = [CacheWrite("slate:u", 0, 1, SLATE), put("v", 1, epoch=7), put("v", 2, epoch=9), put("w", 1, epoch=5)]
    for write in (*slates, put("w", 9, epoch=0), erase("v", 9), CacheWrite(POPULAR, 0, 1, SLATE), *gone):
        assert cache.write([write]) == {write.key} and not cache.refused
    assert cache.write([CacheWrite(GONE, 0, 2, b"0")]) == {GONE} and not cache.refused


@pytest.mark.parametrize("prefix", ["rr:", "{shop}:", "a*[b]?\\:"])
def test_the_job_and_the_readers_need_no_right_but_those_that_are_documented(
    secured: SecuredValkey, admin: redis.Redis, prefix: str
) -> None:
    let(admin, "app", *rights_of_job(prefix).split(" "))
    let(admin, "page", *rights_of_reader(prefix).split(" "))
    # What was there before, of other types, takes the scripts along all their ways.
    for key in (f"{prefix}slate:u", f"{prefix}gone", f"{'' if '{' in prefix else '{'}{prefix}gone"):
        admin.set(key, "something else")
    admin.zadd(f"{prefix}gone:since" if "{" in prefix else f"{{{prefix}gone}}:since", {"old": 1})
    check_services(parse({"redis": {"url": url_of(secured, "app"), "prefix": prefix}}))
    write_all(url_of(secured, "app"), prefix)
    assert admin.smembers(f"{prefix}gone") == set()
    config = Config(redis=RedisSettings(url=url_of(secured, "page"), prefix=prefix))
    assert get(config, "u") == SLATE and get(config, "nobody") == SLATE
    with pytest.raises(UsageError, match="does not do what it is asked to"):
        check_services(config)
    with pytest.raises(Failure, match=r"NoPermissionError: .*; ACL SETUSER app ~.* \+hget \+smembers"):
        get(Config(redis=RedisSettings(url=url_of(secured, "app"), prefix=prefix)), "u")


def test_each_right_that_is_missing_is_named_before_the_start_and_nothing_was_written_to_find_out(
    secured: SecuredValkey, admin: redis.Redis
) -> None:
    rules = rights_of_job("rr:").split()
    for rule in rules:
        let(admin, "app", *(other for other in rules if other != rule))
        with pytest.raises(UsageError) as raised:
            check_services(parse({"redis": {"url": url_of(secured, "app")}}))
        line = str(raised.value)
        assert line.endswith(f"; ACL SETUSER app {' '.join(rules)}")
        named = rule.removeprefix("+").replace("|", " ")
        assert (named in line.partition(";")[0].lower()) or rule.startswith("~"), line
        assert "\n" not in line and SECRET not in line and QUOTED not in line
    assert admin.keys() == []


def test_a_right_that_is_taken_away_from_a_running_job_is_named_with_the_mend(
    secured: SecuredValkey, admin: redis.Redis
) -> None:
    let(admin, "app", *rights_of_job("rr:").split())
    cache = Cache(url_of(secured, "app"))
    assert cache.write([put("u", 1)]) == {"slate:u"}
    admin.execute_command("ACL", "SETUSER", "app", "-hset")
    with pytest.raises(
        CacheAway, match=r"takes no writes: ResponseError: ACL failure in script: .*hset.*; ACL SETUSER app ~rr:"
    ) as raised:
        cache.write([put("u", 2)])
    assert SECRET not in str(raised.value) and "slate:u" not in str(raised.value) and "\n" not in str(raised.value)
    admin.execute_command("ACL", "SETUSER", "app", "+hset")
    assert cache.write([put("u", 2)]) == {"slate:u"}
    admin.execute_command("ACL", "SETUSER", "app", "resetpass", ">another")
    assert cache.write([put("u", 3)]) == {"slate:u"}, "who is in stays in"
    cache.close()
    with pytest.raises(CacheAway, match=r"is away: invalid .*; mend the user or the password in the URL"):
        cache.write([put("u", 4)])


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"secret": "wrong-geheim"}, "lets nobody in as app with that password (invalid username-password pair"),
        ({"user": "else"}, "lets nobody in as else with that password"),
        ({"user": "off"}, "lets nobody in as off with that password"),
        ({"ca": "OTHER"}, "does not answer (Error 1 connecting to 127.0.0.1:PORT. [SSL: CERTIFICATE_VERIFY_FAILED]"),
        ({"scheme": "redis"}, "if it wants TLS there, write rediss in place of redis"),
        ({"port": "PLAIN"}, "start Redis; if it does not speak TLS there, write redis in place of rediss"),
        ({"port": "CERTIFIED"}, "if it wants a certificate of this client, give ssl_certfile and ssl_keyfile"),
    ],
)
def test_a_wrong_answer_is_one_line_that_says_what_to_mend(
    secured: SecuredValkey,
    admin: redis.Redis,
    valkey: services.Valkey,
    authority: Authority,
    tmp_path: Path,
    changed: dict[str, str],
    said: str,
) -> None:
    let(admin, "app", *rights_of_job("rr:").split())
    let(admin, "off", "off", *rights_of_job("rr:").split())
    with SecuredValkey(authority, certified=True) as certified:
        ports = {"PLAIN": valkey.port, "CERTIFIED": certified.secured_port}
        url = url_of(secured, changed.get("user", "app"), changed.get("secret", QUOTED))
        url = url.replace(str(secured.secured_port), str(ports.get(changed.get("port", ""), secured.secured_port)))
        url = url.replace(str(authority.ca), str(Authority(tmp_path / "other").ca)) if "ca" in changed else url
        url = f"redis://{url.partition('//')[2].partition('?')[0]}" if "scheme" in changed else url
        config = parse({"redis": {"url": url}})
        with pytest.raises(UsageError) as raised:
            check_services(config)
        with pytest.raises(CacheAway) as away:
            Cache(url).write([put("u", 1)])
        with pytest.raises(UsageError) as unread:
            get(config, "u")
    assert said.replace("PORT", str(secured.secured_port)) in str(raised.value)
    mend = str(raised.value).rpartition("; ")[2]
    for line in (str(raised.value), str(away.value), str(unread.value)):
        assert "\n" not in line and (mend in line or " if " in f" {mend}")
        assert SECRET not in line and QUOTED not in line and "geheim" not in line
    assert admin.keys() == []


def test_who_has_the_certificate_that_is_asked_for_writes_and_reads(authority: Authority) -> None:
    with SecuredValkey(authority, certified=True) as certified:
        config = parse({"redis": {"url": certified.secured_url}})
        check_services(config)
        write_all(certified.secured_url)
        assert get(config, "u") == SLATE


def test_a_cluster_by_tls_and_an_acl_user_takes_and_gives_all_with_the_rights_that_are_documented(
    authority: Authority,
) -> None:
    with cluster(lambda: SecuredNode(authority)) as running:
        url = f"rediss+cluster://app:{QUOTED}@127.0.0.1:{running.nodes[0].secured_port}/0?ssl_ca_certs={authority.ca}"
        rules = [*rights_of_job("rr:").split(), "+cluster|slots"]
        for node in running.nodes:
            let(running.admin(node), "app", *rules)
            let(running.admin(node), "page", *rights_of_reader("rr:").split(), "+cluster|slots")
        config = parse({"redis": {"url": url}})
        check_services(config)
        write_all(url)
        assert get(Config(redis=RedisSettings(url=url.replace("app:", "page:"))), "u") == SLATE
        last = running.nodes[-1]
        let(running.admin(last), "app", *(rule for rule in rules if rule != "+persist"))
        line = f"at 127.0.0.1:{last.secured_port}, does not allow app to PERSIST rr:slate:; ACL SETUSER app ~rr:"
        with pytest.raises(UsageError, match=re.escape(line)):
            check_services(config)
        let(running.admin(running.nodes[0]), "app", *(rule for rule in rules if rule != "+cluster|slots"))
        with pytest.raises(UsageError, match=r"NoPermissionError.*; ACL SETUSER app ~rr:.* \+cluster\|slots$"):
            check_services(config)


def test_the_rights_that_are_documented_are_those() -> None:
    page = (ROOT / "docs" / "integrate.md").read_text("utf-8")
    assert f"ACL SETUSER app on >PASSWORD {rights_of_job('rr:')}\n" in page
    assert f"ACL SETUSER page on >PASSWORD {rights_of_reader('rr:')}\n" in page


@pytest.mark.parametrize("way", ["redis+sentinel://{}@a:1,b:2/shop/0", "rediss+cluster://{}@a:1,b:2"])
def test_passwords_of_all_forms_of_a_url_are_never_printed(way: str) -> None:
    config = parse({"redis": {"url": way.format("app:geheim")}})
    announced_lines = "\n".join(announced(config))
    printed = (repr(config), config_text.render(config), str(config_text.as_document(config)), announced_lines)
    assert all("geheim" not in text and "app:***@a:1,b:2" in text for text in printed)
    with pytest.raises(UsageError, match="masked; give the URL in the environment variable RIVERRANK_REDIS_URL"):
        parse(tomllib.loads(config_text.render(config)))
