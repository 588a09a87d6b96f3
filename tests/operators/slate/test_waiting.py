"""Lists that wait for what follows them, as a user's state holds what they looked like."""

from struct import pack

import numpy as np
import pytest
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.inputs import Inputs
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate.waiting import MOST_ITEMS, ShownList, keep, take
from riverrank.state.hashing import hash32, hash64
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.incoming import Item

FEATURES = 3


@pytest.fixture
def index() -> ItemIndex:
    made = ItemIndex(Behaviour())
    for name in ("a", "b"):
        made.apply(CatalogueUpdate(Item(name, 1)))
    return made


def shown(index: ItemIndex, *, unknown: int = 1) -> ShownList:
    """Items a and b, and others that are not known, between them."""
    rows = index.table.rows.find(["a", "b"])
    table = np.arange(2 * FEATURES, dtype=np.float32).reshape(2, FEATURES)
    inputs = Inputs(index, Candidates(rows, table, np.zeros(2, np.uint32)), np.array([0.5, -0.5]))
    known = np.array([True, *[False] * unknown, True])
    return ShownList(inputs, known, np.arange(2.0 + unknown), np.array([0.25, -0.25]), np.array([False, True]))


def test_a_list_lies_in_state_as_its_layout_says(index: ItemIndex) -> None:
    state = LearnerState()
    keep(state, index, ("e", 7, ("a", "x", "b")), shown(index), 8)
    rows = index.table.rows.find(["a", "b"]).tolist()
    assert state.shown == b"".join(
        (
            pack("<QqHHH", hash64("\0".join(("e", "7", "a", "x", "b"))), 7, 3, 2, FEATURES),
            bytes((1, 0, 1)),
            pack("<3d", 0.0, 1.0, 2.0),
            pack("<iIiI", rows[0], hash32("a"), rows[1], hash32("b")),
            bytes((0, 1)),
            pack("<2d2d", 0.5, -0.5, 0.25, -0.25),
            pack("<6f", *range(6)),
        )
    )
    assert decode_learner(encode_learner(state)).shown == state.shown


def test_a_list_is_taken_out_once_as_it_was_put_in(index: ItemIndex) -> None:
    state, wanted = LearnerState(), shown(index)
    keep(state, index, ("e", 7, ("a", "x", "b")), wanted, 8)
    keep(
        state,
        index,
        ("f", 8, ("y",)),
        ShownList(None, np.zeros(1, bool), np.ones(1), np.zeros(0), np.zeros(0, bool)),
        8,
    )
    for other in (("e", 8, ("a", "x", "b")), ("e", 7, ("a", "b", "x")), ("g", 7, ("a", "x", "b"))):
        assert take(state, index, other, FEATURES) is None
    found = take(state, index, ("e", 7, ("a", "x", "b")), FEATURES)
    assert found is not None and found.inputs is not None and wanted.inputs is not None
    for one, other in zip(found[1:], wanted[1:], strict=True):
        assert one.tolist() == other.tolist()
    assert (found.inputs.dense == wanted.inputs.dense).all() and (found.inputs.tokens == wanted.inputs.tokens).all()
    assert take(state, index, ("e", 7, ("a", "x", "b")), FEATURES) is None
    unknown = take(state, index, ("f", 8, ("y",)), FEATURES)
    assert unknown is not None and unknown.inputs is None and unknown.logits.tolist() == [1.0] and not state.shown


def test_a_list_of_other_features_or_items_is_not_held(index: ItemIndex) -> None:
    state, which = LearnerState(), ("e", 7, ("a", "x", "b"))
    keep(state, index, which, shown(index), 8)
    held = state.shown
    assert take(state, index, which, FEATURES + 1) is None and not state.shown
    state.shown = held
    assert take(state, ItemIndex(Behaviour()), which, FEATURES) is None


def test_the_oldest_lists_by_time_go_where_there_is_no_room(index: ItemIndex) -> None:
    state = LearnerState()
    for ts in (5, 9, 7, 8):
        keep(state, index, (f"e{ts}", ts, ("a", "x", "b")), shown(index), 3)
    assert take(state, index, ("e5", 5, ("a", "x", "b")), FEATURES) is None
    for ts in (9, 7, 8):
        assert take(state, index, (f"e{ts}", ts, ("a", "x", "b")), FEATURES) is not None
    most = shown(index, unknown=MOST_ITEMS - 2)
    keep(state, index, ("small", 1, ("a", "x", "b")), shown(index), 8)
    keep(state, index, ("most", 2, ("a", "b")), most, 8)
    assert take(state, index, ("small", 1, ("a", "x", "b")), FEATURES) is None
    assert take(state, index, ("most", 2, ("a", "b")), FEATURES) is not None
    keep(state, index, ("too long", 3, ("a", "b")), shown(index, unknown=MOST_ITEMS), 8)
    assert not state.shown
