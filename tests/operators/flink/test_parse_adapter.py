"""Parse as Flink drives it, without Java: lines become records with a key, updates or dead letters."""

import json

import msgspec
import pytest
from adapters import ALL, KEY, line
from harness import Harness
from riverrank.operators.flink.arrivals import Arrival, Lines, kafka_record
from riverrank.operators.flink.parse import ParseEvents, ParseItems
from riverrank.operators.settings import Behaviour
from riverrank.state.hashing import pseudonym
from riverrank.state.messages import CatalogueUpdate, decode_update
from riverrank.state.records.incoming import Item


def test_an_event_travels_as_it_came_with_the_pseudonym_of_its_user() -> None:
    parse = Harness(ParseEvents(kafka_record, "clicks", ALL, KEY))
    raw = line("e", user="u-1").encode()
    parse.element((b"k", raw, 2, 17, 5))
    ((key, arrival),) = parse.main
    assert (key, msgspec.msgpack.decode(arrival, type=Arrival)) == (pseudonym("u-1", KEY), Arrival(2, 17, 5, raw, b"k"))


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (None, "bad_json"),
        (b"", "bad_json"),
        (b"{broken", "bad_json"),
        (b"[" * 200_000, "bad_field"),
        (b'{"event_id":"e"}', "bad_field"),
        (b'{"user_id":7}', "bad_field"),
        (b'{"user_id":"\xff"}', "bad_encoding"),
    ],
)
def test_an_event_without_a_key_is_a_dead_letter_of_parse(raw: bytes | None, reason: str) -> None:
    parse = Harness(ParseEvents(kafka_record, "clicks", ALL, KEY))
    parse.element((None, raw, 1, 9, 5))
    assert parse.main == []
    ((key, letter),) = parse.sides["dead-letters-records"]
    found = json.loads(letter)
    assert (key, found["topic"], found["partition"], found["offset"], found["ts"]) == ("", "clicks", 1, 9, 5)
    assert found["reason"] == reason


def test_blank_lines_are_counted_and_no_record() -> None:
    parse = Harness(ParseEvents(Lines(), "events", ALL, KEY))
    for each in (line("e1"), "", line("e2")):
        parse.element(each)
    assert [msgspec.msgpack.decode(value, type=Arrival).offset for _, value in parse.main] == [0, 2]


def test_items_become_updates_where_they_are_wanted_and_dead_letters_always() -> None:
    for updates, count in ((True, 1), (False, 0)):
        parse = Harness(ParseItems(Behaviour(), Lines(), "items", ALL, updates=updates))
        parse.element('{"item_id":"i","ts":3}')
        parse.element("broken")
        assert [decode_update(update) for update in parse.main] == [CatalogueUpdate(Item("i", 3))] * count
        assert len(parse.sides["dead-letters-records"]) == 1
