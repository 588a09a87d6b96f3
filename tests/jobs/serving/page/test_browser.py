"""What the page promises in a real browser: by keyboard alone, without JavaScript, on a phone, by axe's rules, live."""

from collections.abc import Iterator
from importlib import resources
from typing import Any

import pytest
from page_world import HOSTILE, TITLES, Previews, World, progress_of, seen_of_a_shop, served, slate_of
from playwright.sync_api import Browser, Page, expect
from riverrank.jobs.dev.services import Valkey
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.cache.redis_cache import POPULAR, slate_key
from riverrank.state.records.outgoing import DeadLetter, to_json

AXE = resources.files("axe_playwright_python").joinpath("axe.min.js").read_text("utf-8")
PATHS = ("/", "/user", "/user?id=u-02", "/customer", "/customer?id=u-17&q=boots", "/preview?user=u-17&item=i-004")
TIMEOUT_MS = 60_000


@pytest.fixture(scope="module")
def seen() -> Seen:
    return seen_of_a_shop()


@pytest.fixture(scope="module")
def world(page_valkey: Valkey) -> World:
    made = World(page_valkey.url)
    made.previewer = Previews(made)
    made.titled["i-bad"] = HOSTILE
    made.put(POPULAR, slate_of("popular", 7, [*list(TITLES)[:10], "i-bad"]))
    made.put(slate_key("u-17"), slate_of("u-17", 41, list(TITLES)[:10]))
    made.put(slate_key("u-02"), slate_of("u-02", 25, list(TITLES)[:8]))
    return made


@pytest.fixture(scope="module")
def url(world: World, seen: Seen) -> Iterator[str]:
    with served(world, seen, progress_of()) as address:
        yield address


@pytest.fixture
def tab(browser: Browser) -> Iterator[Page]:
    """A page that has failed where its console has anything to say: a fault of the script, or of the policy."""
    with_faults: list[str] = []
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = watched(context.new_page(), with_faults)
    yield page
    context.close()
    assert with_faults == []


def watched(page: Page, faults: list[str]) -> Page:
    page.set_default_timeout(TIMEOUT_MS)
    page.on("console", lambda message: faults.append(message.text))
    page.on("pageerror", lambda error: faults.append(str(error)))
    return page


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_any_page(browser: Browser, url: str, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 800}, color_scheme=scheme, bypass_csp=True)
    page = watched(context.new_page(), [])
    for path in PATHS:
        page.goto(url + path)
        page.evaluate(AXE)
        found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
        assert len(found["passes"]) > 5, path
        assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == [], path
    context.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_exposure_is_two_tables_and_one_of_users_that_anyone_can_read(browser: Browser, url: str, scheme: Any) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640}, color_scheme=scheme, bypass_csp=True)
    page = watched(context.new_page(), [])
    page.goto(url)
    section = page.get_by_role("region", name="Exposure")
    for name in ("Exposure by brand", "Exposure by category", "Users by age_band"):
        expect(section.get_by_role("group", name=name)).to_be_visible()
    by_brand = section.get_by_role("group", name="Exposure by brand")
    expect(by_brand.get_by_role("row").filter(has_text="Brand 1")).to_contain_text("20.0 %")
    expect(by_brand.get_by_text('<script>document.title="owned"</script>')).to_be_visible()
    assert "owned" not in page.title()
    page.evaluate(AXE)
    found = page.evaluate("axe.run('#exposure', {resultTypes: ['violations']})")
    assert len(found["passes"]) > 5
    assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found["violations"]] == []
    context.close()


def test_a_phone_shows_all_pages_without_scrolling_sideways(browser: Browser, url: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 640})
    page = watched(context.new_page(), [])
    for path in PATHS:
        page.goto(url + path)
        assert page.evaluate("document.documentElement.scrollWidth") == 360, path
    context.close()


