"""Bytes that state was kept in: every layout that was ever released must still be read, with the same values.

A golden file is written once, when its layout is new, and never again: a test that fails here means that a savepoint
would no longer restore. `PYTHONPATH=tests:tests/state:tests/operators/models python FILE NAME` writes it.
"""

import re
import sys
from functools import partial

import msgspec
import numpy as np
import pytest
import test_golden_models
import test_golden_session
from golden_files import GOLDEN, kept, write
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.index.meta import META, Meta
from riverrank.operators.privacy import blocks as noised_blocks
from riverrank.operators.privacy import signals as noised_signals
from riverrank.operators.settings import Behaviour, SignalSettings
from riverrank.operators.signals.autoencoder import CO_COUNTS, CoCounts
from riverrank.operators.signals.gathering import GATHERED, Gathered
from riverrank.operators.signals.signals import COUNTS, Counts, Signals
from riverrank.state.item_tables import ItemTable, SessionTable, VectorTable
from riverrank.state.learners import RANKER, decode_learner
from riverrank.state.messages import (
    AutoencoderUpdate,
    CacheWrite,
    CatalogueUpdate,
    Feedback,
    History,
    VectorUpdate,
    decode_feedback,
    decode_update,
    decode_write,
    encode,
)
from riverrank.state.prior import PRIOR, Prior
from riverrank.state.records.incoming import Event, Item
from riverrank.state.sessions import decode_session
from riverrank.state.table import BLOCK

FOUR = Behaviour(signals=SignalSettings(neighbours=4))
LEARNED = [
    Event("e-1", "click", "u-1", 8, "i-1"),
    Event("e-2", "rate", "u-1", 9, "i-2", 4.5),
    Event("e-3", "click", "u-1", 10, "i-3"),
    Event("e-4", "like", "u-1", 11, "i-1"),
    Event("e-5", "erase", "u-1", 12),
]


def signals_update(events: list[Event]) -> bytes:
    """What SIGNALS sends after a user did that."""
    signals, history = Signals(FOUR, 1), History()
    for event in events:
        feedback = Feedback(event, 0.0 if event.type == "erase" else 1.0, history)
        signals.learn(feedback)
        history = feedback.history_after()
    (raw,) = signals.flush()
    return raw


SIGNALS = msgspec.structs.replace(decode_update(signals_update(LEARNED)), gone=("\0age=old",))
VECTORS = VectorUpdate(1, ("a", "b"), b"\0\0\0\0", b"\1" * 8, b"\1\0\0\0", b"\2" * 8, b"\3" * 4, 8)
NOISED = noised_blocks.Block(7, 3, 4000, {"a": 2.0}, {"b": 1.0}, {"a": {"b": 0.5}})
ASKED = CacheWrite("slate:u", 0, 0, None, asked=Event("e-9", "export", "u", 1_764_000_000_000))
PLAIN = {  # name: (value, encode, decode)
    "co-counts-1": (CoCounts(("a", "b"), b"\1" * 16, 3), CO_COUNTS.encode, CO_COUNTS.decode),
    "prior-1": (Prior(b"\1\2", (0.625, 40.0), 9), PRIOR.encode, PRIOR.decode),
    "counts-1": (Counts(9, (3.5, 2.0)), COUNTS.encode, COUNTS.decode),
    "counts-1-made": (Counts(9, (3.5, 2.0), b"", {"signals.shards": 2}), COUNTS.encode, COUNTS.decode),
    "counts-1-looks": (Counts(9, (3.5, 2.0), b"\1" * 1024), COUNTS.encode, COUNTS.decode),
    "gathered-1": (Gathered(b"\1" * 16, [b"\2" * 4, b"\3" * 8]), GATHERED.encode, GATHERED.decode),
    "noised-block-1": (NOISED, noised_blocks.BLOCK.encode, noised_blocks.BLOCK.decode),
    "noised-signals-1": (
        noised_signals.Kept(9, NOISED, {3}, ("a",), {"signals.shards": 1}),
        noised_signals.KEPT.encode,
        noised_signals.KEPT.decode,
    ),
    "view-1": (Meta(4, {0: 9}, {0: (3.5, 2.0)}), META.encode, META.decode),
    "view-1-made": (Meta(4, {0: 9}, {0: (3.5, 2.0)}, {"signals.shards": 2}), META.encode, META.decode),
    "update-signals-5": (msgspec.structs.replace(SIGNALS, whole=b"", gone=()), encode, decode_update),
    "update-signals-5-whole": (SIGNALS, encode, decode_update),
    "update-signals-7": (SIGNALS, encode, decode_update),
    "update-vectors": (VECTORS, encode, decode_update),
    "update-autoencoder": (AutoencoderUpdate(1, ("a", "b"), b"\1" * 8, 9), encode, decode_update),
    "update-item": (
        CatalogueUpdate(Item("i", 5, "Alien", None, ("sci-fi",), {"year": 1979}, (0.5,), 4, False, False)),
        encode,
        decode_update,
    ),
    "cache-write": (CacheWrite("slate:u", 3, 42, b"{}", None), encode, decode_write),
    "cache-write-2": (CacheWrite("slate:u", 3, 42, b"{}", None), encode, decode_write),
    "cache-write-2-made": (CacheWrite("slate:u", 3, 42, b"{}", None, 1_764_000_000_000), encode, decode_write),
    "cache-write-2-asked": (ASKED, encode, decode_write),
}


def items() -> ItemTable:
    made = ItemTable(width=3, dimensions=4)
    for name in ("i-1", "gone", "i-2", "\0age=old"):
        made.row(name)
    made.neighbours[0] = (2, -1, 1)
    made.weights[0, 0] = (1.5, 0.5)
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


