"""Writes the slots of a slate as JSON, straight from arrays. Each text in it was made JSON before, once."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.index.text_arena import TextArena
from riverrank.operators.models.linear_kernels import probability
from riverrank.state.records.decimals import ROOM, fixed, significant, write_decimal, write_whole
from riverrank.state.records.outgoing import Cause, to_json

from .explain import NONE, Phrases, Reasons

SCORE_DIGITS, WEIGHT_DIGITS = 5, 4  # after the point
MISSING, FULL = -1, -2  # a text is not in its arena yet; there is no room left
BY_RULE = "rule"  # the source of what no source proposed, but a rule pinned


class Slots(NamedTuple):
    """What stands on a slate, best first: `rows` int32 (p,), `logits` float64 (p,), `propensity` float64 (p,) in
    (0, 1], and `proposed` uint32 (p,), the bits of the sources of each.
    """

    rows: np.ndarray
    logits: np.ndarray
    propensity: np.ndarray
    proposed: np.ndarray


class SlotWriter:
    """Writes slots of items of `index`. Holds a buffer, and the JSON of ids and tokens that it wrote: no state."""

    def __init__(self, index: ItemIndex, sources: tuple[str, ...], phrases: Phrases) -> None:
        self.index = index
        self.phrases = phrases
        self._ids = TextArena()  # by row
        self._tokens = TextArena()  # by number, each as the code and value of a reason
        self._sources = TextArena()
        for number, name in enumerate((*sources, BY_RULE)):
            self._sources.put(number, to_json(name))
        self._by_rule = len(sources)
        self._releases, self._token_releases = index.releases, index.vocabulary.releases
        self._buffer = np.zeros(1 << 14, np.uint8)

    def write(self, slots: Slots, reasons: Reasons, head: bytes = b"", tail: bytes = b"", above: int = 0) -> bytes:
        """The JSON array of `slots` with their `reasons`, as `records.Slot` and `records.Cause` have them,
        between `head` and `tail`; where there are slots `above` them, the rest of an array that `head` ends within.
        """
        if self._releases != self.index.releases:  # a row may be another item now
            self._releases = self.index.releases
            self._ids.forget()
        if self._token_releases != self.index.vocabulary.releases:
            self._token_releases = self.index.vocabulary.releases
            self._tokens.forget()
        self._ids.fit(self.index.table.capacity)
        self._tokens.fit(len(self.index.token_names))
        while (end := self._try(slots, reasons, head, tail, above)) < 0:
            if end == FULL:
                self._buffer = np.zeros(2 * len(self._buffer), np.uint8)
            else:
                self._learn_texts(slots, reasons)
        return bytes(self._buffer.data[:end])

    def _try(self, slots: Slots, reasons: Reasons, head: bytes, tail: bytes, above: int) -> int:
        """Write all to the buffer; where it ends, MISSING or FULL."""
        ids, tokens, sources, said = self._ids, self._tokens, self._sources, self.phrases.texts
        room = self._buffer.data
        if len(head) + len(tail) > len(room):
            return FULL
        room[: len(head)] = head
        end = write_slots(
            self._buffer,
            len(head),
            above,
            *slots,
            *reasons,
            self._by_rule,
            *(ids.data, ids.places),
            *(tokens.data, tokens.places),
            *(sources.data, sources.places),
            *(said.data, said.places),
        )
        if end >= 0 and end + len(tail) <= len(room):
            room[end : end + len(tail)] = tail
            return int(end) + len(tail)
        return FULL if end >= 0 else int(end)

    def _learn_texts(self, slots: Slots, reasons: Reasons) -> None:
        """Make JSON of the ids and the tokens on the slate that have none yet."""
        ids, tokens = self._ids, self._tokens
        rows, numbers = missing(slots.rows, reasons.counts, reasons.items, reasons.tokens, ids.places, tokens.places)
        for row in rows.tolist():
            ids.put(row, to_json(self.index.table.ids[row]))
        for number in numbers.tolist():
            code, _, value = self.index.token_names[number].partition("=")
            tokens.put(number, to_json(Cause(code, None, value))[1:-1])


def _text(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), np.uint8)


_ITEM, _RANK, _SCORE = _text('{"item_id":'), _text(',"rank":'), _text(',"score":')
_PROPENSITY, _SOURCES, _REASONS = _text(',"propensity":'), _text(',"sources":['), _text('],"reasons":[')
_CAUSE_ITEM, _CAUSE_WEIGHT = _text(',"item_id":'), _text(',"weight":')
_ARRAY, _ARRAY_END, _OBJECT, _OBJECT_END, _COMMA = (np.uint8(ord(sign)) for sign in "[]{},")
_SLOT_ROOM = 3 * ROOM + sum(map(len, (_ITEM, _RANK, _SCORE, _PROPENSITY, _SOURCES, _REASONS))) + 8
_CAUSE_ROOM = ROOM + len(_CAUSE_ITEM) + len(_CAUSE_WEIGHT) + 4


@njit(cache=True)
def copy(out, at, data, begin, length):  # type: ignore[no-untyped-def]
    """Copy bytes to `out` from `at` on; where they end.

    Unsigned numbers need no look at whether they count from the end: a fifth of the time.
    """
    to, of = np.uint64(at), np.uint64(begin)
    for k in range(np.uint64(length)):
        out[to + k] = data[of + k]
    return at + length


@njit(cache=True)
def put(out, at, data, places, number):  # type: ignore[no-untyped-def]
    """Write text `number` of an arena to `out` from `at` on; where it ends."""
    return copy(out, at, data, places[number, 0], places[number, 1])


@njit(cache=True)
def room_of(p, row, counts, phrases, items, tokens, ids, of_tokens, sources, of_phrases):  # type: ignore[no-untyped-def]
    """The bytes that slot `p` takes at most; MISSING where a text of it is. The last four are the places of texts."""
    if ids[row, 1] == 0:
        return MISSING
    room = ids[row, 1] + _SLOT_ROOM
    for s in range(len(sources)):
        room += sources[s, 1] + 1
    for k in range(counts[p]):
        token, item = tokens[p, k], items[p, k]
        text = of_tokens[token, 1] if token != NONE else of_phrases[phrases[p, k], 1]
        of_item = ids[item, 1] if item != NONE else 1
        if text == 0 or of_item == 0:
            return MISSING
        room += text + of_item + _CAUSE_ROOM
    return room


@njit(cache=True)
def missing(rows, counts, items, tokens, of_ids, of_tokens):  # type: ignore[no-untyped-def]
    """The rows on the slate whose id has no text yet, and the numbers of the tokens that have none: int32, some of them
    twice. The last two are the places of texts.
    """
    room = 1 + len(rows) * (1 + items.shape[1])
    ids, numbers = np.empty(room, np.int32), np.empty(room, np.int32)
    n = m = 0
    for p in range(len(rows)):
        ids[n] = rows[p]
        n += of_ids[rows[p], 1] == 0
        for k in range(counts[p]):
            ids[n], numbers[m] = items[p, k], tokens[p, k]
            n += items[p, k] != NONE and of_ids[items[p, k], 1] == 0
            m += tokens[p, k] != NONE and of_tokens[tokens[p, k], 1] == 0
    return ids[:n].copy(), numbers[:m].copy()


@njit(cache=True)
def touch(rows, counts, items, ids, places):  # type: ignore[no-untyped-def]
    """The sum of the first bytes of all ids on the slate, which means nothing. Memory looks for all at once where all
    are read before any is written: see `candidates.vectors.touched`.
    """
    total = np.uint8(0)
    for p in range(len(rows)):
        total += ids[places[rows[p], 0]]
        for k in range(counts[p]):
            total += ids[places[max(items[p, k], 0), 0]]
    return np.uint8(total)


@njit(cache=True)
def write_sources(out, at, bits, by_rule, sources, places):  # type: ignore[no-untyped-def]
    """Write the names of the sources with a bit in `bits`, that of `by_rule` where there is none; where they end."""
    if bits == 0:
        return put(out, at, sources, places, by_rule)
    for s in range(by_rule):
        if bits >> np.uint32(s) & np.uint32(1):
            at = put(out, at, sources, places, s)
            out[at] = _COMMA
            at += 1
    return at - 1


@njit(cache=True)
def write_slots(  # type: ignore[no-untyped-def]
    out, begin, above, rows, logits, propensity, proposed, counts, phrases, items, tokens, weights, by_rule,
    ids, id_places, token_data, token_places, sources, source_places, phrase_data, phrase_places,
):  # fmt: skip
    """Write slots and their reasons (see Slots and Reasons) to `out`, uint8, from `begin` on: where they end; MISSING
    or FULL where they could not be written. The texts are as in TextArena; `above` slots are in the array already.
    About 5 us for 20 slots with three reasons.
    """
    if begin + 2 > len(out):
        return FULL
    out[begin], out[begin + 1], at = _COMMA if above else _ARRAY, touch(rows, counts, items, ids, id_places), begin + 1
    places = id_places, token_places, source_places, phrase_places
    for p, row in enumerate(rows):
        room = room_of(p, row, counts, phrases, items, tokens, *places)
        if room == MISSING:
            return MISSING
        if at + room > len(out):
            return FULL
        at = copy(out, at, _ITEM, 0, len(_ITEM))
        at = put(out, at, ids, id_places, row)
        at = copy(out, at, _RANK, 0, len(_RANK))
        at = write_whole(out, at, above + p + 1)
        at = copy(out, at, _SCORE, 0, len(_SCORE))
        at = write_decimal(out, at, fixed(probability(logits[p]), 10.0**SCORE_DIGITS), SCORE_DIGITS)
        at = copy(out, at, _PROPENSITY, 0, len(_PROPENSITY))
        at = write_decimal(out, at, *significant(propensity[p]))
        at = copy(out, at, _SOURCES, 0, len(_SOURCES))
        at = write_sources(out, at, proposed[p], by_rule, sources, source_places)
        at = copy(out, at, _REASONS, 0, len(_REASONS))
        for k in range(counts[p]):
            out[at] = _OBJECT
            at += 1
            token, item, phrase = tokens[p, k], items[p, k], phrases[p, k]
            if token != NONE:
                at = put(out, at, token_data, token_places, token)
            else:
                at = put(out, at, phrase_data, phrase_places, phrase)
            if item != NONE:
                at = copy(out, at, _CAUSE_ITEM, 0, len(_CAUSE_ITEM))
                at = put(out, at, ids, id_places, item)
            if not math.isnan(weights[p, k]):
                at = copy(out, at, _CAUSE_WEIGHT, 0, len(_CAUSE_WEIGHT))
                at = write_decimal(out, at, fixed(weights[p, k], 10.0**WEIGHT_DIGITS), WEIGHT_DIGITS)
            out[at], out[at + 1] = _OBJECT_END, _COMMA
            at += 2
        out[at - 1], out[at], out[at + 1] = _ARRAY_END, _OBJECT_END, _COMMA  # in place of the last comma
        at += 2
    at = max(at - 1, begin + 1)
    out[at] = _ARRAY_END
    return at + 1
