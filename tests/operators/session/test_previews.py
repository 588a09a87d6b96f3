"""A preview in SESSION: it means what a click would, and nothing but its id is kept of it."""

import msgspec
from feeding import HOUR, click, feed
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event
from riverrank.state.sessions import decode_session

PAST = [
    click(1, 1_000, "j"),
    Event("s", "impression", "u", 2_000, items=("i", "j")),
    Event("p", "profile", "u", 2_500, attributes={"a": "b"}),
    Event("v", "view", "u", 3_000, "i"),
]


def but_ids(state: bytes | None) -> dict[str, object]:
    kept = msgspec.structs.asdict(decode_session(state))
    return {name: value for name, value in kept.items() if name not in ("hashes", "times")}


def test_it_carries_what_a_click_would_and_changes_nothing_but_the_ids_that_came() -> None:
    before = feed(PAST)
    asked = Event("x", "preview", "u", 100 * HOUR, "i")  # long after the impression's window
    after = feed([asked, asked], state=before.state)
    (feedback,) = after.feedbacks
    (clicked,) = feed([Event("x", "click", "u", 100 * HOUR, "i")], state=before.state).feedbacks
    assert feedback == msgspec.structs.replace(clicked, event=asked, reward=0.0)
    assert [outcome.labels for outcome in feedback.outcomes] == [(1, 0)] and not feedback.is_choice
    assert but_ids(after.state) == but_ids(before.state) and but_ids(before.state)["impressions"]
    later = feed([click(2, 3_100)], state=after.state)
    assert later.rejects == [] and later.feedbacks == feed([click(2, 3_100)], state=before.state).feedbacks


def test_a_story_goes_on_in_it() -> None:
    (feedback,) = feed([Event("x", "preview", "u", 3_500, "i")], state=feed(PAST).state).feedbacks
    assert feedback.story_reward > 0


def test_nobody_learns_of_a_preview_nor_of_the_lists_that_it_would_close() -> None:
    session = Session(Behaviour())
    feedback = session.accept(Event("x", "preview", "u", 100 * HOUR, "i"), feed(PAST).state).feedback
    assert feedback is not None and feedback.outcomes
    assert (session.routes(feedback), session.draw_sample(feedback), session.sent) == ((), False, 0)


def test_one_that_is_late_is_refused_and_one_from_before_an_erasure_does_nothing() -> None:
    fed = feed([click(1, 9 * HOUR), click(2, 9 * HOUR), Event("x", "preview", "u", HOUR, "i")])
    assert [reject.reason for reject in fed.rejects] == ["late"]
    erased = feed([Event("gone", "erase", "u", 10 * HOUR)], state=fed.state)
    asked = [Event("y", "preview", "u", 10 * HOUR, "i"), Event("z", "preview", "u", 10 * HOUR + 1, "i")]
    again = feed(asked, state=erased.state)
    assert [(feedback.event.event_id, len(feedback.history)) for feedback in again.feedbacks] == [("z", 0)]
