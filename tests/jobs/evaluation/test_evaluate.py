"""`riverrank evaluate`: its figures are the judges', its policies see the same tests, its text and its exit codes."""

import contextlib
import json
import math
import os
import pty
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import msgspec
import numpy as np
import pytest
from evaluated import EACH_IS_A_TEST, POSITIVE, T0, evaluated, made_files, records, settings
from riverrank.jobs.config.schema import Config
from riverrank.jobs.errors import Failure, UsageError
from riverrank.jobs.evaluation import evaluate, metrics
from riverrank.jobs.evaluation.baselines.panel import NAMES
from riverrank.jobs.evaluation.metrics import MISS, Judged, Shown, auc, clicks_of, gini, paired, ratings_of
from riverrank.jobs.evaluation.report import Report
from riverrank.jobs.local import replay
from riverrank.operators.candidates import registry
from riverrank.operators.settings import SourceSettings
from riverrank.state.event_types import INTERACTIONS

SCRIPT = Path(sys.executable).with_name("riverrank")


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made_files(tmp_path_factory.mktemp("evaluate"))


def as_json(report: Report) -> dict[str, Any]:
    return json.loads(evaluate.msgspec.json.encode(report))


def replayed(config: Config, files: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The slates and predictions that `replay` writes."""
    slates, predictions = tmp_path / "slates.jsonl", tmp_path / "predictions.jsonl"
    structs = evaluate.msgspec.structs
    written = structs.replace(config.files, slates=str(slates), predictions=str(predictions))
    replay.run(structs.replace(config, files=written))
    return slates, predictions


@pytest.mark.parametrize("repeat", [False, True])
def test_the_figures_of_slates_and_predictions_are_those_of_the_judges(
    files: Path, tmp_path: Path, needs_shared: Callable[[str], Path], repeat: bool
) -> None:
    config = settings(files, **{"slate.hide": () if repeat else tuple(INTERACTIONS)}, **EACH_IS_A_TEST)
    slates, predictions = replayed(config, files, tmp_path)
    judge = [sys.executable, needs_shared("tools/score_slates.py"), files / "events.jsonl", slates, "--min-value", "4"]
    expected = json.loads(subprocess.check_output(judge, text=True))
    report = as_json(evaluated(config).report())
    own = report["policies"]["riverrank"]
    assert expected["faults"].keys() == {"versions that do not grow"}  # they begin again after an erasure
    assert expected["n"] > 300
    assert own["all"] == {key: expected[key] for key in own["all"]}
    for part in ("first_5", "from_20th", "last_fifth"):
        assert own[part] == expected[part]
    assert [report[key] for key in ("unserved", "slates")] == [expected["unserved"], expected["slates"]]
    assert own["shown"]["items_shown"] == expected["items_shown"]
    assert own["shown"]["gini"] == pytest.approx(expected["gini"], abs=1.01e-4)

    judge = [sys.executable, needs_shared("tools/score_predictions.py"), predictions]
    expected = json.loads(subprocess.check_output(judge, text=True))
    names = {"log_loss": "cross_entropy"}
    for kind in ("rating", "click"):
        found = report[f"{kind}s"]
        assert {key: found[names.get(key, key)] for key in expected[kind]} == pytest.approx(expected[kind], abs=2e-5)
        assert expected[kind]["n"] > 100


def test_a_hit_is_on_the_slate_that_answered_the_users_latest_event(files: Path, tmp_path: Path) -> None:
    config = settings(files, **EACH_IS_A_TEST)
    slates, _ = replayed(config, files, tmp_path)
    answers = {}
    for line in slates.read_text().splitlines():
        slate = json.loads(line)
        answers[slate["trigger"]] = [slot["item_id"] for slot in slate["items"]]
    latest: dict[str, list[str]] = {}
    ranks, known = [], set()
    for event in records():
        good = event["type"] in POSITIVE and event.get("value", 5) >= 4
        if good and event["user_id"] in latest and event["event_id"] not in known:
            listed = latest[event["user_id"]]
            ranks.append(listed.index(event["item_id"]) + 1 if event["item_id"] in listed else 0)
        known.add(event["event_id"])
        latest[event["user_id"]] = answers.get(event["event_id"], latest.get(event["user_id"]))
        if latest[event["user_id"]] is None:
            del latest[event["user_id"]]
    found = evaluated(config).report().policies["riverrank"].all
    hits = [rank for rank in ranks if 0 < rank <= 10]
    assert len(ranks) > 300 and len(hits) > 30
    assert found.n == len(ranks)
    assert found.hr10 == pytest.approx(len(hits) / len(ranks), abs=1e-5)
    assert found.ndcg10 == pytest.approx(sum(1 / math.log2(1 + rank) for rank in hits) / len(ranks), abs=1e-5)
    assert found.mrr20 == pytest.approx(sum(1 / rank for rank in ranks if rank) / len(ranks), abs=1e-5)


def test_every_policy_is_judged_on_the_same_tests(files: Path) -> None:
    report = evaluated(settings(files), NAMES).report()
    assert list(report.policies) == ["riverrank", *NAMES]
    for part in ("all", "first_5", "from_20th", "last_fifth"):
        assert len({getattr(policy, part).n for policy in report.policies.values()}) == 1
    assert report.tests > 300
    for name, against in report.differences.items():
        gap = report.policies["riverrank"].all.hr10 - report.policies[name].all.hr10
        assert against.hr10.mean == pytest.approx(gap, abs=1.1e-5)
        assert 0 < against.hr10.error < 0.2
        gap = report.policies["riverrank"].first_5.hr10 - report.policies[name].first_5.hr10
        assert against.first_5.mean == pytest.approx(gap, abs=1.1e-5)
    assert list(report.differences) == list(NAMES)


def test_no_policy_shows_what_the_catalogue_forbids(files: Path) -> None:
    for strict in (False, True):
        config = settings(files, **{"slate.hide": (), "catalogue.strict": strict})
        evaluation = evaluated(config, NAMES)
        shown = {item: evaluation.shown.counts[:, row] for item, row in evaluation.panel.ledger.rows.items()}
        assert [shown[item].tolist() for item in ("i4", "i7")] == [[0] * 7] * 2
        assert sum(shown.values()).min() > 3000
        unknown = sum(counts for item, counts in shown.items() if int(item[1:]) >= 50)
        assert np.count_nonzero(unknown) == 0 if strict else np.count_nonzero(unknown) >= 4


def test_an_erasure_is_one_for_the_baselines_too(files: Path, tmp_path: Path) -> None:
    events = [event for event in records() if event["user_id"] == "u3"]
    path = tmp_path / "events.jsonl"
    erased = {"event_id": "gone", "type": "erase", "user_id": "u3", "ts": T0 + 10**9}
    path.write_text("".join(json.dumps(event) + "\n" for event in [*events, erased]), "utf-8")
    evaluation = evaluated(settings(files, **{"files.events": str(path)}), ("covisit",))
    assert len(evaluation.tests) > 10
    assert evaluation.panel.ledger.liked("u3").tolist() == []


def test_every_source_and_the_learner_are_left_out_once_or_it_is_said_what_cannot_be(files: Path) -> None:
    config = settings(files)
    names = [source.name for source in registry.SOURCES]
    variants = evaluate.without_each(config.behaviour, ["all"])
    learner = variants.pop("without learner")
    assert (learner.learner.rate, learner.sources.off) == (0.0, ())
    assert {name: variant.sources.off for name, variant in variants.items()} == {
        f"without {name}": (name,) for name in names
    }
    assert evaluate.without_each(config.behaviour, ["learner", "content"]).keys() == {
        "without learner",
        "without content",
    }
    with pytest.raises(UsageError, match=r"--without: expected all, or some of learner, new, .*; got interest"):
        evaluate.without_each(config.behaviour, ["interest"])
    alone = msgspec.structs.replace(config.behaviour, sources=SourceSettings(off=tuple(names[1:])))
    with pytest.raises(UsageError, match=r"--without: expected two sources or more .* sources.off leaves 1 on"):
        evaluate.without_each(alone, ["all"])
    report = evaluated(config, (), variants | {"without learner": learner}).report()
    assert list(report.policies) == ["riverrank", *variants, "without learner"]
    assert {policy.all.n for policy in report.policies.values()} == {report.tests}
    assert any(report.policies[name].shown != report.policies["riverrank"].shown for name in variants)
    assert report.policies["without learner"] != report.policies["riverrank"]


def test_another_configuration_is_judged_on_the_same_events(files: Path, tmp_path: Path) -> None:
    same, other = tmp_path / "same.toml", tmp_path / "other.toml"
    same.write_text("[files]\nevents = 'elsewhere.jsonl'\n", "utf-8")
    other.write_text("[sources]\noff = ['covisit', 'sessions', 'embedding', 'autoencoder']\n", "utf-8")
    command = [sys.executable, "-m", "riverrank.jobs.cli", "evaluate", "--baselines", "", "--json"]
    command += ["--events", files / "events.jsonl", "--items", files / "items.jsonl", "--against", other]
    run = partial(subprocess.run, capture_output=True, text=True, check=False, timeout=280)
    done = run([*command, "--against", same])
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    alike, differs = (report["differences"][f"against {path}"]["hr@10"] for path in (same, other))
    assert (alike["mean"], alike["error"]) == (0.0, 0.0) and differs["error"] > 0.0
    assert report["policies"]["riverrank"] == report["policies"][f"against {same}"]
    other.write_text("[slate]\nsize = 0\n", "utf-8")
    refused = run(command)
    assert refused.returncode == 2 and f"{other}: slate.size: expected" in refused.stderr


def test_paired_errors_go_by_user() -> None:
    """Against the formula written out, and against how the mean really spreads when users are drawn again."""
    rng = np.random.default_rng(2)
    users = np.repeat(np.arange(200), rng.integers(1, 30, 200))
    taste = rng.normal(0.0, 0.3, 200)
    one = (rng.random(len(users)) < 0.4 + taste[users]).astype(float)
    other = (rng.random(len(users)) < 0.3).astype(float)
    found = paired(one, other, users)
    gaps = one - other
    sums = [sum(gaps[users == user] - gaps.mean()) for user in range(200)]
    assert found.mean == pytest.approx(gaps.mean(), abs=1e-6)
    assert found.error == pytest.approx(math.sqrt(200 / 199 * sum(s * s for s in sums)) / len(gaps), abs=1e-6)
    totals, sizes = np.bincount(users, gaps), np.bincount(users)
    drawn = rng.integers(0, 200, (4000, 200))
    spread = (totals[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)).std()
    assert found.error == pytest.approx(spread, rel=0.06)
    assert found.error > 1.5 * gaps.std() / math.sqrt(len(gaps))  # what tests that were independent would give


def test_what_is_shown_is_measured_by_coverage_gini_novelty_and_diversity() -> None:
    vectors = np.array([[1.0, 0.0], [0.6, 0.8], [0.0, 0.0], [0.0, 1.0]])
    popularity = np.array([3.0, 1.0, 0.0, 0.0])
    shown = Shown(2)
    shown.add(np.array([[0, 1, -1], [2, 3, 0]]), popularity, 7, vectors)
    shown.add(np.array([[0, -1, -1], [3, 1, 0]]), popularity, 7, vectors)
    one, two = shown.of(0, 4), shown.of(1, 4)
    assert (one.items_shown, one.coverage) == (2, 0.5)
    assert one.gini == pytest.approx(1 / 6, abs=1e-4)  # 2 and 1
    assert one.novelty == pytest.approx((1 + 2 + 1) / 3, abs=1e-4)  # 8 over 4, over 2, over 4
    assert one.diversity == pytest.approx(1 - 0.6, abs=1e-4)
    assert two.diversity == pytest.approx((1.0 + (0.2 + 0.4 + 1.0) / 3) / 2, abs=1e-4)
    assert Shown(1).of(0, 0) == type(one)(0, None, 0.0, None, None)
    assert gini(np.array([1, 2, 3, 4])) == 0.25


def test_predictions_are_measured_as_written_out() -> None:
    rng = np.random.default_rng(0)
    labels = (rng.random(300) < 0.3).astype(float)
    predictions = np.round(np.clip(0.3 * labels + rng.random(300) * 0.7, 0.0, 1.0), 2)
    found = clicks_of(predictions, labels)
    pairs = [(p > q) + 0.5 * (p == q) for p in predictions[labels == 1] for q in predictions[labels == 0]]
    assert found.auc == pytest.approx(sum(pairs) / len(pairs), abs=1e-5)
    assert found.accuracy == pytest.approx(
        sum((p >= 0.5) == (y > 0) for p, y in zip(predictions, labels, strict=True)) / 300, abs=1e-5
    )
    assert found.recall == pytest.approx((predictions[labels == 1] >= 0.5).mean(), abs=1e-5)
    assert found.calibration == pytest.approx(predictions.sum() / labels.sum(), abs=1e-4)
    losses = [-math.log(max(p if y else 1 - p, 1e-12)) for p, y in zip(predictions, labels, strict=True)]
    assert found.cross_entropy == pytest.approx(sum(losses) / 300, abs=1e-5)
    ratings = ratings_of(np.array([4.0, 2.5]), np.array([5.0, 2.0]), 4.0)
    assert (ratings.mae, ratings.mse, ratings.auc) == (0.75, 0.625, 1.0)
    nothing = np.zeros(0)
    assert (clicks_of(nothing, nothing), ratings_of(nothing, nothing, 4.0)) == (None, None)
    assert auc(np.ones(3), np.ones(3, bool)) is None


def test_old_and_new_users_and_time_are_told_apart() -> None:
    tests = metrics.Tests(2)
    for nth in range(40):
        tests.add("u", nth, [1 if nth < 5 else MISS, 11 if nth >= 20 else MISS])
    one, two = tests.of(0), tests.of(1)
    assert (one.first_5().n, one.first_5().hr10, one.from_20th().n, one.from_20th().hr10) == (5, 1.0, 20, 0.0)
    assert (two.from_20th().hr10, two.from_20th().hr20, two.last_fifth().n) == (0.0, 1.0, 8)
    assert one.curve() == [1.0, 1.0, 0.5] + [0.0] * 17
    assert Judged(np.zeros(0, np.uint16), np.zeros(0), np.zeros(0)).all().hr10 is None


def riverrank(*arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
    command = [SCRIPT, "evaluate", *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120, check=False)


def test_the_command_prints_tables_and_draws_every_policy(files: Path, tmp_path: Path) -> None:
    picture = tmp_path / "curves.svg"
    arguments = ("--events", "-", "--items", files / "items.jsonl", "--baselines", "popular, covisit")
    done = riverrank(*arguments, "--picture", picture, stdin=(files / "events.jsonl").read_text())
    assert (done.returncode, done.stderr) == (0, "")
    rows = {
        line.split()[0]: line.split() for line in done.stdout.splitlines() if line.startswith(("riverrank ", "cov"))
    }
    words = Counter(line.split()[0] for line in done.stdout.splitlines() if line)
    assert [words[name] for name in ("riverrank", "popular", "covisit", "ratings,", "clicks,")] == [4, 4, 4, 1, 1]
    assert set(rows["covisit"][1]) <= set("▁▂▃▄▅▆▇█")
    drawn = ElementTree.fromstring(picture.read_text("utf-8"))
    svg = "{http://www.w3.org/2000/svg}"
    curves = [path for path in drawn.iter(f"{svg}path") if path.get("fill") == "none"]
    assert len({curve.attrib["stroke"] for curve in curves}) == len(curves) == 3
    for curve in curves:
        assert curve.attrib["d"].count("L") == 19  # twenty points
    words = [text.text for text in drawn.iter(f"{svg}text")]
    assert sum(word.startswith(("riverrank 0.", "popular 0.", "covisit 0.")) for word in words) == 3
    assert "tests" in words


def test_the_command_prints_json_for_a_program(files: Path) -> None:
    arguments = ("--events", files / "events.jsonl", "--items", files / "items.jsonl", "--baselines", "popular")
    done = riverrank(*arguments, "--json")
    document = json.loads(done.stdout)
    expected = as_json(evaluated(settings(files), ("popular",)).report())
    machine = {"seconds": 0, "costs": None}
    assert document | machine == expected | machine
    assert document["differences"]["popular"]["hr@10"].keys() == {"mean", "error"}
    assert document["policies"]["popular"]["all"]["hr@10"] > 0
    assert document["dead_letters"] == sum(e["event_id"].startswith("late") for e in records()) > 0


def test_a_bar_of_progress_is_on_a_terminal_alone(files: Path) -> None:
    terminal, end = pty.openpty()
    command = [SCRIPT, "evaluate", "--events", files / "events.jsonl", "--baselines", ""]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=end, timeout=120, check=True)
    os.close(end)
    told = b""
    with contextlib.suppress(OSError):  # which is how a terminal ends
        while more := os.read(terminal, 65_536):
            told += more
    os.close(terminal)
    assert f"0/{len(records())}".encode() in told
    assert done.stdout.startswith(f"{len(records())} events, ".encode())


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        ((), 2, "no events to read: give --events FILE"),
        (("--events", "absent.jsonl"), 2, "--events: absent.jsonl is not there"),
        (
            ("--events", "-", "--baselines", "popular,nothing"),
            2,
            "--baselines: no baseline 'nothing'; there are popular,",
        ),
        (
            ("--events", "-", "--by", "history,age"),
            2,
            "--by: no segments by 'age'; expected some of type, history, popularity, user.NAME, item.NAME, context",
        ),
        (("--events", "-", "--picture", "curve.png"), 2, "--picture: expected a file that ends in .svg, got curve.png"),
        (("--events", "-", "--picture", "absent/c.svg"), 2, "--picture: cannot write absent/c.svg"),
        (("--events", "-"), 1, "nothing to judge in 0 events"),
    ],
)
def test_what_cannot_be_evaluated_is_told_in_one_line(arguments: tuple[str, ...], code: int, told: str) -> None:
    done = riverrank(*arguments)
    assert done.returncode == code
    assert done.stderr.startswith("riverrank: ") and done.stderr.count("\n") == 1
    assert told in done.stderr


def test_a_stream_without_a_test_is_a_failure_that_says_why(files: Path, tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in records()[:1]), "utf-8")
    with pytest.raises(Failure, match=r"nothing to judge in 1 events: no user has a positive interaction after"):
        evaluated(settings(files, **{"files.events": str(path)})).report()
