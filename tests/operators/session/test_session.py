"""SESSION: what becomes of a user's events, without Flink."""

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, HistorySettings, ImpressionSettings, SignalSettings
from riverrank.state.hashing import hash32, hash64
from riverrank.state.messages import Feedback, History, Outcome, Seen, decode_feedback, encode
from riverrank.state.records import MAX_TS, Event
from riverrank.state.sessions import SessionState, decode_session

HOUR = 3_600_000


def click(number: int, ts: int, item: str = "i") -> Event:
    return Event(f"e-{number}", "click", "u", ts, item)


@dataclasses.dataclass
class Fed:
    """What a session made of a run of events."""

    state: bytes | None
    feedbacks: list
    rejects: list


def feed(events, behaviour=Behaviour(), state=None) -> Fed:  # noqa: B008 - frozen
    session = Session(behaviour)
    fed = Fed(state, [], [])
    for event in events:
        accepted = session.accept(event, fed.state)
        fed.state = accepted.state
        if accepted.feedback is not None:
            fed.feedbacks.append(accepted.feedback)
        if accepted.reject is not None:
            fed.rejects.append(accepted.reject)
    return fed


def test_redelivered_event_is_answered_once():
    fed = feed([click(1, 1000), click(2, 2000), click(1, 1000), click(2, 2000)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "e-2"]
    assert fed.rejects == []


def test_late_means_older_than_the_users_newest_by_more_than_the_lateness():
    fed = feed([click(1, 10 * HOUR), click(2, 9 * HOUR), click(3, 9 * HOUR - 1)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "e-2"]
    assert [r.reason for r in fed.rejects] == ["late"]


def test_redelivered_late_event_is_set_aside_once():
    fed = feed([click(1, 10 * HOUR), click(2, HOUR), click(2, HOUR)])
    assert [r.reason for r in fed.rejects] == ["late"]


def test_history_is_in_order_of_time_and_bounded():
    behaviour = Behaviour(history=HistorySettings(size=3))
    fed = feed([click(n, ts, f"i{n}") for n, ts in enumerate((1000, 3000, 2000, 4000, 5000))], behaviour)
    assert [seen.item_id for seen in fed.feedbacks[-1].history] == ["i2", "i1", "i3"]
    assert [seen.item_id for seen in decode_session(fed.state).history] == ["i1", "i3", "i4"]


def test_event_ids_without_room_make_their_time_late_instead_of_being_learned_twice():
    behaviour = Behaviour(history=HistorySettings(event_ids=16))
    events = [click(n, 1000 + n) for n in range(40)]
    fed = feed([*events, *events], behaviour)
    assert len(fed.feedbacks) == 40
    assert len(decode_session(fed.state).hashes) == 16 * 8


def test_impression_is_joined_with_the_click_that_follows():
    shown = Event("s-1", "impression", "u", 1000, items=("a", "b", "c"))
    fed = feed([shown, click(1, 2000, "b"), click(2, 2000 + HOUR, "z")])
    (outcome,) = fed.feedbacks[-1].outcomes
    assert (outcome.event_id, outcome.items, outcome.labels) == ("s-1", ("a", "b", "c"), (0, 1, 0))
    assert fed.feedbacks[1].outcomes == ()


def test_oldest_impression_is_closed_when_there_are_too_many():
    behaviour = Behaviour(impression=ImpressionSettings(max_open=2))
    fed = feed([Event(f"s-{n}", "impression", "u", 1000 + n, items=("a",)) for n in range(4)], behaviour)
    assert [[o.event_id for o in f.outcomes] for f in fed.feedbacks] == [[], [], ["s-0"], ["s-1"]]
    assert len(decode_session(fed.state).impressions) == 2


def test_dislike_does_not_count_as_the_click_that_an_impression_waits_for():
    shown = Event("s-1", "impression", "u", 1000, items=("a",))
    fed = feed([shown, Event("e", "dislike", "u", 1500, "a"), click(2, 2000 + HOUR, "z")])
    assert fed.feedbacks[-1].outcomes[0].labels == (0,)


def test_profile_goes_with_every_later_feedback():
    profile = Event("p", "profile", "u", 1000, attributes={"age_band": "25-34"})
    fed = feed([profile, click(1, 2000)])
    assert fed.feedbacks[-1].attributes == {"age_band": "25-34"}


def test_erasure_leaves_nothing_but_its_own_mark():
    erase = Event("x", "erase", "u", 3000)
    profile = Event("p", "profile", "u", 1000, attributes={"likes": ["drama"]})
    fed = feed([profile, click(1, 2000), erase])
    state = decode_session(fed.state)
    assert (list(state.history), state.attributes, state.impressions, state.newest) == ([], {}, [], -1)
    assert len(state.hashes) == len(state.times) == 8
    assert fed.feedbacks[-1].epoch == 3000


def test_after_an_erasure_old_events_stay_away_and_new_ones_begin_afresh():
    erase = Event("x", "erase", "u", 3000)
    fed = feed([click(1, 2000), erase, erase, click(1, 2000), click(2, 4000)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "x", "e-2"]
    assert fed.feedbacks[-1].history == History()
    assert fed.feedbacks[-1].epoch == 3000


@pytest.mark.parametrize("name", ["x", "y"])
@pytest.mark.parametrize("ts", [0, HOUR, 2 * HOUR])
def test_an_erasure_that_comes_again_or_is_older_than_the_last_takes_nothing_with_it(ts, name):
    erase = Event("x", "erase", "u", 2 * HOUR)
    before = feed([click(1, HOUR), erase, click(2, 3 * HOUR), click(3, 9 * HOUR)])
    after = feed([Event(name, "erase", "u", ts)], state=before.state)
    assert after.state == before.state and after.feedbacks == after.rejects == []
    later = feed([Event("z", "erase", "u", 2 * HOUR + 1)], state=after.state)
    assert decode_session(later.state).epoch == later.feedbacks[0].epoch == 2 * HOUR + 1
    assert list(decode_session(later.state).history) == []


def test_an_erasure_at_the_beginning_of_time_is_one():
    first = feed([click(1, 0), Event("x", "erase", "u", 0)])
    assert [f.event.event_id for f in first.feedbacks] == ["e-1", "x"]
    assert feed([click(2, 9 * HOUR), Event("x", "erase", "u", 0)], state=first.state).feedbacks[-1].event == click(
        2, 9 * HOUR
    )


def test_a_late_erasure_is_honoured():
    fed = feed([click(1, 10 * HOUR), Event("x", "erase", "u", HOUR)])
    assert fed.feedbacks[-1].event.type == "erase"
    assert decode_session(fed.state).history == History()


@pytest.mark.parametrize("kind", ["click", "dislike"])
def test_feedback_goes_to_the_shards_of_its_items_and_where_it_is_positive_of_what_it_is_paired_with(kind):
    behaviour = Behaviour(signals=SignalSettings(shards=4096, window=2))
    event = Event("e", kind, "u", 9, "now")
    past = [Seen("old", 1, 1.0), Seen("before", 2, 1.0), Seen("disliked", 3, -1.0)]
    outcomes = (Outcome("s", 8, ("shown", "again"), (0, 1)),)
    reward = 1.0 if kind == "click" else -1.0
    feedback = Feedback(event, reward, History.of(past), outcomes, {"band": "z", "likes": ["y"]})
    names = ["now", "shown", "again", *(["before", "\0band=z"] if kind == "click" else [])]
    shards = {hash32(name) % 4096 for name in names}
    assert Session(behaviour).routes(feedback) == tuple(sorted(shards)) and len(shards) == len(names)


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 3 * HOUR)), min_size=1, max_size=60))
def test_no_event_is_learned_from_twice_and_none_is_lost(sent):
    events = list({n: click(n, ts) for n, ts in sent}.values())
    once, twice = feed(events), feed([*events, *reversed(events)])
    answered = [f.event.event_id for f in twice.feedbacks]
    assert answered == [f.event.event_id for f in once.feedbacks]
    assert len(set(answered)) == len(answered)
    assert len(answered) + len(once.rejects) == len(events)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 3 * HOUR)), min_size=1, max_size=40), st.integers(0, 39))
