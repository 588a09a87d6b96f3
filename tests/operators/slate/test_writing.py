"""The slots of a slate as JSON: what is written straight from arrays is what records would say, to the last digit."""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from riverrank.operators.candidates.retrieval import Retriever
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.index.text_arena import TextArena
from riverrank.operators.settings import Behaviour, CatalogueSettings
from riverrank.operators.slate.explain import MOST, NONE, Phrases, Reasons
from riverrank.operators.slate.writing import Slots, SlotWriter
from riverrank.state.messages import CatalogueUpdate
from riverrank.state.records.decimals import ROOM, fixed, significant, write_decimal, write_whole
from riverrank.state.records.decoding import decode_item
from riverrank.state.records.incoming import Item
from riverrank.state.records.outgoing import Cause, Slot, to_json

ODD = ['"', "\\", "a\\u0041", "\x00\x1f\x7f", "\u2028", "ÿ Ā", "\U0001f600", "x" * 256, "</script>"]
TEXT = st.one_of(st.sampled_from(ODD), st.text(st.characters(codec="utf-8"), min_size=1, max_size=20))
NUMBER = st.one_of(st.floats(-40, 40), st.sampled_from([0.0, 0.00005, -0.00005, 0.5, 1e-9, 12345.67895, 1e12]))
CHANCE = st.one_of(
    st.floats(1e-12, 1.0),
    st.integers(1, 400).map(lambda n: 0.98 + 0.02 / n),
    st.sampled_from([1.0, 0.9803125, 0.9999995, 0.99999949, 1e-6, 0.1234565, 0.1234575, 2.0**-20, 0.3]),
)


def written(write, *numbers) -> bytes:
    out = np.zeros(2 * ROOM, np.uint8)
    return out[: write(out, 0, *numbers)].tobytes()


@given(st.one_of(st.integers(0, 9 * 10**18), st.integers(0, 300)))
def test_whole_numbers_are_written_as_python_does(value):
    assert written(write_whole, np.int64(value)) == b"%d" % value


@given(NUMBER, st.sampled_from([4, 5]))
def test_rounded_numbers_are_written_as_msgspec_writes_what_numpy_rounds(value, digits):
    """But without an exponent, and without a sign of 0."""
    text, rounded = written(write_decimal, fixed(value, 10.0**digits), digits), float(np.round(value, digits))
    assert msgspec.json.decode(text) == float(text) == rounded and b"e" not in text
    if abs(rounded) > 1e-3:
        assert text == to_json(rounded)


@pytest.mark.parametrize(
    ("value", "text"), [(math.nan, b"0.0"), (math.inf, b"900000000000000.0"), (-1e300, b"-900000000000000.0")]
)
def test_what_json_has_no_number_for_is_written_as_one(value, text):
    assert written(write_decimal, fixed(value, 1e4), 4) == text


@given(CHANCE)
@example(0.9803125)
def test_six_digits_count_of_a_propensity(value):
    whole, digits = significant(value)
    assert float(written(write_decimal, np.int64(whole), digits)) == float(f"{value:.6g}")


def test_the_smallest_propensity_is_above_0():
    for value, said in ((1e-300, 1e-18), (1e-18, 1e-18), (3e-17, 3e-17), (1.23456e-13, 1.23456e-13)):
        whole, digits = significant(value)
        assert float(written(write_decimal, np.int64(whole), digits)) == said


def test_an_arena_holds_the_last_text_of_each_number_in_little_room():
    rng, arena, held = np.random.default_rng(1), TextArena(), {}
    for step in range(2000):
        number, text = int(rng.integers(40)), bytes(rng.integers(1, 256, rng.integers(1, 60)).astype(np.uint8))
        arena.put(number, text)
        held[number] = text
        if step == 1000:
            arena.forget()
            held.clear()
    assert len(held) == 40 and all(arena.get(number) == text for number, text in held.items())
    assert arena.used <= 40 * 2 * 64


def index_of(ids: list[str], values: list[str]) -> ItemIndex:
    index = ItemIndex(Behaviour())
    for k, item_id in enumerate(ids):
        item = Item(item_id, 1, categories=(values[k % len(values)],), attributes={values[-1]: values[0]})
        index.apply(CatalogueUpdate(item))
    return index


def drawn(index: ItemIndex, data: st.DataObject, phrases: Phrases) -> tuple[Slots, Reasons, tuple[Slot, ...]]:
    """Slots with their reasons as arrays, and as records."""
    causes = [Cause("popular"), Cause("rule", None, 'brand="x"\\\x01\U0001f600'), Cause("because_you_clicked")]
    numbers = [phrases.add(cause.code, cause.value) for cause in causes]
    sources = Retriever(Behaviour(), index).features.sources
    rows = data.draw(st.lists(st.integers(0, len(index.table) - 1), min_size=1, max_size=20, unique=True))
    slots = Slots(np.array(rows, np.int32), *np.zeros((2, len(rows))), np.zeros(len(rows), np.uint32))
    reasons, records = Reasons.room(len(rows)), []
    for p, row in enumerate(rows):
        named = []
        reasons.counts[p] = data.draw(st.integers(1, MOST + 1))
        for k in range(reasons.counts[p]):
            choice, item = data.draw(st.integers(0, len(causes) - 1)), data.draw(st.sampled_from([NONE, *rows]))
            slot_token, weight = data.draw(st.sampled_from([NONE, 0, 1])), data.draw(NUMBER | st.just(math.nan))
            token = NONE if slot_token == NONE else int(index.tokens[row][slot_token])
            reasons.phrases[p, k], reasons.items[p, k], reasons.tokens[p, k] = numbers[choice], item, token
            reasons.weights[p, k] = weight
            code, _, value = index.token_names[token].partition("=")
            cause = causes[choice] if token == NONE else Cause(code, None, value)
            item_id = None if item == NONE else index.table.ids[item]
            rounded = None if math.isnan(weight) else float(np.round(weight, 4))
            named.append(Cause(cause.code, item_id, cause.value, rounded))
        logit, chance, bits = data.draw(NUMBER), data.draw(CHANCE), data.draw(st.integers(0, (1 << len(sources)) - 1))
        slots.logits[p], slots.propensity[p], slots.proposed[p] = logit, chance, bits
        score = float(np.round(np.exp(-np.logaddexp(0.0, -logit)), 5))
        names = tuple(name for bit, name in enumerate(sources) if bits >> bit & 1) or ("rule",)
        records.append(Slot(index.table.ids[row], p + 1, score, float(f"{chance:.6g}"), names, tuple(named)))
    return slots, reasons, tuple(records)


