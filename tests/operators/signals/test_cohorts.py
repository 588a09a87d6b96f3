"""Cohorts have a bound of their own, and what SIGNALS holds of any list is what the index holds, whoever gave it up."""

import random

import numpy as np
import pytest
from made_feedbacks import whole_and_restored
from riverrank.operators.catalogue.tokens import COHORT, CONTEXT, MAX_COHORTS, MAX_CONTEXTS, cohorts, contexts
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, CatalogueSettings, CohortSettings, SignalSettings
from riverrank.operators.signals.changes import WHOLE_EVERY
from riverrank.operators.signals.signals import COHORTS, MAX_MEMBERS, Signals
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import AFTER, ItemTable
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event

ANY = CohortSettings(users=1)
SMALL = Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=8, items=500))
MOST = 500 // COHORTS


def clicks(n: int, items: int = 300, seed: int = 1) -> list[Feedback]:
    """Each of a user who states what nobody else does, and one of three ages."""
    rng = random.Random(seed)
    return [
        Feedback(
            Event(f"e{k}", "click", f"u{k}", k, f"i{rng.randrange(items)}"),
            1.0,
            (Seen(f"i{rng.randrange(items)}", 0, 1.0),),
            attributes={"email": f"{k}@x", "age": str(rng.randrange(3))},
        )
        for k in range(n)
    ]


def cohorts_of(table: ItemTable) -> list[str]:
    return sorted(name for name in table.rows if name.startswith(COHORT))


def lists_of(table: ItemTable, names: list[str]) -> dict[tuple[str, str], list[float]]:
    """The two weights by item and neighbour."""
    found = {}
    for name in names:
        row = table.rows[name]
        for other, weights in zip(table.neighbours[row].tolist(), table.weights[row].tolist(), strict=True):
            if other >= 0:
                assert (name, table.ids[other]) not in found  # none stands there twice
                found[name, table.ids[other]] = weights
    return found


def same(ours: dict[tuple[str, str], list[float]], theirs: dict[tuple[str, str], list[float]]) -> bool:
    names = sorted(ours)
    one, other = (np.array([each[name] for name in names if name in each]) for each in (ours, theirs))
    return names == sorted(theirs) and names != [] and bool(np.allclose(one, other, rtol=1e-4))


def send(signals: Signals, index: ItemIndex) -> None:
    for update in signals.flush():
        index.apply(decode_update(update))


def test_what_nobody_else_states_pushes_out_neither_items_nor_what_many_state(monkeypatch):
    passes: list[int] = []
    release = ItemTable.release_cohorts
    monkeypatch.setattr(ItemTable, "release_cohorts", lambda *args: (passes.append(len(args[1])), release(*args)))
    signals = Signals(SMALL, 0)
    for feedback in clicks(3000):
        signals.learn(feedback)
    signals.settle()
    rows = signals.table.rows
    assert sum(not name.startswith(COHORT) for name in rows) == 300
    held = cohorts_of(signals.table)
    assert {f"{COHORT}age={age}" for age in range(3)} < set(held) == signals._cohorts and len(held) <= MOST
    emails = [int(name.split("=")[1][:-2]) for name in held if "email" in name]
    assert sorted(emails) == [*range(3000 - len(emails), 3000)]  # those that were told last
    assert len(held) > MOST - MOST // 32 and len(passes) > 1000 and set(passes) == {1}  # 62 // 32


def test_cohorts_are_given_up_a_thirty_second_at_once():
    signals = Signals(Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=4, items=8 * 640)), 0)
    least = 640
    for k, feedback in enumerate(clicks(2000)):
        signals.learn(feedback)
        signals.settle()
        if k > 700:
            least = min(least, len(signals._cohorts))
            assert len(signals._cohorts) <= 640
    assert least == 640 - 20 + 1


