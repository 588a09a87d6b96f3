"""Bytes that state was kept in: every layout that was ever released must still be read, with the same values.

A golden file is written once, when its layout is new (`python -m tests.test_golden NAME` from the root), and never
again: a test that fails here means that a savepoint would no longer restore. What is `WRITTEN` comes from the operators
themselves, bytes within bytes included, and what is read of it is spelled out here.
"""

import sys
from pathlib import Path

import msgspec
import numpy as np
import pytest
from riverrank.operators.index.item_index import Meta
from riverrank.operators.models.ranker import RankerState
from riverrank.operators.session.session import Accepted, Session
from riverrank.operators.settings import Behaviour, HistorySettings
from riverrank.operators.signals.signals import Counts
from riverrank.state.event_types import verbs
from riverrank.state.hashing import hash64
from riverrank.state.item_tables import ItemTable, SessionTable, VectorTable
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import (
    CacheWrite,
    CatalogueUpdate,
    Feedback,
    History,
    Outcome,
    Seen,
    SignalUpdate,
    VectorUpdate,
    Weights,
    decode_feedback,
    decode_update,
    decode_write,
    encode,
)
from riverrank.state.records import Event, Item
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session

GOLDEN = Path(__file__).parent / "golden"

SESSION_1 = SessionState(
    newest=1_764_000_000_000,
    floor=1_763_000_000_000,
    epoch=1_762_000_000_000,
    hashes=bytes(range(8)) + bytes(range(16, 24)),
    times=bytes(range(8, 16)) + bytes(range(24, 32)),
    history=History.of([Seen("i-1", 1_763_999_999_000, 1.0), Seen("ä", 1_764_000_000_000, -1.0, 3)]),
    impressions=[OpenImpression("e-9", 1_764_000_000_000, ("i-1", "i-2"), b"\0\1", "u:3")],
    attributes={"age_band": "25-34", "likes": ["drama"]},
)

