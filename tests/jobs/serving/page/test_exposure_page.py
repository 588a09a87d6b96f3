"""What the page says of who gets shown and who is served well: the shares, how to have them, and text stays text."""

import re

import pytest
from page_world import HOSTILE, TITLES, World, progress_of, seen_of_a_shop
from riverrank.jobs.dev.services import Valkey
from riverrank.jobs.serving.page.pages import Pages, Told
from riverrank.jobs.serving.watch.follower import Progress
from riverrank.jobs.serving.watch.seen import Seen
from riverrank.operators.slate.fairness.groups import discounts


@pytest.fixture
def world(page_valkey: Valkey) -> World:
    return World(page_valkey.url)


def section(world: World, seen: Seen, progress: Progress | None) -> str:
    """The section's HTML; "" where there is none."""
    text = Pages(world, seen, lambda: progress).overview(Told(), None)
    found = re.search(r'<section aria-labelledby="who".*?</section>', text, re.DOTALL)
    return found[0] if found else ""


def cells(html: str) -> dict[str, list[str]]:
    """The cells of each row, by the text of its head."""
    rows = re.findall(r'<tr><th scope="row"><bdi>(.*?)</bdi>(.*?)</tr>', html, re.DOTALL)
    return {
        head: [re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<td.*?>(.*?)</td>", rest)] for head, rest in rows
    }


def test_shares_of_exposure_items_and_feedback_stand_beside_the_floor(world: World) -> None:
    found = cells(section(world, seen_of_a_shop(), progress_of()).partition("Users by")[0])
    worth = discounts(8)
    exposure = [f"{100 * worth[k : k + 2].sum() / worth.sum():.1f} %" for k in (0, 2, 4, 6)]
    hostile = "&lt;script&gt;document.title=&#34;owned&#34;&lt;/script&gt;&#34;&#39;&amp;\\u202e\\x1b[31m"
    items = f"{200 / (len(TITLES) + 3):.1f} %"
    shown = ("Brand 0", "Brand 1", hostile, "Brand 3")
    assert [found[name][:2] for name in shown] == [[share, items] for share in exposure]
    assert [found[name][3] for name in (*shown, "Small")] == ["–", "20.0 %", "–", "–", "5.0 %"]
    assert found["Small"][:2] == ["0.0 %", "0.0 %"]
    feedback = [float(row[2].removesuffix(" %")) for name, row in found.items() if "Brand" in name or name == hostile]
    assert sum(feedback) == pytest.approx(100, abs=0.5) and min(feedback[:4]) > 0


def test_cohorts_are_told_of_with_their_users(world: World) -> None:
    found = cells(section(world, seen_of_a_shop(), progress_of()).partition("Users by")[2])
    hostile = next(name for name in found if name.startswith("&lt;script"))
    assert [found[name][:2] for name in ("25-34", hostile)] == [["6", "150"]] * 2
    assert found["other"][:2] == ["8", "200"] and len(found) == 3, "three stated nothing, too few: 35-44 is with them"
    assert HOSTILE not in str(found)


def test_who_counts_by_nothing_reads_how_to(world: World) -> None:
    html = section(world, Seen(), progress_of())
    assert "serve.exposure = [&#34;brand&#34;]" in html or 'serve.exposure = ["brand"]' in html
    assert "<table" not in html
    assert section(world, Seen(), None) == "", "without Kafka there is nothing to count"