def test_state_bytes_carry_everything(sent, cut):
    events = [click(n, ts) for n, ts in sent]
    whole = feed(events)
    first = feed(events[:cut])
    second = feed(events[cut:], state=first.state)
    assert [*first.feedbacks, *second.feedbacks] == whole.feedbacks
    assert second.state == whole.state


class Plain:
    """What becomes of a user's events, with every id that is too old forgotten at once."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.lateness, self.room = behaviour.allowed_lateness, behaviour.history.event_ids - 1
        self.known: list[tuple[str, int]] = []
        self.newest = self.floor = -1

    def accept(self, event: Event) -> str:
        if event.event_id in dict(self.known):
            return "again"
        late = event.ts < self.newest - self.lateness or event.ts <= self.floor
        self.newest = self.newest if late else max(self.newest, event.ts)
        self.known = [(name, ts) for name, ts in self.known if ts + self.lateness >= self.newest]
        if (over := len(self.known) - self.room) > 0:
            self.known.sort(key=lambda each: each[1])
            self.floor = max(self.floor, self.known[over - 1][1])
            del self.known[:over]
        self.known.append((event.event_id, self.newest if late else event.ts))
        return "late" if late else "accepted"


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 40)), min_size=1, max_size=150), st.sampled_from([16, 64]))
def test_ids_that_are_forgotten_where_it_costs_little_are_known_as_long_as_they_should_be(sent, room):
    behaviour = Behaviour(allowed_lateness=12, history=HistorySettings(event_ids=room))
    session, plain, state = Session(behaviour), Plain(behaviour), None
    for n, ts in sent:
        accepted = session.accept(click(n, ts), state)
        state = accepted.state
        found = "late" if accepted.reject else "accepted" if accepted.feedback else "again"
        assert found == plain.accept(click(n, ts))
        kept = decode_session(state)
        assert (kept.newest, kept.floor) == (plain.newest, plain.floor)
        assert len(kept.hashes) == len(kept.times) <= 8 * room


def test_an_id_whose_bytes_lie_across_two_others_is_not_known():
    pair = hash64("e-1").to_bytes(8, "little") + hash64("e-2").to_bytes(8, "little")
    session = Session(Behaviour())
    state = SessionState(newest=5, hashes=pair, times=2 * (5).to_bytes(8, "little"))
    assert session._is_known(state, pair[:8]) and session._is_known(state, pair[8:])
    assert not session._is_known(state, pair[4:12])
    twice = SessionState(
        newest=10 * HOUR, hashes=pair[:8] + pair[:8], times=bytes(8) + (10 * HOUR).to_bytes(8, "little")
    )
    assert session._is_known(twice, pair[:8])


ENTRIES = st.lists(
    st.builds(
        Seen,
        st.text(st.characters(codec="utf-8"), min_size=1, max_size=9),
        st.integers(0, MAX_TS),
        st.floats(allow_nan=False),
        st.integers(0, 255),
    ),
    max_size=12,
)


@given(ENTRIES, st.integers(-14, 14), st.integers(-14, 14))
def test_a_history_is_the_sequence_of_its_entries(entries, start, stop):
    history = History.of(entries)
    assert (list(history), len(history), bool(history)) == (entries, len(entries), bool(entries))
    assert list(reversed(history)) == entries[::-1]
    assert list(history.newest_first()) == [(seen.item_id, seen.reward, seen.kind) for seen in entries[::-1]]
    assert history[start:stop] == History.of(entries[start:stop]) and list(history[::-2]) == entries[::-2]
    if -len(entries) <= start < len(entries):
        assert history[start] == entries[start]
    else:
        with pytest.raises(IndexError):
            history[start]
    grown = history
    for seen in entries:
        grown = grown.appended(seen)
    assert grown == History.of([*entries, *entries])
    assert History.of(iter(entries)) == history and History.of(history) is history


@given(ENTRIES, st.integers(0, MAX_TS))
def test_a_history_since_a_time_is_what_came_then_and_later(entries, ts):
    entries.sort(key=lambda seen: seen.ts)
    assert list(History.of(entries).since(ts)) == [seen for seen in entries if seen.ts >= ts]
    assert not entries or list(History.of(entries).since(entries[-1].ts))


@given(ENTRIES)
def test_a_feedback_carries_its_history_however_it_was_given(entries):
    click = Event("e", "click", "u", 9, "i")
    feedback = Feedback(click, 1.0, tuple(entries))
    assert feedback == Feedback(click, 1.0, History.of(entries))
    assert decode_feedback(encode(feedback)) == feedback
    assert list(feedback.history_after()) == [*entries, Seen("i", 9, 1.0, 1)]
