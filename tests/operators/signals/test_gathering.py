"""Of what too few users have stated there is no trace but hashes, and none of who was erased."""

import msgspec
import pytest
from riverrank.operators.catalogue.tokens import COHORT
from riverrank.operators.settings import Behaviour, CohortSettings, SignalSettings
from riverrank.operators.signals.gathering import GATHERED, Gathering
from riverrank.operators.signals.signals import Signals
from riverrank.state.hashing import hash64, shard_of
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback
from riverrank.state.records.incoming import Event


def click(number: int, user: str, attributes: dict[str, object], item: str = "i") -> Feedback:
    return Feedback(Event(f"e{number}", "click", user, number, item), 1.0, (), attributes=attributes)


def erase(number: int, user: str) -> Feedback:
    return Feedback(Event(f"e{number}", "erase", user, number), 0.0, ())


def cohorts_of(signals: Signals) -> set[str]:
    return {name[1:] for name in signals.table.rows if name.startswith(COHORT)}


def least(users: int, **more: object) -> Behaviour:
    return Behaviour(cohorts=CohortSettings(users=users, **more))


def test_a_cohort_has_a_list_from_the_user_on_who_makes_them_enough():
    signals = Signals(least(3), 0)
    for number, user in enumerate(["a", "a", "b", "b", "a"]):
        signals.learn(click(number, user, {"band": "x"}))
    signals.settle()
    assert cohorts_of(signals) == set()
    signals.learn(click(9, "c", {"band": "x"}))
    signals.settle()
    assert cohorts_of(signals) == {"band=x"}


def test_only_attributes_that_are_listed_make_cohorts():
    stated = {"band": "x", "email": "y", "*": "z"}
    for listed, made in ((("band",), {"band=x"}), ((), set()), (("*",), {"band=x", "email=y", "*=z"})):
        signals = Signals(least(1, attributes=listed), 0)
        signals.learn(click(0, "a", stated))
        signals.settle()
        assert cohorts_of(signals) == made


def test_whoever_was_erased_is_not_among_the_users_of_a_cohort():
    signals = Signals(least(2), 0)
    for feedback in (click(0, "a", {"band": "x"}), erase(1, "a"), click(2, "b", {"band": "x"})):
        signals.learn(feedback)
    signals.settle()
    assert cohorts_of(signals) == set()
    gathering = Gathering(least=3, most=9)
    assert not (gathering.suffices("x", 1) or gathering.suffices("x", 2))
    empty = Gathering(least=3, most=9).encode()
    gathering.forget(1)
    assert gathering.encode() != empty
    gathering.forget(2)
    assert gathering.encode() == empty and not gathering.changed
    gathering.forget(2)
    assert not gathering.changed


def test_what_was_stated_longest_ago_is_forgotten_where_there_is_room_for_no_more():
    gathering = Gathering(least=2, most=3)
    for name in ("a", "b", "c", "a", "d"):  # no room for b
        assert not gathering.suffices(name, 1)
    assert [gathering.suffices(name, 2) for name in ("a", "c", "d", "b")] == [True, True, True, False]


@pytest.mark.parametrize("cut", range(1, 12))
def test_restored_signals_know_who_stated_what(cut):
    lives = [click(n, f"u{n % 5}", {"band": str(n % 2), "own": f"{n}"}) for n in range(11)] + [erase(11, "u1")]
    behaviour = least(4)
    whole, entries = Signals(behaviour, 0), DictEntries()
    first = Signals(behaviour, 0, Journal(entries, limit=3))
    for number, feedback in enumerate(lives):
        whole.learn(feedback)
        first.learn(feedback)
        if number == cut:
            first = Signals.restore(behaviour, 0, Journal(entries, limit=3))
        first.flush()
    whole.settle()
    assert cohorts_of(first) == cohorts_of(whole) == {"band=0", "band=1"}
    assert first._gathering.encode() == whole._gathering.encode()


def test_of_what_one_user_alone_stated_nothing_is_kept_that_says_it():
    entries = DictEntries()
    signals = Signals(least(5), 0, Journal(entries, limit=2))
    for number in range(6):
        signals.learn(click(number, "canary", {"canary": "secret"}))
        kept = b"".join([*map(str.encode, entries), *entries.values()])
        assert b"secret" in kept  # in the log, as it came
    update = signals.flush()
    signals.learn(erase(7, "canary"))
    update += signals.flush()
    kept = b"".join([*map(str.encode, entries), *entries.values(), *update])
    assert b"canary" not in kept and b"secret" not in kept


def test_a_shard_knows_of_its_own_cohorts_alone():
    behaviour = Behaviour(cohorts=CohortSettings(users=2), signals=SignalSettings(shards=3))
    shards = [Signals(behaviour, shard) for shard in range(3)]
    for number in range(60):
        for shard in shards:
            shard.learn(click(number, f"u{number}", {"band": f"{number % 30}"}))
    for shard in shards:
        shard.settle()
        assert cohorts_of(shard) == {f"band={n}" for n in range(30) if shard_of(f"{COHORT}band={n}", 3) == shard.shard}
        assert msgspec.msgpack.decode(shard._gathering.encode())[2] == []


def test_where_fewer_are_to_be_held_than_were_those_stated_longest_ago_go() -> None:
    held = Gathering(least=3, most=10)
    for n in range(8):
        held.suffices(f"cohort{n}", n)
    few = Gathering(least=3, most=2)
    few.load(held.encode())
    assert not few.suffices("one more", 9)
    assert GATHERED.decode(few.encode()).names == b"".join(
        hash64(n).to_bytes(8, "little") for n in ("cohort7", "one more")
    )
