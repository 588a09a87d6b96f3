"""What the page promises of requests: hostile text stays text, forms of others are refused, keys are asked for, and
what is away is told.
"""

import asyncio
import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

import httpx2
import msgspec
import pytest
from page_world import HOSTILE, TITLES, Previews, World, event, progress_of, slate_of
from riverrank.jobs.config.edges import RedisSettings, ServeSettings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.dev.services import Valkey
from riverrank.jobs.serving.http.app import application
from riverrank.jobs.serving.page.pages import Pages
from riverrank.jobs.serving.page.routes import MOST_ACTED, MOST_FORM_BYTES, PageRoutes
from riverrank.jobs.serving.watch.follower import Progress
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.cache.redis_cache import POPULAR, slate_key
from riverrank.operators.flink.arrivals import wall_ms
from riverrank.state.records.decoding import decode_event
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from starlette.applications import Starlette
from starlette.testclient import TestClient

OWN = {"sec-fetch-site": "same-origin", "origin": "http://testserver"}
KEY = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def world(page_valkey: Valkey) -> Iterator[World]:
    made = World(page_valkey.url)
    made.redis.flushall()
    made.put(POPULAR, slate_of("popular", 7, list(TITLES)[:10]))
    yield made
    made.redis.close()


def client(
    world: World,
    seen: Seen | None = None,
    progress: Progress | None = None,
    is_key: Callable[[str], bool] | None = None,
) -> TestClient:
    pages = Pages(world, seen or Seen(), lambda: progress)
    routes = PageRoutes(world, pages, is_key).routes()
    return TestClient(Starlette(routes=routes), follow_redirects=False)


def act(page: TestClient, query: str, type_: str = "click", **headers: str) -> httpx2.Response:
    return page.post(f"/customer?{query}", data={"type": type_}, headers={**OWN, **headers})


def test_hostile_ids_titles_and_reasons_are_text_on_every_page(world: World) -> None:
    world.titled["i-000"] = HOSTILE
    world.previewer = Previews(world)
    made = slate_of(HOSTILE, 3, [HOSTILE, "i-000", "\n\x00"], arm=HOSTILE)
    world.put(slate_key(HOSTILE), made)
    seen, now = Seen(), wall_ms()
    seen.slate(to_json(made), None, now)
    event(seen, now, event_id="e", type="click", user_id=HOSTILE, item_id=HOSTILE, ts=now, slate_id="x")
    page = client(world, seen, progress_of(HOSTILE))
    user = quote(HOSTILE, safe="")
    for path in ("/", f"/user?id={user}", f"/customer?id={user}&q={user}", f"/preview?user={user}&item={user}"):
        answer = page.get(path)
        assert answer.status_code == 200, path
        assert "&lt;script&gt;" in answer.text, path
        assert "<script>" not in answer.text and "\u202e" not in answer.text and "\x1b" not in answer.text, path
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert not re.search(r"<[^>]* (?:on\w+|style)=", answer.text), "the policy refuses inline scripts and styles"


@pytest.mark.parametrize("user", ["a b", "a&b=c", "ключ", "line\nend\r", "nul\x00", "../..", "%41", "+", '"><b>'])
def test_ids_of_any_kind_go_round_through_forms_and_links(world: World, user: str) -> None:
    item = f"item {user}"
    world.put(slate_key(user), slate_of(user, 1, [item, *list(TITLES)[:3]]))
    page = client(world)
    text = page.get("/customer", params={"id": user}).text
    found = re.search(r'action="(/customer\?[^"]*item=[^"]*)"', text)
    assert found
    answer = page.post(found[1].replace("&amp;", "&"), data={"type": "click"}, headers=OWN)
    assert answer.status_code == 303
    sent = world.sent[-1]
    assert (sent.user_id, sent.item_id, sent.slate_id) == (user, item, f"{user}:1")
    assert "After your click" in page.get(answer.headers["location"]).text
    hidden = re.search(r'name="quoted" value="([^"]*)"', text)
    assert hidden and page.get("/customer", params={"quoted": hidden[1], "q": "boots"}).text.count("found") > 0


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://["},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site", "origin": "http://testserver"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin", "origin": "http://testserver.evil"},
    ],
)
def test_a_form_that_another_site_sent_does_nothing(world: World, headers: dict[str, str]) -> None:
    page = client(world, is_key=None)
    answer = page.post("/customer?id=u&item=i-001", data={"type": "click"}, headers=headers)
    assert answer.status_code == 403
    assert world.sent == []
    assert page.post("/sign-out", headers=headers).status_code == 403


