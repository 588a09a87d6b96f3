"""What items say of each other, over the rows of an index: whose rows are given up, and what comes back."""

import msgspec
import numpy as np
import pytest
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.index.event_time_buffer import EventTimeBuffer
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import AutoencoderSettings, Behaviour, CatalogueSettings
from riverrank.state.item_tables import to_bfloat16
from riverrank.state.journal import DictEntries, Journal
from riverrank.state.messages import AutoencoderUpdate, CatalogueUpdate, Seen, VectorUpdate, encode
from riverrank.state.records.incoming import Item

PLAIN = Behaviour()
IDS = ("a", "b", "c")
SAID = [[0.0, 0.5, 0.25], [-0.5, 0.0, 0.125], [0.25, 0.25, 0.0]]


def told(ids: tuple[str, ...] = IDS, ts: int = 5) -> AutoencoderUpdate:
    halves = np.array([[to_bfloat16(np.float32(value)) for value in row] for row in SAID], "<u2")
    return AutoencoderUpdate(0, ids, halves.tobytes(), ts)


def index_of(items: str, behaviour: Behaviour = PLAIN) -> ItemIndex:
    index = ItemIndex(behaviour)
    for item_id in items:
        index.apply(CatalogueUpdate(Item(item_id, 1)))
    return index


def scores(index: ItemIndex, *history: str) -> dict[str, float]:
    """What the source gives each candidate, whose root is a feature."""
    retriever = Retriever(index.behaviour, index)
    found = retriever.find(context_of(index, [Seen(name, k, 1.0) for k, name in enumerate(history)], {}), None)
    column = found.features[:, retriever.features.names.index("autoencoder:root")] ** 2
    return {index.table.ids[row]: round(score, 6) for row, score in zip(found.rows.tolist(), column, strict=True)}


def test_a_score_is_what_all_of_the_history_says_together_and_nothing_where_more_speaks_against() -> None:
    index = index_of("abcd")
    assert index.apply(told())
    assert scores(index, "a") == {"a": 0.0, "b": 0.5, "c": 0.25, "d": 0.0}
    assert scores(index, "a", "b") == {"a": 0.0, "b": pytest.approx(0.97 * 0.5), "c": pytest.approx(0.3675), "d": 0.0}
    assert scores(index, "d") == dict.fromkeys("abcd", 0.0)
    assert index.meta.ts == 5


def test_the_last_that_was_told_takes_the_place_of_all_before() -> None:
    index = index_of("abcd")
    index.apply(told())
    index.apply(told(("d", "b", "unheard of")))
    assert index.item_weights.rows.tolist() == [*index.table.rows_of(["d", "b"]).tolist(), -1]
    assert scores(index, "d") == {"a": 0.0, "b": 0.5, "c": 0.0, "d": 0.0} and "unheard of" not in index.table.rows


@pytest.mark.parametrize("wrong", [b"", b"12", bytes(20)])
def test_other_than_a_weight_for_each_pair_is_refused(wrong: bytes) -> None:
    index = index_of("abc")
    index.apply(told())
    with pytest.raises(ValueError, match=r"an update holds weights .*2 for each pair of 3 items"):
        index.apply(msgspec.structs.replace(told(), weights=wrong))
    assert scores(index, "a")["b"] == 0.5


def test_of_an_item_that_was_given_up_nothing_is_said_and_nothing_of_who_has_its_row() -> None:
    index = index_of("abc", Behaviour(catalogue=CatalogueSettings(items=3)))
    index.apply(told())
    index.apply(CatalogueUpdate(Item("new", 2)))  # for which one of the three goes
    (gone,) = {*IDS} - {*index.table.rows}
    assert "new" in index.table.rows and index.item_weights.slot[index.row("new")] == -1
    assert sorted(index.item_weights.rows.tolist())[0] == -1
    again = ItemIndex.restore(index.behaviour, {})
    assert not len(again.item_weights.rows)
    kept = index.item_weights.dump()
    assert gone.encode() not in b"".join(kept.values()) and not index.item_weights.dump()


def test_it_comes_back_and_waits_its_time() -> None:
    entries = DictEntries()
    buffer = EventTimeBuffer(Behaviour(), Journal(entries, limit=2))
    buffer.read_catalogue([Item(item_id, 1) for item_id in "abc"])
    buffer.take(told(ts=5))
    assert not len(buffer.index.item_weights.rows)  # what it was learned from has yet to be answered
    buffer.release(6)
    before = scores(buffer.index, "a")
    assert before["b"] == 0.5
    vectors = VectorUpdate(0, ("a",), b"", b"", b"", b"", b"", 7)
    buffer.take(vectors, encode(vectors))
    buffer.release(8)
    buffer.take(msgspec.structs.replace(vectors, ts=8))  # the log is full, and made short
    assert any(key == "autoencoder" for key in entries)
    again = EventTimeBuffer(Behaviour(), Journal(entries, limit=2)).index
    assert scores(again, "a") == before
    assert again.item_weights.rows.tolist() == buffer.index.item_weights.rows.tolist()
    assert not again.item_weights.dump()  # it is kept already
    off = Behaviour(autoencoder=AutoencoderSettings(items=0))
    assert not len(EventTimeBuffer(off, Journal(entries, limit=2)).index.item_weights.rows)
