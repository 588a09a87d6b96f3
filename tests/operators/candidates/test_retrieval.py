"""Retrieval where a source is off, and in a catalogue as large as it may be."""

import math
import time

import msgspec
import numpy as np
import pytest
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, SlateSettings, SourceSettings
from riverrank.operators.slate.recommend import Recommend
from riverrank.state.item_tables import ORDERS, POPULARITY, POSITIVES
from riverrank.state.messages import Feedback, Seen
from riverrank.state.records.incoming import Event
from shop_pipeline import PLAIN, Shop, ids

# Where a source is off.

OFF = [("popular",), tuple(source.name for source in registry.SOURCES if source.name != "cohort")]


@pytest.mark.parametrize("off", OFF, ids=["popular", "all but one that proposes nothing"])
def test_a_slate_is_filled_up_and_no_slot_says_a_source_that_is_off(off):
    shop = Shop(msgspec.structs.replace(PLAIN, sources=SourceSettings(off=off)), items=200)
    shop.crowd(events=3)
    taken = [slot.item_id for slot in shop.send("warm", "request").items[:5]]
    for item in taken:
        shop.send("warm", "purchase", item)
    for user in ("cold", "warm"):
        slate = shop.send(user, "request")
        assert len(set(ids(slate))) == 20 and (user == "cold" or not {*ids(slate)} & {*taken})
        said = {name for slot in slate.items for name in slot.sources}
        assert said and not said & {*off} and all(slot.sources and slot.reasons for slot in slate.items)
        if off is OFF[1]:
            first = [shop.index.table.ids[row] for row in shop.index.popular().tolist()]
            filled = [item for item in first if user == "cold" or item not in taken][:20]
            assert said == {"filler"} and {*ids(slate)} == {*filled}


def test_what_fills_a_slate_up_says_popular_where_that_is_on():
    shop = Shop(PLAIN, items=200)
    retriever = Retriever(msgspec.structs.replace(PLAIN, slate=SlateSettings(size=200, candidates=10)), shop.index)
    found = retriever.find(context_of(shop.index, [], {}), None)
    bit = 1 << retriever.source_names.index("popular")
    assert len(found.rows) == 200 and (found.proposed[10:] == bit).all() and found.proposed[:10].all()
    assert [*dict.fromkeys([*found.rows[:10].tolist(), *shop.index.popular().tolist()])] == found.rows.tolist()


@pytest.mark.parametrize(("hidden", "candidates"), [(0, 100), (19, 100), (20, 120), (60, 120)])
def test_a_sixth_of_the_candidates_is_looked_for_only_where_as_many_are_hidden(hidden, candidates):
    shop = Shop(PLAIN, items=400)
    retriever = Retriever(msgspec.structs.replace(PLAIN, slate=SlateSettings(candidates=120)), shop.index)
    seen = shop.index.hash[shop.index.popular()[:hidden]]
    found = retriever.find(context_of(shop.index, [], {}), np.tile(seen, 3))  # as of one that was bought three times
    assert len(found.rows) == candidates == len({*found.rows.tolist()})
    assert not {*found.rows.tolist()} & {*shop.index.popular()[:hidden].tolist()}


# As large as it may be.

EVENTS, HISTORY = 40, 20


def large_index(items: int) -> tuple[ItemIndex, list[list[Seen]]]:
    """An index of as many made items, with full lists, and histories of users. Each thousand items is a world of its
    own, so that as many are reached, however many thousands there are.
    """
    index, rng = ItemIndex(Behaviour()), np.random.default_rng(1)
    table = index.table
    table.grow(1 << items.bit_length())
    index._fit()
    tokens = [index.vocabulary.number(f"category=c{k}") for k in range(50)]
    for k in range(items):
        row = index._row(f"i{k}")
        index.tokens[row, 0] = tokens[k % 50]
        index.vocabulary.link(row, index.tokens[row])
    table.stats[:items, [POPULARITY, POSITIVES]] = (1 + 100 * rng.random(items) ** 3)[:, None]
    thousand = np.arange(items)[:, None] // 1000 * 1000
    table.neighbours[:items] = thousand + 1000 * rng.random((items, table.width)) ** 2
    table.weights[:items] = rng.random((items, table.width, ORDERS), np.float32)
    for array in (index.content, table.context, table.target):
        array[:items] = rng.standard_normal((items, array.shape[1]), np.float32) / array.shape[1] ** 0.5
    users = rng.integers(items // 1000, size=(EVENTS, 1)) * 1000 + 1000 * rng.random((EVENTS, HISTORY)) ** 2
    return index, [[Seen(f"i{k}", 1, 1.0) for k in user] for user in users.astype(int).tolist()]


def test_an_event_costs_no_more_in_a_large_catalogue():
    """From 1,000 to 100,000 items, to learn from a click and answer it costs at most 1.5 times as much: what is read
    lies farther apart, and the embedding looks among 4,096 instead of 1,000.
    """
    sides = []
    for items in (1_000, 100_000):
        index, histories = large_index(items)
        recommend = Recommend(index.behaviour, index, predict=False)
        feedbacks = [
            Feedback(Event(f"e{user}", "click", f"u{user}", 1, history[-1].item_id), 1.0, history[:-1])
            for user, history in enumerate(histories)
        ]
        sides.append((recommend, [(each, recommend.answer(each, None).state) for each in feedbacks]))
    least = [math.inf, math.inf]  # seconds of the processor, on a machine that does other things as well
    for _ in range(100):
        for number, (recommend, asked) in enumerate(sides):
            started = time.thread_time()
            for feedback, state in asked:
                assert recommend.answer(feedback, state).slate is not None
            least[number] = min(least[number], (time.thread_time() - started) / EVENTS)
        if least[1] < 1.5 * least[0]:
            break
    else:
        pytest.fail(f"{least[0] * 1e6:.0f} us with 1,000 items, {least[1] * 1e6:.0f} us with 100,000")
    print(f"{least[0] * 1e6:.0f} us with 1,000 items, {least[1] * 1e6:.0f} us with 100,000")
