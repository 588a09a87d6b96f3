"""`riverrank evaluate`: segments, stories and costs."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from evaluated import EACH_IS_A_TEST, POSITIVE, T0, evaluated, made_files, records, settings
from riverrank.jobs.config.schema import load
from riverrank.jobs.evaluation import evaluate
from riverrank.jobs.evaluation.metrics import MISS
from riverrank.jobs.evaluation.segments import Moment, Segments
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.records.incoming import Event, Item


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_files(tmp_path_factory.mktemp("evaluate"))


def test_segments_share_the_tests_out_and_their_differences_are_of_their_own_tests(files: Path) -> None:
    names = ("type", "history", "popularity", "item.brand", "item.category", "user.band", "context.device")
    config = settings(files, **EACH_IS_A_TEST)
    evaluation = evaluated(config, ("popular",), {"same": config.behaviour}, names)
    report = evaluation.report()
    assert tuple(report.segments) == names
    for segments in report.segments.values():
        assert sum(segment.tests for segment in segments) == report.tests > 300
        for policy, figures in report.policies.items():
            hits = sum(segment.policies[policy].hr10 * segment.tests for segment in segments)
            assert hits / report.tests == pytest.approx(figures.all.hr10, abs=2e-5)
        for segment in segments:
            gap = segment.policies["riverrank"].ndcg10 - segment.policies["popular"].ndcg10
            assert segment.differences["popular"].ndcg10.mean == pytest.approx(gap, abs=1.2e-5)
            assert (segment.differences["same"].hr10.mean, segment.differences["same"].hr10.error) == (0.0, 0.0)
    values = {name: [segment.value for segment in segments] for name, segments in report.segments.items()}
    assert values["history"] == ["0", "1-4", "5-19", "20-99"]
    assert values["popularity"] == ["head", "middle", "tail", "new"]
    assert set(values["item.category"]) == {"c0", "c1", "c2", "none"}  # the last ten are not in the catalogue
    assert (values["user.band"], values["context.device"]) == (["none"], ["none"])
    kinds = Counter(event["type"] for event in records())
    by_type = {segment.value: segment.tests for segment in report.segments["type"]}
    assert by_type.keys() == set(POSITIVE) and 0 < by_type["cart"] <= kinds["cart"]
    text = evaluate.evaluate_report.text(report)
    assert "by popularity" in text and "us an answer" in text


def test_many_values_are_ten_and_others() -> None:
    segments = Segments(["item.brand"])
    for k in range(40):
        segments.item(Item(f"i{k}", 1, attributes={"brand": [f"b{k}", "x"]}))
    for k in range(40):
        for _ in range(1 + k % 20):
            segments.add(Moment(Event("e", "click", "u", 1, f"i{k}"), 0, {}, "new"))
    found = segments.of("item.brand")
    assert [value for value, _ in found] == [
        "b19",
        "b39",
        "b18",
        "b38",
        "b17",
        "b37",
        "b16",
        "b36",
        "b15",
        "b35",
        "other",
    ]
    assert sorted(test for _, tests in found for test in tests.tolist()) == list(range(420))
    assert len(found[0][1]) == 20 and len(found[-1][1]) == 420 - 2 * (20 + 19 + 18 + 17 + 16)


def test_an_items_popularity_is_what_it_was_before_the_test() -> None:
    evaluation = evaluate.Evaluation(load(None), (), by=("popularity",))
    for number, item in enumerate(("a", "a", "b")):
        record = {"event_id": f"e{number}", "type": "click", "user_id": "u", "ts": T0 + number, "item_id": item}
        evaluation.event(Arrival(0, number, 0, json.dumps(record).encode()))
    found = [(value, tests.tolist()) for value, tests in evaluation.segments.of("popularity")]
    assert found == [("head", [0]), ("new", [1])]


def test_a_story_is_one_test_of_the_slate_before_it_and_of_how_far_it_came() -> None:
    done = [("click", "x", 0), ("click", "a", 1), ("click", "b", 2), ("purchase", "a", 9), ("purchase", "c", 10)]
    evaluation = evaluate.Evaluation(load(None), ("popular",), by=("type",))
    for number, (kind, item, minutes) in enumerate([*done, ("purchase", "a", 90)]):
        record = {"event_id": f"e{number}", "type": kind, "user_id": "u", "ts": T0 + 60_000 * minutes, "item_id": item}
        evaluation.event(Arrival(0, number, 0, json.dumps(record).encode()))
    assert [(value, tests.tolist()) for value, tests in evaluation.segments.of("type")] == [
        ("purchase", [0, 2, 3]),  # of a, of c without a click, and again of a, which is a story of its own
        ("click", [1]),
    ]
    assert evaluation.tests.of(0).ranks.tolist()[:3] == [MISS, MISS, MISS]  # nobody knew a, b and c before
    assert evaluation.panel.popular.weights[evaluation.panel.ledger.rows["a"]] == 2.0


def test_costs_are_of_each_policys_own_calls_and_bytes(files: Path) -> None:
    config = settings(files)
    evaluation = evaluated(config, ("popular", "mf"), {"again": config.behaviour})
    report = evaluation.report()
    assert list(report.costs.policies) == ["riverrank", "popular", "mf", "again"]
    own, popular, mf, again = report.costs.policies.values()
    kept = evaluation.own.intake.states, evaluation.own.users
    mean = sum(np.mean([len(state) for state in states.values()]) for states in kept)
    assert own.user_bytes == again.user_bytes == pytest.approx(mean, abs=0.51) and popular.user_bytes is None
    assert own.array_bytes == again.array_bytes > 100_000 and popular.array_bytes > 0
    assert mf.array_bytes > evaluation.panel.baselines["mf"].items.nbytes
    assert report.costs.peak_bytes > own.array_bytes
    for cost in report.costs.policies.values():
        assert 0 < cost.answer_us < cost.answer_p99_us and cost.learning_us > 0
    assert own.answer_us > popular.answer_us
