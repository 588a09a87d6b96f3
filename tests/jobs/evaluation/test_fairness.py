"""`riverrank evaluate`: exposure by group of items, quality by cohort of users, and what floors cost."""

import json
from collections import Counter, defaultdict
from math import log2
from pathlib import Path

import numpy as np
import pytest
from evaluated import EACH_IS_A_TEST, POSITIVE, evaluated, made_files, records, settings
from riverrank.jobs.cli.main import main
from riverrank.jobs.evaluation import evaluate
from riverrank.jobs.evaluation.cohorts import cohorts_of
from riverrank.jobs.evaluation.exposure import BANDS, DAY_MS, Exposure, Known
from riverrank.jobs.evaluation.metrics import Difference, Judged, apart
from riverrank.jobs.evaluation.segments import STANDINGS
from riverrank.jobs.local import replay
from riverrank.state.records.incoming import Item

CATALOGUE = {f"i{k}": f"b{k % 7}" for k in range(50) if k not in (4, 7)}  # what may be shown of it, with its brand


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_files(tmp_path_factory.mktemp("fairness"))


def test_exposure_is_that_of_the_slates_that_replay_writes(files: Path, tmp_path: Path) -> None:
    slates = tmp_path / "slates.jsonl"
    config = settings(files, **{"files.slates": str(slates), "catalogue.strict": True}, **EACH_IS_A_TEST)
    replay.run(config)
    given, total = defaultdict[str, float](float), 0.0
    for line in slates.read_text("utf-8").splitlines():
        for slot in json.loads(line)["items"]:
            given[CATALOGUE[slot["item_id"]]] += 1 / log2(slot["rank"] + 1)
            total += 1 / log2(slot["rank"] + 1)
    report = evaluated(config, ("popular",), exposure=("brand", "category")).report()
    assert list(report.exposure) == ["brand", "category"]
    groups = {group.value: group for group in report.exposure["brand"]}
    assert len(given) == 7 and {f"b{k}" for k in range(7)} <= groups.keys()
    for brand, exposure in given.items():
        held = groups[brand].policies["riverrank"]
        assert held.share == pytest.approx(exposure / total, abs=2e-5)
        share = Counter(CATALOGUE.values())[brand] / len(CATALOGUE)
        assert groups[brand].catalogue == pytest.approx(share, abs=1e-5)
        assert held.of_catalogue == pytest.approx(held.share / share, abs=1e-3)
        assert held.of_feedback == pytest.approx(held.share / groups[brand].feedback, abs=1e-3)
    text = evaluate.evaluate_report.text(report)
    assert "exposure by brand" in text and "over feedback" in text


def test_shares_of_feedback_are_those_of_positive_interactions(files: Path) -> None:
    config = settings(files, **EACH_IS_A_TEST)
    known, taken = set[str](), Counter[str]()
    for event in records():
        is_positive = event["type"] in POSITIVE and event.get("value", 5) >= 4
        if is_positive and event["event_id"] not in known and not event["event_id"].startswith("late"):
            taken[f"b{int(event['item_id'][1:]) % 7}" if int(event["item_id"][1:]) < 50 else "none"] += 1
        known.add(event["event_id"])
    found = {group.value: group.feedback for group in evaluated(config, exposure=("brand",)).report().exposure["brand"]}
    shares = {brand: n / sum(taken.values()) for brand, n in taken.items()}
    assert found.keys() == shares.keys() and len(found) == 8
    deleted = found["none"] - shares["none"]  # i7 is deleted, and says nothing of itself any more
    assert all(found[brand] == pytest.approx(share, abs=deleted + 0.01) for brand, share in shares.items())


def test_bands_and_classes_share_all_out(files: Path) -> None:
    report = evaluated(settings(files), exposure=("novelty", "popularity")).report()
    for name, values in (("novelty", BANDS), ("popularity", STANDINGS)):
        groups = report.exposure[name]
        assert groups and [group.value for group in groups] == [v for v in values if v in {g.value for g in groups}]
        for of_all in (
            [group.catalogue for group in groups],
            [group.feedback for group in groups],
            [group.policies["riverrank"].share for group in groups],
        ):
            assert sum(of_all) == pytest.approx(1.0, abs=5e-5)
    tail = {group.value: group.policies["riverrank"] for group in report.exposure["popularity"]}
    assert (tail["head"].of_catalogue or 0) > 1 > (tail["new"].of_catalogue or 0)


