"""What RECOMMEND keeps of a user, by names: every byte of the state, and what its hashes are known to name."""

import base64
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.models import drift
from riverrank.operators.models.inputs import RANKER
from riverrank.operators.models.ratings import rating_models
from riverrank.operators.slate import attribution, waiting
from riverrank.state.event_types import EVENT_TYPES
from riverrank.state.hashing import hash32
from riverrank.state.learners import OF_ANY_TYPE, REFUSED, LearnerState, decode_learner
from riverrank.state.records.incoming import Event
from riverrank.state.records.outgoing import Part
from riverrank.state.records.pieces import Kept, cut

PICKLE_BYTES = 48 * 1024  # of a pickled model in one row
MOST_NAMES = 4  # that one hash is told to stand for
KINDS = {**{entry.code: entry.name for entry in EVENT_TYPES.values()}, REFUSED: "refused", OF_ANY_TYPE: "any"}
Row = dict[str, Any]


def learner_pieces(
    asked: Event, state: bytes | None, index: ItemIndex, features: Sequence[str], then: Part | None
) -> tuple[bytes, ...]:
    """The records of the part `learner`, of a user's state; `features` are names of candidates' features, `then` is the
    part that follows.
    """
    kept = {} if state is None else kept_learner(decode_learner(state), index, features)
    return cut(asked, "learner", then, {**kept, "neighbour_session": _session(index, asked.user_id)})


def kept_learner(state: LearnerState, index: ItemIndex, features: Sequence[str]) -> Kept:
    """All that the state holds. Where it holds the hash of an id or a token alone, the names are those of `index` with
    that hash, MOST_NAMES at most: none where it has forgotten it, and several where they share it.
    """
    learner = {
        "examples": state.examples,
        "intercept": state.intercept,
        "class_hash": state.model_of,
        "optimizer_hash": state.memory_of,
        **{name: value for name, value in state.memory.items() if not isinstance(value, bytes)},
    }
    is_made = bool(state.weights or state.model or state.examples)
    pickled = state.model
    return {
        "last_version": state.version or None,
        "learner": learner if is_made else None,
        "weights": _weights(state, features),
        "tokens": _tokens(state, index),
        "pickled": [
            base64.b64encode(pickled[at : at + PICKLE_BYTES]).decode() for at in range(0, len(pickled), PICKLE_BYTES)
        ],
        "hidden": _hidden(state, index),
        "ratings": rating_models(state),
        "rating_sum": state.rated[1] or None,
        "taste_since": state.since or None,
        "missed": [
            {"guesses": guesses, "missed": missed, "taken": taken} for guesses, missed, taken in drift.kept(state)
        ],
        "slates": [*_slates(state, index)],
        "shown_items": [*_shown(state, index, features)],
    }


def _numbers(state: LearnerState, begin: int, end: int | None) -> Row:
    """By name, what is kept of each weight from `begin` to `end`, of the features and after them the tokens."""
    weights = np.frombuffer(state.weights + state.token_weights, "<f4")[begin:end]
    found = {"weight": weights, "precision": np.frombuffer(state.precision, "<f4")[begin:end]}
    arrays = {name: np.frombuffer(raw, "<f8") for name, raw in state.memory.items() if isinstance(raw, bytes)}
    found |= {name: array[begin:end] for name, array in arrays.items()}
    return {name: plain(array) for name, array in found.items() if len(array) == len(weights)}


