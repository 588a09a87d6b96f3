"""What one user contributes in a window is bounded whatever that user does, in whatever order it comes."""

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from riverrank.operators.privacy.bounds import contribution_of, window_of
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, HistorySettings, NoiseSettings
from riverrank.state.records.incoming import Event

HOUR = 3_600_000
BEHAVIOUR = Behaviour(
    allowed_lateness=5 * HOUR,
    history=HistorySettings(size=6),
    noise=NoiseSettings(epsilon=1.0, key=b"secret", window=2 * HOUR, contributions=3, pairs=2),
)
EVENTS = st.tuples(
    st.sampled_from(["click", "click", "click", "dislike", "purchase", "request", "erase"]),
    st.integers(0, 8 * HOUR),
    st.sampled_from([f"i{k}" for k in range(7)]),
)


@settings(max_examples=400, deadline=None)
@given(st.lists(EVENTS, max_size=40))
def test_contributions_of_a_window_are_bounded_through_late_events_full_histories_and_erasures(events):
    session, state, window = Session(BEHAVIOUR), None, BEHAVIOUR.noise.window
    items: Counter[tuple[int, str]] = Counter()
    pairs: Counter[tuple[int, str, str]] = Counter()
    for number, (kind, ts, item_id) in enumerate(events):
        is_about = kind not in ("request", "erase")
        accepted = session.accept(Event(f"e{number}", kind, "u", ts, item_id if is_about else None), state)
        state = accepted.state
        if accepted.feedback is None:
            continue
        found = contribution_of(accepted.feedback, BEHAVIOUR)
        if found is not None:
            of = window_of(ts, window)
            items[of, found.item_id] += 1
            pairs.update((of, before, found.item_id) for before in found.before)
            assert len(found.before) <= 2
            assert found.item_id not in found.before
    assert max(items.values(), default=1) == max(pairs.values(), default=1) == 1
    assert max(Counter(of for of, _ in items).values(), default=0) <= 3


def test_what_is_within_the_bounds_is_contributed():
    session, state, found = Session(BEHAVIOUR), None, []
    for number, (ts, item_id) in enumerate([(1, "a"), (2, "b"), (2, "a"), (3, "c"), (4, "d"), (2 * HOUR, "d")]):
        accepted = session.accept(Event(f"e{number}", "click", "u", ts, item_id), state)
        state = accepted.state
        found.append(contribution_of(accepted.feedback, BEHAVIOUR))
    told = [None if each is None else (each.item_id, each.before) for each in found]
    assert told == [("a", ()), ("b", ("a",)), None, ("c", ("a", "b")), None, ("d", ())]
