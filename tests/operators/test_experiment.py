"""Arms: who is in which, that it lasts, and what they may change."""

import math
import tomllib
from collections import Counter
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.jobs.config.schema import parse
from riverrank.jobs.config.text import render
from riverrank.jobs.errors import UsageError
from riverrank.jobs.local.pipeline import Pipeline
from riverrank.operators.arms import MAY_CHANGE, arms_of
from riverrank.operators.experiment import CONTROL, Assignment
from riverrank.operators.flink.arrivals import Arrival
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event, Item
from riverrank.state.records.outgoing import Slate
from shop_pipeline import PLAIN

USERS = [f"u-{n}" for n in range(20_000)]


def drawn(shares: dict[str, float], salt: str = "salt") -> list[str]:
    assignment = Assignment(salt, shares)
    return [assignment(user) for user in USERS]


def configured(**arms: dict[str, object]) -> Behaviour:
    return parse({"experiment": {"salt": "s", "arms": arms}}).behaviour


@pytest.mark.parametrize(
    "shares",
    [
        {"a": 0.1},
        {"a": 0.5, "b": 0.5},
        {"a": 0.25, "b": 0.25, "c": 0.25},
        {"a": 1.0},
        {"a": 0.7, "b": 0.2, "c": 0.1},
        {},
    ],
)
def test_each_arm_has_its_share_and_control_the_rest(shares):
    counted = Counter(drawn(shares))
    expected = {**shares, CONTROL: 1.0 - sum(shares.values())}
    for name, share in expected.items():
        deviation = math.sqrt(share * (1 - share) * len(USERS)) if 0 < share < 1 else 0.0
        assert abs(counted[name] - share * len(USERS)) <= 4 * deviation + 1e-6, name


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=16))
def test_shares_are_held_whatever_they_are(parts):
    total = max(1.0, sum(parts))
    shares = {f"arm{n}": part / total for n, part in enumerate(parts)}
    assignment = Assignment("s", shares)
    starts = [*assignment._starts, 1.0]
    assert all(first < second for first, second in pairwise(starts))
    lengths = Counter()
    for name, (start, end) in zip(assignment._names, pairwise(starts), strict=True):
        lengths[name] += end - start
    assert all(lengths[name] == pytest.approx(share, abs=1e-9) for name, share in shares.items())


def test_an_arm_that_grows_takes_its_users_from_control_alone():
    before, after = drawn({"a": 0.1, "b": 0.1, "c": 0.1}), drawn({"a": 0.1, "b": 0.25, "c": 0.1})
    moved = Counter((was, now) for was, now in zip(before, after, strict=True) if was != now)
    assert moved.keys() == {(CONTROL, "b")} and 2700 < moved.total() < 3300


def moved(before: dict[str, float], after: dict[str, float]) -> set[tuple[str, str]]:
    """From which arm users go to which."""
    return {(was, now) for was, now in zip(drawn(before), drawn(after), strict=True) if was != now}


def test_an_arm_that_ends_by_a_share_of_0_gives_its_users_to_control_and_no_others_move():
    shares = {"a": 0.2, "b": 0.2, "c": 0.2, "d": 0.2}
    for ended in shares:
        assert moved(shares, {**shares, ended: 0.0}) == {(ended, CONTROL)}
    assert configured(a={"share": 0.0}, b={"share": 0.2}).experiment.shares() == {"a": 0.0, "b": 0.2, CONTROL: 0.8}


def test_an_arm_whose_name_goes_moves_the_users_of_those_behind_it():
    assert ("b", CONTROL) in moved({"a": 0.2, "b": 0.2}, {"b": 0.2})


def test_an_arm_whose_name_sorts_last_takes_its_users_from_control_alone_and_one_that_sorts_first_moves_others():
    shares = {"b": 0.2, "c": 0.2}
    assert moved(shares, {**shares, "d": 0.2}) == {(CONTROL, "d")}
    assert {was for was, _ in moved(shares, {**shares, "a": 0.2})} > {"b", "c"}


def test_the_order_in_which_arms_are_written_draws_nobody_anew_and_a_salt_draws_all():
    shares = {"a": 0.3, "b": 0.3}
    assert drawn(shares) == drawn(dict(reversed(shares.items())))
    same = sum(one == other for one, other in zip(drawn(shares), drawn(shares, "other"), strict=True))
    assert 0.32 < same / len(USERS) < 0.36  # .3 ** 2 + .3 ** 2 + .4 ** 2


def test_who_is_in_which_arm_is_the_same_in_every_version():
    """To change this is to draw every running experiment anew."""
    assignment = Assignment("autumn", {"bold": 0.3, "wide": 0.3})
    assert [assignment(f"u-{n}") for n in range(8)] == [
        *["bold"] * 4, *["wide"] * 2, *[CONTROL] * 2,
    ]  # fmt: skip


def test_hostile_ids_have_an_arm():
    assignment = Assignment("\ud800", {"a": 0.5})
    assert {assignment(user) for user in ("", "\ud800", "\x00", "é" * 300)} <= {"a", CONTROL}


