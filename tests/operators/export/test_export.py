"""What an export tells of a user's state: all of it, in pieces that fit into a record."""

from typing import Any

import msgspec
import numpy as np
import pytest
from riverrank.operators.export.learner import kept_learner, learner_pieces
from riverrank.operators.export.sessions import TYPES, kept_session, session_pieces
from riverrank.operators.session.session import Session
from riverrank.operators.settings import Behaviour, ExplorationSettings, LearnerSettings
from riverrank.state.learners import LearnerState, decode_learner
from riverrank.state.messages import History, Seen
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Export, to_json
from riverrank.state.records.pieces import MAX_PIECE_BYTES, Collector, cut, join
from riverrank.state.sessions import OpenImpression, SessionState, decode_session, encode_session
from shop_pipeline import PLAIN, Shop

ASKED = Event("x", "export", "u", 9_000)
decode = msgspec.json.Decoder(Export).decode


def lived(behaviour: Behaviour = PLAIN) -> Shop:
    """A shop in which `u` did all that leaves a trace."""
    shop = Shop(behaviour)
    shop.crowd(6, 8)
    for kind, item in (("click", "i1"), ("purchase", "i2"), ("dislike", "i4"), ("view", "i7"), ("like", "i8")):
        shop.send("u", kind, item)
    shop.send("u", "rate", "i3", value=4.0)
    shop.send("u", "profile", attributes={"band": "25-34", "likes": ["c1", "c2"]})
    slate = shop.send("u", "request")
    assert slate is not None
    shown = tuple(slot.item_id for slot in slate.items[:5])
    shop.send("u", "impression", items=(*shown, "nobody-knows-it"), slate_id=slate.slate_id)
    shop.send("u", "click", shown[2], slate_id=slate.slate_id)
    shop.send("u", "impression", items=shown)
    return shop


def session_of(kept: dict[str, Any]) -> SessionState:
    """The state that such an export was made of."""
    codes = {name: code for code, name in TYPES.items()}
    history = History.of(Seen(row["item_id"], row["ts"], row["reward"], codes[row["type"]]) for row in kept["history"])
    hashes = [int(row["hash"], 16) for row in kept["event_ids"]]
    state = SessionState(
        newest=kept["times"]["newest"],
        second=kept["times"]["second_newest"],
        hashes=np.array(hashes, "<u8").tobytes(),
        times=np.array([row["ts"] for row in kept["event_ids"]], "<u8").tobytes(),
        late=np.array([int(row["hash"], 16) for row in kept["late_event_ids"]], "<u8").tobytes(),
        history=history,
        marks=np.array([row["slate_hash"] or 0 for row in kept["history"]], "<u4").tobytes(),
        attributes=kept["profile"],
        user_id=kept["user_id"],
    )
    for row in kept["impressions"]:
        items = [each for each in kept["impression_items"] if each["impression"] == row["impression"]]
        answers = {each["place"] - 1: (each["answered"], int(each["positive"])) for each in items if "answered" in each}
        names = tuple(each["item_id"] for each in items)
        opened = OpenImpression(row["event_id"], row["ts"], names, row["slate_id"], answers, row["arrived"] or 0)
        state.impressions = [*state.impressions, opened]
    return state


def test_a_session_can_be_made_again_from_its_export() -> None:
    state = decode_session(lived().sessions["u"])
    state.late = b"\1\2\3\4\5\6\7\xff"
    state.impressions[0].arrived = 7
    assert len(state.impressions) == 2 and state.impressions[0].answers and len(state.history) > 5
    kept = join(map(decode, session_pieces(ASKED, encode_session(state))))
    assert encode_session(session_of(kept)) == encode_session(state)


def test_of_an_erased_user_nothing_is_told_but_the_mark() -> None:
    session = Session(Behaviour())
    state = session.accept(Event("e", "click", "u", 1_000, "i"), None).state
    state = session.accept(Event("gone", "erase", "u", 2_000), state).state
    (piece,) = map(decode, session_pieces(ASKED, state))
    assert piece.kept["erased"] == {"all_up_to": 2_000, "asked": 2_000}
    assert [row["ts"] for row in piece.kept["event_ids"]] == [2_000]
    assert set(piece.kept) == {"erased", "event_ids"}


def test_of_a_user_of_whom_nothing_is_kept_an_empty_piece_is_told_of_each_part() -> None:
    shop = lived()
    pieces = [*session_pieces(ASKED, None), *learner_pieces(ASKED, None, shop.index, (), "cache")]
    (first, second) = map(decode, learner_pieces(Event("x", "export", "nobody", 1), None, shop.index, (), None) * 2)
    assert [decode(piece).part for piece in pieces] == ["sessions", "learner"]
    assert decode(pieces[0]).kept == first.kept == second.kept == {}


def learner_of(behaviour: Behaviour = PLAIN) -> tuple[LearnerState, Any]:
    shop = lived(behaviour)
    names = shop.recommend.control.learners.names
    return decode_learner(shop.users["u"]), lambda state: kept_learner(state, shop.index, names)


