"""The soak: what its slopes tell apart, who comes and goes in its shop, and that a short one measures all there is."""

import random
from pathlib import Path

import pytest
from riverrank.jobs.config.schema import parse
from riverrank.jobs.dev.soak import __main__ as soak
from riverrank.jobs.dev.soak import alone, watching
from riverrank.jobs.dev.soak import trend as trend_module
from riverrank.jobs.dev.soak.population import Population, Sizes
from riverrank.jobs.dev.soak.trend import trend_of
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.state.records.incoming import Event, Item

SECONDS = [2.0 * step for step in range(300)]  # ten minutes
MIDDLE = 400.0  # of them without the warm-up: a share is that of the size there


def noisy(slope: float) -> list[float]:
    """1,000 MB with noise, a spike at times, a warm-up, and a slope as a share an hour."""
    draw = random.Random(7)
    spikes = [500.0 if draw.random() < 0.05 else 0.0 for _ in SECONDS]
    return [
        1000 * (1 + slope * second / 3600) + draw.gauss(0, 2) + spike - 4 * max(0.0, 150 - second)
        for second, spike in zip(SECONDS, spikes, strict=True)
    ]


@pytest.mark.parametrize(("slope", "is_flat"), [(0.0, True), (-0.3, True), (0.02, True), (0.15, False), (1.0, False)])
def test_what_surely_grows_is_told_from_noise_spikes_and_a_warm_up(slope: float, is_flat: bool) -> None:
    trend, share = trend_of(SECONDS, noisy(slope)), slope / (1 + slope * MIDDLE / 3600)
    assert trend.low < share < trend.high and trend.high - trend.low < 0.08
    assert abs(trend.slope - share) < 0.03 and trend.is_flat is is_flat


def test_what_comes_and_goes_in_turns_is_flat_and_too_short_a_soak_says_so() -> None:
    assert trend_of(SECONDS, [100 + second % 50 for second in SECONDS]).is_flat
    with pytest.raises(ValueError, match="soak for longer"):
        trend_of(SECONDS[:40], noisy(0.0)[:40])


def test_as_many_are_there_at_any_time_and_who_went_never_comes_again() -> None:
    sizes = Sizes(users=20, items=30, events_of_user=10.0, events_of_item=5.0)
    shop = Population(sizes)
    known, gone = {item.item_id for item in shop.catalogue(1)}, set()
    erased, users, acts = set(), set(), 0
    for ts in range(4_000):
        for record in shop.records(ts):
            if isinstance(record, Item):
                assert record.item_id not in gone
                (gone if record.deleted else known).add(record.item_id)
            elif isinstance(record, Event):
                assert record.user_id not in erased
                assert {*(record.items or ()), *filter(None, [record.item_id])} <= known - gone
                erased |= {record.user_id} if record.type == "erase" else set()
                users.add(record.user_id)
                acts += 1
    assert len(shop.users) == 20 and len(shop.items) == len(known - gone) == 30
    assert 300 < len(users) < 500 and 700 < len(gone) < 900 and 20 < len(erased) < 70 and acts > 4_000


def test_the_operators_alone_are_measured_and_users_who_went_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trend_module, "BIN_SECONDS", 1.0)
    monkeypatch.setattr(alone, "LOOK_EVERY", 10)
    made: list[Pipeline] = []
    monkeypatch.setattr(alone, "Pipeline", lambda *given: made.append(Pipeline(*given)) or made[-1])
    config = parse({"job": {"state_ttl": "2s"}, "allowed_lateness": "1s"})
    trends, slates = alone.soak_alone(config, 20.0, 40.0, fill=100)
    (trend,) = trends.values()
    assert trend.size > 100 and 400 < slates < 900
    assert 10 < len(made[0].users) <= len(made[0].intake.states) < 83  # of who is erased SESSION keeps a mark


@pytest.mark.timeout(600)
def test_a_short_soak_measures_all_there_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Its slopes are those of a job that has just begun, and say nothing."""
    monkeypatch.setattr(trend_module, "BIN_SECONDS", 1.0)
    monkeypatch.setattr(soak, "EVERY_SECONDS", 0.5)
    monkeypatch.setattr(watching, "COLLECT_EVERY_SECONDS", 1.0)
    watch, sent, slates = soak.soak(45.0, 40.0, tmp_path, fill=200)
    trends = watch.trends()
    assert set(trends) == set(watch.series()) and all(seconds[-1] > 10 for seconds, _ in watch.series().values())
    assert set(trends) == {
        "Redis: used",
        "checkpoint",
        "jobmanager: Java's heap, collected",
        "jobmanager: all that Java asked for",
        "jobmanager: resident",
        "taskmanager-0: Java's heap, collected",
        "taskmanager-0: all that Java asked for",
        "taskmanager-0: resident",
        "taskmanager-0: resident beside that",
    }
    assert slates >= sent > 500
    assert trends["taskmanager-0: resident"].size > 300 and trends["jobmanager: resident"].size > 100
    assert 10 < trends["taskmanager-0: Java's heap, collected"].size < trends["taskmanager-0: resident"].size
    assert trends["Redis: used"].size > 0.5 and trends["checkpoint"].size > 0.1
    text = soak.report(trends, 0.4, sent, slates)
    assert text.count("\n| ") == 10 and f"{slates:,} slates" in text and text in soak.page(text)