@given(
    st.data(),
    st.lists(TEXT, min_size=1, max_size=25, unique=True),
    st.lists(TEXT, min_size=1, max_size=3),
    st.binary(max_size=200),
    st.binary(max_size=9),
)
def test_what_is_written_decodes_to_the_records(data, ids, values, head, tail):
    """The twin of the kernel: records, and msgspec's JSON of them."""
    index, phrases = index_of(ids, values), Phrases()
    writer = SlotWriter(index, Retriever(Behaviour(), index).features.sources, phrases)
    writer._buffer = np.zeros(64, np.uint8)  # so that it has to grow
    slots, reasons, records = drawn(index, data, phrases)
    for row in data.draw(st.sets(st.sampled_from(slots.rows.tolist()))):  # some texts are there, others are not
        writer._ids.put(row, to_json(index.table.ids[row]))
    for _ in range(2):  # with texts that are new, and with those from before
        written = writer.write(slots, reasons, head, tail)
        raw = writer.write(slots, reasons)
        assert written == head + raw + tail
        assert msgspec.json.decode(raw, type=tuple[Slot, ...]) == records
        rest = writer.write(slots, reasons, raw[:-1], b"", len(records))
        assert rest[: len(raw)] == raw[:-1] + b","
        more = tuple(msgspec.structs.replace(slot, rank=slot.rank + len(records)) for slot in records)
        assert msgspec.json.decode(rest, type=tuple[Slot, ...]) == records + more
    assert msgspec.json.decode(raw) == msgspec.json.decode(to_json(records))


def test_an_id_without_json_never_comes_in():
    for lone in (rb"\ud800", rb"\ud800x", rb"\udc00", b"\xed\xa0\x80"):
        assert not isinstance(decode_item(b'{"item_id":"%s","ts":1}' % lone), Item)
    assert decode_item(rb'{"item_id":"\ud83d\ude00","ts":1}').item_id == "\U0001f600"


def test_a_row_that_became_another_item_is_written_as_that():
    index = ItemIndex(Behaviour(catalogue=CatalogueSettings(items=40)))
    for k in range(40):
        index.apply(CatalogueUpdate(Item(f"old-{k}", 1)))
        index.apply(CatalogueUpdate(Item(f"old-{k}", 2, deleted=True)))
    phrases = Phrases()
    reasons, writer = Reasons.room(1), SlotWriter(index, ("popular",), phrases)
    reasons.counts[0], reasons.phrases[0, 0] = 1, phrases.add("popular")
    reasons.items[0, 0] = NONE

    def written_ids(rows: list[int]) -> list[str]:
        slots = [Slots(np.array([row], np.int32), np.zeros(1), np.ones(1), np.ones(1, np.uint32)) for row in rows]
        return [msgspec.json.decode(writer.write(each, reasons))[0]["item_id"] for each in slots]

    before = written_ids(list(index.table.rows.values()))
    assert before == list(index.table.rows) and len(before) >= 38
    for k in range(20):
        index.apply(CatalogueUpdate(Item(f"a new one {k}", 3)))
    assert index.releases > 0 and written_ids(list(index.table.rows.values())) == list(index.table.rows) != before


def test_a_token_that_got_another_number_is_written_as_what_it_is():
    index, reasons = ItemIndex(Behaviour()), Reasons.room(1)
    writer = SlotWriter(index, ("popular",), Phrases())
    reasons.counts[0], reasons.items[0, 0] = 1, NONE
    slots = Slots(np.zeros(1, np.int32), np.zeros(1), np.ones(1), np.ones(1, np.uint32))
    for k in range(1500):
        index.apply(CatalogueUpdate(Item("i", k, attributes={"sku": str(k), "own": f"v{k}"})))
        reasons.tokens[0, 0] = index.tokens[0, 1]
        (slot,) = msgspec.json.decode(writer.write(slots, reasons))
        assert (slot["reasons"][0]["code"], slot["reasons"][0]["value"]) == ("own", f"v{k}")
    assert index.vocabulary.releases > 1


def test_no_slots_are_an_empty_array():
    index, none = ItemIndex(Behaviour()), np.zeros(0)
    slots = Slots(none.astype(np.int32), none, none, none.astype(np.uint32))
    assert SlotWriter(index, ("popular",), Phrases()).write(slots, Reasons.room(0), b"1") == b"1[]"