def test_a_preview_that_another_page_asks_for_is_not_asked_of_the_job(world: World) -> None:
    world.previewer = Previews(world)
    page = client(world)
    assert page.get("/preview?user=u&item=i-001", headers={"sec-fetch-site": "cross-site"}).status_code == 403
    assert page.get("/preview?user=u&item=i-001", headers={"sec-fetch-site": "same-origin"}).status_code == 200


def test_who_has_no_key_holds_up_nobody_who_has(world: World) -> None:
    """Forms of those who sign in that never end are few at once, and count for nothing in the service's own bound."""
    config = Config(redis=RedisSettings(url="redis://127.0.0.1:1"), serve=ServeSettings(requests=2))
    routes = PageRoutes(world, Pages(world, Seen(), lambda: None), KEY.__eq__).routes()

    async def slow(app: Any, sent: list[int]) -> None:
        async def never() -> Any:
            await asyncio.sleep(30)

        async def send(message: Any) -> None:
            sent.append(message.get("status", 0))

        headers = [(name.encode(), value.encode()) for name, value in {**OWN, "host": "testserver"}.items()]
        scope = {"type": "http", "method": "POST", "path": "/sign-in", "raw_path": b"/sign-in", "headers": headers,
                 "query_string": b"", "http_version": "1.1", "scheme": "http", "root_path": ""}  # fmt: skip
        await app(scope, never, send)

    async def told() -> tuple[list[int], list[int]]:
        app = application(config, pages=lambda _: routes)
        forms: list[list[int]] = [[] for _ in range(12)]
        tasks = [asyncio.create_task(slow(app, sent)) for sent in forms]
        await asyncio.sleep(0.2)
        early = [sent[0] for sent in forms if sent]
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://testserver") as asking:
            answer = await asking.get("/openapi.json")
        await asyncio.gather(*tasks)
        return [answer.status_code, *early], [sent[0] for sent in forms]

    at_once, all_told = asyncio.run(told())
    assert at_once == [200, 503, 503, 503, 503] and sorted(all_told) == [*[408] * 8, *[503] * 4]


def test_with_keys_all_pages_ask_for_one_and_the_cookie_is_strict(world: World) -> None:
    page = client(world, is_key=KEY.__eq__)
    for path in ("/", "/user?id=u", "/customer?id=u", "/preview?user=u&item=i"):
        answer = page.get(path)
        assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert act(page, "id=u&item=i-001").status_code == 303 and world.sent == []
    assert page.get("/page/style.css").status_code == 200
    wrong = page.post("/sign-in", data={"key": KEY + "x"}, headers=OWN)
    assert wrong.status_code == 401 and "set-cookie" not in wrong.headers and KEY not in wrong.text
    assert page.post("/sign-in", data={"key": KEY}).status_code == 403, "from nowhere"
    right = page.post("/sign-in", data={"key": KEY}, headers=OWN)
    cookie = right.headers["set-cookie"]
    assert right.status_code == 303 and "HttpOnly" in cookie and "SameSite=strict" in cookie and "Secure" not in cookie
    assert KEY not in cookie
    assert page.get("/").status_code == 200
    assert act(page, "id=u&item=i-001").status_code == 303 and len(world.sent) == 1
    token = page.cookies["riverrank_session"]
    page.post("/sign-out", headers=OWN)
    page.cookies.set("riverrank_session", token)
    assert page.get("/").status_code == 303, "the token is over, not the cookie alone"
    behind = page.post("/sign-in", data={"key": KEY}, headers={**OWN, "origin": "https://testserver"})
    assert "Secure" in behind.headers["set-cookie"]


@pytest.mark.parametrize(
    ("query", "type_", "said"),
    [
        ("id=u&item=i-001", "erase", "expected one of request, click, cart, purchase"),
        ("id=u&item=i-001", "", "expected one of"),
        ("id=u", "click", "item_id"),
        ("item=i-001", "click", "expected one of"),
        ("id=u&item=" + "x" * 257, "click", "item_id"),
        ("id=" + "x" * 257, "click", "id: expected a string of 1 to 256 bytes"),
        ("id=u&item=i-001&slate=" + "x" * 321, "click", "slate_id"),
    ],
)
def test_what_the_job_would_not_take_is_not_written(world: World, query: str, type_: str, said: str) -> None:
    answer = act(client(world), query, type_)
    assert answer.status_code == 400
    assert said in answer.text
    assert world.sent == []


