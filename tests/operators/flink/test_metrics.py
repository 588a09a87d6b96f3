"""What is counted is told to Flink's metric system, by names and labels that the docs have, and adds up."""

import math
import re
from pathlib import Path

import pytest
from adapters import ALL
from harness import Harness, Told
from learner_inputs import shop
from riverrank.operators.experiment import CONTROL
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.flink.session import SessionFunction
from riverrank.operators.metrics import METRICS, TOLD_EVERY, Counts, Metrics, within
from riverrank.operators.settings import Behaviour, LearnerSettings
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.messages import Feedback, Outcome, Seen, encode
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json

DOCS = Path(__file__).resolve().parents[3] / "docs"


def test_docs_have_every_metric_and_no_other() -> None:
    page = (DOCS / "metrics.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (.*?) \| (.*?) \|$", page, re.MULTILINE)
    assert rows == [(name, f"`{m.label}`" if m.label else "", m.what) for name, m in METRICS.items()]


def test_counts_are_told_every_so_often_and_none_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    now, told = [0.0], dict[str, int]()
    monkeypatch.setattr("riverrank.operators.metrics.time.monotonic", lambda: now[0])
    metrics, counts = Metrics(Told(told)), Counts()  # type: ignore[arg-type]
    for _ in range(10):
        counts.add("events", "click")
        counts.set("catalogue", 5)
        metrics.tell(counts)
    assert told == {"riverrank.type=click.events": 1, "riverrank.catalogue": 5}
    now[0] += TOLD_EVERY
    metrics.tell(counts)
    assert told == {"riverrank.type=click.events": 10, "riverrank.catalogue": 5}
    counts.add("dead_letters", "late")
    metrics.tell(counts, at_once=True)
    assert told["riverrank.reason=late.dead_letters"] == 1


@pytest.mark.parametrize(("ms", "name"), [(-5, "30ms"), (30, "30ms"), (31, "100ms"), (60_001, "more")])
def test_an_age_has_one_name(ms: int, name: str) -> None:
    assert within(ms) == name


def test_session_counts_what_it_takes_and_refuses() -> None:
    harness = Harness(SessionFunction(Behaviour(), "events", ALL, 1000, b""))
    click = to_json(Event("e", "click", "u", 1, "i"))
    for number, line in enumerate((click, click, b"broken", to_json(Event("f", "view", "u", 2, "i")))):
        harness.element(encode(Arrival(0, number, 0, line)), "u")
    harness.function.letters.tell(at_once=True)
    assert harness.metrics == {
        "riverrank.type=click.events": 1,
        "riverrank.redelivered": 1,
        "riverrank.reason=bad_json.dead_letters": 1,
        "riverrank.type=view.events": 1,
    }


def counted(recommend: Recommend) -> dict[tuple[str, str], int]:
    recommend.measure()
    return {(name, value): number for name, value, number in recommend.counts.take()}


def test_recommend_counts_slates_and_judges_them_by_what_was_taken_next() -> None:
    index = shop()
    recommend, state = Recommend(Behaviour(learner=LearnerSettings(drift=0.0)), index), None
    history: tuple[Seen, ...] = ()
    ranks = []
    for k in range(30):
        item = f"i{k * 7 % 40}"
        event = Event(f"e{k}", "click", "u", 1000 * (k + 1), item)
        if (held := recommend.memory.of("u").served._by_user.get("u")) is not None:
            ranks.append(held[1].standing(index.row(item))[1] + 1)
        state = recommend.answer(Feedback(event, 1.0, history), state).state
        history = (*history, Seen(item, event.ts, 1.0))
        if not k:
            first = counted(recommend)  # what was served before the first is not known
    numbers = counted(recommend)
    hits = [rank for rank in ranks if rank <= 10]
    assert 0 < len(hits) < len(ranks) == 29
    assert first["slates", "warm"] + numbers["slates", "warm"] == 30
    assert (numbers["learned", ""], numbers["catalogue", ""]) == (29, 40)
    assert (numbers["choices", CONTROL], numbers["hits", CONTROL]) == (29, len(hits))
    assert numbers["gain_millionths", CONTROL] == sum(round(1e6 / math.log2(rank + 1)) for rank in hits)
    assert 0 < numbers["coverage_thousandths", ""] <= 1000
    assert counted(recommend).keys() == {("catalogue", ""), ("coverage_thousandths", "")}


def test_recommend_counts_what_was_shown_and_clicked_and_how_well_that_was_foretold() -> None:
    recommend = Recommend(Behaviour(), shop(), predict=False)
    outcome = Outcome("s", 1, ("i1", "i2", "i3"), (1, 0, 0))
    recommend.answer(Feedback(Event("e", "request", "u", 9), 0.0, (Seen("i4", 0, 1.0),), (outcome,)), None)
    numbers = counted(recommend)
    assert (numbers["shown", CONTROL], numbers["clicked", CONTROL], numbers["learned", ""]) == (3, 1, 3)
    assert 3 * 0.1 < numbers["loss_millionths", CONTROL] / 1e6 < 3 * 3.0