def test_a_user_of_many_cohorts_holds_them_all_where_there_is_room_for_no_more():
    signals = Signals(Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=4, items=1)), 0)
    for k in range(20):
        stated, context = ({f"a{j}": str(k // 4) for j in range(most)} for most in (MAX_COHORTS, MAX_CONTEXTS))
        event = Event(f"e{k}", "click", "u", k, "i", context=context)
        signals.learn(Feedback(event, 1.0, (), attributes=stated))
        signals.settle()
        members = [*cohorts(stated), *contexts(context)]
        assert cohorts_of(signals.table) == sorted(members) and len(members) == MAX_MEMBERS


def test_restored_signals_give_up_the_same_cohorts_and_begin_the_same_rows():
    behaviour = Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=8, items=320))
    whole, second = whole_and_restored(behaviour, clicks(900), flushed=True)
    assert second.table.rows == whole.table.rows and second._cohorts == whole._cohorts
    names = list(whole.table.rows)
    assert same(lists_of(second.table, names), lists_of(whole.table, names))


@pytest.mark.parametrize(("items", "held"), [(500, 1000), (500, 120), (200, 1000)])
def test_the_index_holds_the_cohorts_that_signals_hold_with_the_same_lists(items, held):
    """Whether SIGNALS has room for all items or not, and whether the index has."""
    behaviour = Behaviour(
        cohorts=ANY, signals=SignalSettings(neighbours=8, items=items), catalogue=CatalogueSettings(items=held)
    )
    signals, index = Signals(behaviour, 0), ItemIndex(behaviour)
    for feedback in clicks(1500):
        signals.learn(feedback)
        if signals.due():
            send(signals, index)
    send(signals, index)
    names = cohorts_of(signals.table)
    assert cohorts_of(index.table) == names and len(names) > items // COHORTS - 10
    assert index._cohorts == {index.table.rows[name] for name in names}
    assert len(index.table.rows) - len(names) <= held
    if held == 1000 and items == 500:
        assert same(lists_of(index.table, names), lists_of(signals.table, names))
    again = ItemIndex.restore(behaviour, index.dump())
    assert again._cohorts == index._cohorts and again.table.rows == index.table.rows


def test_a_cohort_that_comes_back_begins_anew_in_the_index_too():
    behaviour = Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=8, items=1))
    signals, index = Signals(behaviour, 0), ItemIndex(behaviour)
    for k, value in enumerate(2 * "abcdefghijklmn"):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{k}"), 1.0, (), attributes={"a": value}))
        if k % 3:
            send(signals, index)
    send(signals, index)
    assert cohorts_of(index.table) == [f"{COHORT}a={value}" for value in "cdefghijklmn"] == cohorts_of(signals.table)
    row = index.table.rows[f"{COHORT}a=j"]
    assert [index.table.ids[other] for other in index.table.neighbours[row] if other >= 0] == ["i23"]


def test_a_cohort_that_is_given_up_again_before_the_index_hears_of_it_is_given_up_once():
    """It stopped the job: the index gave its row up twice."""
    behaviour = Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=8, items=1))
    signals, index = Signals(behaviour, 0), ItemIndex(behaviour)
    for k, value in enumerate(4 * "abcdefghijklmn"):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"i{k}"), 1.0, (), attributes={"a": value}))
        if k == 10:
            send(signals, index)
    signals.settle()
    (update,) = signals.flush()
    assert sorted(decode_update(update).gone) == [f"{COHORT}a={value}" for value in "abcdefghijklmn"]
    index.apply(decode_update(update))
    assert cohorts_of(index.table) == [f"{COHORT}a={value}" for value in "cdefghijklmn"] == cohorts_of(signals.table)
    assert same(*(lists_of(table, cohorts_of(table)) for table in (index.table, signals.table)))