NOW = 1_764_000_000_000
TAKEN_BY = [  # one interaction of each type, in an order of their own
    ("click", "i-1", None),
    ("view", "ä", None),
    ("rate", "i-3", 4.5),
    ("purchase", "i-1", None),
    ("dislike", "i-5", None),
    ("like", "i-6", None),
    ("cart", "i-7", None),
    ("rate", "i-8", 2.0),
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


def session_of(events: list[Event]) -> Accepted:
    """What SESSION made of the last of `events`, with room for few event ids and a short history."""
    session = Session(Behaviour(history=HistorySettings(event_ids=16, size=8)))
    accepted = Accepted(None)
    for event in events:
        accepted = session.accept(event, accepted.state)
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
        floor=NOW + 2000,
        epoch=NOW - 9_000_000,
        hashes=np.array([hash64(name) for name, _ in remembered], "<u8").tobytes(),
        times=np.array([ts for _, ts in remembered], "<u8").tobytes(),
        history=History.of(HISTORY_2),
        impressions=[
            OpenImpression("e-shown-1", NOW + 7200, ("i-1", "i-2"), b"\0\0", "u-1:9"),
            OpenImpression("e-shown-2", NOW + 7300, ("ö", "i-9"), b"\0\1", None),
        ],
        attributes={"age_band": "25-34", "likes": ["drama"]},
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
LEARNER = LearnerState(
    layout=1,
    version=42,
    examples=57,
    seen=np.array([1, 2**32 - 1], "<u4").tobytes(),
    rated=(3, -0.5),
    intercept=0.25,
    weights=np.array([1.0, -0.125, 1e-9], "<f8").tobytes(),
    tokens=np.array([7, 9], "<u4").tobytes(),
    token_weights=np.array([0.5, -0.5], "<f8").tobytes(),
    memory={"n_iterations": 12, "m": np.array([0.1], "<f8").tobytes()},
    model=b"pickle",
)
RATER = LearnerState(
    layout=1,
    version=4,
    examples=3,
    rated=(3, 0.0),
    ratings=np.array([1.0, 5.0, 20.5, 0.25, 0.5], "<f4").tobytes() + np.array([0.5, -0.125], "<f2").tobytes(),
)
MEASURED = LearnerState(
    weights=np.array([1.0, 0.5], "<f8").tobytes(),
    tokens=np.array([7], "<u4").tobytes(),
    token_weights=np.array([0.25], "<f8").tobytes(),
    precision=np.array([4.5, 1.0, 1.25], "<f4").tobytes(),
)
WATCHED = LearnerState(layout=1, losses=b"\2\1" + bytes(7) + b"\1\3", since=1_764_000_000_000)
FEEDBACK = Feedback(
    Event("e-1", "rate", "u-1", 5, "i-1", 4.0, None, "u-1:3", {"device": "tv"}, None),
    1.0,
    (Seen("i-0", 4, 1.0),),
    (Outcome("e-0", 3, ("i-0", "i-2"), (1, 0), None),),
    {"age_band": "25-34"},
    2,
)
SIGNALS = SignalUpdate(
    1, ("a", "b"), b"\0\0\0\0", b"\1" * 24, b"\1\0\0\0", b"\2\0\0\0", b"\3" * 12, b"\4" * 12, 9, 8, (7.0, 2.0)
)
TAKEN = SignalUpdate(0, ("a",), *([b""] * 6), 9, 8, (0.0, 0.0), b"\1\0\0\x80\2\0\0\0", b"\0\0\0\0" + b"\xff" * 4)
VECTORS = VectorUpdate(1, ("a", "b"), b"\0\0\0\0", b"\1" * 8, b"\1\0\0\0", b"\2" * 8, b"\3" * 4, 8)
PLAIN = {  # name: (value, encode, decode)
    "session-1": (SESSION_1, encode_session, decode_session),
    "session-2": (session_2(), encode_session, decode_session),
    "learner-1": (LEARNER, encode_learner, decode_learner),
    "learner-1-ratings": (RATER, encode_learner, decode_learner),
    "learner-1-precision": (MEASURED, encode_learner, decode_learner),
    "learner-1-drift": (WATCHED, encode_learner, decode_learner),
    "counts-1": (Counts(1, 9, (3.5, 2.0)), encode, lambda raw: msgspec.msgpack.decode(raw, type=Counts)),
    "view-1": (Meta(1, 4, {0: 9}, {0: (3.5, 2.0)}), encode, lambda raw: msgspec.msgpack.decode(raw, type=Meta)),
    "ranker-1": (
        RankerState(1, 7, b"\0" * 16, -0.5),
        encode,
        lambda raw: msgspec.msgpack.decode(raw, type=RankerState),
    ),
    "ranker-1-ensemble": (
        RankerState(1, 7, b"\0" * 16, -0.5, b"\1" * 8, 1.5),
        encode,
        lambda raw: msgspec.msgpack.decode(raw, type=RankerState),
    ),
    "feedback": (FEEDBACK, encode, decode_feedback),
    "feedback-2": (FEEDBACK_2, encode, decode_feedback),
    "update-signals": (SIGNALS, encode, decode_update),
    "update-signals-taken": (TAKEN, encode, decode_update),
    "update-vectors": (VECTORS, encode, decode_update),
    "update-weights": (Weights(0, 3, b"\0" * 8, 0.5), encode, decode_update),
    "update-item": (
        CatalogueUpdate(Item("i", 5, "Alien", None, ("sci-fi",), {"year": 1979}, (0.5,), 4, False, False)),
        encode,
        decode_update,
    ),
    "cache-write": (CacheWrite("slate:u", 3, 42, b"{}", None), encode, decode_write),
}


def items() -> ItemTable:
    made = ItemTable(width=3, dimensions=4)
    for name in ("i-1", "gone", "i-2", "\0age=old"):
        made.row(name)
    made.neighbours[0] = (2, -1, 1)
    made.weights[0, 0] = (1.5, 0.5, 2.0)
    made.stats[2] = (0.5, 0.25, 3, 1, 9.5, 2)
    made.at[2] = 12
    made.shard[2] = 1
    made.context[0] = (1, 2, 3, 4)
    made.target[0], made.bias[0] = (0.5, 0, 0, -1), -2
    made.release(np.array([1]))
    return made


def vectors() -> VectorTable:
    made = VectorTable(dimensions=4)
    made.row("i-1"), made.row("i-2")
    made.context[1] = (1, 2, 3, 4)
    made.target[1], made.bias[1], made.steps[1] = (0.5, 0, 0, -1), -2, (1, 2, 3)
    return made


def sessions() -> SessionTable:
    made = SessionTable()
    made.row("00000007"), made.row("gone"), made.row("ffffffff")
    made.items[0, :2] = (3, 1)
    made.at[0] = 12
    made.release(np.array([1]))
    return made


TABLES = {
    f"{name}-{layout}": (make, key, shape)
    for layout in (2, 3)
    for name, make, key, shape in (
        ("items", items, "block:00000000", (3, 4)),
        ("vectors", vectors, "vectors:00000000", (4,)),
        ("sessions", sessions, "sessions:00000000", ()),
    )
}
WRITTEN = {  # by what writes the newest layouts in the job
    "session-2": lambda: session_of(EVENTS).state,
    "feedback-2": lambda: encode(session_of([*EVENTS, OVER]).feedback),
    "items-3": lambda: items().dump()["block:00000000"],
    "vectors-3": lambda: vectors().dump()["vectors:00000000"],
    "sessions-3": lambda: sessions().dump()["sessions:00000000"],
}


@pytest.mark.parametrize("name", PLAIN)
def test_kept_bytes_are_read_as_they_were_meant(name):
    value, encode_one, decode_one = PLAIN[name]
    kept = (GOLDEN / f"{name}.bin").read_bytes()
    assert decode_one(kept) == value
    assert decode_one(encode_one(value)) == value


@pytest.mark.parametrize("name", TABLES)
def test_kept_blocks_are_read_as_they_were_meant(name):
    make, key, shape = TABLES[name]
    meant = make()
    loaded = type(meant)(*shape)
    loaded.load({key: (GOLDEN / f"{name}.bin").read_bytes(), "else": b""})
    assert loaded.rows == meant.rows != {}
    assert loaded.free == meant.free
    for column in meant.columns:
        assert getattr(loaded, column)[:4].tolist() == getattr(meant, column)[:4].tolist()
        assert getattr(meant, column).any()


@pytest.mark.parametrize("name", WRITTEN)
def test_what_is_written_today_is_what_was_kept(name):
    assert WRITTEN[name]() == (GOLDEN / f"{name}.bin").read_bytes()


def test_a_kept_history_says_what_the_user_did():
    kept = decode_session((GOLDEN / "session-2.bin").read_bytes())
    did = [(verbs()[seen.kind], seen.item_id) for seen in kept.history]
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
    kept = (GOLDEN / "session-2.bin").read_bytes()
    session = Session(Behaviour())
    again = [event.event_id for event in EVENTS if session.accept(event, kept) == Accepted(kept)]
    assert again == [event.event_id for event in EVENTS if event.ts > NOW + 2000 or event.event_id == "e-late"]


def test_a_block_of_the_first_layout_is_refused():
    with pytest.raises(ValueError, match="layout 1"):
        ItemTable(3, 4).load({"block:00000000": encode((1, 0, [], {}, {}))})


@pytest.mark.parametrize(
    ("decode", "name"), [(decode_session, "session-2"), (decode_feedback, "feedback-2"), (decode_learner, "learner-1")]
)
def test_a_layout_of_the_future_is_refused(decode, name):
    kept = bytearray((GOLDEN / f"{name}.bin").read_bytes())
    kept[1] = 99  # the layout stands first in the array
    with pytest.raises(ValueError, match="layout 99"):
        decode(bytes(kept))


def test_every_golden_file_is_tested():
    names = {path.stem for path in GOLDEN.glob("*.bin")}
    assert names == {*PLAIN, *TABLES}


def write(name: str) -> None:
    """Write the golden file of a new layout."""
    target = GOLDEN / f"{name}.bin"
    if target.exists():
        raise SystemExit(f"{target.name} is there: a layout that was released does not change, make a new one")
    made = WRITTEN[name]() if name in WRITTEN else PLAIN[name][1](PLAIN[name][0])
    target.write_bytes(made)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        write(wanted)
