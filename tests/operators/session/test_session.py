"""SESSION: what becomes of a user's events, without Flink."""

import pytest
from feeding import HOUR, click, feed
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.catalogue.tokens import contexts
from riverrank.operators.session.session import LATE_IDS, Session
from riverrank.operators.settings import Behaviour, HistorySettings, ImpressionSettings, SignalSettings
from riverrank.state.hashing import hash32, hash64
from riverrank.state.messages import Feedback, History, Outcome, Seen, decode_feedback, encode
from riverrank.state.records.bounds import MAX_PROFILE_BYTES, MAX_TS
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import to_json
from riverrank.state.sessions import SessionState, decode_session


def test_redelivered_event_is_answered_once():
    fed = feed([click(1, 1000), click(2, 2000), click(1, 1000), click(2, 2000)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "e-2"]
    assert fed.rejects == []


def test_late_means_older_than_the_users_second_newest_by_more_than_the_lateness():
    fed = feed([click(1, 10 * HOUR), click(2, 10 * HOUR), click(3, 9 * HOUR), click(4, 9 * HOUR - 1)])
    assert [f.event.event_id for f in fed.feedbacks] == ["e-1", "e-2", "e-3"]
    assert [(r.reason, r.detail.split(" by ")[0]) for r in fed.rejects] == [
        ("late", "ts: 32399999 is older than the user's second newest event 36000000")
    ]


def test_one_event_with_a_wrong_clock_shuts_nobody_out():
    now = 1000 * HOUR
    times = [now, now + 100 * HOUR, now + 1, now + 2, now - HOUR + 9, now + 3]
    fed = feed([click(n, ts) for n, ts in enumerate(times)])
    assert len(fed.feedbacks) == len(times) and not fed.rejects
    again = feed([click(n, ts) for n, ts in enumerate(times)], state=fed.state)
    assert again.feedbacks == again.rejects == []


def test_redelivered_late_event_is_set_aside_once():
    fed = feed([click(1, 10 * HOUR), click(9, 10 * HOUR), click(2, HOUR), click(2, HOUR)])
    assert [r.reason for r in fed.rejects] == ["late"]


def test_late_events_take_no_room_from_those_in_time():
    behaviour = Behaviour(history=HistorySettings(event_ids=16))
    intime = [click(n, 10 * HOUR + n) for n in range(16)]
    late = [click(100 + n, n) for n in range(200)]
    fed = feed([*intime, *late, *intime, *late[-LATE_IDS:]], behaviour)
    assert len(fed.feedbacks) == 16 and len(fed.rejects) == 200
    assert len(decode_session(fed.state).late) == 8 * LATE_IDS


def test_history_is_in_order_of_time_and_bounded():
    behaviour = Behaviour(history=HistorySettings(size=3))
    fed = feed([click(n, ts, f"i{n}") for n, ts in enumerate((1000, 3000, 2000, 4000, 5000))], behaviour)
    assert [seen.item_id for seen in fed.feedbacks[-1].history] == ["i2", "i1", "i3"]
    assert [seen.item_id for seen in decode_session(fed.state).history] == ["i1", "i3", "i4"]


def test_a_user_with_more_events_than_ids_have_room_is_answered_like_any_other():
    behaviour = Behaviour(history=HistorySettings(event_ids=16))
    events = [click(n, 1000) for n in range(400)]
    fed = feed(events, behaviour)
    assert len(fed.feedbacks) == 400 and not fed.rejects
    assert len(decode_session(fed.state).hashes) == 16 * 8
    assert feed(events[-16:], behaviour, fed.state).feedbacks == []


def test_impression_is_joined_with_the_click_that_follows():
    shown = Event("s-1", "impression", "u", 1000, items=("a", "b", "c"))
    fed = feed([shown, click(1, 2000, "b"), click(2, 2000 + HOUR, "z")])
    (outcome,) = fed.feedbacks[-1].outcomes
    assert (outcome.event_id, outcome.items, outcome.labels) == ("s-1", ("a", "b", "c"), (0, 1, 0))
    assert fed.feedbacks[1].outcomes == ()


def shown(number: int, ts: int, *items: str, slate_id: str | None = None) -> Event:
    return Event(f"s-{number}", "impression", "u", ts, items=items, slate_id=slate_id)


def outcomes(events, behaviour=Behaviour()) -> dict[str, tuple[int, ...]]:  # noqa: B008 - frozen
    """The labels of all impressions that taught, by event id, those included that wait at the end."""
    fed = feed(events, behaviour)
    last = Session(behaviour).close(fed.state).feedback
    found = [o for f in [*fed.feedbacks, *([last] if last else [])] for o in f.outcomes]
    assert len({o.event_id for o in found}) == len(found)
    return {o.event_id: o.labels for o in found}


def test_an_impression_that_is_closed_for_want_of_room_teaches_nothing():
    behaviour = Behaviour(impression=ImpressionSettings(max_open=2))
    feed_of = [shown(n, 1000 + n, "a", "b") for n in range(4)]
    assert outcomes([*feed_of, click(1, 2000, "b")], behaviour) == {"s-2": (0, 1), "s-3": (0, 1)}


def word(kind: str, ts: int, item: str = "a", slate_id: str | None = None, value: float | None = None) -> Event:
    return Event(f"{kind}-{ts}", kind, "u", ts, item, value, slate_id=slate_id)


@pytest.mark.parametrize(
    ("words", "label"),
    [
        ([word("click", 1500)], 1),
        ([word("dislike", 1500)], 0),
        ([word("like", 1500), word("dislike", 1600)], 0),
        ([word("dislike", 1600), word("like", 1500)], 0),
        ([word("dislike", 1500), word("like", 1600)], 1),
        ([word("rate", 1500, value=5.0), word("rate", 1600, value=1.0)], 0),
        ([word("click", 1000)], 1),
        ([word("click", 999)], 0),
        ([word("click", 1000 + 600_000)], 1),
        ([word("click", 1001 + 600_000)], 0),
        ([word("click", 1500, "z")], 0),
        ([word("click", 1500, slate_id="u:1")], 1),
        ([word("click", 1500, slate_id="u:2")], 0),
    ],
)
@pytest.mark.parametrize("first", ["the impression", "what answers it"])
def test_the_last_word_on_an_item_is_the_label_in_whatever_order_it_came(words, label, first):
    seen = [shown(1, 1000, "b", "a", slate_id="u:1")]
    events = [*seen, *words] if first == "the impression" else [*words, *seen]
    assert outcomes(events) == {"s-1": (0, label)}
    later = [*events, Event("q", "request", "u", 5 * HOUR)]
    assert outcomes(later) == {"s-1": (0, label)}


@given(st.permutations(range(7)))
def test_the_order_of_arrival_changes_no_label(order):
    events = [
        *(shown(n, 1000 + 100 * n, "a", "b", slate_id=f"u:{n}") for n in range(3)),
        word("click", 1100, "a"), word("dislike", 1150, "a"), word("like", 1250, "b", "u:2"), word("view", 1050, "b"),
    ]  # fmt: skip
    assert outcomes([events[k] for k in order]) == {"s-0": (0, 1), "s-1": (0, 0), "s-2": (0, 1)}


def test_an_impression_of_a_user_who_does_not_come_back_is_closed_by_the_wall_clock():
    session, window = Session(Behaviour()), 600_000
    opened = session.accept(shown(1, 1000, "a"), None, now=50_000)
    opened = session.accept(shown(2, 2000, "a"), opened.state, now=90_000)
    clicked = session.accept(click(1, 2500, "a"), opened.state, now=91_000)
    assert (opened.waiting, clicked.waiting) == (2, 2)
    early = session.close(clicked.state, now=49_999 + window)
    assert early.feedback is None and early.state == clicked.state and early.waiting == 2
    first = session.close(early.state, now=50_000 + window)
    assert [(o.event_id, o.labels) for o in first.feedback.outcomes] == [("s-1", (1,))]
    assert (first.feedback.event.type, first.feedback.event.user_id, first.waiting) == ("profile", "u", 1)
    last = session.close(first.state, now=90_000 + window)
    assert [o.event_id for o in last.feedback.outcomes] == ["s-2"] and last.waiting == 0
    assert session.close(last.state).feedback is None
    assert session.close(None).state is None


def test_what_came_sooner_and_happened_later_is_not_what_a_late_event_follows_from():
    fed = feed([click(1, 1000, "a"), click(2, 3000, "c"), click(3, 2000, "b")])
    late = fed.feedbacks[-1]
    assert [s.item_id for s in late.history_before()] == ["a"]
    assert [s.item_id for s in late.history_after()] == ["a", "b", "c"]
    assert late.is_behind and not fed.feedbacks[1].is_behind
    assert fed.feedbacks[1].history_before() is fed.feedbacks[1].history


def test_all_profiles_of_a_user_take_no_more_room_than_one():
    big = [Event(f"p-{n}", "profile", "u", n, attributes={f"k{n}": "x" * 8000}) for n in range(40)]
    fed = feed([*big, Event("p", "profile", "u", 99, attributes={"k1": "y", "likes": ["drama"]})])
    kept = decode_session(fed.state).attributes
    assert kept == {"k1": "y", "likes": ["drama"]} | {k: v for k, v in kept.items() if k == "k39"}
    assert len(to_json(kept)) <= MAX_PROFILE_BYTES and fed.feedbacks[-1].attributes == kept


def test_profile_goes_with_every_later_feedback():
    profile = Event("p", "profile", "u", 1000, attributes={"age_band": "25-34"})
    fed = feed([profile, click(1, 2000)])
    assert fed.feedbacks[-1].attributes == {"age_band": "25-34"}


@pytest.mark.parametrize("kind", ["click", "dislike"])
def test_feedback_goes_to_the_shards_of_its_items_and_where_it_is_positive_of_what_it_is_paired_with(kind):
    behaviour = Behaviour(signals=SignalSettings(shards=4096, window=2))
    event = Event("e", kind, "u", 9, "now", context={"device": "tv"})
    past = [Seen("old", 1, 1.0), Seen("before", 2, 1.0), Seen("disliked", 3, -1.0)]
    outcomes = (Outcome("s", 8, ("shown", "again"), (0, 1)),)
    reward = 1.0 if kind == "click" else -1.0
    feedback = Feedback(event, reward, History.of(past), outcomes, {"band": "z", "likes": ["y"]})
    names = ["now", "shown", "again", *(["before", "\0band=z", *contexts({"device": "tv"})] if kind == "click" else [])]
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
        self.late: list[str] = []
        self.times = [-1, -1]

    def accept(self, event: Event) -> str:
        if event.event_id in dict(self.known) or event.event_id in self.late:
            return "again"
        if event.ts < self.times[-2] - self.lateness:
            self.late = [*self.late, event.event_id][-LATE_IDS:]
            return "late"
        self.times = sorted([*self.times, event.ts])
        self.known = [(name, ts) for name, ts in self.known if ts + self.lateness >= self.times[-2]]
        if (over := len(self.known) - self.room) > 0:
            self.known.sort(key=lambda each: each[1])
            del self.known[:over]
        self.known.append((event.event_id, event.ts))
        return "accepted"


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
        assert [kept.second, kept.newest] == plain.times[-2:]
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
    if all(seen.ts <= 9 for seen in entries[-1:]):
        assert list(feedback.history_after()) == [*entries, Seen("i", 9, 1.0, 1)]


@given(ENTRIES, st.integers(0, MAX_TS))
def test_an_entry_is_put_into_a_history_by_time(entries, ts):
    entries.sort(key=lambda seen: seen.ts)
    history, seen = History.of(entries), Seen("now", ts, 1.0)
    assert list(history.with_entry(seen)) == sorted([*entries, seen], key=lambda entry: entry.ts)
    assert list(history.before(ts)) == [entry for entry in entries if entry.ts < ts]
    assert history.newest() == max((entry.ts for entry in entries), default=-1)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from((-1.0, 0.0, 0.3, 1.0))), max_size=9))
def test_what_was_refused_since_is_not_taken(done):
    history, taken, refused = History.of([Seen(i, n, reward) for n, (i, reward) in enumerate(done)]), [], set()
    for item, reward in reversed(done):
        if reward < 0:
            refused.add(item)
        elif reward > 0 and item not in refused:
            taken.append(item)
    assert list(history.taken()) == taken
