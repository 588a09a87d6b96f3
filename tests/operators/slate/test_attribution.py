"""Which slate an interaction answers, and what it teaches then: that what stood above was passed over, once."""

from collections.abc import Sequence

import numpy as np
import pytest
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.learner import LinearLearner
from riverrank.operators.settings import Behaviour
from riverrank.operators.slate import attribution
from riverrank.operators.slate.attribution import KEPT, find, forget, keep, passed_over
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.learners import LearnerState, decode_learner, encode_learner
from riverrank.state.messages import CatalogueUpdate, Feedback, Outcome, Seen
from riverrank.state.records.incoming import Event, Item


def shop(items: int = 40) -> ItemIndex:
    index = ItemIndex(Behaviour())
    for k in range(items):
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, categories=(f"c{k % 5}",))))
    return index


def rows(index: ItemIndex, *numbers: int) -> np.ndarray:
    return index.table.rows.find([f"i{k}" for k in numbers])


def test_the_last_slates_are_known_by_their_id_and_no_others() -> None:
    index, state = shop(), LearnerState()
    for version in range(1, 8):
        keep(state, index, version, 1000 * version, rows(index, *range(version, version + 5)))
    assert KEPT == 3 and len(state.slates) == 3 * (16 + 5 * 8)
    state = decode_learner(encode_learner(state))
    for version in range(1, 8):
        slate = find(state, "u:1", f"u:1:{version}")
        assert (slate is None) == (version < 5)
        if slate is not None:
            assert (slate.ts, slate.items["row"].tolist()) == (
                1000 * version,
                rows(index, *range(version, version + 5)).tolist(),
            )
    for other in (None, "", "7", "u:7", "v:1:7", "u:1:x", "u:1:-7"):
        assert find(state, "u:1", other) is None


def test_what_stands_above_is_passed_over_once() -> None:
    index, state = shop(), LearnerState()
    for version in (1, 2, 3):
        keep(state, index, version, 9, rows(index, *range(10)))

    def told(item: int) -> list[int]:
        slate = find(state, "u", "u:2")
        assert slate is not None
        return passed_over(state, index, slate, index.row(f"i{item}")).tolist()

    assert told(3) == rows(index, 2, 1, 0).tolist()
    assert told(3) == told(1) == []
    assert told(6) == rows(index, 5, 4).tolist()
    assert told(30) == []  # not on it
    assert [find(state, "u", f"u:{version}").taught for version in (1, 2, 3)] == [0, 7, 0]
    forget(state, find(state, "u", "u:2"))
    assert [find(state, "u", f"u:{version}") is None for version in (1, 2, 3)] == [False, True, False]


def test_a_row_that_has_another_item_by_now_was_not_shown() -> None:
    index, state = shop(), LearnerState()
    keep(state, index, 1, 9, rows(index, 0, 1, 2, 3))
    index.hash[index.row("i1")] ^= 1
    slate = find(state, "u", "u:1")
    assert passed_over(state, index, slate, index.row("i3")).tolist() == rows(index, 2, 0).tolist()


class Visitor:
    """A user who is served a slate, and takes what stands at the fifth rank of it."""

    def __init__(self) -> None:
        self.index = shop()
        self.recommend = Recommend(Behaviour(), self.index)
        self.history = (Seen("i0", 1, 1.0),)
        self.state = self.recommend.answer(Feedback(Event("q", "request", "u", 5), 0.0, self.history), None).state
        slate = find(decode_learner(self.state), "u", "u:1")
        self.shown = [self.index.table.ids[row] for row in slate.items["row"].tolist()]

    def restart(self) -> None:
        self.recommend = Recommend(Behaviour(), self.index)

    def see(self, slate_id: str, items: Sequence[str]) -> None:
        event = Event("i", "impression", "u", 6, items=tuple(items), slate_id=slate_id)
        self.state = self.recommend.answer(Feedback(event, 0.0, self.history), self.state).state

    def click(self, slate_id: str | None) -> LearnerState:
        event = Event("c", "click", "u", 7, self.shown[4], slate_id=slate_id)
        self.state = self.recommend.answer(Feedback(event, 1.0, self.history), self.state).state
        return decode_learner(self.state)