def test_a_form_is_bounded_and_has_to_be_one(world: World) -> None:
    page = client(world)
    large = page.post("/customer?id=u", content=b"type=" + b"x" * MOST_FORM_BYTES, headers=OWN)
    assert large.status_code == 413
    for content in (b"\xff", b"a=1&" * 20):
        assert page.post("/customer?id=u", content=content, headers=OWN).status_code == 400
    assert world.sent == []


def test_each_step_is_an_event_that_the_job_takes_and_shows_what_it_changed(world: World) -> None:
    page = client(world)
    first = act(page, "id=anna&item=i-004&slate=popular%3A7")
    text = page.get(first.headers["location"]).text
    assert "Before: the popular slate" in text and "After: version 1" in text
    assert "1 came in, 5 moved up, 0 moved down, 2 left, 3 stayed." in text
    assert "because you clicked Lynx small maps +3.64" in text
    second = act(page, "id=anna&item=i-001", "purchase")
    assert "Before: version 1" in page.get(second.headers["location"]).text
    assert [each.type for each in world.sent] == ["click", "purchase"]
    assert all(isinstance(decode_event(to_json(each)), Event) for each in world.sent)
    assert len({each.event_id for each in world.sent}) == 2
    of_another = page.get(first.headers["location"].replace("anna", "bert")).text
    assert "After your" not in of_another, "a step is its own customer's"


def test_a_slate_that_does_not_come_in_time_is_looked_for_again(world: World) -> None:
    page = client(world)
    world.answers = False
    there = act(page, "id=slow&item=i-004").headers["location"]
    assert "no slate has answered it yet" in page.get(there).text
    world.put(slate_key("slow"), slate_of("slow", 1, list(TITLES)[2:6], world.sent[-1].event_id))
    assert "After: version 1" in page.get(there).text


def test_steps_that_are_kept_are_bounded(world: World) -> None:
    page = client(world)
    first = act(page, "id=many&item=i-001").headers["location"]
    world.answers = False
    for _ in range(MOST_ACTED):
        act(page, "id=many", "request")
    answer = page.get(first)
    assert answer.status_code == 200 and "After your" not in answer.text


def test_a_preview_writes_nothing_and_is_hidden_where_nobody_answers_it(world: World) -> None:
    page = client(world)
    assert "What if" not in page.get("/user?id=u").text
    assert page.get("/preview?user=u&item=i-001").status_code == 404
    world.previewer = Previews(world)
    before = world.redis.keys()
    text = page.get("/preview?user=u&item=i-001").text
    assert "nothing was written or learned" in text and "moved up" in text
    assert world.sent == [] and world.redis.keys() == before
    assert "What if clicked?" in page.get("/user?id=u").text
    assert page.get("/preview?user=u").status_code == 400


def test_what_is_away_is_told_and_the_page_works_without_it(world: World) -> None:
    page = client(world, progress=progress_of("no broker at 127.0.0.1"))
    world.is_away = True
    for path in ("/", "/user?id=u", "/customer?id=u"):
        answer = page.get(path)
        assert answer.status_code == 200
        assert "Redis at 127.0.0.1 can&#39;t be read" in answer.text
        assert "no broker at 127.0.0.1" in answer.text
    assert act(page, "id=u&item=i-001").status_code == 503
    nothing = client(world, progress=None).get("/").text
    assert "No Kafka is configured" in nothing


def test_an_empty_redis_and_an_empty_slate_are_said(world: World) -> None:
    world.redis.flushall()
    page = client(world)
    assert "There is no slate for this user, and no popular one either" in page.get("/user?id=u").text
    assert "Not known yet" in page.get("/").text
    world.put(slate_key("none"), msgspec.structs.replace(slate_of("none", 1, ["i-001"]), items=()))
    assert "The slate is empty" in page.get("/user?id=none").text


def test_what_was_left_out_and_when_following_began_are_said(world: World) -> None:
    told = Progress(since_ms=wall_ms(), read=10, left_out=7_000, trouble="", missing=("slates",), job_behind=None)
    text = client(world, progress=told).get("/").text
    assert "7000 were left out" in text
    assert "Topics that are not there: slates." in text
    assert re.search(r"10 records followed since \d\d:\d\d:\d\d UTC", text)
