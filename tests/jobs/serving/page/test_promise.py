"""From the README alone: start the demo, open the page, click, see the next slate differ with its reason."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

RIVERRANK = Path(sys.executable).parent / "riverrank"


@pytest.mark.timeout(280)
def test_a_click_on_the_page_of_the_demo_changes_the_next_slate_and_says_why(browser: Browser, tmp_path: Path) -> None:
    said = (tmp_path / "said").open("w+")
    demo = subprocess.Popen(
        [RIVERRANK, "demo", "--seconds", "600", "--plain"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert demo.stderr is not None
        address = ""
        for line in demo.stderr:
            said.write(line)
            if found := re.match(r"page: (http://127\.0\.0\.1:\d+)", line):
                address = found[1]
            if address and "events/s" in line:  # customers are in the shop
                break
        assert address, (tmp_path / "said").read_text()
        page = browser.new_context().new_page()
        page.set_default_timeout(60_000)
        page.goto(address)
        page.get_by_role("link", name="Be a customer").click()
        page.get_by_label("An id, new or known").fill("a-new-one")
        page.get_by_role("button", name="Be this customer").click()
        expect(page.get_by_text("popular slate").first).to_be_visible()
        shown = page.locator(".slate h3 bdi:first-child").all_inner_texts()
        assert len(shown) == 20 and not any(re.fullmatch(r"i-\d+", title) for title in shown), "titles, not ids"
        page.get_by_role("button", name=re.compile("^Click: ")).nth(4).click()
        page.wait_for_url("**event=page-*")
        heading = page.get_by_role("heading", name=re.compile("^After your click on "))
        expect(heading).to_contain_text(shown[4])
        after = page.locator("#what-changed .sides section").nth(1)
        expect(after.locator("li")).to_have_count(20, timeout=60_000)  # it looks again by itself
        assert after.locator("li .name bdi").all_inner_texts() != shown
        why = re.compile(f"because you clicked {re.escape(shown[4])}|because of your history|like your history")
        assert after.locator(".why").filter(has_text=why).count() > 10, "what is new is there for what was clicked"
    finally:
        demo.send_signal(signal.SIGINT)
        demo.communicate(timeout=90)
        said.close()
