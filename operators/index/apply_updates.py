"""How an ItemIndex takes what SIGNALS and RANKER learned: updates into its rows. Decides nothing about items."""

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from numba import njit
from riverrank.operators.settings import Behaviour
from riverrank.operators.signals.sessions import Sessions
from riverrank.state.item_tables import AFTER, BEFORE, ORDERS, STATS, ItemTable, from_bfloat16
from riverrank.state.messages import LAST, AutoencoderUpdate, Learned, SignalUpdate, VectorUpdate
from riverrank.state.table import mark_blocks, refuse

from .changed_rows import ChangedRows
from .item_weights import ItemWeights


class Indexed(Protocol):
    """What an update changes: `item_index.ItemIndex`."""

    behaviour: Behaviour
    table: ItemTable
    sessions: Sessions
    item_weights: ItemWeights
    changed: ChangedRows
    meta: Any
    lists: Any
    _pool: Any
    clock: np.ndarray

    def _row(self, item_id: str) -> int: ...
    def _make_room(self, ids: Sequence[str]) -> None: ...
    def _set_clock(self) -> None: ...
    def _release_cohorts(self, names: Sequence[str]) -> None: ...


def apply_signals(index: Indexed, update: SignalUpdate) -> None:
    """Put what a shard of SIGNALS learned into the index: counts, lists, and whom each user's session shows to take.

    Raises ValueError, before anything is changed, on lists of another width than the index has.
    """
    counted, lists = np.frombuffer(update.counted, "<i4"), np.frombuffer(update.lists, "<i4")
    positions, width = np.frombuffer(update.positions, "<u2"), index.table.width
    if (last := _last_position(lists, positions)) >= width:
        refuse("an update", "positions in a list", f"up to {last}", f"below {width}", "signals.neighbours")
    cells = len(positions)
    if last < 0 or len(update.neighbours) != 4 * cells or len(update.weights) != 4 * ORDERS * cells:
        refuse("an update", "cells of lists", f"{cells} positions", "as many in each of its arrays")
    if len(update.stats) != 4 * STATS * len(counted):
        refuse("an update", "stats", f"{len(update.stats)} bytes", f"{4 * STATS} for each of {len(counted)} items")
    if update.gone:
        index._release_cohorts(update.gone)
    rows, table = _rows(index, update.ids), index.table
    _apply(
        table.stats, table.at, table.shard, table.neighbours, table.weights, rows, counted,
        np.frombuffer(update.stats, "<f4"), float(update.events), update.shard,
        np.frombuffer(update.whole, "<i4"), lists, positions,
        np.frombuffer(update.neighbours, "<i4"), np.frombuffer(update.weights, "<f4"),
        index.behaviour.signals.forgetting, table.block_rows, table.changed,
    )  # fmt: skip
    if update.taken:
        taken = [rows.item(k) if k >= 0 else -1 for k in np.frombuffer(update.taken, "<i4").tolist()]
        index.sessions.take(np.frombuffer(update.keys, "<u4").tolist(), taken)
    meta = index.meta
    is_new = update.shard not in meta.events
    meta.events[update.shard] = update.events
    if is_new:
        index._set_clock()
        index.lists.forget()
    else:
        index.clock[update.shard] = update.events
    index.lists.count(rows.take(counted))
    index.changed.note(index.changed.neighbours, rows[: len(lists) // 2])
    meta.ratings[update.shard] = update.ratings
    _pass(index, update)


def apply_vectors(index: Indexed, update: VectorUpdate) -> None:
    """Put the embeddings that a shard of RANKER learned into the index.

    Raises ValueError, before anything is changed, on embeddings of another length than the index has.
    """
    d, n = index.behaviour.embedding.dimensions, len(update.target_of) // 4
    for held, vectors in ((len(update.context_of) // 4, update.context), (n, update.target)):
        if len(vectors) != 2 * d * held:
            length = len(vectors) // (2 * max(1, held))
            refuse("an update", "embeddings", f"of {length} numbers", f"{d}", "embedding.dimensions")
    if len(update.bias) != 4 * n:
        refuse("an update", "biases", f"{len(update.bias)} bytes", f"4 for each of {n} items")
    rows, table = _rows(index, update.ids), index.table
    targets = _apply_vectors(
        table.context, table.target, table.bias, rows, np.frombuffer(update.context_of, "<i4"),
        np.frombuffer(update.context, "<u2"), np.frombuffer(update.target_of, "<i4"),
        np.frombuffer(update.target, "<u2"), np.frombuffer(update.bias, "<f4"), table.block_rows, table.changed,
    )  # fmt: skip
    index._pool.update(targets, index.lists.popular)
    index.changed.note(index.changed.likeness, targets)
    _pass(index, update)


def apply_autoencoder(index: Indexed, update: AutoencoderUpdate) -> None:
    """Go by the weights that a shard of RANKER fitted, between the items that the index knows."""
    index.item_weights.take(update, index.table.rows.find(update.ids))
    _pass(index, update)


def _pass(index: Indexed, update: Learned) -> None:
    """Note the time of an update."""
    index.meta.ts = max(index.meta.ts, update.ts % LAST)


def _rows(index: Indexed, ids: Sequence[str]) -> np.ndarray:
    """The rows of `ids`, begun where there are none: int32 (n,)."""
    rows = index.table.rows.find(ids)
    if rows.min(initial=0) < 0:
        index._make_room(ids)
        rows = index.table.rows_of_each(ids, index._row)
    return rows


@njit(cache=True)
def _last_position(lists, positions):  # type: ignore[no-untyped-def]
    """The highest of `positions`, 0 for none; -1 where there are not as many as `lists`, flat, have cells."""
    cells = 0
    for k in range(1, len(lists), 2):
        cells += lists[k]
    last = 0
    for position in positions:
        last = max(last, position)
    return last if cells == len(positions) and len(lists) % 2 == 0 else -1


@njit(cache=True)
def _apply(  # type: ignore[no-untyped-def]
    stats, at, shard, neighbours, weights, rows, counted, new_stats, events, number, whole, lists, positions, others,
    amounts, forgetting, block_rows, changed,
):  # fmt: skip
    """Put the arrays of a SignalUpdate, flat, into the columns of a table whose rows are `rows[item]`.

    A list that is `whole` begins empty, and one that was renewed forgets as often; then its cells that changed are
    written. Notes the blocks of all of them in `changed`. Costs 0.1 us a list.
    """
    width = stats.shape[1]
    for k in range(len(counted)):
        row = rows[counted[k]]
        for column in range(width):
            stats[row, column] = new_stats[k * width + column]
        at[row] = events
        shard[row] = number
        changed[row // block_rows] = True
    for item in whole:
        neighbours[rows[item], :] = -1
        weights[rows[item], :, :] = 0
    c = 0
    for item in range(len(lists) // 2):
        row = rows[item]
        changed[row // block_rows] = True
        if lists[2 * item] > 0:
            kept = np.float32(forgetting ** lists[2 * item])
            for position in range(weights.shape[1]):
                weights[row, position, AFTER] *= kept
                weights[row, position, BEFORE] *= kept
        for _ in range(lists[2 * item + 1]):
            neighbours[row, positions[c]] = rows[others[c]]
            for order in range(ORDERS):
                weights[row, positions[c], order] = amounts[ORDERS * c + order]
            c += 1


@njit(cache=True)
def _apply_vectors(  # type: ignore[no-untyped-def]
    context, target, bias, rows, context_of, contexts, target_of, targets, biases, block_rows, changed
):  # fmt: skip
    """Put the arrays of a VectorUpdate, flat, into the columns of a table whose rows are `rows[item]`, and note their
    blocks in `changed`; the rows whose target embedding it was, int32 (n,).
    """
    d = context.shape[1]
    for k in range(len(context_of)):
        for column in range(d):
            context[rows[context_of[k]], column] = from_bfloat16(contexts[k * d + column])
    moved = np.empty(len(target_of), np.int32)
    for k in range(len(target_of)):
        moved[k] = row = rows[target_of[k]]
        bias[row] = biases[k]
        for column in range(d):
            target[row, column] = from_bfloat16(targets[k * d + column])
    mark_blocks(rows, block_rows, changed)
    return moved
