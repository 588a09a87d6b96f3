"""Updates are written to the rows of their items as plain Python does it, and those that do not fit are refused."""

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_index import ROWS
from riverrank.operators.index.apply_updates import _apply, _apply_vectors, _last_position
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, EmbeddingSettings, SignalSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import ItemTable, to_bfloat16
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import Feedback, Seen, SignalUpdate, VectorUpdate, encode
from riverrank.state.records.incoming import Event

CELL = st.tuples(st.integers(0, 2), st.integers(0, 5), st.sampled_from([0.0, 0.5, 2.0]))  # position, item, weight


@given(
    st.lists(st.tuples(st.integers(0, 3), st.lists(CELL, max_size=3)), max_size=6),
    st.lists(st.integers(0, 5), max_size=6, unique=True),
    st.sets(st.integers(0, 5)),
)
def test_an_update_is_written_to_the_rows_of_its_items(renewed, counted, whole):
    table, twin = ItemTable(3), ItemTable(3)
    for held in (table, twin):
        held.neighbours[:8], held.weights[:8] = np.arange(24).reshape(8, 3) % 8, 1.0
    rows = np.array([7, 3, 0, 5, 1, 2], np.int32)
    stats = np.arange(6.0 * len(counted), dtype=np.float32)
    cells = [cell for _, held in renewed for cell in held]
    stats, counts, positions, items, amounts = (
        np.frombuffer(np.array(part, kind).tobytes(), kind)  # not to be written to, as those of an update
        for part, kind in (
            (stats, "<f4"),
            ([(n, len(held)) for n, held in renewed], "<i4"),
            ([position for position, _, _ in cells], "<u2"),
            ([item for _, item, _ in cells], "<i4"),
            ([(weight, 2 * weight) for *_, weight in cells], "<f4"),
        )
    )
    changed, blocks = np.frombuffer(np.array(counted, "<i4").tobytes(), "<i4"), np.zeros(len(table.stats), np.bool_)
    begun = np.array([k for k in sorted(whole) if k < len(renewed)], "<i4")
    _apply(
        *(table.stats, table.at, table.shard, table.neighbours, table.weights, rows, changed),
        *(stats, 77.0, 1, begun, counts, positions, items, amounts, 0.5, 1, blocks),
    )
    for k, item in enumerate(counted):
        row = rows[item]
        twin.stats[row], twin.at[row], twin.shard[row] = stats[6 * k : 6 * k + 6], 77.0, 1
    for item, (renewals, held) in enumerate(renewed):
        row = rows[item]
        twin.weights[row] *= 0.5**renewals
        if item in whole:
            twin.neighbours[row], twin.weights[row] = -1, 0.0
        for position, other, weight in held:
            twin.neighbours[row, position] = rows[other]
            twin.weights[row, position] = [weight, 2 * weight]
    for name in ("stats", "at", "shard", "neighbours", "weights"):
        assert getattr(table, name).tolist() == getattr(twin, name).tolist()


@given(st.lists(st.integers(0, ROWS - 1), unique=True), st.integers(0, 10**6), st.integers(1, 5))
def test_vectors_are_written_to_the_rows_of_their_items(rows, seed, d):
    draws, of = np.random.default_rng(seed), np.array(rows, np.int32)
    context, target, bias = (
        draws.random((ROWS, d), np.float32),
        draws.random((ROWS, d), np.float32),
        np.zeros(ROWS, "f"),
    )
    twins = context.copy(), target.copy(), bias.copy()
    told = [np.flatnonzero(draws.random(len(rows)) < 0.5).astype("<i4") for _ in range(2)]
    vectors = [draws.integers(-8, 8, (len(items), d)).astype("<f4") for items in told]  # which two bytes hold
    biases, blocks = draws.random(len(told[1]), np.float32), np.zeros(ROWS, np.bool_)
    flat = [np.array([to_bfloat16(number) for number in each.ravel()], "<u2").tobytes() for each in vectors]
    moved = _apply_vectors(
        *(context, target, bias, of, np.frombuffer(told[0].tobytes(), "<i4"), np.frombuffer(flat[0], "<u2")),
        *(np.frombuffer(told[1].tobytes(), "<i4"), np.frombuffer(flat[1], "<u2")),
        *(np.frombuffer(biases.tobytes(), "<f4"), 1, blocks),
    )
    twins[0][of[told[0]]], twins[1][of[told[1]]], twins[2][of[told[1]]] = *vectors, biases
    for found, twin in zip((context, target, bias), twins, strict=True):
        assert found.tolist() == twin.tolist()
    assert moved.tolist() == of[told[1]].tolist() and np.flatnonzero(blocks).tolist() == sorted(rows)


