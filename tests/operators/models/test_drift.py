"""A change of taste: told as River's ADWIN tells it, in few bytes; then the old taste counts no more."""

import json
import random
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from river import drift as river
from riverrank.jobs.cli import main as cli
from riverrank.jobs.config.schema import Config, parse
from riverrank.jobs.evaluation import drift
from riverrank.jobs.evaluation.listed import listed
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.models.drift import BUCKETS, CLOCK, HEAD, ROWS, Change, take, watch, with_history_since
from riverrank.state.event_types import INTERACTIONS
from riverrank.state.learners import LearnerState, decode_learner
from riverrank.state.messages import Feedback, Seen
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Slate

MOST_BYTES = HEAD + 2 * ROWS * BUCKETS
HOUR = 3_600_000


def losses_of(seed: int, number: int, moves: float) -> list[int]:
    """Losses whose mean jumps with probability `moves` before each."""
    draw = random.Random(seed)
    mean, losses = draw.random(), []
    for _ in range(number):
        if draw.random() < moves:
            mean = draw.random()
        losses.append(int(draw.random() < mean))
    return losses


def rows_of(raw: bytes) -> list[list[tuple[int, int]]]:
    """What is kept of losses, as it is written down: of each row its buckets' losses and interactions."""
    buckets = iter(zip(raw[HEAD::2], raw[HEAD + 1 :: 2], strict=True))
    return [[next(buckets) for _ in range(length)] for length in raw[1:HEAD]]


@pytest.mark.parametrize("significance", [0.002, 0.1, 0.5, 0.999])
def test_changes_are_those_of_river_loss_by_loss(significance: float) -> None:
    found = 0
    for seed in range(40):
        theirs, raw = river.ADWIN(delta=significance, clock=CLOCK), b""
        for loss in losses_of(seed, 700, 0.01):
            theirs.update(loss)
            raw, change = take(raw, [loss], took=False, significance=significance)
            assert (change is not None) == theirs.drift_detected
            found += theirs.drift_detected
            if change is None:
                rows = rows_of(raw)
                assert sum(len(row) << k for k, row in enumerate(rows)) == theirs.width
                assert sum(losses for row in rows for losses, _ in row) == theirs.total
    assert found > 40


@given(
    st.lists(st.tuples(st.lists(st.integers(0, 1), max_size=25), st.booleans()), max_size=60), st.floats(0.01, 0.999)
)
def test_losses_at_once_are_taken_as_one_by_one(feedbacks: list[tuple[list[int], bool]], significance: float) -> None:
    """What is kept, and the change: the last for the worse, or where there is none the last for the better."""
    raw = b""
    for losses, took in feedbacks:
        kept, change = take(raw, losses, took=took, significance=significance)
        changes = []
        for loss in losses:
            raw, found = take(raw, [loss], took=False, significance=significance)
            changes.append(found)
        raw, none = take(raw, [], took=took, significance=significance)
        found = [change for change in changes if change]
        assert kept == raw and none is None
        assert change == next(reversed([c for c in found if c.worse] or found), None)


def test_interactions_are_counted_with_the_loss_that_came_last() -> None:
    raw = b""
    for number in range(13):
        raw, _ = take(raw, [number % 2], took=number % 3 == 0, significance=0.1)
    assert rows_of(raw) == [
        [(0, 0), (1, 1), (0, 0), (1, 0), (0, 1)],  # the last five losses, of which the 10th and the 13th were taken
        [(1, 1), (1, 1), (1, 0), (1, 1)],  # those before, two by two
        *[[]] * 6,
    ]
    assert raw[0] == 13 - CLOCK


def test_what_is_kept_of_losses_stays_within_ninety_bytes() -> None:
    for mean in (0, 1):
        raw, sizes = b"", []
        for _ in range(5000):
            raw, change = take(raw, [mean], took=True, significance=0.5)
            assert change is None
            raw, _ = take(raw, [], took=True, significance=0.5)
            sizes.append(len(raw))
        assert max(sizes) <= MOST_BYTES == 89
        assert sizes[9] < 40
        assert take(raw, [], took=False, significance=0.5) == (raw, None)
        assert (
            take(raw, [1 - mean], took=False, significance=0.5)[0] != take(raw, [mean], took=False, significance=0.5)[0]
        )


def test_a_change_knows_which_way_it_went_and_how_many_interactions_came_since() -> None:
    for before, after in ((0, 1), (1, 0)):
        raw, changes = b"", []
        for number in range(100):
            raw, change = take(raw, [before if number < 60 else after], took=number % 3 == 0, significance=0.1)
            changes.append(change)
        first = next(number for number, change in enumerate(changes) if change)
        since = len([number for number in range(60, first) if number % 3 == 0])
        assert first < 90
        assert changes[first] == Change(worse=after > before, taken=since)


