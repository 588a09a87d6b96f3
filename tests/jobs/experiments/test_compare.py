"""Arms compared: what is credited to which slate, what is told of a log that can't be trusted, and the command."""

import json
import math
import os
import time
from pathlib import Path

import msgspec
import pytest
from console_script import assert_one_line, riverrank
from kafka import KafkaProducer
from riverrank.jobs.config.schema import parse
from riverrank.jobs.dev.services import KafkaBroker
from riverrank.jobs.experiments.compare import Comparison, compare
from riverrank.jobs.experiments.credit import MOST_OF_USER, Credit
from riverrank.jobs.experiments.log import LoggedSlate, SlateLog
from riverrank.jobs.experiments.text import comparison
from riverrank.jobs.local.reading import read_topic
from riverrank.operators.flink.arrivals import Arrival
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from streams import send

MINUTE = 60_000
Record = dict[str, object]


class Told:
    """Events and slates of a run that is told by hand, each event a second after the last."""

    def __init__(self) -> None:
        self.events: list[bytes] = []
        self.slates: list[bytes] = []

    def event(self, user: str, kind: str, item: str | None = None, **fields: object) -> str:
        """An event; its id."""
        n = len(self.events)
        event_id = str(fields.pop("event_id", f"e{n}"))
        ts = fields.pop("ts", 1000 * (n + 1))
        self.events.append(to_json(Event(event_id, kind, user, ts, item, **fields)))
        return event_id

    def ask(self, user: str, arm: str, items: str, **fields: object) -> str:
        """A request, answered by a slate of these items, a letter each; the slate's id."""
        trigger = self.event(user, "request", **fields)
        slate_id = f"{user}:{len(self.slates)}"
        slots = [{"item_id": item, "rank": n + 1, "propensity": 0.5} for n, item in enumerate(items)]
        ts = json.loads(self.events[-1])["ts"]
        slate = {"slate_id": slate_id, "user_id": user, "ts": ts, "trigger": trigger, "arm": arm, "items": slots}
        self.slates.append(json.dumps(slate).encode())
        return slate_id

    def answered(self, user: str, arm: str, items: str, kind: str, item: str, **fields: object) -> None:
        """An interaction, answered by a slate."""
        self.ask(user, arm, items)
        self.events[-1] = to_json(
            Event(f"e{len(self.events) - 1}", kind, user, 1000 * len(self.events), item, **fields)
        )

    def compared(self, *, seen: bool = False, held: int = 1000, **sections: object) -> Comparison:
        events, slates = (
            [Arrival(0, n, 0, line) for n, line in enumerate(lines)] for lines in (self.events, self.slates)
        )
        return compare(parse(sections).behaviour, iter(events), SlateLog(iter(slates), held), MINUTE, seen=seen)


def values(report: Comparison, arm: str) -> dict[str, float]:
    return {name: estimate.value for name, estimate in report.arms[arm].measures.items()}


def slate_at(ts: int, user: str = "u") -> LoggedSlate:
    return LoggedSlate(f"{user}:{ts}", user, ts, f"e{ts}", "bold", ())


def test_what_is_taken_from_a_slate_after_it_is_credited_to_its_arm():
    told = Told()
    told.ask("u", "bold", "abc")
    told.event("u", "click", "b")
    told.ask("u", "bold", "xyz")
    told.event("u", "click", "elsewhere")
    told.ask("v", "control", "abc")
    report = told.compared()
    found = values(report, "bold")
    assert (found["click_through"], found["reward"], found["hr10"]) == (0.5, 0.5, 0.5)
    assert found["ndcg10"] == pytest.approx(0.5 * 0.63093, abs=1e-4)
    assert values(report, "control")["click_through"] == 0.0
    assert report.arms["bold"].differences["reward"].value == 0.5
    assert (report.arms["bold"].users, report.arms["bold"].slates, report.arms["bold"].choices) == (1, 2, 2)


def test_a_purchase_after_a_click_is_no_second_choice_and_worth_what_it_is_worth_more():
    told = Told()
    told.ask("u", "bold", "abc")
    told.event("u", "click", "a")
    told.event("u", "purchase", "a")
    report = told.compared(reward={"click": 1.0, "purchase": 3.0})
    assert values(report, "bold")["reward"] == 3.0 and report.arms["bold"].choices == 1


