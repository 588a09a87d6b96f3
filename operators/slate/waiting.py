"""What the items of a list looked like when it was shown, in a user's state until the impression is resolved: what is
taught then is what was known when it was shown, after a restart too.

`LearnerState.shown` holds for each list, oldest first: `<QqHHH`, the hash of its event, time and items, its time, how
many items it has, how many of these are known, and how many features; of each item whether it is known, uint8, and the
logit of a click on it, float64; then of each known one its row in the index and the hash of its id, `<iI`, whether its
slate taught it, uint8, the ranker's logit and its offset, float64, and its features, float32. Where a row has another
item by now, the list is not held.
"""

from collections.abc import Iterator, Sequence
from struct import Struct
from typing import NamedTuple

import numpy as np
from riverrank.operators.candidates.retrieval import Candidates
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models.inputs import Inputs
from riverrank.state.hashing import hash64
from riverrank.state.learners import LearnerState

from .attribution import ITEM, name

MOST_ITEMS = 200  # of one user's lists, some 200 bytes each; the oldest list goes first
NOTHING_TAUGHT = np.zeros(0, bool)
_HEAD = Struct("<QqHHH")
Which = tuple[str, int, Sequence[str]]  # the event id of an impression, its time, and its items, distinct


class KeptList(NamedTuple):
    """A list as it is kept: of its n items, `known`, bool (n,), and `logits`, float64 (n,); of the k known ones `items`
    by ITEM, `taught`, bool (k,), `ranker` and `offsets`, float64 (k,), and `features`, float32 (k, F).
    """

    named: int
    ts: int
    known: np.ndarray
    logits: np.ndarray
    items: np.ndarray
    taught: np.ndarray
    ranker: np.ndarray
    offsets: np.ndarray
    features: np.ndarray


class ShownList(NamedTuple):
    """The items of an impression: those that are `known`, bool (n,), as they look to the learner, None where none is;
    the `logits` of clicks on all of them, float64 (n,); the `offsets`, float64 (k,), that their places add to the
    learner's logits of the k known ones; and which of these their slate `taught` already, bool (k,).
    """

    inputs: Inputs | None
    known: np.ndarray
    logits: np.ndarray
    offsets: np.ndarray
    taught: np.ndarray


def keep(state: LearnerState, index: ItemIndex, which: Which, shown: ShownList, most: int) -> None:
    """Keep what was shown, of that event id, time and items. The oldest go where there is no room: for `most` lists, as
    SESSION lets wait, of MOST_ITEMS in all.
    """
    inputs, n = shown.inputs, len(shown.logits)
    k, features = (len(inputs.rows), inputs.features.shape[1]) if inputs is not None else (0, 0)
    parts = [_HEAD.pack(_named(*which), which[1], n, k, features), shown.known.astype(np.uint8).tobytes()]
    parts.append(shown.logits.astype("<f8").tobytes())
    if inputs is not None:
        rows = np.empty((k, 2), np.int32)
        name(inputs.rows, index.hash, rows)
        parts += [rows.tobytes(), shown.taught.astype(np.uint8).tobytes(), inputs.ranker.astype("<f8").tobytes()]
        parts += [shown.offsets.astype("<f8").tobytes(), inputs.features.astype("<f4").tobytes()]
    at = next((begin for begin, _, _, _, ts in _lists(state.shown) if ts > which[1]), len(state.shown))
    held = state.shown[:at] + b"".join(parts) + state.shown[at:]
    lists = list(_lists(held))
    count, over, begin = len(lists), sum(size for _, _, size, _, _ in lists) - MOST_ITEMS, 0
    for _, end, size, _, _ in lists:
        if over <= 0 and count <= most:
            break
        count, over, begin = count - 1, over - size, end
    state.shown = held[begin:]


def take(state: LearnerState, index: ItemIndex, which: Which, features: int) -> ShownList | None:
    """What was shown, of that event id, time and items, which is kept no more; None where it is not held, or has not as
    many `features` as there are now.
    """
    wanted = _named(*which)
    for begin, end, _, named, _ in _lists(state.shown):
        if named == wanted:
            entry = state.shown[begin:end]
            state.shown = state.shown[:begin] + state.shown[end:]
            return _read(entry, index, features)
    return None


def kept(state: LearnerState) -> Iterator[KeptList]:
    """The lists that are kept, oldest first, whatever the index holds by now."""
    return (_parsed(state.shown[begin:end]) for begin, end, _, _, _ in _lists(state.shown))


def _read(entry: bytes, index: ItemIndex, wanted: int) -> ShownList | None:
    """The list of `entry`; None where it can't be gone on with."""
    shown = _parsed(entry)
    if not len(shown.items):
        return ShownList(None, shown.known, shown.logits, np.zeros(0), NOTHING_TAUGHT)
    rows = shown.items["row"].astype(np.int32)
    if shown.features.shape[1] != wanted or rows.max() >= len(index.hash):
        return None
    if (index.hash[rows] != shown.items["hash"]).any():
        return None
    candidates = Candidates(rows, shown.features, np.zeros(len(rows), np.uint32))
    return ShownList(Inputs(index, candidates, shown.ranker), shown.known, shown.logits, shown.offsets, shown.taught)


def _parsed(entry: bytes) -> KeptList:
    named, ts, n, k, features = _HEAD.unpack_from(entry, 0)
    at = _HEAD.size

    def part(kind: str | np.dtype, count: int) -> np.ndarray:
        nonlocal at
        found = np.frombuffer(entry, kind, count, at)
        at += found.nbytes
        return found

    known, logits = part("u1", n).astype(bool), part("<f8", n)
    items, taught = part(ITEM, k), part("u1", k).astype(bool)
    ranker, offsets = part("<f8", k), part("<f8", k)
    table = part("<f4", k * features).reshape(k, features)
    return KeptList(named, ts, known, logits, items, taught, ranker, offsets, table)


def _named(event_id: str, ts: int, items: Sequence[str]) -> int:
    """An id that is forgotten may come again with other items, or at another time."""
    return hash64("\0".join((event_id, str(ts), *items)))


def _lists(held: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Of each list where it begins and ends, how many items it has, its hash, and its time."""
    at = 0
    while at < len(held):
        named, ts, n, k, features = _HEAD.unpack_from(held, at)
        end = at + _HEAD.size + 9 * n + k * (ITEM.itemsize + 1 + 16 + 4 * features)
        yield at, end, n, named, ts
        at = end