def test_a_customer_is_a_customer_by_keyboard_alone(tab: Page, url: str, world: World) -> None:
    tab.goto(url)
    tab.keyboard.press("Tab")
    skip = tab.get_by_text("Skip to the content")
    expect(skip).to_be_focused()
    expect(skip).to_be_in_viewport()
    tab_to(tab, "Be a customer")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/customer")
    tab_to(tab, "An id, new or known")
    tab.keyboard.type("by-keyboard")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**/customer?id=by-keyboard")
    expect(tab.get_by_text("popular slate").first).to_be_visible()
    tab_to(tab, "Click: Tarn warm boots")
    tab.keyboard.press("Enter")
    tab.wait_for_url("**event=page-*")
    expect(tab.get_by_role("heading", name="After your click on Tarn warm boots")).to_be_visible()
    expect(tab.get_by_text("1 came in, 6 moved up, 0 moved down, 2 left, 3 stayed.")).to_be_visible()
    sent = world.sent[-1]
    assert (sent.type, sent.user_id, sent.item_id, sent.slate_id) == ("click", "by-keyboard", "i-004", "popular:7")


def tab_to(tab: Page, name: str) -> None:
    """Go on by Tab until what has that name has the focus; it must be seen to have it."""
    named = (
        "el => el.getAttribute('aria-label') || (el.labels && el.labels.length ? el.labels[0].innerText : el.innerText)"
    )
    for _ in range(150):
        tab.keyboard.press("Tab")
        if tab.evaluate(f"({named})(document.activeElement)") == name:
            assert tab.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
            return
    raise AssertionError(f"Tab never comes to {name}")


def test_all_but_refreshing_works_without_javascript(browser: Browser, url: str, world: World) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = watched(context.new_page(), [])
    page.goto(url + "/customer?id=no-script&q=lamps")
    page.get_by_role("button", name="Buy: Vidda soft lamps").last.click()
    expect(page.get_by_role("heading", name="After your purchase on Vidda soft lamps")).to_be_visible()
    assert world.sent[-1].type == "purchase" and world.sent[-1].slate_id is None
    page.get_by_role("link", name="What if clicked: Corrie high boots").first.click()
    expect(page.get_by_role("heading", name="What would change")).to_be_visible()
    context.close()


def test_a_hostile_title_stays_text(tab: Page, url: str) -> None:
    tab.goto(url + "/customer?id=careful")
    expect(tab.get_by_text('<script>document.title="owned"</script>').first).to_be_visible()
    assert "owned" not in tab.title()
    tab.goto(url + "/customer?id=%3Cb%20id%3Dx%3E%0A%22%26%E2%80%AE%2F..%00")
    tab.get_by_role("button", name="Ask for a new slate").click()
    tab.wait_for_url("**event=page-*")
    assert tab.evaluate("document.querySelector('b#x')") is None
    expect(tab.get_by_role("heading", level=1)).to_have_text('Customer <b id=x>\\n"&\\u202e/..\\x00')


def test_figures_refresh_by_themselves_until_they_are_paused(tab: Page, url: str, seen: Seen) -> None:
    tab.clock.install()
    tab.goto(url)
    details = tab.locator("#dead")
    expect(details).not_to_contain_text("line 77")
    letter(seen, "line 77")
    tab.locator("summary").first.click()
    tab.get_by_role("button", name="Pause refreshing").focus()
    tab.clock.run_for(6_000)
    expect(details).to_contain_text("line 77")
    assert tab.locator("details").first.get_attribute("open") is not None, "what was opened stays open"
    tab.get_by_role("button", name="Pause refreshing").press("Enter")
    letter(seen, "line 88")
    tab.clock.run_for(12_000)
    expect(tab.get_by_role("button", name="Refresh by itself")).to_be_focused()
    expect(details).not_to_contain_text("line 88")


def letter(seen: Seen, detail: str) -> None:
    offset = int(detail.rsplit(maxsplit=1)[-1])  # one of the same place came again
    seen.dead_letter(to_json(DeadLetter("events", 0, offset, "bad_json", detail, "", 1)))
