"""The bench: all of it runs and leaves nothing behind; its streams, local measures and picture are what they say."""

import itertools
import json
import os
import statistics
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from riverrank.jobs.dev.benchmarks import __main__ as benchmarks
from riverrank.jobs.dev.benchmarks import chart, growth, parts, sizes, streams
from riverrank.jobs.dev.benchmarks.figures import Spread
from riverrank.jobs.dev.benchmarks.flink import empty
from riverrank.jobs.dev.benchmarks.local import Local
from riverrank.jobs.errors import Failure
from riverrank.state.messages import encode
from riverrank.state.records.incoming import Event

MARK = "RIVERRANK_TEST_MARK"
TIMEOUT_SECONDS = 880


@pytest.mark.skipif("RIVERRANK_TEST_BENCH" not in os.environ, reason="minutes long: RIVERRANK_TEST_BENCH=1 runs it")
@pytest.mark.timeout(900)
def test_all_of_it_runs_and_leaves_nothing(tmp_path: Path) -> None:
    """With next to no events: every contestant answers everything, every measure has figures, the report is written."""
    mark = uuid.uuid4().hex
    scratch, page = tmp_path / "scratch", tmp_path / "page.md"
    scratch.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "riverrank.jobs.dev.benchmarks", "--tiny", "--json", "--write", page],
        capture_output=True,
        timeout=TIMEOUT_SECONDS,
        env={**os.environ, MARK: mark, "TMPDIR": str(scratch)},
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(done.stdout)
    (paces,) = found["rounds"]
    assert list(paces) == ["job", "replay", "tutorial", "empty", "job-warming-up", "replay-warming-up"]
    assert all(pace["slates_per_second"] > 10 and pace["slates_per_cpu_second"] > 10 for pace in paces.values())
    learners = {rate["learner"] for rate in found["learning"]}
    assert learners == {"riverrank's per-user learner", "riverrank's ranker", "Vowpal Wabbit", "River"}
    assert all(rate["per_second"][0] > 100 for rate in found["learning"])
    assert [(point["axis"], point["value"]) for point in found["growth"]] == [
        ("items", 500),
        ("items", 1_000),
        ("history", 1),
        ("history", 5),
    ]
    assert 100 < found["sizes"]["user"][0] < 10_000
    assert {part["outer"] for part in found["parts"]} == {"", "ranker", "recommend"}
    assert {row["asked"] for row in found["slates"]} >= {"HGET", "serve"}
    text = page.read_text("utf-8")
    assert [each["flush_events"] for each in found["broadcast"]] == [8, 64, 512]
    assert text.count("\n## ") == 8
    assert "replay / tutorial" in text
    assert text.count("| recommend: ") + text.count("**recommend: ") >= 6
    assert page.with_suffix(".svg").read_text("utf-8").count("Microseconds an event, by") == 2
    assert processes_of(mark) == []
    assert [path.name for path in scratch.iterdir() if path.name.startswith("riverrank")] == []


def test_shop_stream_is_always_the_same_and_every_event_a_slate() -> None:
    (items, events), again = streams.shop_stream(500), streams.shop_stream(500)
    assert (items, events) == again
    assert len({event.event_id for event in events}) == 500
    assert {event.type for event in events} == {"click", "cart", "purchase"}
    assert {event.item_id for event in events} <= {item.item_id for item in items}


def test_popularity_follows_zipfs_law_at_any_size() -> None:
    """Without loyalty to categories, the first tenth of 1,000 items gets H(100) / H(1000) of all."""
    shop = streams.ZipfShop(1_000, 50)
    shop.LOYALTY = 0.0
    events = list(itertools.islice(shop.events(), 20_000))
    assert events == list(itertools.islice(fresh_zipf().events(), 20_000))
    counts = sorted(Counter(event.item_id for event in events).values(), reverse=True)
    harmonic = [sum(1 / rank for rank in range(1, most + 1)) for most in (100, 1_000)]
    assert sum(counts[:100]) / 20_000 == pytest.approx(harmonic[0] / harmonic[1], abs=0.02)
    assert {event.item_id for event in events} <= {item.item_id for item in shop.catalogue()}
    assert {event.user_id for event in itertools.islice(shop.events(3), 100)} == set(shop.user_ids[:3])


