"""State that was made with other settings than those that it is restored with, with users from before beside new ones:
what is kept follows the setting, or begins anew and says so once, or is refused in a line that says the mend.
"""

import json
import random
import re
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from adapters import feedback
from kept_job import KeptJob, Record, Stores
from riverrank.jobs.config.fields import schema_of
from riverrank.jobs.config.schema import Config, parse
from riverrank.operators.settings import Behaviour
from riverrank.state import journal
from riverrank.state.records.incoming import Item
from riverrank.state.sessions import decode_session
from settings_kept import ANEW, FOLLOWED, NOTHING_KEPT, OF_NOISE, REFUSED, Settings
from shop_pipeline import ALONE

START_MS = 1_764_000_000_000
ITEMS, OLD, NEW = 120, [f"old{n}" for n in range(6)], [f"new{n}" for n in range(3)]
CATALOGUE = [
    Item(f"i{n}", START_MS, f"Title {n}", categories=(f"c{n % 5}",), attributes={"brand": f"b{n % 7}"})
    for n in range(ITEMS)
]
KINDS = ("click", "click", "click", "purchase", "rate", "dislike", "impression", "request", "profile")


def behaviour_of(*settings: Settings) -> Behaviour:
    """The settings by their keys, the later over the earlier."""
    document: dict[str, Any] = {}
    for key, value in {key: value for each in settings for key, value in each.items()}.items():
        table, _, name = key.rpartition(".")
        document.setdefault(table, {})[name] = value
    return parse(document).behaviour


def events(users: list[str], count: int, seed: int) -> list[Record]:
    """Events of every kind, a second apart; those of a later seed come after those of an earlier one."""
    rng, made = random.Random(seed), []
    for number in range(count):
        user, kind = users[number % len(users)], rng.choice(KINDS)
        event: Record = {"event_id": f"{seed}-{number}", "user_id": user, "type": kind}
        event["ts"] = START_MS + 1_000_000 * seed + 1000 * number
        item = f"i{rng.randrange(ITEMS)}"
        if kind == "impression":
            event["items"] = [item, *(f"i{rng.randrange(ITEMS)}" for _ in range(2))]
        elif kind == "profile":
            event["attributes"] = {"age": rng.choice(("young", "old"))}
        elif kind == "request":
            event["context"] = {"device": rng.choice(("tv", "phone"))}
        else:
            event |= {"item_id": item} | ({"value": float(rng.randrange(1, 6))} if kind == "rate" else {})
        made.append(event)
    return made


BEFORE, AFTER, LAST = events(OLD, 240, 1), events([*OLD, *NEW], 90, 2), events([*OLD, *NEW], 63, 3)
ERASED = {"event_id": "gone", "user_id": "who", "type": "erase", "ts": START_MS + 1_900_000}
QUIET: Settings = {f"{table}.{name}": value for table, held in ALONE.items() for name, value in held.items()}


@cache
def kept(before: str, dumped: bool) -> tuple[Stores, dict[str, Record]]:
    """The savepoint of a job with these settings (JSON) after BEFORE, and its users' last slates. Where it is `dumped`
    its journals hold what was learned, else what it was learned from.
    """
    job = KeptJob(behaviour_of(json.loads(before)), CATALOGUE)
    job.send([*BEFORE, ERASED] if dumped else BEFORE)
    return job.savepoint(), job.last


def restored(before: Settings, after: Settings, *, dumped: bool = True) -> tuple[KeptJob, dict[str, Record]]:
    """A job with the settings of `after` that goes on from one with those of `before`, and the last slates of that."""
    stores, slates = kept(json.dumps(before), dumped)
    return KeptJob(behaviour_of(after), CATALOGUE, stores), slates


@pytest.fixture(autouse=True)
def _dumped_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """The index dumps what it learned at the first chance, as after a while."""
    monkeypatch.setattr(journal, "LEAST_BYTES", 1 << 12)


def goes_on(job: KeptJob, last: dict[str, Record]) -> None:
    """Users from before are answered on, and new users as such; all of them with slates."""
    assert {*OLD, *NEW} == {*job.slates} and {*OLD} <= {*last}
    for user, slates in job.slates.items():
        was = last[user]["version"] if user in last else 0
        assert [slate["version"] for slate in slates] == [*range(was + 1, was + 1 + len(slates))]
        assert all(slate["items"] for slate in slates)