def test_a_shard_holds_no_cohort_of_another():
    behaviour = Behaviour(cohorts=ANY, signals=SignalSettings(neighbours=8, shards=3))
    shards = [Signals(behaviour, shard) for shard in range(3)]
    for shard in shards:
        for feedback in clicks(60):
            shard.learn(feedback)
        shard.settle()
    assert [{hash32(name) % 3 for name in cohorts_of(shard.table)} for shard in shards] == [{0}, {1}, {2}]
    assert sum(len(cohorts_of(shard.table)) for shard in shards) == 63


def test_what_a_context_holds_names_no_user_and_no_value_and_is_bounded():
    """Even where each context is of its own, as that of a session is."""
    signals, index = Signals(SMALL, 0), ItemIndex(SMALL)
    for k in range(3000):
        event = Event(f"e{k}", "click", f"u{k}", k, f"i{k % 200}", context={"device": "tv", "session": f"secret-{k}"})
        signals.learn(Feedback(event, 1.0, ()))
        if signals.due():
            send(signals, index)
    send(signals, index)
    held = cohorts_of(signals.table)
    assert held == cohorts_of(index.table) and MOST - MOST // 32 < len(held) <= MOST
    assert set(contexts({"device": "tv"})) < set(held)
    assert all(name.startswith(CONTEXT) and "secret" not in name for name in held)
    assert not any(index.servable[index.table.rows_of(held)])


def test_a_list_of_a_context_remembers_longer_and_is_the_same_in_the_index():
    signals, index = Signals(SMALL, 0), ItemIndex(SMALL)
    for k in range(600):
        event = Event(f"e{k}", "click", f"u{k}", k, f"i{k % 2}", context={"device": "tv"})
        signals.learn(Feedback(event, 1.0, (), attributes={"age": "1"}))
        if signals.due():
            send(signals, index)
    send(signals, index)
    of_context, of_cohort = (*contexts({"device": "tv"}), *cohorts({"age": "1"}))
    for table in (signals.table, index.table):
        totals = [table.weights[table.rows[name], :, AFTER].sum() for name in (of_context, of_cohort)]
        assert totals == pytest.approx([544, 190], abs=15)  # of 600, of which each update keeps .995 or its 16th root
    assert same(lists_of(index.table, [of_context]), lists_of(signals.table, [of_context]))


def test_a_list_that_signals_gave_up_and_began_anew_is_the_same_in_the_index():
    signals, index = Signals(SMALL, 0), ItemIndex(SMALL)
    for k in range(8):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"b{k}"), 1.0, (Seen("a", 0, 1.0),)))
    send(signals, index)
    gone = signals.table.rows_of(["a"])
    signals.table.release(gone)
    signals._changes.drop(gone)
    signals.learn(Feedback(Event("e8", "click", "u", 8, "b8"), 1.0, (Seen("a", 0, 1.0),)))
    send(signals, index)
    assert lists_of(index.table, ["a"]) == lists_of(signals.table, ["a"]) == {("a", "b8"): [1.0, 0.0]}


@pytest.mark.parametrize("restored", [True, False])
def test_a_list_that_the_index_gave_up_is_whole_again_after_a_while(restored):
    """At once where SIGNALS is restored, else after some renewals of the list."""
    entries = DictEntries()
    signals, index = Signals(SMALL, 0, Journal(entries, limit=4)), ItemIndex(SMALL)

    def take(k: int, item_id: str) -> None:
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, item_id), 1.0, (Seen("a", 0, 1.0),)))
        send(signals, index)

    for k in range(8):
        take(k, f"b{k}")
    index.table.release(index.table.rows_of(["a", "b3"]))
    if restored:
        signals = Signals.restore(SMALL, 0, Journal(entries, limit=4))
    for k in range(8, 8 + WHOLE_EVERY):
        take(k, "b0")
        ours, theirs = lists_of(signals.table, ["a"]), lists_of(index.table, ["a"])
        if same(ours, theirs):
            break
        assert len(theirs) == 1
    assert len(theirs) == 8 and k == (8 if restored else WHOLE_EVERY)
    assert np.count_nonzero(index.table.neighbours[index.row("a")] >= 0) == 8
