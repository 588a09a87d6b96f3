"""Bytes of SESSION's state and of feedbacks: each layout is still read, with the same history, ids and impressions.

A golden file is written once, when its layout is new, by SESSION itself from the events below, bytes within bytes
included: `PYTHONPATH=tests python FILE NAME`, with the function that NAME has in WRITERS. Those of
layout 1 were written by hand by the version that had that layout.
"""

import sys

import msgspec
import numpy as np
import pytest
from golden_files import kept, write
from riverrank.operators.session.session import Accepted, Session
from riverrank.operators.settings import Behaviour, HistorySettings
from riverrank.state.event_types import verbs
from riverrank.state.hashing import hash64
from riverrank.state.messages import Feedback, History, Outcome, Seen, decode_feedback, encode
from riverrank.state.records.incoming import Event
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session

SESSION_1 = SessionState(
    newest=1_764_000_000_000,
    second=1_764_000_000_000,
    epoch=1_762_000_000_000,
    hashes=bytes(range(8)) + bytes(range(16, 24)),
    times=bytes(range(8, 16)) + bytes(range(24, 32)),
    history=History.of([Seen("i-1", 1_763_999_999_000, 1.0), Seen("ä", 1_764_000_000_000, -1.0, 3)]),
    impressions=[OpenImpression("e-9", 1_764_000_000_000, ("i-1", "i-2"), "u:3", {1: (1_764_000_000_000, 1)})],
    attributes={"age_band": "25-34", "likes": ["drama"]},
)

NOW = 1_764_000_000_000
ARRIVED = NOW + 20_000  # by the wall clock
TAKEN_BY = [  # one interaction of each type, in an order of their own
    ("click", "i-1", None),
    ("view", "ä", None),
    ("rate", "i-3", 4.5),
    ("purchase", "i-1", None),
    ("dislike", "i-5", None),
    ("like", "i-6", None),
    ("cart", "i-7", None),
    ("rate", "i-8", 0.0),
]
EVENTS = [
    Event("e-erase", "erase", "u-1", NOW - 9_000_000),
    Event("e-profile", "profile", "u-1", NOW - 1000, attributes={"age_band": "25-34", "likes": ["drama"]}),
    *(Event(f"e-{k}", type_, "u-1", NOW + 1000 * k, item, value) for k, (type_, item, value) in enumerate(TAKEN_BY)),
    *(Event(f"e-request-{k}", "request", "u-1", NOW + 7100 + k) for k in range(6)),
    Event("e-shown-1", "impression", "u-1", NOW + 7200, items=("i-1", "i-2", "i-1"), slate_id="u-1:9"),
    Event("e-between", "click", "u-1", NOW + 3500, "i-9"),  # comes late, but in time
    Event("e-shown-2", "impression", "u-1", NOW + 7300, items=("ö", "i-9")),
    Event("e-taken", "click", "u-1", NOW + 8000, "i-9", context={"device": "tv", "hour": 21}),
    Event("e-late", "click", "u-1", NOW - 4_000_000, "i-9"),
]
OVER = Event("e-over", "cart", "u-1", NOW + 700_000, "i-2", slate_id="u-1:9", context={"device": "tv"})

ERASED = Event("e-erased", "erase", "u-1", NOW + 5)  # by a clock that is behind
BOUGHT = Event("e-bought", "purchase", "u-1", NOW + 9_000_000, "i-2", slate_id="u-1:9")


def session_of(events: list[Event]) -> Accepted:
    """What SESSION made of the last of `events`, with room for few event ids and a short history."""
    session = Session(Behaviour(history=HistorySettings(event_ids=16, size=8)))
    accepted = Accepted(None)
    for event in events:
        accepted = session.accept(event, accepted.state, ARRIVED)
    return accepted


def session_2() -> SessionState:
    remembered = [
        *(("e-3", NOW + 3000), ("e-between", NOW + 3500)),
        *((f"e-{k}", NOW + 1000 * k) for k in (4, 5, 6, 7)),
        *((f"e-request-{k}", NOW + 7100 + k) for k in range(6)),
        *(("e-shown-1", NOW + 7200), ("e-shown-2", NOW + 7300), ("e-taken", NOW + 8000), ("e-late", NOW + 8000)),
    ]
    return SessionState(
        newest=NOW + 8000,
        second=NOW + 8000,
        epoch=NOW - 9_000_000,
        hashes=np.array([hash64(name) for name, _ in remembered], "<u8").tobytes(),
        times=np.array([ts for _, ts in remembered], "<u8").tobytes(),
        history=History.of(HISTORY_2),
        impressions=[
            OpenImpression("e-shown-1", NOW + 7200, ("i-1", "i-2"), "u-1:9"),
            OpenImpression("e-shown-2", NOW + 7300, ("ö", "i-9"), None, {1: (NOW + 7300, 1)}),
        ],
        attributes={"age_band": "25-34", "likes": ["drama"]},
    )


