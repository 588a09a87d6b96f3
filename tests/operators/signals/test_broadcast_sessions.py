"""Sessions as shards send them and an index holds them: what they propose, and that they go when they must."""

from collections.abc import Sequence

import pytest
from kept_sessions import check
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.features import feature_space
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, CatalogueSettings, SignalSettings, SourceSettings
from riverrank.operators.signals.sessions import session_key
from riverrank.operators.signals.signals import Signals
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event

SESSIONS_ROOT = feature_space(registry.SOURCES).names.index("sessions:root")
BEHAVIOUR = Behaviour(signals=SignalSettings(shards=3, flush_events=4))


def taken(user: str, item: str, ts: int, behaviour: Behaviour = BEHAVIOUR, history: tuple[Seen, ...] = ()) -> Feedback:
    return Feedback(Event(f"{user}-{ts}", "click", user, ts, item), 1.0, history)


def send(index: ItemIndex, signals: Sequence[Signals]) -> None:
    for shard in signals:
        for update in shard.flush():
            index.apply(decode_update(update))


def shop(behaviour: Behaviour = BEHAVIOUR) -> tuple[ItemIndex, list[Signals]]:
    """Ten users who each took three of ten items, as far as the signals have sent it."""
    index, signals = ItemIndex(behaviour), [Signals(behaviour, shard) for shard in range(behaviour.signals.shards)]
    for user in range(10):
        for k in range(3):
            for shard in signals:
                shard.learn(taken(f"u{user}", f"i{(user + k) % 10}", 10 * user + k))
    send(index, signals)
    return index, signals


def items_of(index: ItemIndex, user: str) -> set[str]:
    slot = index.sessions.slot(user)
    return (
        {index.table.ids[row] for row in index.sessions.table.items[slot].tolist() if row >= 0} if slot >= 0 else set()
    )


def test_each_item_is_sent_by_its_own_shard_once():
    index, _ = shop()
    assert {items_of(index, f"u{user}") == {f"i{(user + k) % 10}" for k in range(3)} for user in range(10)} == {True}
    assert index.sessions.clock == 30
    check(index.sessions)


def test_what_was_not_liked_is_in_no_session():
    index, signals = shop()
    for shard in signals:
        shard.learn(Feedback(Event("x", "dislike", "u0", 500, "i7"), -1.0, ()))
    send(index, signals)
    assert items_of(index, "u0") == {"i0", "i1", "i2"}


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_an_erased_user_is_in_no_session_once_all_shards_have_sent_it(order):
    session = Session(BEHAVIOUR)
    index, signals = shop()
    state = None
    for event in (Event("a", "click", "u3", 900, "i9"), Event("x", "erase", "u3", 901)):
        accepted = session.accept(event, state)
        state = accepted.state
        for shard in session.routes(accepted.feedback):
            signals[shard].learn(accepted.feedback)
    assert items_of(index, "u3") == {"i3", "i4", "i5"}
    send(index, [signals[shard] for shard in order])
    assert items_of(index, "u3") == set() and len(index.sessions.table.rows) == 9
    check(index.sessions)
    assert sum(shard.counts.events for shard in signals) == 31 * 3 - 2  # an erasure teaches nothing
    for shard in signals:
        shard.learn(taken("u3", "i1", 950))
    send(index, signals)
    assert items_of(index, "u3") == {"i1"}


def test_sessions_come_back_with_the_index_and_an_erased_users_do_not():
    behaviour, entries = Behaviour(), DictEntries()
    kept, signals = EventTimeBuffer(behaviour, Journal(entries, limit=40)), Signals(behaviour, 0)
    for k in range(200):
        if k == 101:
            signals.learn(Feedback(Event("x", "erase", "u3", k), 0.0, ()))
        elif k < 101 or k % 20 != 3:
            signals.learn(taken(f"u{k % 20}", f"i{k % 7}", k))
        for update in signals.flush():
            kept.take(decode_update(update))
        kept.release(k - 5)  # the last few wait
    blocks = b"".join(value for key, value in entries.items() if key.startswith("sessions:"))
    assert f"{session_key('u4'):08x}".encode() in blocks
    assert f"{session_key('u3'):08x}".encode() not in blocks
    again = EventTimeBuffer(behaviour, Journal(entries, limit=40)).index
    kept.release(1000)
    check(again.sessions)
    for user in range(20):
        assert items_of(again, f"u{user}") == items_of(kept.index, f"u{user}")
        assert bool(items_of(again, f"u{user}")) is (user != 3)


def test_what_an_index_releases_is_in_no_session():
    behaviour = Behaviour(catalogue=CatalogueSettings(items=60))
    index, signals = ItemIndex(behaviour), Signals(behaviour, 0)
    for k in range(400):
        signals.learn(taken(f"u{k % 7}", f"i{k}", k))
        send(index, [signals])
    check(index.sessions)
    held = [items_of(index, f"u{user}") for user in range(7)]
    assert {f"i{k}" for k in range(390, 400)} <= set().union(*held)
    for user, items in enumerate(held):
        assert items <= {f"i{k}" for k in range(user, 400, 7)} & index.table.rows.keys()


def test_what_signals_release_before_they_sent_it_is_in_no_session():
    behaviour = Behaviour(signals=SignalSettings(items=64))
    index, signals = ItemIndex(behaviour), Signals(behaviour, 0)
    for k in range(200):
        signals.learn(taken("u", f"i{k}", k))
    send(index, [signals])
    assert items_of(index, "u") <= signals.table.rows.keys()
    assert "i199" in items_of(index, "u")
    check(index.sessions)


def test_a_pair_costs_eight_bytes_of_broadcast():
    signals = Signals(Behaviour(), 0)
    for k in range(30):
        signals.learn(taken(f"u{k}", f"i{k % 3}", k))
    update = decode_update(signals.flush()[0])
    assert len(update.keys) + len(update.taken) == 8 * 30


def test_finding_leaves_no_trace_and_finds_the_same_again():
    index, _ = shop()
    before = index.sessions.dump()
    context = context_of(index, [Seen("i4", 1, 1.0), Seen("i5", 2, 1.0)], {}, "u4")
    assert context.own == index.sessions.slot("u4") >= 0
    retriever = Retriever(BEHAVIOUR, index)
    first, second = retriever.find(context, None), retriever.find(context, None)
    assert not index.sessions._weight.any() and not index.sessions._similarity.any()
    for by_row in (retriever._marked, retriever.query.reached.slot):
        assert len(by_row) == index.table.capacity and (by_row == -1).all()
    assert first.rows.tolist() == second.rows.tolist() and (first.features == second.features).all()
    score = first.features[:, SESSIONS_ROOT]
    near = {index.table.ids[row] for row, value in zip(first.rows.tolist(), score.tolist(), strict=True) if value > 0}
    assert near == {"i2", "i3", "i6", "i7"}  # u2, u3 and u5 took one of the two or both; u4 is the user
    assert before and index.sessions.dump() == {}


@pytest.mark.parametrize("asked", [True, False])
def test_slates_name_the_source_where_it_is_asked(asked):
    behaviour = Behaviour(signals=BEHAVIOUR.signals, sources=SourceSettings(off=() if asked else ("sessions",)))
    index, _ = shop(behaviour)
    slate = Recommend(behaviour, index).answer(taken("new", "i4", 900), None).slate
    assert (b'"sessions"' in slate) is asked
    context = context_of(index, [Seen("i4", 1, 1.0)], {})
    features = Retriever(behaviour, index).find(context, None).features
    assert features[:, SESSIONS_ROOT].any() == asked