def test_an_item_is_as_old_as_it_was_when_it_was_shown() -> None:
    exposure = Exposure(["novelty"], 1, lambda item_id: True)
    exposure.item(Item("old", 5, published_ts=0))
    exposure.item(Item("new", 5, published_ts=400 * DAY_MS))
    exposure.item(Item("moved", 9 * DAY_MS))
    exposure.item(Item("moved", 10 * DAY_MS))
    ids, known = ["old", "new", "moved", "met"], lambda days: Known(days * DAY_MS, np.zeros(8), 0)
    exposure.enter(ids, 390 * DAY_MS)  # the last is in no catalogue
    exposure.show(np.array([[0, 1, 3]]), known(390))
    exposure.take(2, known(39))
    exposure.take(2, known(38))
    found = {group.value: group for group in exposure.of("novelty", ["own"])}
    worth = {1: 1.0, 2: 1 / log2(3), 3: 0.5}
    shares = {value: group.policies["own"].share for value, group in found.items()}
    total = sum(worth.values())
    expected = {"a year and more": worth[1] / total, "not yet": worth[2] / total, "under 1 day": worth[3] / total}
    assert {value: share for value, share in shares.items() if share} == pytest.approx(expected, abs=1e-5)
    assert {value: group.catalogue for value, group in found.items() if group.catalogue} == {
        "not yet": 0.25, "under 1 day": 0.25, "a year and more": 0.5
    }  # fmt: skip
    assert {value: group.feedback for value, group in found.items() if group.feedback} == {
        "7-29 days": 0.5, "30-364 days": 0.5
    }  # fmt: skip


def test_an_item_of_several_values_is_in_the_group_of_each_and_of_many_values_the_last_are_one() -> None:
    exposure = Exposure(["category", "brand"], 1, lambda item_id: True)
    exposure.item(Item("both", 1, categories=("drama", "crime")))
    for k in range(1100):
        exposure.item(Item(f"i{k}", 1, attributes={"brand": f"b{k}"}))
    exposure.enter(["both"], 1)
    exposure.show(np.array([[0, -1]]), Known(1, np.zeros(1), 0))
    shares = {group.value: group.policies["own"].share for group in exposure.of("category", ["own"])}
    assert shares == {"drama": 1.0, "crime": 1.0, "none": 0.0}
    brands = exposure.of("brand", ["own"])
    assert [group.value for group in brands[-2:]] == ["none", "other"] or brands[-1].value in ("none", "other")
    assert len(brands) == 1002