@pytest.mark.parametrize(
    ("arm", "line"),
    [
        ({"share": 0.5, "ranker": {"rate": 0.1}}, "can't change ranker.rate: all arms share"),
        ({"share": 0.5, "signals.window": 3}, "can't change signals.window"),
        ({"share": 0.5, "learner": {"model": "x"}}, "can't change learner.model: a learner that was kept"),
        ({"share": 0.5, "seed": 3}, "can't change seed"),
        ({"share": 0.5, "rules": {"exclude": []}}, "can't change rules.exclude"),
        ({"share": 0.5, "slate": {"size": 21}}, "slate.size: expected at most the 20"),
        ({"share": 0.5, "slate": {"size": 0}}, "slate.size: expected a whole number from 1 to 200, got 0"),
        ({"share": 0.5, "exploration.rate": "much"}, "exploration.rate: expected a number from 0 to 1, got 'much'"),
        ({"share": 0.5, "rules": {"pin": ["horror"]}}, "rules.pin"),
        ({"share": 0.5, "\x1b[31m": 1}, "can't change \\x1b[31m"),
        ({"share": 1.5}, "share: expected a number from 0 to 1"),
        ({"share": True}, "share: expected a number from 0 to 1"),
        ({"exploration.rate": 0.1}, "share: expected a number from 0 to 1, the share of all users, got none"),
    ],
)
def test_what_an_arm_cannot_be_is_said_in_one_line(arm, line):
    with pytest.raises(UsageError) as told:
        configured(bold=arm)
    assert line in str(told.value) and str(told.value).startswith("experiment.arms.bold: ")


def test_shares_and_names_that_cannot_be_are_refused():
    with pytest.raises(UsageError, match=r"expected shares of 1 at most together, got 1\.2"):
        configured(a={"share": 0.6}, b={"share": 0.6})
    with pytest.raises(UsageError, match="control is whoever is in no other arm"):
        configured(control={"share": 0.6})
    with pytest.raises(UsageError, match="can be printed"):
        configured(**{"a\x1b": {"share": 0.6}})
    with pytest.raises(UsageError, match="at most 16"):
        configured(**{f"a{n}": {"share": 0.01} for n in range(17)})
    with pytest.raises(UsageError, match=r"experiment\.arms"):
        parse({"experiment": {"arms": {"a": 3}}})


def test_settings_of_an_arm_may_be_written_in_each_of_the_ways_of_toml():
    one = configured(a={"share": 0.5, "exploration": {"rate": 0.1}, "slate": {"size": 5}})
    other = configured(a={"share": 0.5, "exploration.rate": 0.1, "slate.size": 5})
    assert arms_of(one)["a"].exploration == arms_of(other)["a"].exploration
    assert arms_of(one)["a"].slate.size == arms_of(other)["a"].slate.size == 5
    assert arms_of(one)[CONTROL] == one
    config = parse({"experiment": {"arms": {"a": {"share": 0.5, "exploration.rate": 0.1}}}})
    assert parse(tomllib.loads(render(config))) == config


def test_every_setting_that_an_arm_may_change_is_one():
    for section, names in MAY_CHANGE.items():
        assert names <= set(getattr(Behaviour(), section).__struct_fields__)


class Run:
    """Users who ask, over a catalogue of 30 items; slates by user."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.pipeline = Pipeline(behaviour)
        for k in range(30):
            self.pipeline.lessons.item(Item(f"i{k}", 1, categories=(f"c{k % 3}",)))

    def send(self, n: int, user: str, kind: str = "request", item: str | None = None) -> Slate:
        answer = self.pipeline.take(Event(f"e{n}", kind, user, n, item), Arrival(0, n, 0, b""))
        assert answer is not None and answer.slate is not None
        return msgspec.json.decode(answer.slate, type=Slate)


def test_slates_and_metrics_name_the_arm_and_go_by_its_settings():
    arms = {"short": {"share": 0.5, "slate": {"size": 4}}, "pinned": {"share": 0.3, "rules.pin": ["category=c2"]}}
    behaviour = msgspec.structs.replace(PLAIN, experiment=configured(**arms).experiment)
    run = Run(behaviour)
    seen = Counter()
    for n in range(60):
        slate = run.send(n, f"u{n}", "click", f"i{n % 30}")
        assert slate.arm == run.pipeline.recommend.arm_of(f"u{n}")
        assert len(slate.items) == (4 if slate.arm == "short" else 20)
        assert (slate.items[0].reasons[0].code == "rule") == (slate.arm == "pinned")
        seen[slate.arm] += 1
    assert min(seen.values()) > 3 and seen.keys() == {"short", "pinned", CONTROL}
    counted = {(name, value): number for name, value, number in run.pipeline.recommend.counts.take()}
    assert {value for name, value in counted if name == "choices"} == seen.keys()
    assert all(counted["choices", arm] == seen[arm] for arm in seen)


def test_an_arm_that_changes_nothing_answers_as_control_does():
    plain = Run(Behaviour())
    split = Run(configured(same={"share": 0.5}))
    arms = set()
    for n in range(80):
        kind, item = ("click", f"i{(7 * n) % 30}") if n % 3 else ("request", None)
        one, other = plain.send(n, f"u{n % 9}", kind, item), split.send(n, f"u{n % 9}", kind, item)
        assert msgspec.structs.replace(other, arm=one.arm) == one
        arms.add(other.arm)
    assert arms == {"same", CONTROL} and plain.pipeline.learners_digest() == split.pipeline.learners_digest()


def test_a_pickled_learner_is_not_given_up_for_an_arm():
    learner = {"model": "naive_bayes.BernoulliNB"}
    arms = {"slow": {"share": 0.5, "learner": {"tokens": 3}}}
    with pytest.raises(ValueError, match=r"slow: learner.rate, learner.tokens: a naive_bayes.BernoulliNB was made"):
        Pipeline(parse({"learner": learner, "experiment": {"arms": arms}}).behaviour)