def test_nothing_is_credited_that_came_before_too_late_of_another_user_or_again():
    told = Told()
    told.event("u", "click", "a", event_id="first")
    told.ask("u", "bold", "ab")
    told.event("u", "click", "a", event_id="first")  # delivered again
    told.event("v", "click", "a")
    told.event("u", "click", "b", ts=MINUTE + 20_000)
    report = told.compared()
    assert values(report, "bold")["reward"] == 0.0 and report.arms["bold"].choices == 0


def test_the_event_that_a_slate_answers_is_not_credited_to_it():
    told = Told()
    told.ask("u", "bold", "a")
    trigger = told.event("u", "click", "b")
    slate = {"slate_id": "u:9", "user_id": "u", "ts": 2000, "trigger": trigger, "arm": "bold"}
    told.slates.append(json.dumps({**slate, "items": [{"item_id": "b", "propensity": 1}]}).encode())
    assert values(told.compared(), "bold")["reward"] == 0.0


def test_feedback_that_names_a_slate_is_credited_to_it_or_to_none():
    told = Told()
    first = told.ask("u", "bold", "ab")
    told.ask("u", "bold", "ab")
    told.event("u", "click", "a", slate_id=first)
    told.event("u", "click", "b", slate_id="of another run")
    report = told.compared()
    assert values(report, "bold")["click_through"] == 0.5 and report.arms["bold"].choices == 1


def test_all_that_is_taken_of_a_slate_that_stays_on_the_screen_is_credited_to_it():
    """Each click is answered by a slate of its own."""
    told = Told()
    shown = told.ask("u", "bold", "abcdefgh")
    for item in "abcdefgh":
        told.answered("u", "bold", "xyz", "click", item, slate_id=shown)
    report = told.compared()
    assert (report.arms["bold"].slates, values(report, "bold")["reward"]) == (9, pytest.approx(8 / 9))
    assert report.arms["bold"].choices == 8 and not any("closed" in warning for warning in report.warnings)


def test_a_slate_is_open_as_long_as_an_event_within_its_window_may_come():
    told, late = Told(), {"allowed_lateness": 2 * MINUTE}
    shown = told.ask("u", "bold", "ab")
    for ts in (170_000, 175_000, 180_000):  # a second newest that is 174 s after the slate
        told.ask("u", "bold", "xy", ts=ts)
    told.event("u", "click", "a", slate_id=shown, ts=MINUTE)
    assert values(told.compared(**late), "bold")["click_through"] == 0.25
    credit = Credit[None](MINUTE, 2 * MINUTE)
    closed = [
        earned.slate.ts for ts in (0, 181_000, 180_000, 180_001, 180_002) for earned in credit.open(slate_at(ts), None)
    ]
    assert closed == [0] and credit.cut_short == 0


