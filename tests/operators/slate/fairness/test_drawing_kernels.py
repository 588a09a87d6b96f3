"""The kernels of floors: each has a twin in plain Python."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from riverrank.operators.slate.explore import NO_CAPS, Caps, explore
from riverrank.operators.slate.fairness.drawing import (
    NO_FLOOR,
    Due,
    draw_owed,
    draw_some,
    first_behind,
    named_by,
    owed_by_steps,
    stretch_end,
)
from riverrank.operators.slate.fairness.floors import first_allowed, mark_named

NONE = -1


class Case:
    """Some candidates, floors, draws and caps by chance."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.n, self.slots, floors = int(rng.integers(0, 30)), int(rng.integers(0, 15)), int(rng.integers(1, 4))
        self.values = -np.sort(-rng.normal(size=self.n))
        self.draws, self.cap = rng.random(self.slots), int(rng.integers(0, 4))
        self.categories = np.full((self.n, 3), NONE, np.int32)
        for row in self.categories:
            row[: rng.integers(0, 3)] = rng.integers(0, 4)
        pinned = np.array([[1, NONE, NONE], [2, NONE, NONE]], np.int32)[: rng.integers(0, 3)]
        self.caps = Caps(self.categories, pinned, self.cap) if self.cap else NO_CAPS
        shares, phases = rng.random(floors) / floors, rng.random(floors)
        places = np.floor(shares * np.arange(1, self.slots + 1)[:, None] + phases).astype(np.int64)
        anywhere = rng.random(self.n) < rng.choice([0.0, 0.7, 1.0])
        self.due = Due(places, rng.random((self.n, floors)) < 0.3, rng.integers(0, 2, floors), anywhere)


@pytest.mark.parametrize("kind", ["epsilon", "softmax"])
@given(seed=st.integers(0, 100_000), rate=st.sampled_from([0.0, 0.2, 0.9]))
def test_slots_that_are_owed_are_drawn_at_once_as_by_steps(kind: str, seed: int, rate: float) -> None:
    case = Case(seed)
    temperature = rate / max(1.0 - rate, 1e-9) if kind == "softmax" else 0.0
    at_once = draw_owed(case.values, temperature, rate, case.draws, *case.caps, *case.due)
    by_steps = owed_by_steps(case.values, kind, rate, case.draws, case.caps, lambda some: some, case.due)
    assert len(at_once) == len(by_steps) == 4
    for one, other in zip(at_once, by_steps, strict=True):
        assert one.tolist() == other.tolist()


@given(st.integers(0, 100_000), st.sampled_from([("epsilon", 0.3, 0.0), ("softmax", 0.5, 1.0)]))
def test_some_are_drawn_as_if_they_were_all(seed: int, how: tuple[str, float, float]) -> None:
    case, (kind, rate, temperature) = Case(seed), how
    some = np.flatnonzero(case.due.members[:, 0])
    caps = Caps(case.categories[some], case.caps.pinned, case.cap) if case.cap else NO_CAPS
    found = draw_some(case.values, some, temperature, rate, case.draws, case.categories, case.caps.pinned, case.cap)
    drawn = explore(case.values[some], kind, rate, case.draws, caps)
    for one, other in zip(found, drawn, strict=True):
        assert one.tolist() == other.tolist()


@given(st.integers(0, 100_000))
def test_floors_that_are_behind_and_what_they_name(seed: int) -> None:
    case = Case(seed)
    places, members, held, _ = case.due
    left = np.arange(0, case.n, 2)
    for slot in range(case.slots):
        behind = held < places[slot]
        firsts = [next((f for f in range(len(held)) if named[f] and behind[f]), NO_FLOOR) for named in members]
        assert [first_behind(named, held, places[slot]) for named in members] == firsts
        assert named_by(left, members, held, places[slot]).tolist() == [k for k in left if firsts[k] != NO_FLOOR]
        ends = [end for end in range(slot + 1, case.slots) if (held < places[end]).any()]
        assert stretch_end(held, places, slot) == (ends[0] if ends else case.slots)


@given(st.integers(0, 100_000))
def test_rows_are_marked_by_the_tokens_that_they_have(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens, rows = rng.integers(-1, 6, (20, 4)).astype(np.int32), rng.permutation(20)[:7].astype(np.int32)
    numbers = np.array([2, -2, 5], np.int32)
    named = np.zeros((7, 3), bool)
    mark_named(tokens, rows, numbers, named)
    assert named.tolist() == [[number in tokens[row].tolist() for number in numbers.tolist()] for row in rows]


@given(st.integers(0, 100_000), st.integers(0, 9))
def test_the_first_rows_that_are_allowed_are_taken(seed: int, most: int) -> None:
    rng = np.random.default_rng(seed)
    rows, servable = rng.permutation(30)[:20].astype(np.int32), rng.random(30) < 0.7
    hashes, hidden = np.arange(30, dtype=np.uint32) * 7, rng.integers(0, 30, 6).astype(np.uint32) * 7
    allowed = [row for row in rows.tolist() if servable[row] and hashes[row] not in hidden]
    assert first_allowed(rows, servable, hashes, hidden, most).tolist() == allowed[:most]


TWINS = {
    "drawing.draw_owed": test_slots_that_are_owed_are_drawn_at_once_as_by_steps,
    "drawing.draw_some": test_some_are_drawn_as_if_they_were_all,
    "drawing.first_behind": test_floors_that_are_behind_and_what_they_name,
    "drawing.named_by": test_floors_that_are_behind_and_what_they_name,
    "drawing.stretch_end": test_floors_that_are_behind_and_what_they_name,
    "floors.first_allowed": test_the_first_rows_that_are_allowed_are_taken,
    "floors.mark_named": test_rows_are_marked_by_the_tokens_that_they_have,
}


def test_every_kernel_has_a_twin() -> None:
    assert missing_twins("slate/fairness", TWINS, globals()) == set()