def _weights(state: LearnerState, features: Sequence[str]) -> list[Row]:
    """A row a feature: its name, None where this version has none of that hash, and what is kept of its weight."""
    names = {hash32(name): name for name in (RANKER, *features)}
    marks = np.frombuffer(state.features, "<u4").tolist()
    kept = _numbers(state, 0, len(state.weights) // 4)
    return _rows([{"feature": names.get(mark), "hash": mark} for mark in marks], kept)


def _tokens(state: LearnerState, index: ItemIndex) -> list[Row]:
    """A row a content token: its names, and what is kept of its weight."""
    marks = np.frombuffer(state.tokens, "<u4")
    names = index.token_names
    found = _names_of(marks, index.token_hashes[: len(names)], names)
    kept = _numbers(state, len(state.weights) // 4, None)
    return _rows([{"tokens": found.get(mark, []), "hash": mark} for mark in marks.tolist()], kept)


def _rows(rows: list[Row], columns: Row) -> list[Row]:
    return [row | {name: values[at] for name, values in columns.items()} for at, row in enumerate(rows)]


def _hidden(state: LearnerState, index: ItemIndex) -> list[Row]:
    """A row for each thing that hides an item, oldest first: the item, since when, and by what."""
    marks = np.frombuffer(state.seen, "<u4")
    found = _names_of(marks, index.hash[: len(index.table)], index.table.ids)
    since = np.frombuffer(state.seen_at, "<u4").tolist()
    return [
        {"item_ids": found.get(mark, []), "hash": mark, "since": 1000 * seconds or None, "by": KINDS.get(kind, kind)}
        for mark, seconds, kind in zip(marks.tolist(), since, state.seen_by, strict=True)
    ]


def _slates(state: LearnerState, index: ItemIndex) -> Iterator[Row]:
    """A row a slot of the last slates; the first `taught` ranks of a slate were learned from."""
    for slate in attribution.kept(state):
        for rank, (row, mark) in enumerate(slate.items.tolist(), 1):
            item = _item(index, row, mark)
            yield {"version": slate.version, "ts": slate.ts, "taught": slate.taught, "rank": rank, **item}


def _shown(state: LearnerState, index: ItemIndex, features: Sequence[str]) -> Iterator[Row]:
    """A row an item of a list that waits for what follows it: the click model's logit, and of what was known what it
    looked like to the learner.
    """
    for number, shown in enumerate(waiting.kept(state), 1):
        known = iter(range(len(shown.items)))
        names = features if shown.features.shape[1] == len(features) else [*map(str, range(shown.features.shape[1]))]
        for place, (is_known, logit) in enumerate(zip(shown.known.tolist(), shown.logits.tolist(), strict=True), 1):
            one: Row = {"impression": number, "hash": f"{shown.named:016x}", "ts": shown.ts, "place": place}
            one["click_logit"] = logit
            if is_known and (at := next(known, None)) is not None:
                row, mark = shown.items[at].tolist()
                one |= _item(index, row, mark)
                one |= {"taught": bool(shown.taught[at]), "ranker": float(shown.ranker[at])}
                one |= {"offset": float(shown.offsets[at])}
                one["features"] = dict(zip(names, plain(shown.features[at]), strict=True))
            yield one


def _session(index: ItemIndex, user_id: str) -> list[Row]:
    """What the user took last, as session neighbours of others are found by: under 32 bits of a hash of the id, so it
    can be another's.
    """
    slot = index.sessions.slot(user_id)
    rows = index.sessions.table.items[slot].tolist() if slot >= 0 else []
    return [{"item_id": index.table.ids[row]} for row in rows if row >= 0]


def _item(index: ItemIndex, row: int, mark: int) -> Row:
    """The item of a row, None where the row has another one by now, and its hash."""
    same = row < len(index.table.ids) and hash32(index.table.ids[row]) == mark
    return {"item_id": index.table.ids[row] if same else None, "hash": mark}


def _names_of(wanted: np.ndarray, marks: np.ndarray, names: Sequence[str]) -> dict[int, list[str]]:
    """By hash those of `names`, whose hashes are `marks`, that have a hash of `wanted`."""
    found: dict[int, list[str]] = {}
    for at in np.flatnonzero(np.isin(marks, wanted)).tolist():
        of = found.setdefault(int(marks[at]), [])
        if names[at] and len(of) < MOST_NAMES:
            of.append(names[at])
    return found


def plain(numbers: np.ndarray) -> list[float]:
    """Numbers with as few digits as tell them from all others of their kind.

    >>> plain(np.array([0.1, 2.0], np.float32))
    [0.1, 2.0]
    """
    return [float(str(number)) for number in numbers]
