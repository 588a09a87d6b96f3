"""Each alert fires for its fault, once that has lasted, and for nothing else; each has its line in the runbook."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from riverrank.operators.metrics import METRICS
from riverrank.state.event_types import ANSWERED, EVENT_TYPES
from watched import FLINKS, OURS, ROOT, RULES, SCRAPING, alerts, exported, named, promtool, rules, served, shown

START, END = 30, 61  # minutes: a fault begins, and the test ends
A_DAY_LATER = 1530, 1630  # the same, for what is held against the day before
Values = Callable[[int, int], str]  # of a series, from the minute at which a fault begins and the length in minutes


def rate(before: int, after: int | None = None) -> Values:
    """A counter that grows by so much a minute."""
    then = before if after is None else after
    return lambda start, end: f"0+{before}x{start - 1} {before * start}+{then}x{end - start - 1}"


def level(before: int, after: int | None = None, step: int = 0) -> Values:
    """A level, which is another after `start` and changes by `step` a minute from then on."""
    then = before if after is None else after
    return lambda start, end: f"{before}+0x{start - 1} {then}{step:+d}x{end - start - 1}"


def gone(name: str) -> Values:
    """The series of that name, which is no longer there."""
    return lambda start, end: f"{HEALTHY[name](start, end).split()[0]} _x{end - start}"


def burst(size: int) -> Values:
    """A counter that comes to be with `size` in it."""
    return lambda start, end: f"_x{start} {size}+0x{end - start - 1}"


def seldom(every: int) -> Values:
    """A counter that grows by one each so many minutes."""
    return lambda start, end: " ".join(f"{number}+0x{every - 1}" for number in range(-(-end // every)))


def of_job(name: str) -> str:
    return f'{name}{{job_name="riverrank"}}'


def ours(name: str, value: str = "") -> str:
    label = f',{METRICS[name].label}="{value}"' if value else ""
    return f'{exported(name)}{{job_name="riverrank"{label}}}'


RUNNING = "flink_jobmanager_numRunningJobs"
RESTARTS = of_job("flink_jobmanager_job_numRestarts")
FAILED = of_job("flink_jobmanager_job_numberOfFailedCheckpoints")
COMPLETED = of_job("flink_jobmanager_job_numberOfCompletedCheckpoints")
TASKS = of_job("flink_taskmanager_job_task_numRecordsIn")
LAG = of_job("flink_taskmanager_job_task_operator_pendingRecords")
CLICKS, LISTS = ours("events", "click"), ours("events", "impression")
BROKEN, LATE = ours("dead_letters", "bad_json"), ours("dead_letters", "late")
SLATES = ours("slates", "warm")
CHOICES, HITS = ours("choices", "control"), ours("hits", "control")
SERVICE, READY = 'up{job="serve",instance="a"}', 'riverrank_serve_ready{instance="a",part="redis"}'


def requests(operation: str, status: int) -> str:
    return f'riverrank_serve_requests_total{{instance="a",operation="{operation}",status="{status}"}}'


BUSY = requests("slate", 503)
AWAY, WAIT = ours("cache_away"), ours("cache_age_ms")
HEALTHY: dict[str, Values] = {
    RUNNING: level(1),
    RESTARTS: level(0),
    FAILED: level(0),
    COMPLETED: rate(6),
    TASKS: rate(1200),
    LAG: level(10),
    CLICKS: rate(600),
    LISTS: rate(600),
    BROKEN: rate(1),
    LATE: rate(1),
    SLATES: rate(600),
    ours("slate_age", "30ms"): rate(600),
    ours("slate_age", "1m"): rate(1),
    CHOICES: rate(60),
    HITS: rate(20),
    AWAY: level(0),
    WAIT: level(20),
    SERVICE: level(1),
    READY: level(1),
    requests("slate", 200): rate(6000),
    BUSY: rate(6),
    requests("slate", 404): rate(600),
    requests("readyz", 503): level(0),
}
Changes = dict[str, Values]
NO_ANSWERED: Changes = {SLATES: rate(600, 0), CLICKS: rate(600, 0), BROKEN: rate(1, 0), LATE: rate(1, 0)}
# By alert, what is otherwise while its fault lasts; one that has more than one has a list.
FAULTS: dict[str, list[Changes]] = {
    "RiverrankJobDown": [
        {TASKS: gone(TASKS)},
        {RUNNING: level(1, 0), **{name: gone(name) for name in (RESTARTS, FAILED, COMPLETED, TASKS)}},
        {name: gone(name) for name in HEALTHY},
    ],
    "RiverrankJobRestarts": [{RESTARTS: rate(0, 1)}],
    "RiverrankCheckpointsFail": [{FAILED: rate(0, 1)}],
    "RiverrankCheckpointsOld": [{COMPLETED: rate(6, 0)}],
    "RiverrankRedisAway": [{AWAY: level(0, 1)}],
    "RiverrankWritesWait": [{WAIT: level(20, 40_000, 60_000)}],
    "RiverrankDeadLetters": [
        {BROKEN: rate(1, 60)},
        {ours("dead_letters", "bad_field"): burst(500)},
    ],
    "RiverrankLate": [{LATE: rate(1, 120)}],
    "RiverrankLag": [{LAG: level(10, 2_000, 1_000)}],
    "RiverrankSlow": [{ours("slate_age", "1m"): rate(1, 30)}],
    "RiverrankNoSlates": [
        {SLATES: rate(600, 0)},
        NO_ANSWERED | {LISTS: rate(600, 0)},  # what is left to be read is not read
    ],
    "RiverrankHitRate": [{HITS: rate(20, 12)}],
    "RiverrankServeDown": [{SERVICE: level(1, 0)}],
    "RiverrankServeUnready": [{READY: level(1, 0)}],
    "RiverrankServeErrors": [{BUSY: rate(6, 120)}, {requests("slate", 500): burst(2000)}],
}
# What is no fault yet, or none at all.
NEAR: dict[str, Changes] = {
    "a TaskManager was lost": {RESTARTS: level(0, 1)},
    "a checkpoint failed or two": {FAILED: level(0, 2)},
    "checkpoints take five minutes": {COMPLETED: seldom(5)},
    "a write waited 25 seconds": {WAIT: level(20, 25_000)},
    "half a percent is broken": {BROKEN: rate(1, 6)},
    "three percent are late": {LATE: rate(1, 40)},
    "a backlog is worked off": {LAG: level(10, 50_000, -1_000)},
    "slates take ten seconds": {ours("slate_age", "10s"): rate(600)},
    "only lists come": NO_ANSWERED | {LAG: level(0)},
    "nothing comes": NO_ANSWERED | {LISTS: rate(600, 0), TASKS: rate(1200, 0), LAG: level(0)},
    "the hit rate fell by a tenth": {HITS: rate(20, 18)},
    "a service is asked whether it is ready, and is not yet": {requests("readyz", 503): rate(0, 6000)},
    "half a percent of requests are too many at once": {BUSY: rate(6, 30)},
    "no slates by HTTP": {name: gone(name) for name in HEALTHY if "serve" in name},
    "few choices missed": {CHOICES: rate(60, 3), HITS: rate(20, 0)},
}


def ever_firing(changes: Changes, folder: Path, wanted: set[str], *, days: bool = False) -> None:
    """That of all alerts these fire within half an hour of the changes, and none before; with `days`, in more time."""
    start, end = A_DAY_LATER if days else (START, END)
    series = [{"series": name, "values": values(start, end)} for name, values in {**HEALTHY, **changes}.items()]
    fired = 'max by (alertname) (max_over_time(ALERTS{alertstate="firing"}[2d]))'
    checks = [
        {"expr": fired, "eval_time": f"{start}m", "exp_samples": []},
        {
            "expr": fired,
            "eval_time": f"{end - 1}m",
            "exp_samples": [{"labels": f'{{alertname="{name}"}}', "value": 1} for name in wanted],
        },
    ]
    test = {
        "rule_files": [str(RULES)],
        "evaluation_interval": "1m",
        "tests": [{"interval": "1m", "input_series": series, "promql_expr_test": checks}],
    }
    path = folder / "test.yml"
    path.write_text(json.dumps(test), "utf-8")  # JSON is YAML
    promtool("test", "rules", path)


CASES = [(name, changes) for name, kinds in FAULTS.items() for changes in kinds]


@pytest.mark.parametrize(("name", "changes"), CASES, ids=[name for name, _ in CASES])
def test_each_alert_fires_for_its_fault_and_no_other_does(name: str, changes: Changes, tmp_path: Path) -> None:
    ever_firing(changes, tmp_path, {name}, days=name == "RiverrankHitRate")


@pytest.mark.parametrize("what", NEAR)
def test_no_alert_fires_for_what_is_no_fault(what: str, tmp_path: Path) -> None:
    ever_firing(NEAR[what], tmp_path, set(), days=HITS in NEAR[what])


def test_nothing_fires_while_all_is_well(tmp_path: Path) -> None:
    ever_firing({}, tmp_path, set())


def test_where_only_what_is_broken_comes_both_its_alerts_fire(tmp_path: Path) -> None:
    changes = {CLICKS: rate(600, 0), LISTS: rate(600, 0), SLATES: rate(600, 0), BROKEN: rate(1, 600), LAG: level(0)}
    ever_firing(changes, tmp_path, {"RiverrankDeadLetters", "RiverrankNoSlates"})


def test_every_alert_has_a_fault_in_these_tests() -> None:
    assert FAULTS.keys() == alerts().keys() and len(FAULTS) >= 10


def test_the_files_are_what_prometheus_reads() -> None:
    promtool("check", "rules", RULES)
    promtool("check", "config", SCRAPING)


def test_every_alert_waits_says_how_bad_it_is_and_has_its_line_in_the_runbook() -> None:
    page = (ROOT / "docs" / "runbook.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \| .+ \|$", page, re.MULTILINE)
    found = alerts()
    assert rows == [
        (name, rule["annotations"]["summary"], rule["annotations"]["action"]) for name, rule in found.items()
    ]
    assert all(re.fullmatch(r"[1-9]\d*[smh]", rule["for"]) for rule in found.values())
    assert {rule["labels"]["severity"] for rule in found.values()} == {"warning", "critical"}


def test_rules_dashboard_and_pages_name_metrics_that_there_are() -> None:
    recorded = {rule["record"] for rule in rules() if "record" in rule}
    pages = [path.read_text("utf-8") for path in (ROOT / "docs").glob("*.md")]
    used = {name for text in [*(rule["expr"] for rule in rules()), *shown(), *pages] for name in named(text)}
    assert len(used) > 25
    whole = {name.removesuffix("_bucket") for name in served()}  # as pages name a histogram
    assert used - recorded - {*map(exported, METRICS)} - FLINKS - served() - whole == {OURS}
    assert used >= recorded | FLINKS | served()


def test_what_no_slate_answers_is_what_the_alert_of_missing_slates_leaves_out() -> None:
    left_out = re.findall(r'type!~"([a-z|]+)"', alerts()["RiverrankNoSlates"]["expr"])
    assert [set(each.split("|")) for each in left_out] == [{*EVENT_TYPES} - {*ANSWERED}]
