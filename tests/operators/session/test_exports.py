"""An export in SESSION: answered once, and nothing but its id is kept of it."""

import msgspec
from feeding import HOUR, click, feed
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour
from riverrank.state.records.incoming import Event
from riverrank.state.sessions import decode_session

IDS = {"hashes", "times"}


def fields(state: bytes | None) -> dict[str, object]:
    return {name: value for name, value in msgspec.structs.asdict(decode_session(state)).items() if name not in IDS}


def test_an_export_changes_nothing_but_the_ids_that_came_and_is_answered_once() -> None:
    shown = Event("s", "impression", "u", 2_000, items=("i", "j"))
    before = feed([click(1, 1_000), shown, Event("p", "profile", "u", 2_500, attributes={"a": "b"})])
    asked = Event("x", "export", "u", 100 * HOUR)  # long after the impression's window
    after = feed([asked, asked], state=before.state)
    assert [feedback.event for feedback in after.feedbacks] == [asked]
    assert fields(after.state) == fields(before.state) and fields(before.state)["impressions"]
    (feedback,) = after.feedbacks
    assert (len(feedback.history), feedback.outcomes, feedback.attributes) == (0, (), {})
    later = feed([click(2, 3_000)], state=after.state)
    assert later.rejects == [] and later.feedbacks[0] == feed([click(2, 3_000)], state=before.state).feedbacks[0]


def test_nobody_learns_of_an_export() -> None:
    session = Session(Behaviour())
    feedback = session.accept(Event("x", "export", "u", 1), None).feedback
    assert feedback is not None
    assert (session.routes(feedback), session.draw_sample(feedback), session.sent) == ((), False, 0)


def test_an_export_that_is_late_is_refused_and_one_from_before_an_erasure_does_nothing() -> None:
    fed = feed([click(1, 9 * HOUR), click(2, 9 * HOUR), Event("x", "export", "u", HOUR)])
    assert [reject.reason for reject in fed.rejects] == ["late"]
    erased = feed([Event("gone", "erase", "u", 10 * HOUR)], state=fed.state)
    again = feed([Event("y", "export", "u", 10 * HOUR), Event("z", "export", "u", 10 * HOUR + 1)], state=erased.state)
    assert [feedback.event.event_id for feedback in again.feedbacks] == ["z"]