def banded(folder: Path, users: dict[str, str]) -> Path:
    """The files, whose users state a band with their first event, but u1 in the middle."""
    made = made_files(folder)
    lines, seen = [], Counter[str]()
    for event in records():
        user = event["user_id"]
        if user in users and seen[user] == (20 if user == "u1" else 0):
            said = {"event_id": f"p-{user}", "type": "profile", "user_id": user, "ts": event["ts"]}
            lines.append({**said, "attributes": {"band": users[user]}})
        seen[user] += 1
        if event["type"] != "erase":
            lines.append(event)
    (made / "events.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    return made


def test_quality_by_cohort_is_judged_by_what_was_stated_by_then(tmp_path: Path) -> None:
    users = {f"u{k}": "young" if k < 7 else "old" for k in range(14)} | {"u14": "only\x1b[31m"}
    config = settings(banded(tmp_path, users), **{"cohorts.users": 3})
    evaluation = evaluated(config, ("popular",), cohorts=("band",))
    report = evaluation.report()
    cohorts = {cohort.value: cohort for cohort in report.cohorts["band"]}
    assert cohorts.keys() == {"young", "old", "other"}  # one user alone, with those who had said nothing, or not yet
    assert cohorts["young"].users == cohorts["old"].users == 7 and cohorts["other"].users >= 3
    assert sum(cohort.tests for cohort in cohorts.values()) == report.tests > 300
    own = evaluation.tests.of(0)
    (young,) = (tests for value, tests in evaluation.cohorts.of("user.band") if value == "young")
    quality = cohorts["young"].policies["riverrank"]
    assert quality.hr10.mean == pytest.approx(own.hits[young].mean(), abs=1e-6)
    rest = np.delete(own.hits, young)
    assert quality.less_rest.hr10.mean == pytest.approx(own.hits[young].mean() - rest.mean(), abs=1e-6)
    assert 0 < quality.less_rest.hr10.error < 0.2
    text = evaluate.evaluate_report.text(report)
    assert "cohort band" in text and "\x1b" not in text


@pytest.mark.parametrize(("least", "told"), [(1, {"a": 3, "b": 2, "c": 1}), (2, {"a": 3, "other": 3}), (7, {})])
def test_no_cohort_of_fewer_users_is_told_of_nor_left_over(least: int, told: dict[str, int]) -> None:
    judged = Judged(np.array([1, 2, 3, 4, 5, 6], np.uint16), np.zeros(6, np.int32), np.arange(6, dtype=np.int32))
    values = [("a", np.array([0, 1, 2])), ("b", np.array([3, 4])), ("c", np.array([5]))]
    assert {cohort.value: cohort.users for cohort in cohorts_of(values, {"own": judged}, least)} == told


def test_the_error_of_a_gap_is_that_of_many_samples_of_users() -> None:
    rng = np.random.default_rng(3)
    users = rng.integers(0, 200, 3000)
    values = (rng.random(3000) < 0.2 + 0.3 * (users % 3 == 0)).astype(float)
    inside = users % 5 == 0
    found = apart(values, users, inside)
    tests = [np.flatnonzero(users == user) for user in range(200)]
    gaps, means = [], []
    for _ in range(400):
        some = np.concatenate([tests[user] for user in rng.integers(0, 200, 200)])
        means.append(values[some][inside[some]].mean())
        gaps.append(means[-1] - values[some][~inside[some]].mean())
    assert found.less_rest.error == pytest.approx(float(np.std(gaps)), rel=0.15)
    assert found.mean.error == pytest.approx(float(np.std(means)), rel=0.15)


def test_where_all_are_of_one_cohort_there_is_no_rest_to_hold_it_against() -> None:
    hits, users = np.array([1.0, 0.0, 1.0, 0.0]), np.array([0, 0, 1, 2])
    found = apart(hits, users, np.ones(4, bool))
    assert found.mean.mean == 0.5 and found.mean.error > 0.0 and found.less_rest == Difference(0.0, 0.0)
    assert apart(hits, users, np.zeros(4, bool)).less_rest == Difference(0.0, 0.0)


@pytest.mark.parametrize("flag", ["--exposure", "--cohort"])
def test_a_name_that_is_none_is_told(files: Path, flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", "--events", str(files / "events.jsonl"), flag, ""]) == 2
    assert capsys.readouterr().err == f"riverrank: {flag}: expected the name of an attribute, got none\n"


def test_what_floors_give_and_cost_is_told_beside_the_job_without_them(
    files: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "floors.toml").write_text('[fairness]\nfloors = { "brand=b6" = 0.3 }\n[exploration]\nrate = 0.0\n')
    given = ["--config", tmp_path / "floors.toml", "--baselines", "", "--without", "floors", "--exposure", "brand"]
    given += ["--cohort", "band", "--events", files / "events.jsonl", "--items", files / "items.jsonl", "--json"]
    assert main(["evaluate", *map(str, given)]) == 0
    report = json.loads(capsys.readouterr().out)
    (b6,) = (group for group in report["exposure"]["brand"] if group["value"] == "b6")
    own, without = (b6["policies"][name]["share"] for name in ("riverrank", "without floors"))
    assert own > 0.27 and without < 0.2
    assert report["differences"]["without floors"]["hr@10"]["error"] > 0
    assert [cohort["value"] for cohort in report["cohorts"]["band"]] == ["none"]


def test_floors_can_only_be_left_out_where_there_are_any(files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["--events", files / "events.jsonl", "--without", "floors"]
    assert main(["evaluate", *map(str, given)]) == 2
    assert "--without: expected all, or some of learner," in capsys.readouterr().err
