"""The catalogue in memory: the newest wins, and it is bounded."""

import sys
import threading
from collections.abc import Iterator

import pytest
from riverrank.jobs.serving.http.catalogue import MOST_SAID, Catalogue, entry_of
from riverrank.state.records.incoming import Item


def test_the_newest_wins_whatever_the_order() -> None:
    catalogue = Catalogue(most=10)
    for item in (Item("a", 3, deleted=True), Item("a", 2, title="old"), Item("b", 1, title="b")):
        catalogue.take(item)
    gone, there = catalogue.of("a"), catalogue.of("b")
    assert gone is not None and there is not None
    assert (gone.available, gone.ts) == (False, 3)
    assert (there.available, there.title) == (True, "b")
    catalogue.take(Item("a", 4, title="again"))
    back = catalogue.of("a")
    assert back is not None and back.available


def test_it_holds_no_more_items_than_it_may_and_those_told_of_last() -> None:
    catalogue = Catalogue(most=3)
    for number in range(5):
        catalogue.take(Item(f"i-{number}", 1))
    catalogue.take(Item("i-2", 2))
    catalogue.take(Item("i-9", 1))
    assert [name for name in ("i-0", "i-1", "i-2", "i-3", "i-4", "i-9") if catalogue.of(name)] == ["i-2", "i-4", "i-9"]
    assert len(catalogue) == 3


def test_an_item_takes_no_more_room_than_it_may() -> None:
    long = "x" * 100
    item = Item(
        "i",
        1,
        title=long * 1_000,
        categories=tuple(f"{long}{n}" for n in range(1_000)),
        attributes={f"{long}{n}": [long] * 1_000 for n in range(1_000)} | {"deep": {"a": [1]}},
    )
    for kept in (
        entry_of(item),
        entry_of(Item("i", 1, categories=item.categories)),
        entry_of(Item("i", 1, attributes=item.attributes)),
    ):
        size = len(kept.title or "") + sum(map(len, kept.categories))
        size += sum(len(name) + sum(map(len, values)) for name, values in kept.attributes.items())
        assert 0 <= size <= MOST_SAID


def test_attributes_are_named_as_a_request_would() -> None:
    entry = entry_of(Item("i", 1, attributes={"n": 1979, "f": 9.9, "b": True, "l": ["a", 2, None, {"x": 1}], "o": {}}))
    assert entry.attributes == {"n": ("1979",), "f": ("9.9",), "b": ("true",), "l": ("a", "2")}


@pytest.fixture
def often_switched() -> Iterator[None]:
    """Threads take turns a thousand times as often."""
    usual = sys.getswitchinterval()
    sys.setswitchinterval(usual / 1_000)
    yield
    sys.setswitchinterval(usual)


@pytest.mark.usefixtures("often_switched")
def test_another_thread_finds_each_item_and_all_of_them_while_they_are_told_anew() -> None:
    catalogue, ended = Catalogue(most=2_000), threading.Event()
    for number in range(2_000):
        catalogue.take(Item(f"i-{number}", 1, available=False))
    told = 0

    def tell() -> None:
        nonlocal told
        while not ended.is_set():
            told += 1
            catalogue.take(Item(f"i-{told % 2_000}", told, available=False))

    thread = threading.Thread(target=tell)
    thread.start()
    try:
        while told < 10_000 and thread.is_alive():
            found = [catalogue.of(f"i-{number}") for number in range(2_000)]
            assert all(entry is not None and not entry.available for entry in found)
            assert len(catalogue.all()) == 2_000
    finally:
        ended.set()
        thread.join()
    assert told >= 10_000