def session_3() -> SessionState:
    """What layout 3 says besides: times of labels, the second newest event, ids of late events, slates of the newest
    interactions. An id has room until an event is newer; a late one takes none.
    """
    then = session_2()
    names = [
        *(f"e-{k}" for k in (3,)), "e-between", *(f"e-{k}" for k in (4, 5, 6, 7)),
        *(f"e-request-{k}" for k in range(6)), "e-shown-1", "e-shown-2", "e-taken",
    ]  # fmt: skip
    times = [*range(3000, 3001), 3500, 4000, 5000, 6000, 7000, *range(7100, 7106), 7200, 7300, 8000]
    return msgspec.structs.replace(
        then,
        second=NOW + 7300,
        hashes=np.array([hash64(name) for name in ("e-2", *names)], "<u8").tobytes(),
        times=np.array([NOW + ts for ts in (2000, *times)], "<u8").tobytes(),
        late=hash64("e-late").to_bytes(8, "little"),
        marks=bytes(4 * 8),
        impressions=[
            OpenImpression("e-shown-1", NOW + 7200, ("i-1", "i-2"), "u-1:9", {}, ARRIVED),
            OpenImpression("e-shown-2", NOW + 7300, ("ö", "i-9"), None, {1: (NOW + 8000, 1)}, ARRIVED),
        ],
    )


HISTORY_2 = [
    Seen("i-3", NOW + 2000, 1.0, 6),
    Seen("i-1", NOW + 3000, 2.0, 5),
    Seen("i-9", NOW + 3500, 1.0, 1),
    Seen("i-5", NOW + 4000, -1.0, 3),
    Seen("i-6", NOW + 5000, 1.0, 2),
    Seen("i-7", NOW + 6000, 1.5, 4),
    Seen("i-8", NOW + 7000, -1.0, 6),
    Seen("i-9", NOW + 8000, 1.0, 1),
]
FEEDBACK_2 = Feedback(
    OVER,
    1.5,
    History.of(HISTORY_2),
    (
        Outcome("e-shown-1", NOW + 7200, ("i-1", "i-2"), (0, 0), "u-1:9"),
        Outcome("e-shown-2", NOW + 7300, ("ö", "i-9"), (0, 1), None),
    ),
    {"age_band": "25-34", "likes": ["drama"]},
    NOW - 9_000_000,
)
FEEDBACK_2_STORY = Feedback(
    BOUGHT,
    2.0,
    History.of([*HISTORY_2[1:], Seen("i-2", NOW + 700_000, 1.5, 4)]),
    (),
    {"age_band": "25-34", "likes": ["drama"]},
    NOW - 9_000_000,
    1.5,
)
FEEDBACK_1 = Feedback(
    Event("e-1", "rate", "u-1", 5, "i-1", 4.0, None, "u-1:3", {"device": "tv"}, None),
    1.0,
    (Seen("i-0", 4, 1.0),),
    (Outcome("e-0", 3, ("i-0", "i-2"), (1, 0), None),),
    {"age_band": "25-34"},
    2,
)
WRITERS = {
    "session-3-asked": lambda: session_of(EVENTS).state,
    "session-3-erased": lambda: session_of([*EVENTS, ERASED]).state,
    "feedback-2-story": lambda: encode(session_of([*EVENTS, OVER, BOUGHT]).feedback),
}
MEANT = {  # name: (value, encode, decode)
    "session-1": (SESSION_1, encode_session, decode_session),
    "session-2": (session_2(), encode_session, decode_session),
    "session-3": (session_3(), encode_session, decode_session),
    "session-3-whose": (msgspec.structs.replace(session_3(), user_id="u-1"), encode_session, decode_session),
    "session-3-asked": (
        msgspec.structs.replace(session_3(), user_id="u-1", asked=NOW - 9_000_000),
        encode_session,
        decode_session,
    ),
    "session-3-erased": (
        SessionState(
            epoch=NOW + 8000,
            hashes=hash64("e-erased").to_bytes(8, "little"),
            times=(NOW + 5).to_bytes(8, "little"),
            asked=NOW + 5,
        ),
        encode_session,
        decode_session,
    ),
    "feedback": (FEEDBACK_1, encode, decode_feedback),
    "feedback-2": (FEEDBACK_2, encode, decode_feedback),
    "feedback-2-story": (FEEDBACK_2_STORY, encode, decode_feedback),
}
NAMES = frozenset(MEANT)


@pytest.mark.parametrize("name", MEANT)
def test_kept_bytes_are_read_as_they_were_meant(name):
    value, encode_one, decode_one = MEANT[name]
    assert decode_one(kept(name)) == value
    assert decode_one(encode_one(value)) == value


@pytest.mark.parametrize("name", WRITERS)
def test_what_is_written_now_is_what_was(name):
    assert WRITERS[name]() == kept(name)


def test_a_kept_history_says_what_the_user_did():
    history = decode_session(kept("session-3")).history
    did = [(verbs()[seen.kind], seen.item_id) for seen in history]
    assert did == [
        ("rated", "i-3"),
        ("bought", "i-1"),
        ("clicked", "i-9"),
        ("disliked", "i-5"),
        ("liked", "i-6"),
        ("carted", "i-7"),
        ("rated", "i-8"),
        ("clicked", "i-9"),
    ]


def test_kept_event_ids_are_known_again():
    state, session = kept("session-3"), Session(Behaviour())
    again = [event.event_id for event in EVENTS if session.accept(event, state) == Accepted(state)]
    assert again == [
        event.event_id for event in EVENTS if event.ts >= NOW + 2000 or event.event_id in ("e-late", "e-erase")
    ]


@pytest.mark.parametrize(("decode", "name"), [(decode_session, "session-3"), (decode_feedback, "feedback-2")])
def test_a_layout_of_the_future_is_refused(decode, name):
    fields = msgspec.msgpack.decode(kept(name), strict=False)
    newest = name[-1]
    with pytest.raises(ValueError, match=f"layout 99: this version reads up to {newest}; it was written by a newer"):
        decode(encode([99, *fields[1:]]))


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        write(wanted, WRITERS[wanted])