def examples(slates: dict[str, Record]) -> dict[str, int]:
    """What users' learners have learned from, as their last slates say."""
    return {user: slate["model"]["examples"] for user, slate in slates.items()}


@pytest.mark.parametrize("dumped", [True, False])
@pytest.mark.parametrize(("before", "after", "check"), FOLLOWED)
def test_what_is_kept_follows_a_setting_and_back(
    before: Settings,
    after: Settings,
    check: Callable[[KeptJob], None] | None,
    dumped: bool,
    caplog: pytest.LogCaptureFixture,
) -> None:
    job, last = restored(before, after, dumped=dumped)
    job.send(AFTER)
    goes_on(job, last)
    begun, now = examples(last), examples(job.last)
    assert min(begun.values()) > 20 and all(now[user] > begun[user] for user in OLD)
    if check is not None:
        check(job)
    assert caplog.messages == []
    back = KeptJob(behaviour_of(before), CATALOGUE, job.savepoint())
    back.send(LAST)
    goes_on(back, job.last)


@pytest.mark.parametrize(("before", "after", "told", "learner_is_new"), ANEW)
def test_what_cannot_follow_begins_anew_and_says_so_once(
    before: Settings, after: Settings, told: str, learner_is_new: bool, caplog: pytest.LogCaptureFixture
) -> None:
    job, last = restored(before, after)
    job.send(AFTER)
    goes_on(job, last)
    (line,) = caplog.messages
    assert re.search(told, line) and "\n" not in line
    same, _ = restored(before, before)
    same.send(AFTER)
    given_up = examples(last) if learner_is_new else dict.fromkeys(OLD, 0)
    assert examples(job.last) == {user: n - given_up.get(user, 0) for user, n in examples(same.last).items()}


@pytest.mark.parametrize(("before", "after"), [pytest.param(*row.values[:2], id=row.id) for row in (*FOLLOWED, *ANEW)])
def test_a_new_user_knows_nothing_of_others_whatever_was_set_before(before: Settings, after: Settings) -> None:
    """Where nothing is broadcast, what is kept of a new user is what a job keeps that never had another setting."""
    job, _ = restored({**before, **QUIET}, {**after, **QUIET}, dumped=False)  # an erasure would tell weights
    job.send(AFTER)
    fresh = KeptJob(behaviour_of(after, QUIET), CATALOGUE)
    fresh.send([event for event in AFTER if event["user_id"] in NEW])
    for user in NEW:
        assert job.learner(user) == fresh.learner(user)
        assert decode_session(job.session_of(user)).history == decode_session(fresh.session_of(user)).history
        assert json.dumps(job.slates[user]) == json.dumps(fresh.slates[user])


@pytest.mark.parametrize("dumped", [True, False])
@pytest.mark.parametrize(("before", "after", "told", "by"), REFUSED)
def test_what_can_neither_follow_nor_begin_anew_is_refused_and_goes_on_as_it_was(
    before: Settings, after: Settings, told: str, by: tuple[str, ...], dumped: bool, caplog: pytest.LogCaptureFixture
) -> None:
    for operator in by:  # each by itself, whichever is asked first
        caplog.clear()
        job, _ = restored(before, after, dumped=dumped)
        with pytest.raises(ValueError, match=f"^{told}$"):
            getattr(job, operator).element(feedback("e"), "0")
        assert caplog.messages == [f"refused: {told}"]
    same, last = restored(before, before, dumped=dumped)
    same.send(AFTER)
    goes_on(same, last)


def test_of_every_setting_it_is_said_what_becomes_of_what_is_kept() -> None:
    """A new setting fails here until it stands in one of the lists of settings_kept."""
    settings = schema_of(Config).settings
    edges = {field for field in Config.__struct_fields__ if field != "behaviour"}
    of_operators = {key for key in settings if key.partition(".")[0] not in edges}
    changed = set[str]()
    for held in (FOLLOWED, ANEW, REFUSED):
        for before, after, *_ in (each.values for each in held):
            changed |= {key for key in {**before, **after} if before.get(key) != after.get(key)}
    rewards = {key for key in of_operators if key.startswith("reward.")}  # what was rewarded stays as it was
    assert len(of_operators) > 60 and "reward.click" in changed
    assert changed | NOTHING_KEPT | OF_NOISE | rewards == of_operators
    assert changed & NOTHING_KEPT == set()