@pytest.mark.parametrize("field", LearnerState.__struct_fields__)
def test_each_field_of_a_learner_is_told(field: str) -> None:
    pickled = Behaviour(learner=LearnerSettings(model="naive_bayes.GaussianNB"))
    measured = msgspec.structs.replace(PLAIN, exploration=ExplorationSettings(kind="thompson", rate=0.1))
    behaviour = {"model": pickled, "precision": measured}.get(field, PLAIN)
    state, told = learner_of(behaviour)
    value = getattr(state, field)
    other: Any = {int: 77, float: 0.25, tuple: (3, 2.5)}.get(type(value))
    if isinstance(value, bytes):
        assert value, f"the stream leaves nothing in {field}"
        other = value[:-4] + bytes([value[-4] ^ 1]) + value[-3:]
    if isinstance(value, dict):
        other = value | {"n_iterations": 77}
    changed = LearnerState(**{**msgspec.structs.asdict(state), field: other})
    assert to_json(told(changed)) != to_json(told(state))


def test_what_is_hashed_in_a_learner_has_its_name_in_the_export() -> None:
    state, told = learner_of()
    kept = told(state)
    assert {row["item_ids"][0]: row["by"] for row in kept["hidden"]} == {
        "i2": "purchase", "i3": "rate", "i4": "refused", "i8": "like",
    }  # fmt: skip
    assert kept["weights"][0]["feature"] == "ranker" and all(row["feature"] for row in kept["weights"])
    assert all(row["tokens"][0].startswith(("category=", "brand=")) for row in kept["tokens"]) and kept["tokens"]
    assert {row["version"] for row in kept["slates"]} == {5, 6, 8}  # the seventh was shown, and is among those
    assert all(row["item_id"].startswith("i") for row in kept["slates"])
    shown = kept["shown_items"]
    assert {row["impression"] for row in shown} == {1, 2} and len(shown) == 11
    assert set(shown[0]["features"]) == {row["feature"] for row in kept["weights"]} - {"ranker"}
    assert "features" not in shown[5] and [row["place"] for row in shown] == [1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5]


def test_numbers_are_those_of_the_state() -> None:
    state, told = learner_of()
    weights = np.array([row["weight"] for row in told(state)["weights"]], np.float32)
    assert weights.tobytes() == state.weights
    tokens = np.array([row["weight"] for row in told(state)["tokens"]], np.float32)
    assert tokens.tobytes() == state.token_weights


def test_what_the_user_took_last_among_session_neighbours_is_told() -> None:
    shop = lived()
    kept = join(
        map(decode, learner_pieces(ASKED, shop.users["u"], shop.index, shop.recommend.control.learners.names, None))
    )
    taken = [row["item_id"] for row in kept["neighbour_session"]]
    assert taken[1:] == ["i3", "i8", "i7", "i2", "i1"]


def hostile_session() -> SessionState:
    """As large as it can be: ids of 256 bytes that JSON has six for each of."""

    def name(number: int) -> str:
        return f"{number:06d}".ljust(256, "\1")

    n = 4096
    return SessionState(
        newest=1,
        second=1,
        hashes=bytes(8 * n),
        times=bytes(8 * n),
        history=History.of(Seen(name(k), k, 1.0) for k in range(100)),
        impressions=[
            OpenImpression(
                name(k),
                k,
                tuple(name(1000 * k + j) for j in range(1000)),
                "s" * 320,
                dict.fromkeys(range(1000), (9, 1)),
            )
            for k in range(8)
        ],
        attributes={"a": "\1" * 1_000},
        user_id=name(0),
    )


def test_the_largest_session_is_told_in_pieces_that_a_topic_takes() -> None:
    state = hostile_session()
    asked = Event("x\1" * 128, "export", "\1" * 256, 1)
    pieces = session_pieces(asked, encode_session(state))
    assert len(pieces) > 10 and max(map(len, pieces)) <= MAX_PIECE_BYTES
    assert min(map(len, pieces[:-1])) > MAX_PIECE_BYTES - 10_000
    assert join(map(decode, pieces)) == msgspec.json.decode(
        to_json({k: v for k, v in kept_session(state).items() if v})
    )
    collector = Collector(asked)
    for piece in (*reversed(pieces), *pieces, *cut(asked, "learner", None, {})):
        collector.take(piece)
    whole = collector.whole()
    assert whole is not None and len(whole["sessions"]["impression_items"]) == 8_000
    assert whole == collector.whole()


def test_an_export_is_whole_once_all_pieces_of_one_telling_of_each_part_are_there() -> None:
    rows = {"rows": ["a" * 90] * 9}
    first, again = (cut(ASKED, "sessions", "learner", {**rows, "n": n}, most=500) for n in (1, 2))
    collector = Collector(ASKED)
    for piece in (first[0], *again[1:], b"junk", None, cut(Event("y", "export", "u", 1), "sessions", None, {})[0]):
        collector.take(piece)
    collector.take(cut(ASKED, "learner", None, {"weights": [1]})[0])
    assert collector.whole() is None
    assert f"{len(again) - 1} of {len(again)} of sessions" in collector.missing()
    collector.take(again[0])
    assert collector.whole() == {"sessions": {**rows, "n": 2}, "learner": {"weights": [1]}}


def test_what_does_not_fit_into_a_piece_is_refused_by_its_name() -> None:
    with pytest.raises(ValueError, match=r"learner\.rows: 302 bytes do not fit"):
        cut(ASKED, "learner", None, {"rows": ["a" * 300]}, most=400)