def test_users_come_for_visits() -> None:
    block = streams.ZipfShop.BLOCK
    for visit in (1, 4):
        events = streams.ZipfShop(1_000, 100_000).events(visit=visit)
        users = Counter(event.user_id for event in itertools.islice(events, block))
        assert Counter(users.values()).most_common(1)[0][0] == visit
        assert len(users) == pytest.approx(block / visit, rel=0.02)


def fresh_zipf() -> streams.ZipfShop:
    shop = streams.ZipfShop(1_000, 50)
    shop.LOYALTY = 0.0
    return shop


def test_messages_of_the_empty_job_are_about_as_long_as_the_jobs() -> None:
    """Within a factor of two of what is sent once users have a history of some 25, as in the middle of the stream."""
    shop, local = streams.ZipfShop(2_000, 30), Local()
    local.load(map(local.arrival, shop.catalogue()))
    events = [local.arrival(event) for event in itertools.islice(shop.events(), 900)]
    local.run(events[:600])
    sent: dict[str, list[int]] = {"FEEDBACK": [], "SESSION": [], "UPDATE": [], "WEIGHTS": [], "SLATE": []}

    def noted(path: str, note: Callable[[Any], None]) -> tuple[str, Callable[[Callable[..., Any]], Callable[..., Any]]]:
        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            def called(*arguments: Any, **named: Any) -> Any:
                result = function(*arguments, **named)
                note(result)
                return result

            return called

        return path, wrap

    def accepted(result: Any) -> None:
        sent["FEEDBACK"].append(len(encode(result.feedback)))
        sent["SESSION"].append(len(result.state))

    watched = [
        noted(parts.PARTS["session"][0], accepted),
        noted(parts.PARTS["signals"][1], lambda made: sent["UPDATE"].extend(len(encode(update)) for update in made)),
        noted(parts.PARTS["ranker"][1], lambda made: sent["WEIGHTS"].append(sum(len(encode(u)) for u in made))),
        noted(parts.PARTS["recommend"][0], lambda answer: sent["SLATE"].append(len(answer.slate))),
    ]
    with parts.wrapped(dict(watched)):
        local.run(events[600:])
    for name, lengths in sent.items():
        set_to, mean = getattr(empty, f"{name}_BYTES"), statistics.mean(lengths)
        assert mean / 2 < set_to < mean * 2, f"empty.{name}_BYTES is {set_to}, the job's are {mean:.0f}"


def test_unanswered_event_is_a_failure_of_a_local_measure() -> None:
    local = Local()
    with pytest.raises(Failure, match="0 of 1 events were answered"):
        local.run([local.arrival(Event("e", "impression", "u", 1, items=("i",)))])


def test_larger_updates_are_fewer_bytes_of_signals_and_as_many_of_the_ranker() -> None:
    small, large = (sizes.broadcast(flush, warm_up=300, events=100, rounds=2) for flush in (8, 64))
    assert 20 < large.signals < small.signals < 1_000
    assert 10 < small.ranker == large.ranker and large.microseconds.low > 0


def test_copies_of_users_are_answered_as_users_who_were_here_before() -> None:
    shop, local = streams.ZipfShop(300, 4), Local()
    local.load(map(local.arrival, shop.catalogue()))
    local.run(map(local.arrival, itertools.islice(shop.events(2), 40)))
    local.clone_users(shop.user_ids[:2], shop.user_ids[2:])
    assert local.sessions["u-000003"] == local.sessions["u-000001"]
    assert len(local.learners["u-000002"]) > 100


def test_picture_has_a_chart_for_each_axis(tmp_path: Path) -> None:
    spread = Spread(200.0, 190.0, 230.0)
    values = 10, 100, 1_000
    points = [growth.Point(axis, value, spread, spread, 100.0, 20.0) for axis in growth.AXES for value in values]
    chart.draw(points, tmp_path / "growth.svg")
    drawn = ElementTree.parse(tmp_path / "growth.svg").getroot()
    words = [element.text for element in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert [word for word in words if word and word.startswith("Micro")] == [
        f"Microseconds an event, by {axis}" for axis in growth.AXES
    ]
    assert words.count("1,000") == len(growth.AXES)


def test_nonsense_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmarks.main(["--events", "3"]) == 2
    assert benchmarks.main(["--rounds", "-1"]) == 2
    assert "--rounds 1 or more" in capsys.readouterr().err


def processes_of(mark: str) -> list[str]:
    """Processes that have the mark in their environment."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if f"{MARK}={mark}".encode() in (entry / "environ").read_bytes():
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()[:100])
            except OSError:
                continue  # it ended meanwhile, or is another's
    return found