def learned(neighbours: int, dimensions: int) -> tuple[SignalUpdate, VectorUpdate]:
    """What SIGNALS and RANKER say of an item that twelve others were taken after."""
    signals = Signals(Behaviour(signals=SignalSettings(neighbours=neighbours)), 0)
    for k in range(12):
        signals.learn(Feedback(Event(f"e{k}", "click", "u", k, f"b{k}"), 1.0, (Seen("a", 0, 1.0),)))
    (update,) = signals.updates()
    one = np.zeros(1, "<i4").tobytes()
    vector = np.full(dimensions, 0x3F80, "<u2").tobytes()
    return update, VectorUpdate(0, ("a",), one, vector, one, vector, np.ones(1, "<f4").tobytes(), 1)


NARROW = Behaviour(signals=SignalSettings(neighbours=4), embedding=EmbeddingSettings(dimensions=16))
OF_LISTS = "an update holds positions in a list up to 11, expected below 4: set signals.neighbours as it was, or start"


@pytest.mark.parametrize(
    ("update", "message"),
    [
        (learned(60, 16)[0], OF_LISTS),
        (learned(4, 8)[1], "an update holds embeddings of 8 numbers, expected 16: set embedding.dimensions as it was"),
        (
            learned(4, 32)[1],
            "an update holds embeddings of 32 numbers, expected 16: set embedding.dimensions as it was",
        ),
    ],
)
def test_a_log_of_another_width_is_refused_with_the_mend(update, message):
    entries = DictEntries()
    Journal(entries).append(encode(update))
    with pytest.raises(ValueError, match=f"^{message}"):
        EventTimeBuffer(NARROW, Journal(entries))
    index = ItemIndex(NARROW)
    with pytest.raises(ValueError, match=message):
        index.apply(update)
    assert not index.table.rows and (index.table.neighbours == -1).all()  # nothing was written


@pytest.mark.parametrize("name", ["stats", "lists", "positions", "neighbours", "weights", "context", "target", "bias"])
def test_an_update_whose_arrays_do_not_fit_each_other_is_refused(name):
    update = next(update for update in learned(4, 16) if hasattr(update, name))
    index, array = ItemIndex(NARROW), getattr(update, name)
    for other in (array[:-4], array + array[-4:], b""):
        with pytest.raises(ValueError, match=r"an update holds .* start without this savepoint"):
            index.apply(msgspec.structs.replace(update, **{name: other}))
    assert not index.table.rows and index.apply(update)


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 4)), max_size=6),
    st.lists(st.integers(0, 65535), max_size=12),
)
def test_the_last_position_is_the_highest_where_there_are_as_many_as_cells(pairs, positions):
    lists = np.array(pairs, "<i4").reshape(-1)
    expected = max(positions, default=0) if sum(n for _, n in pairs) == len(positions) else -1
    assert _last_position(lists, np.array(positions, "<u2")) == expected


TWINS = {
    "apply_updates._last_position": test_the_last_position_is_the_highest_where_there_are_as_many_as_cells,
    "apply_updates._apply_vectors": test_vectors_are_written_to_the_rows_of_their_items,
    "apply_updates._apply": test_an_update_is_written_to_the_rows_of_its_items,
}