NEWEST = 4
TABLES = {  # by layout: (make, key, arguments of the table)
    f"{name}-{layout}": (make, key, shape)
    for layout in (2, 3, NEWEST)
    for name, make, key, shape in (
        ("items", items, "block:00000000", (3, 4)),
        ("vectors", vectors, "vectors:00000000", (4,)),
        ("sessions", sessions, "sessions:00000000", ()),
    )
}


@pytest.mark.parametrize("name", PLAIN)
def test_kept_bytes_are_read_as_they_were_meant(name):
    value, encode_one, decode_one = PLAIN[name]
    assert decode_one(kept(name)) == value
    assert decode_one(encode_one(value)) == value


def test_an_update_of_signals_from_before_its_lists_stood_first_tells_the_same():
    updates = [decode_update(raw) for raw in (kept("update-signals-1"), signals_update(LEARNED))]
    indexes = ItemIndex(FOUR), ItemIndex(FOUR)
    for index, update in zip(indexes, updates, strict=True):
        index.apply(update)
    old, new = (index.table for index in indexes)
    assert set(old.rows) == set(new.rows) == {"i-1", "i-2", "i-3"}

    def told(table, name):
        row = table.rows[name]
        cells = zip(table.neighbours[row].tolist(), table.weights[row].tolist(), strict=True)
        lists = {table.ids[other]: weights for other, weights in cells if other >= 0}
        return lists, table.stats[row].tolist(), table.at[row], table.shard[row]

    for name in old.rows:
        (lists, stats, *rest), (meant, counts, *others) = told(old, name), told(new, name)
        assert lists.keys() == meant.keys() != set()
        for other in lists:
            assert lists[other] == pytest.approx(meant[other], rel=1e-6)
        assert (stats, rest) == (pytest.approx(counts), others)
    assert msgspec.structs.astuple(indexes[0].meta) == msgspec.structs.astuple(indexes[1].meta)
    took = [[update.ids[item] for item in np.frombuffer(update.taken, "<i4") if item >= 0] for update in updates]
    assert took == 2 * [["i-1", "i-2", "i-3", "i-1"]]


def test_a_cache_write_is_written_as_it_was():
    assert encode(ASKED) == kept("cache-write-2-asked")


def test_signals_write_as_they_did():
    assert encode(SIGNALS) == kept("update-signals-7")


@pytest.mark.parametrize("name", TABLES)
def test_kept_blocks_are_read_as_they_were_meant(name):
    make, key, shape = TABLES[name]
    meant = make()
    loaded = type(meant)(*shape)
    loaded.load({key: kept(f"{name}"), "else": b""})
    assert loaded.rows == meant.rows != {}
    assert loaded.free == meant.free
    for column in meant.columns:
        assert getattr(loaded, column)[:4].tolist() == getattr(meant, column)[:4].tolist()
        assert getattr(meant, column).any()


@pytest.mark.parametrize("name", ["items", "vectors", "sessions"])
def test_blocks_are_written_as_they_were(name):
    make, key, _ = TABLES[f"{name}-{NEWEST}"]
    assert make().dump()[key] == kept(f"{name}-{NEWEST}")


def test_a_block_of_a_newer_layout_is_refused():
    fields = msgspec.msgpack.decode(kept(f"items-{NEWEST}"))
    with pytest.raises(ValueError, match="table block of layout 5: this version reads up to 4"):
        ItemTable(3, 4).load({"block:00000000": encode([NEWEST + 1, *fields[1:]])})


def test_a_block_of_the_first_layout_is_refused():
    with pytest.raises(ValueError, match="layout 1"):
        ItemTable(3, 4).load({"block:00000000": encode((1, 0, [], {}, {}))})


@pytest.mark.parametrize(
    ("name", "decode"),
    [
        *((name, decode_learner) for name in ("learner-1", "learner-1-adam", "learner-2")),
        *((name, RANKER.decode) for name in ("ranker-1", "ranker-1-learned", "ranker-2")),
        *((name, decode_session) for name in ("session-1", "session-2")),
        ("feedback", decode_feedback),
        ("items-2", BLOCK.decode),
        ("items-3", BLOCK.decode),
    ],
)
def test_bytes_of_an_older_layout_that_were_damaged_are_read_or_refused_by_name(name, decode):
    """Cut short, with more than it has, or with a field of another kind: never another error."""
    fields = msgspec.msgpack.decode(kept(name))
    damaged = [fields[:n] for n in range(1, len(fields))] + [[*fields, 1, 2, 3]]
    damaged += [
        [*fields[:k], other, *fields[k + 1 :]] for k in range(1, len(fields)) for other in (None, 7, b"x", [[]])
    ]
    raws = [*map(encode, damaged), *(kept(name)[:n] for n in range(1, len(kept(name)), 1 + len(kept(name)) // 50))]
    refused = 0
    for raw in raws:
        try:
            decode(raw)
        except ValueError as error:
            refused += 1
            assert re.match("learner state|ranker state|session state|feedback|table block", str(error))
    assert refused


def test_every_golden_file_is_tested():
    names = {path.stem for path in GOLDEN.glob("*.bin")}
    assert names == {*PLAIN, *TABLES, "update-signals-1", *test_golden_models.NAMES, *test_golden_session.NAMES}


def made(name: str) -> bytes:
    """What the golden file of that name holds."""
    if name in TABLES:
        make, key, _ = TABLES[name]
        return make().dump()[key]
    value, encode_one, _ = PLAIN[name]
    return encode_one(value)


if __name__ == "__main__":
    for wanted in sys.argv[1:]:
        write(wanted, partial(made, wanted))