@pytest.mark.parametrize("restarted", [False, True])
def test_a_click_that_names_its_slate_teaches_that_what_stood_above_was_passed_over(
    monkeypatch: pytest.MonkeyPatch, restarted: bool
) -> None:
    taught: list[list[str]] = []
    prefer = LinearLearner.prefer

    def noted(self, inputs, *args, **named):  # type: ignore[no-untyped-def]
        taught.append([inputs.index.table.ids[row] for row in inputs.rows[inputs.picks].tolist()])
        prefer(self, inputs, *args, **named)

    monkeypatch.setattr(LinearLearner, "prefer", noted)
    visitor = Visitor()
    if restarted:
        visitor.restart()
    visitor.click("u:1")
    assert taught == [[visitor.shown[k] for k in (4, 3, 2, 1, 0)]]


def test_without_its_slate_or_with_one_that_is_not_known_it_teaches_as_ever() -> None:
    plain, named = Visitor().click(None), Visitor().click("u:1")
    for slate_id in ("elsewhere:9", "u:01", "u:\uff11", "u:-1", "u:", "1", f"u:{1 << 70}"):
        other = Visitor().click(slate_id)
        assert (plain.weights, plain.token_weights) == (other.weights, other.token_weights), slate_id
    assert (plain.weights, plain.token_weights) != (named.weights, named.token_weights)


def test_a_list_whose_impression_came_is_taught_by_that_alone() -> None:
    seen, plain = Visitor(), Visitor()
    seen.see("u:1", seen.shown)
    plain.see("", plain.shown)
    one, other = seen.click("u:1"), plain.click(None)
    assert (one.weights, one.token_weights) == (other.weights, other.token_weights)
    assert attribution.find(one, "u", "u:1") is None


def test_an_impression_that_comes_after_a_click_on_its_slate_teaches_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    visitor, taught = Visitor(), []
    visitor.click("u:1")
    visitor.see("u:1", visitor.shown)
    monkeypatch.setattr(
        LinearLearner, "learn_each", lambda self, inputs, labels, weight, offsets: taught.append((inputs, labels))
    )
    outcome = Outcome("i", 6, tuple(visitor.shown), (0, 0, 0, 0, 1, *(0 for _ in visitor.shown[5:])), "u:1")
    feedback = Feedback(Event("r", "profile", "u", 10**7), 0.0, visitor.history, (outcome,))
    answer = visitor.recommend.answer(feedback, visitor.state)
    ((inputs, labels),) = taught
    assert [visitor.index.table.ids[row] for row in inputs.rows[inputs.picks].tolist()] == visitor.shown[5:]
    assert labels == [False] * len(visitor.shown[5:])
    assert len(answer.predictions) == len(visitor.shown)


def test_a_learner_sees_what_was_shown_as_where_it_orders_a_slate(monkeypatch: pytest.MonkeyPatch) -> None:
    """The place is an offset beside those of the others, and changes no coordinate."""
    visitor, taught = Visitor(), []
    served = visitor.recommend.memory.of("u").served._by_user["u"][1]
    visitor.see("u:1", visitor.shown)
    monkeypatch.setattr(
        LinearLearner, "learn_each", lambda self, inputs, labels, weight, offsets: taught.append((inputs, offsets))
    )
    outcome = Outcome("i", 6, tuple(visitor.shown), tuple(0 for _ in visitor.shown), "u:1")
    visitor.recommend.answer(
        Feedback(Event("r", "profile", "u", 10**7), 0.0, visitor.history, (outcome,)), visitor.state
    )
    ((inputs, offsets),) = taught
    ranker = dict(zip(served.candidates.rows.tolist(), served.inputs.ranker.tolist(), strict=True))
    picked = inputs.rows[inputs.picks].tolist()
    assert inputs.ranker[inputs.picks].tolist() == [ranker[row] for row in picked]
    assert len(offsets) == len(picked) == len(visitor.shown)
    assert offsets.mean() == pytest.approx(0.0, abs=1e-9) and offsets[0] > offsets[-1]
