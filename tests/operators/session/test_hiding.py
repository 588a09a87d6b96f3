"""What is not served again: by type and time, the last word on each item, and who has seen all there is."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.session.hiding import Hiding
from riverrank.operators.settings import SlateSettings
from riverrank.state.hashing import hash32
from riverrank.state.learners import OF_ANY_TYPE, LearnerState
from riverrank.state.messages import History, Seen

DAY = 86_400_000
REWARDS = {"view": 0.3, "click": 1.0, "like": 1.0, "dislike": -1.0, "cart": 1.5, "purchase": 2.0, "rate": -1.0}
CODES = {"view": 0, "click": 1, "like": 2, "dislike": 3, "cart": 4, "purchase": 5, "rate": 6}
HIDE = ("purchase:30d", "like", "cart:12h")
LASTS = {"purchase": 30 * DAY, "like": None, "cart": DAY // 2}
ACTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.sampled_from(sorted(REWARDS)), st.integers(0, 40 * DAY)), max_size=30
)


def told(hiding: Hiding, acts) -> LearnerState:
    state = LearnerState()
    for item, kind, ts in acts:
        hiding.remember(state, item, kind, ts, REWARDS[kind])
    return state


def names(hiding: Hiding, state: LearnerState, ts: int) -> set[str]:
    hidden = set(hiding.hidden(state, ts).tolist())
    return {item for item in "abcd" if hash32(item) in hidden}


@given(ACTS, st.integers(0, 90 * DAY))
def test_an_item_is_hidden_by_the_types_that_hide_for_their_time_and_by_a_no_that_stands(acts, ts):
    acts.sort(key=lambda act: act[2])
    expected = set()
    for item in "abcd":
        own = [(kind, at) for name, kind, at in acts if name == item]
        words = [REWARDS[kind] for kind, _ in own if REWARDS[kind]]
        newest = dict(own)
        lasting = any(
            kind in LASTS and (LASTS[kind] is None or at // 1000 + LASTS[kind] // 1000 > ts // 1000)
            for kind, at in newest.items()
        )
        if lasting or (words and words[-1] < 0):
            expected.add(item)
    hiding = Hiding(SlateSettings(hide=HIDE))
    assert names(hiding, told(hiding, acts), ts) == expected
    history = History.of([Seen(item, at, REWARDS[kind], CODES[kind]) for item, kind, at in acts])
    assert set(hiding.among(history, ts)) == expected


def test_what_comes_late_does_not_shorten_what_hides_for_a_time():
    hiding = Hiding(SlateSettings(hide=("purchase:1d",)))
    state = told(hiding, [("a", "purchase", 3 * DAY), ("a", "purchase", 2 * DAY)])
    assert names(hiding, state, 4 * DAY - 1000) == {"a"} and names(hiding, state, 4 * DAY) == set()


def test_a_yes_that_comes_late_takes_back_no_no_that_was_said_after_it():
    """Whether or not the history still holds it."""
    hiding = Hiding(SlateSettings(hide=()))
    state = told(hiding, [("a", "dislike", 3 * DAY), ("a", "click", 2 * DAY)])
    assert names(hiding, state, 4 * DAY) == {"a"}
    hiding.remember(state, "a", "click", 3 * DAY, 1.0)
    assert names(hiding, state, 4 * DAY) == set()


def test_nothing_is_hidden_but_what_was_refused_where_nothing_hides():
    hiding = Hiding(SlateSettings(hide=()))
    state = told(hiding, [("a", "purchase", 1), ("b", "dislike", 2), ("c", "dislike", 3), ("c", "click", 4)])
    assert names(hiding, state, 10 * DAY) == {"b"}


def test_what_hides_no_more_hides_nothing_whenever_it_was():
    state = told(Hiding(SlateSettings()), [("a", "purchase", DAY)])
    assert names(Hiding(SlateSettings(hide=())), state, 1) == set()


def test_what_was_hidden_longest_comes_back_first_and_what_was_refused_last():
    hiding = Hiding(SlateSettings())
    state = told(hiding, [("a", "dislike", 1), ("b", "like", 2), ("c", "like", 3), ("d", "like", 4), ("b", "like", 5)])
    marks = np.array([hash32(item) for item in "abcd"], np.uint32)
    assert ["abcd"[k] for k in hiding.oldest(state, 9, marks, 3)] == ["c", "d", "b"]
    assert ["abcd"[k] for k in hiding.oldest(state, 9, marks, 9)] == ["c", "d", "b"]
    assert hiding.oldest(state, 9, marks[:1], 9).tolist() == [0]


def test_there_is_room_for_so_many_and_the_oldest_goes():
    hiding = Hiding(SlateSettings(seen=3))
    state = told(hiding, [(item, "like", n) for n, item in enumerate("abacdb")])
    assert names(hiding, state, 9) == {"c", "d", "b"}
    assert (len(state.seen), len(state.seen_at), len(state.seen_by)) == (12, 12, 3)


def test_what_layout_2_hid_stays_hidden():
    mark = hash32("a").to_bytes(4, "little")
    state = LearnerState(seen=mark, seen_at=bytes(4), seen_by=bytes([OF_ANY_TYPE]))
    for hide, hidden in (((), set()), (("like",), {"a"}), (HIDE, {"a"})):  # of a shop where nothing was hidden, nothing
        assert names(Hiding(SlateSettings(hide=hide)), state, 1000 * DAY) == hidden


@pytest.mark.parametrize(
    ("hide", "said"),
    [
        (["dance"], "slate.hide: 'dance' is no interaction; expected some of view, click, like, dislike, cart"),
        (["request"], "slate.hide: 'request' is no interaction"),
        (["purchase:soon"], "slate.hide: 'purchase:soon': expected a duration such as"),
        (["purchase:"], "slate.hide: 'purchase:': expected a duration such as"),
        (["purchase:0s"], "slate.hide: 'purchase:0s': expected at least 1s; leave purchase out"),
        (["like", "purchase:999ms"], "slate.hide: 'purchase:999ms': expected at least 1s"),
        (["purchase", "like", "purchase:1d"], "slate.hide: expected each type once, got purchase, like, purchase:1d"),
    ],
)
def test_what_hides_nothing_is_refused_with_the_mend(hide, said):
    with pytest.raises(ValueError, match=f"^{said}"):
        Hiding(SlateSettings(hide=tuple(hide)))