def test_losses_that_only_scatter_are_rarely_taken_for_a_change() -> None:
    draw = random.Random(5)
    worse = 0
    for _ in range(200):
        mean, raw, changes = 0.5 + 0.5 * draw.random(), b"", []
        for _ in range(300):
            raw, change = take(raw, [int(draw.random() < mean)], took=False, significance=0.5)
            changes.append(change)
        worse += any(change and change.worse for change in changes)
    assert worse <= 10


def test_from_a_change_on_the_history_is_what_came_after_it() -> None:
    user, history = LearnerState(), []
    for number in range(60):
        history.append(Seen(f"i-{number}", 1000 * number, 1.0))
        changed = watch(user, [int(number >= 40)], history, took=True, significance=0.2)
        if changed:
            break
        assert user.since == 0
    assert changed
    assert 1000 * 40 <= user.since <= 1000 * 42
    feedback = Feedback(Event("e", "request", "u", 99_000), 0.0, tuple(history))
    assert [seen.item_id for seen in with_history_since(feedback, user.since).history] == [
        f"i-{number}" for number in range(user.since // 1000, len(history))
    ]
    assert with_history_since(feedback, 0) is feedback
    assert not watch(user, [1] * 500, history, took=True, significance=0.0)


def test_a_change_that_nothing_was_taken_since_leaves_no_history() -> None:
    user, history = LearnerState(), [Seen("i", 5, 1.0)]
    assert not watch(user, [0] * 40, history, took=True, significance=0.2)
    assert watch(user, [1] * 40, history, took=False, significance=0.2)
    assert user.since == 6
    empty = LearnerState()
    watch(empty, [0] * 40, [], took=False, significance=0.2)
    assert watch(empty, [1] * 40, [], took=False, significance=0.2)
    assert empty.since == 0


TURNS = 40


class Life:
    """A user who takes what is of one category, and then of another, among a crowd who each keep to one of eight."""

    def __init__(self, significance: float, turns: int = TURNS, tastes: tuple[int, int] = (2, 5)) -> None:
        config = parse(
            {
                "learner": {"drift": significance},
                "ranker": {"warmup_events": 0, "sample": 0.0},  # else it makes up for the old taste in its own way
                "exploration": {"rate": 0.0},
                "slate": {"hide": [*INTERACTIONS]},
            }
        )
        self.slates: list[bytes] = []
        self.pipeline = Pipeline(config.behaviour, {"slates": lambda key, value: self.slates.append(value)})
        self.sent = 0
        for number in range(1600):
            self.pipeline.lessons.item(Item(f"i{number}", 1, categories=(f"c{number % 8}",)))
        for number in range(800):
            self.send(f"crowd{number % 40}", "click", item_id=f"i{number % 8 + 8 * (number * 7 // 40 % 200)}")
        old, new = tastes
        turn = 0
        while turn < turns or self.shown_of(old) < 8:  # it comes and goes, in waves of some nine visits
            assert turn < turns + 9
            self.visit(old, turn)
            turn += 1
        self.flipped_at, self.visits = HOUR * self.sent, 0
        while self.shown_of(new) < 8:
            self.visit(new, self.visits)
            self.visits += 1

    def send(self, user: str, kind: str, **fields: Any) -> None:
        event = Event(f"e{self.sent}", kind, user, HOUR * (1 + self.sent), **fields)
        self.pipeline.take(event, Arrival(0, self.sent, 0, None))
        self.sent += 1

    def visit(self, category: int, turn: int) -> None:
        """Look at ten of the last slate, take the second and third of the category, and find one more every fifth time.
        Who always takes the first, and is alone in being shown anything, teaches that nothing else is looked at.
        """
        shown = listed(self.slates[-1]).ids()[:10]
        self.send("u", "impression", items=tuple(shown))
        for item_id in self.taken_of([item_id for item_id in shown if int(item_id[1:]) % 8 == category]):
            self.send("u", "click", item_id=item_id)
        if turn % 5 == 4:
            self.send("u", "click", item_id=f"i{category + 8 * (199 - turn)}")
        self.send("u", "request")

    def taken_of(self, own: list[str]) -> list[str]:
        return own[1:3]

    def shown_of(self, category: int) -> int:
        return sum(int(item_id[1:]) % 8 == category for item_id in listed(self.slates[-1]).ids()[:10])


def test_after_a_change_of_taste_the_old_one_counts_no_more_and_slates_follow_sooner() -> None:
    life, without = Life(0.5), Life(0.0)
    state = decode_learner(life.pipeline.users["u"])
    slate = msgspec.json.decode(life.slates[-1], type=Slate)
    ignored = decode_learner(without.pipeline.users["u"])
    assert 3 * life.visits < without.visits
    assert (ignored.since, ignored.losses) == (0, b"")
    assert life.flipped_at < state.since < HOUR * life.sent
    assert ignored.memory["n_iterations"] > 300 > 2 * state.memory["n_iterations"]  # the learner began anew ...
    assert (slate.version, slate.strategy) == (state.version, "warm")  # ... and nothing else did
    assert slate.model.examples == state.examples > 150
    assert len(state.seen) > 100


class Eager(Life):
    """One who takes even the only one of a category that is shown."""

    def taken_of(self, own: list[str]) -> list[str]:
        return own[1:3] or own


@pytest.mark.parametrize(("turns", "tastes"), [(41, (2, 5)), (45, (2, 5)), (45, (1, 3)), (45, (4, 7))])
def test_a_user_is_shown_another_taste_soon_at_whatever_moment_it_comes(turns: int, tastes: tuple[int, int]) -> None:
    """What was taken last before the change is no history of the new taste: while it was, three of these took 68 to 82
    visits.
    """
    assert Eager(0.5, turns, tastes).visits < 20


def look(customer: int, interactions: int, click_through: float) -> drift.Look:
    return drift.Look(customer, interactions, click_through)


def test_the_report_is_of_the_average_customer_beside_what_they_saw_before() -> None:
    old = [look(0, 0, 0.9), look(0, 30, 0.3), look(0, 31, 0.1), look(1, 12, 0.4)]  # the first is too long ago
    new = [look(0, 0, 0.1), look(0, 0, 0.3), look(1, 1, 0.1), look(1, 5, 0.24), look(0, 14, 0.5), look(0, 16, 0.28)]
    report = drift.summed_up([(old, new)], before=40)
    assert report.former_level == drift.Figure(0.3, 0.0)
    assert (report.shops, report.customers) == (1, 2)
    told = [(part.start, part.end, part.visits.mean, part.click_through.mean, part.share.mean) for part in report.after]
    assert told == [
        (0, 5, 1.5, 0.15, 0.5),
        (5, 10, 0.5, 0.24, 0.8),
        (10, 15, 0.5, 0.5, 1.6667),
        (15, 20, 0.5, 0.28, 0.9333),
    ]
    assert report.back_after == 10
    never = [*new, look(1, 17, 0.0)]
    two = drift.summed_up([(old, new), (old, never)], before=40)
    assert (two.back_after, two.back_after_in_each) == (None, [10, None])
    assert two.after[3].share == drift.Figure(0.7, 0.33)
    assert "after 10, never" in drift.text(two)


def test_a_shop_that_begins_with_no_customers_follows_them_from_the_first_visits() -> None:
    """Where `content` counts too little, or a learner sees another logit in what was shown than where it orders a
    slate, they come half as often again.
    """
    courses = [drift.course(Config(), seed, customers=40, before=25, after=1) for seed in (3, 4)]
    assert sum(len(before) for before, _ in courses) / 80 < 13


def test_after_all_tastes_flip_click_through_is_back_within_thirty_interactions() -> None:
    courses = [drift.course(Config(), seed, customers=30, before=40, after=30) for seed in (3, 4)]
    report = drift.summed_up(courses, before=40)
    assert report.former_level.mean > 0.1
    assert report.after[0].share.mean < 0.5  # the tastes did flip
    assert report.after[5].end == 30
    assert min(part.share.mean for part in report.after[3:]) > drift.BACK_AT


def test_the_command_prints_the_report_for_a_reader_and_for_a_program(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["drift", "--customers", "3", "--shops", "2"]
    assert cli.main([*small, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert (report["shops"], report["customers"], report["after"][1]["from"]) == (2, 3, 5)
    assert cli.main(small) == 0
    printed = capsys.readouterr().out
    assert f"click-through before: {report['former_level']['mean']:.3f}" in printed  # same shops, same answers
    assert printed.count("\n") == 6 + len(report["after"])


def test_the_command_can_leave_events_out_to_see_what_they_are_worth(capsys: pytest.CaptureFixture[str]) -> None:
    small = ["drift", "--customers", "3", "--shops", "1", "--json", "--without"]
    levels = []
    for without in ("erase", "impression"):  # the shop has none of the former
        assert cli.main([*small, without]) == 0
        levels.append(json.loads(capsys.readouterr().out)["former_level"]["mean"])
    assert levels[0] != levels[1] and min(levels) > 0
    assert cli.main([*small, "impresion"]) == 2
    assert "--without: 'impresion' is no type of event; there are view, click" in capsys.readouterr().err