def test_open_slates_are_bounded_and_what_is_cut_short_is_told():
    told = Told()
    shown = told.ask("u", "bold", "ab", ts=1)
    for n in range(MOST_OF_USER + 2):
        told.ask("u", "bold", "xy", ts=2 + n)
    told.event("u", "click", "a", slate_id=shown, ts=1000)
    report = told.compared()
    assert values(report, "bold")["reward"] == 0.0
    assert any(warning.startswith("3 slates were closed within their window") for warning in report.warnings)
    credit = Credit[None](MINUTE, most_open=3)
    closed = [e.slate.user_id for n in range(5) for e in credit.open(slate_at(n * MINUTE // 2, f"u{n}"), None)]
    assert closed == ["u0", "u1"] and credit.cut_short == 0
    assert len(list(credit.close("u2"))) == 1 and len(list(credit.close())) == 2
    assert list(credit.open(slate_at(5 * MINUTE), None)) == []


def test_slates_delivered_twice_count_once_and_out_of_order_all_the_same():
    told = Told()
    for n in range(6):
        told.ask(f"u{n}", "bold", "ab")
        told.event(f"u{n}", "click", "b")
    one = told.compared()
    told.slates = [told.slates[n] for n in (3, 1, 0, 2, 5, 4, 4, 0)]
    other = told.compared()
    assert values(one, "bold")["click_through"] == values(other, "bold")["click_through"] == 1.0
    assert other.arms["bold"].slates == 6


def test_only_slates_that_were_seen_count_where_that_is_asked_for():
    told = Told()
    shown = told.ask("u", "bold", "ab")
    told.event("u", "impression", items=("a", "b"), slate_id=shown)
    told.event("u", "click", "a", slate_id=shown)
    told.ask("u", "bold", "ab")
    assert values(told.compared(seen=True), "bold")["click_through"] == 1.0
    report = told.compared()
    assert values(report, "bold")["click_through"] == 0.5
    assert any("--seen" in warning for warning in report.warnings)


def test_an_erased_user_begins_anew():
    told = Told()
    told.ask("u", "bold", "ab")
    told.event("u", "erase")
    told.event("u", "click", "a")
    assert values(told.compared(), "bold")["reward"] == 0.0


def test_users_who_are_lost_and_users_in_several_arms_are_told():
    told = Told()
    for n in range(120):
        told.ask(f"u{n}", "bold" if n % 12 else "control", "ab")
    told.ask("u0", "bold", "ab")
    arms = {"experiment": {"arms": {"bold": {"share": 0.5}}}}
    report = told.compared(**arms)
    assert report.sample_ratio < 0.001 and report.crossed == 1 and report.arms["bold"].expected_share == 0.5
    assert {"sample ratio", "1 users were"} <= {" ".join(warning.split()[:3])[:12] for warning in report.warnings}


def test_where_all_users_are_alike_no_interval_is_told():
    told = Told()
    for n in range(120):
        told.ask(f"c{n}", "control", "abc")
        told.ask(f"b{n}", "bold", "abc")
        if n % 2:
            told.event(f"b{n}", "click", "a")
    report = told.compared()
    still, moved = (report.arms[arm].measures["click_through"] for arm in ("control", "bold"))
    assert still.value == 0.0 and math.isnan(still.once[0]) and math.isnan(still.always[1])
    assert moved.value == 0.5 and 0.0 < moved.always[0] < 0.5
    difference = report.arms["bold"].differences["click_through"]
    assert difference.value == 0.5 and math.isnan(difference.once[0])
    assert "control: all users are alike in click_through, reward, so how sure that is can't be told" in report.warnings
    verdicts = {row[0]: row[-1] for row in comparison(report)[1] if row[1] == "bold"}
    assert verdicts["click-through"] == verdicts["HR@10"] == "can't be told"


def test_an_arm_of_one_user_has_too_few():
    told = Told()
    for user, arm in (("u", "control"), ("v", "control"), ("w", "bold")):
        told.ask(user, arm, "abc")
    assert {row[-1] for row in comparison(told.compared())[1] if row[1] == "bold"} == {"too few"}


def test_records_that_are_no_slates_and_slates_of_other_events_are_counted_and_told():
    told = Told()
    told.slates += [b"{", b"\xff", b"[]", b"[" * 100_000, b'{"slate_id":1}']
    for n in range(50):
        told.ask(f"u{n}", "bold", "ab")
    told.slates = [line.replace(b'"e', b'"x', 1) if n % 2 else line for n, line in enumerate(told.slates)]
    report = told.compared(held=8)
    said = " ".join(report.warnings)
    assert "5 records of the slates are no slates" in said and "slates answer none of the events" in said
    assert report.arms["bold"].slates > 10


def test_more_arms_than_there_can_be_are_taken_together():
    told = Told()
    for n in range(100):
        told.ask(f"u{n}", f"arm {n}", "ab")
    assert len(told.compared().arms) == 65


def test_topics_are_compared_as_files_are(broker: KafkaBroker, tmp_path: Path) -> None:
    told = Told()
    for n in range(6):
        told.ask(f"u{n}", "bold" if n % 2 else "control", "ab")
        told.event(f"u{n}", "click", "b" if n % 3 else "x")
    names = {stream: f"compared-{os.getpid()}-{stream}" for stream in ("events", "slates")}
    for stream, lines in (("events", told.events), ("slates", told.slates)):
        broker.create_topic(names[stream])
        send(broker, names[stream], lines)
    path = tmp_path / "c.toml"
    path.write_text("\n".join(["[kafka]", *(f'{stream} = "{name}"' for stream, name in names.items())]), "utf-8")
    done = riverrank("compare", "--config", path, "--kafka", broker.bootstrap, "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["arms"] == json.loads(msgspec.json.encode(told.compared().arms))


def test_of_topics_with_many_partitions_no_slate_is_lost(broker: KafkaBroker) -> None:
    """Read one partition after the other, events would be far ahead of the slates that answer them."""
    told, begin = Told(), 1000 * int(time.time() - 3600)
    topics = {name: f"partitioned-{os.getpid()}-{name}" for name in ("events", "slates")}
    partitions = {"events": 4, "slates": 6}
    for name, topic in topics.items():
        broker.create_topic(topic, partitions[name])
    producer = KafkaProducer(bootstrap_servers=broker.bootstrap)
    for n in range(600):
        told.ask(f"u{n % 60}", "bold" if n % 2 else "control", "ab")
        for name, lines in (("events", told.events), ("slates", told.slates)):
            producer.send(topics[name], lines[-1], partition=n % 60 % partitions[name], timestamp_ms=begin + 1000 * n)
    producer.close()
    kafka = parse({"kafka": {"bootstrap": broker.bootstrap}}).kafka
    log = SlateLog(read_topic(kafka, topics["slates"]), held=40)
    report = compare(parse({}).behaviour, read_topic(kafka, topics["events"]), log, MINUTE)
    assert (log.read, log.unmatched) == (600, 0)
    assert {arm: figures.slates for arm, figures in report.arms.items()} == {"control": 300, "bold": 300}


@pytest.fixture
def files(tmp_path: Path) -> list[object]:
    told = Told()
    for n in range(6):
        told.ask(f"u{n}", "bold\x1b[31m" if n % 2 else "control", "ab")
        told.event(f"u{n}", "click", "b" if n % 3 else "x")
    for name, lines in (("e", told.events), ("s", told.slates)):
        (tmp_path / f"{name}.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    return ["--events", tmp_path / "e.jsonl", "--slates", tmp_path / "s.jsonl"]


def test_the_command_prints_a_table_or_json(files: list[object]) -> None:
    plain = riverrank("compare", *files)
    assert plain.returncode == 0, plain.stderr
    assert "click-through\tcontrol\t3\t3\t" in plain.stdout and "\x1b" not in plain.stdout
    as_json = riverrank("compare", *files, "--json", "--window", "1h")
    report = json.loads(as_json.stdout)
    assert report["arms"]["control"]["measures"]["click_through"]["value"] == pytest.approx(2 / 3)
    assert report == msgspec.to_builtins(msgspec.json.decode(as_json.stdout))


def test_what_the_command_cannot_do_is_said_in_one_line(files: list[object], tmp_path: Path) -> None:
    assert_one_line(riverrank("compare", *files[:2]), 2, "no slates to read: give --slates FILE")
    assert_one_line(riverrank("compare", *files[2:]), 2, "no events to read")
    assert_one_line(riverrank("compare", *files, "--window", "soon"), 2, "--window: expected a duration")
    assert_one_line(riverrank("compare", *files[:2], "--slates", tmp_path / "none"), 2, "--slates: ")
    other = tmp_path / "other.toml"
    other.write_text("[reward]\nclick = 2.0\n", "utf-8")
    assert_one_line(riverrank("estimate", *files, "--policy", other), 2, "[reward] or history.story differ")


def test_estimate_prints_a_table_or_json(files: list[object], tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    other.write_text("[exploration]\nrate = 0.3\n", "utf-8")
    plain = riverrank("estimate", *files, "--policy", other)
    assert plain.returncode == 0, plain.stderr
    assert "first slot\tIPS\t" in plain.stdout and "warning: " in plain.stdout
    report = json.loads(riverrank("estimate", *files, "--policy", other, "--json").stdout)
    assert [figure["estimator"] for figure in report["figures"]] == ["IPS", "SNIPS", "DR", "RIPS", "cascade DR"]
