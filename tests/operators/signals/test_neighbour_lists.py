"""Lists of neighbours: the kernels beside plain Python, and the table that keeps the lists."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.changes import Changes
from riverrank.operators.signals.neighbour_lists import (
    ADD,
    CLICKED,
    COUNT,
    EXPECTED,
    LEAST_LOOKED,
    LOOKS_KEPT,
    PLACES,
    SKIP,
    SLOWLY,
    SURE,
    count,
    is_drawn,
    learn,
    looked_at,
    pair,
)
from riverrank.operators.signals.signals import Signals
from riverrank.operators.signals.steps import Steps
from riverrank.state.item_tables import (
    AFTER,
    BEFORE,
    DECAYED,
    NEGATIVES,
    ORDERS,
    POPULARITY,
    POSITIVES,
    RATING_SUM,
    RATINGS,
    ItemTable,
)
from riverrank.state.messages import Feedback, Outcome
from riverrank.state.records.incoming import Event


def test_a_list_of_another_width_is_refused_with_the_mend():
    table = ItemTable(width=8)
    table.row("i")
    blocks = table.dump()
    with pytest.raises(ValueError, match=r"signals\.neighbours = 8"):
        ItemTable(width=4).load(blocks)
    assert table.stats[:, POPULARITY].sum() == 0


ROWS, WIDTH = 12, 4
FORGETTING = np.float32(0.5)


@st.composite
def tables(draw: st.DrawFn) -> ItemTable:
    """A table of ROWS rows with lists of distinct neighbours, of which some positions are free."""
    table = ItemTable(WIDTH)
    numbers = np.random.default_rng(draw(st.integers(0, 10**6)))
    for row in range(ROWS):
        table.row(f"i{row}")
        held = numbers.random(WIDTH) < draw(st.sampled_from([0.0, 0.5, 1.0]))
        table.neighbours[row] = np.where(held, numbers.permutation(ROWS)[:WIDTH], -1)
        table.weights[row] = np.where(held[:, None], numbers.integers(1, 9, (WIDTH, ORDERS)) / 4, 0.0)
        table.stats[row], table.at[row] = numbers.integers(0, 9, 6), numbers.integers(0, 5)
    table.changed[:] = False
    return table


def arrays_of(changes: Changes) -> tuple[object, ...]:
    """The arguments with which every kernel ends."""
    return changes.entry_of, changes.rows, changes.counted, changes.renewals, changes.cells, changes.n


def changes_of(table: ItemTable) -> Changes:
    changes = Changes(table)
    changes.fit(ROWS)
    return changes


def put_plainly(
    table: ItemTable, row: int, others: dict[int, float], order: int, cells: set[tuple[int, int]], forgets: bool = True
) -> None:
    """Forget a little, add to the neighbours that are held, and let the others challenge the weakest of the rest."""
    neighbours, weights = table.neighbours[row].tolist(), table.weights[row].astype(float)
    weights *= float(FORGETTING) if forgets else 1.0
    known = [neighbours.index(other) for other in others if other in neighbours]
    for other, amount in others.items():
        if other in neighbours and neighbours.index(other) in known:
            position = neighbours.index(other)
            weights[position, order] += amount
            cells.add((row, position))
    strength = [sum(weights[k]) if neighbours[k] >= 0 else -1.0 for k in range(WIDTH)]
    weakest = [k for k in np.argsort(strength, kind="stable").tolist() if k not in known]
    new = [other for other in others if other not in table.neighbours[row].tolist()]
    for other, position in zip(new, weakest, strict=False):
        left = max(strength[position], 0.0) - others[other]
        if left > 0:
            weights[position] *= left / strength[position]
        else:
            neighbours[position], weights[position] = other, 0.0
            weights[position, order] = -left
        cells.add((row, position))
    table.neighbours[row], table.weights[row] = neighbours, weights


DRAWN, OTHERS = (next(now for now in range(99) if is_drawn(now) is each) for each in (True, False))


def test_one_event_in_so_many_is_drawn_without_a_pattern():
    drawn = [now for now in range(16_000) if is_drawn(now)]
    assert len(drawn) == pytest.approx(16_000 / SLOWLY, rel=0.05)
    for period in (2, 3, 7, SLOWLY):  # contexts may come in turns
        parts = np.bincount([now % period for now in drawn], minlength=period)
        assert parts.min() > 0.7 * len(drawn) / period


@given(
    tables(), st.permutations(range(ROWS)), st.integers(0, 6), st.integers(0, 3), st.integers(0, 3),
    st.sampled_from([DRAWN, OTHERS]), st.data(),
)  # fmt: skip
def test_pairs_are_added_as_plain_python_adds_them(table, rows, taken, members, contexts, now, data):
    row, past = rows[0], np.array(rows[1 : 1 + taken + members], np.int32)
    own = np.array(data.draw(st.lists(st.booleans(), min_size=len(past) + 1, max_size=len(past) + 1)))
    amounts = (np.float32(0.5) ** np.arange(taken)).astype(np.float32)
    expected, changes = ItemTable(WIDTH), changes_of(table)
    expected.neighbours[:], expected.weights[:] = table.neighbours, table.weights
    cells: set[tuple[int, int]] = set()
    stated = max(taken, len(past) - contexts)
    forgets = [k < stated or now == DRAWN for k in range(len(past))]
    for k, of in enumerate(past.tolist()):
        if own[k]:
            put_plainly(expected, of, {row: float(amounts[k]) if k < taken else 1.0}, AFTER, cells, forgets[k])
    if taken and own[-1]:
        before = dict(zip(past[:taken].tolist(), amounts.tolist(), strict=True))
        put_plainly(expected, row, before, BEFORE, cells)
    numbers = taken, stated, now
    changes.n = pair(
        table.neighbours, table.weights, FORGETTING, row, past, own, amounts, *numbers, *arrays_of(changes)
    )
    assert table.neighbours.tolist() == expected.neighbours.tolist()
    assert table.weights == pytest.approx(expected.weights, rel=1e-5)
    found = {(int(changes.rows[e]), int(p)) for e, p in np.argwhere(changes.cells[: changes.n])}
    assert found == cells
    renewed = [int(of) for of in past[own[:-1]]] + [row] * bool(taken and own[-1])
    assert sorted(changes.rows[: changes.n].tolist()) == sorted(renewed)
    renewals = dict(zip(past.tolist(), map(int, forgets), strict=True)) | {row: 1}
    for entry in range(changes.n):
        assert changes.renewals[entry] == renewals[int(changes.rows[entry])]


@given(
    tables(),
    st.lists(st.integers(0, ROWS - 1), max_size=6),
    st.sampled_from([-1.0, 0.0, 0.3, 2.0]),
    st.booleans(),
    st.sampled_from([1.0, 0.25, 0.0]),
    st.integers(5, 50),
)
def test_interactions_are_counted_as_plain_python_counts_them(table, rows, reward, rated, amount, now):
    decay = np.array([0.5, 0.9])
    stats, at = table.stats.astype(float), table.at.copy()
    for row in rows:
        stats[row, DECAYED] = stats[row, DECAYED] * decay ** (now - at[row]) + max(0.0, reward)
        stats[row, POSITIVES if reward > 0 else NEGATIVES] += amount
        if rated:
            stats[row, RATING_SUM] += 3.5
            stats[row, RATINGS] += 1
        at[row] = now
    changes = changes_of(table)
    for row in rows:
        changes.n = count(table.stats, table.at, decay, row, reward, 3.5, rated, amount, now, *arrays_of(changes))
    assert table.stats == pytest.approx(stats, rel=1e-5)
    assert table.at.tolist() == at.tolist()
    assert changes.rows[: changes.n].tolist() == list(dict.fromkeys(rows))
    assert changes.counted[: changes.n].all() and not changes.renewals[: changes.n].any()


@given(
    tables(), tables(), st.lists(st.tuples(st.permutations(range(ROWS)), st.integers(0, 6), st.booleans()), max_size=5)
)
def test_a_block_is_learned_step_by_step(table, other, interactions):
    decay, amounts = np.array([0.5, 0.9]), (np.float32(0.5) ** np.arange(6)).astype(np.float32)
    for name in table.columns:
        getattr(other, name)[:] = getattr(table, name)
    changes, others = changes_of(table), changes_of(other)
    steps = Steps(np.ones(ROWS, np.bool_), amounts)
    for k, (rows, taken, owned) in enumerate(interactions):
        cohorts = rows[1 + taken : 1 + taken + k % 3]
        row, past = rows[0], np.array(rows[1 : 1 + taken] + cohorts, np.int32)
        own = np.array([True] * len(past) + [owned])
        mine = amounts if owned else amounts[1:] if taken == 5 else amounts[:taken]
        parts = (own, mine) if not owned else (None, None)
        names, counts = [f"i{of}" for of in rows[: 1 + taken]], (ADD if k % 2 else COUNT) if owned else SKIP
        members, contexts = [f"i{of}" for of in cohorts], len(cohorts) // 2
        steps.pair(names[0], names[1:], members, counts, *parts, 2.0, 3.5, owned, 60 + k, contexts=contexts)
        if owned:
            amount = 0.0 if counts == ADD else 1.0
            others.n = count(other.stats, other.at, decay, row, 2.0, 3.5, True, amount, 60 + k, *arrays_of(others))
        other.at[cohorts] = 60 + k
        numbers = taken, len(past) - contexts, 60 + k
        others.n = pair(other.neighbours, other.weights, FORGETTING, row, past, own, mine, *numbers, *arrays_of(others))
    if interactions:
        rows = np.array([table.rows[name] for name in steps.names], np.int32)
        columns = (table.stats, table.at, decay, table.neighbours, table.weights, FORGETTING, np.zeros((PLACES, 2)))
        changes.n = learn(*columns, rows, *steps.arrays(), *arrays_of(changes))
    for name in table.columns:
        assert getattr(table, name).tolist() == getattr(other, name).tolist()
    for name in ("rows", "counted", "renewals", "cells"):
        assert getattr(changes, name)[: changes.n].tolist() == getattr(others, name)[: others.n].tolist()


@given(tables(), st.sets(st.integers(0, ROWS - 1), min_size=1))
def test_released_rows_are_in_no_list(table, gone):
    rows = np.array(sorted(gone))
    held = np.isin(table.neighbours, rows) | np.isin(np.arange(len(table.neighbours)), rows)[:, None]
    expected = np.where(held, -1, table.neighbours), np.where(held[:, :, None], 0, table.weights)
    table.release(rows)
    assert table.neighbours.tolist() == expected[0].tolist()
    assert table.weights.tolist() == expected[1].tolist()
    assert np.flatnonzero(table.changed).tolist() == [0]


@given(st.integers(0, 10**6), st.lists(st.tuples(st.integers(0, PLACES - 1), st.booleans()), max_size=30))
def test_the_looks_that_a_place_gets_are_its_clicks_beside_what_its_items_would_get_elsewhere(seed, shown):
    rng = np.random.default_rng(seed)
    looks = rng.random((PLACES, 2)) * 50.0
    clicked, expected = looks[:, CLICKED].copy(), looks[:, EXPECTED].copy()
    for place, taken in shown:
        stats = (rng.random(6) * 40).astype(np.float32)
        clicked[place] = clicked[place] * LOOKS_KEPT + taken
        liked, passed = max(float(stats[POSITIVES]) - taken, 0.0), float(stats[NEGATIVES])
        expected[place] = expected[place] * LOOKS_KEPT + (liked + 1) / (liked + passed + 10)
        usual = (clicked.sum() + 1) / (expected.sum() + 1)
        ratio = (clicked + SURE) / (expected + SURE / usual)
        share = looked_at(place, taken, stats, looks)
        assert share == pytest.approx(min(1.0, max(LEAST_LOOKED, ratio[place] / ratio[0])), rel=1e-6)
    assert looks[:, CLICKED] == pytest.approx(clicked) and looks[:, EXPECTED] == pytest.approx(expected)


def test_what_is_rarely_looked_at_is_hardly_passed_over():
    """Items alike, of which those on the first place are clicked four times as often as those on the last."""
    signals, rng = Signals(Behaviour(), 0), np.random.default_rng(5)
    names = [f"i{k}" for k in range(8)]
    for k in range(3000):
        items = tuple(rng.permutation(names).tolist())
        labels = tuple(int(rng.random() < 0.4 * 0.25 ** (place / 7)) for place in range(8))
        outcome = Outcome(f"s{k}", k, items, labels)
        signals.learn(Feedback(Event(f"e{k}", "request", "u", k), 0.0, (), (outcome,)))
    signals.settle()
    ratio = (signals._looks[:8, CLICKED] / signals._looks[:8, EXPECTED]) / (
        signals._looks[0, CLICKED] / signals._looks[0, EXPECTED]
    )
    assert ratio == pytest.approx(0.25 ** (np.arange(8) / 7), abs=0.08)
