"""A feature's name says what its column holds: weights are stored by names, so one under another's name spoils them.
The kernels shape scores as their twins in plain Python do.
"""

import math
from collections.abc import Sequence

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates import features, registry
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.features import LEAST
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.candidates.sources.context import SIGNS
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, SlateSettings, SourceSettings
from riverrank.operators.signals.embedding import recency
from riverrank.operators.signals.signals import Signals
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import NEGATIVES, POSITIVES
from riverrank.state.messages import AutoencoderUpdate, CatalogueUpdate, Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event, Item

BEHAVIOUR = Behaviour(slate=SlateSettings(hide=()))
HISTORY = (Seen("i4", 1, 1.0), Seen("i0", 2, 1.0))
ATTRIBUTES = {"age_band": "25-34"}
CONTEXT = {"device": "tv"}
ITEMS = [f"i{k}" for k in range(40)]


def taught() -> ItemIndex:
    """Items that users of one cohort take in the order of their numbers, with vectors and texts."""
    index, signals = ItemIndex(BEHAVIOUR), Signals(BEHAVIOUR, 0)
    for k in range(40):
        text = ("snow and ice", "sun and sand")[k % 2]
        index.apply(CatalogueUpdate(Item(f"i{k}", 1, f"thing {k}", text, (f"c{k % 4}",), {"brand": f"b{k % 5}"})))
    past: dict[int, tuple[Seen, ...]] = {}
    for k in range(400):
        user, item, reward = k % 8, f"i{(k // 8 + k % 8) % 40}", -1.0 if k % 9 == 0 else 1.0
        event = Event(f"e{k}", "click", f"u{user}", k, item, context=CONTEXT)
        signals.learn(Feedback(event, reward, past.get(user, ()), (), ATTRIBUTES))
        past[user] = (*past.get(user, ()), Seen(item, k, reward))[-20:]
    for update in signals.flush():
        index.apply(decode_update(update))
    rng = np.random.default_rng(1)
    index.table.context[:40] = rng.normal(size=index.table.context[:40].shape)
    index.table.target[:40] = rng.normal(size=index.table.target[:40].shape)
    return index


@pytest.fixture(scope="module")
def bare() -> ItemIndex:
    """Without an autoencoder."""
    return taught()


@pytest.fixture(scope="module")
def index() -> ItemIndex:
    """With one that knows most items."""
    index, rng = taught(), np.random.default_rng(2)
    halves = (rng.normal(size=(30, 30)).astype("<f4").view("<u4") >> 16).astype("<u2")
    index.apply(AutoencoderUpdate(0, tuple(f"i{k}" for k in range(30)), halves.tobytes(), 1))
    return index


def found(index: ItemIndex, behaviour: Behaviour = BEHAVIOUR) -> tuple[Candidates, dict[str, np.ndarray]]:
    """Candidates, and their columns by name."""
    retriever = Retriever(behaviour, index)
    candidates = retriever.find(context_of(index, HISTORY, ATTRIBUTES, "u1", CONTEXT), None)
    assert len(candidates.rows) >= 20
    return candidates, dict(zip(retriever.features.names, candidates.features.T, strict=True))


@pytest.mark.parametrize("source", registry.SOURCES, ids=lambda source: source.name)
def test_the_columns_of_a_source_that_is_not_asked_are_those_that_are_empty(index: ItemIndex, source) -> None:
    without = SourceSettings(off=(source.name,))
    _, columns = found(index)
    _, fewer = found(index, msgspec.structs.replace(BEHAVIOUR, sources=without))
    empty = {name for name in columns if columns[name].any() and not fewer[name].any()}
    assert empty == {name for score in source.scores for name in score.names}


def test_the_shapes_of_a_score_are_its_root_and_its_share(index: ItemIndex) -> None:
    _, columns = found(index)
    for score in (score for source in registry.SOURCES for score in source.scores if not score.plain):
        root, share = (columns[f"{score.name}:{shape}"] for shape in ("root", "share"))
        assert share.max() == 1.0 and len(set(share.tolist())) > 1, score.name
        assert root**2 == pytest.approx(share * (root.max() ** 2), rel=1e-5, abs=1e-12)


def test_what_came_after_is_told_from_what_came_before(index: ItemIndex) -> None:
    candidates, columns = found(index)
    names = [index.table.ids[row] for row in candidates.rows.tolist()]
    after, before = (dict(zip(names, columns[f"{score}:share"].tolist(), strict=True)) for score in ("after", "before"))
    assert after["i5"] > before["i5"] and before["i39"] > after["i39"]


def test_likes_and_newness_are_those_of_the_items(index: ItemIndex) -> None:
    candidates, columns = found(index)
    stats = index.table.stats[candidates.rows]
    liked = stats[:, POSITIVES] + 3.0
    assert columns["likes"] == pytest.approx(liked / (liked + stats[:, NEGATIVES] + 1.0), rel=1e-6)
    assert columns["new"] == pytest.approx(1.0 / (1.0 + stats[:, POSITIVES]), rel=1e-6)


def columns_of(index: ItemIndex, history: Sequence[Seen], context: dict[str, str] | None) -> dict[str, np.ndarray]:
    """The columns by name of all items, as candidates of a user of that `history`."""
    retriever = Retriever(BEHAVIOUR, index)
    found = retriever.find(context_of(index, history, ATTRIBUTES, "u1", context), None, index.table.rows_of(ITEMS))
    order = found.positions(index.table.rows_of(ITEMS))
    return dict(zip(retriever.features.names, found.features[order].T, strict=True))


HISTORIES = st.lists(st.tuples(st.integers(0, 39), st.sampled_from([1.0, 1.0, 1.0, 0.2, -1.0])), max_size=8)


def seen_of(history: list[tuple[int, float]]) -> list[Seen]:
    return [Seen(f"i{k}", ts, reward) for ts, (k, reward) in enumerate(history)]


@given(HISTORIES)
def test_the_last_is_the_newest_that_was_liked_and_not_refused_since(index: ItemIndex, history) -> None:
    columns, refused = columns_of(index, seen_of(history), None), set()
    expected = np.zeros(40)
    for k, reward in reversed(history):
        if reward > 0 and k not in refused:
            expected[k] = 1.0
            break
        refused.add(k)
    assert columns["last"].tolist() == expected.tolist()


@pytest.mark.parametrize("length", [1, 2, 3, 7, 30])
@pytest.mark.parametrize("weights", [True, False])
def test_brevity_is_one_by_the_length_of_the_history(index: ItemIndex, bare: ItemIndex, length, weights) -> None:
    asked = index if weights else bare
    assert len(asked.item_weights.rows) == 30 * weights
    columns = columns_of(asked, [Seen(f"i{k}", k, 1.0) for k in range(length)], None)
    assert (columns["brevity"] == np.float32(1.0 / length)).all()
    assert columns["autoencoder:root"].any() == weights


SIGNED = [f"context_{k}" for k in range(SIGNS)]


@pytest.mark.parametrize("context", [None, {"device": "radio"}, {"device": ""}, {"page": "tv"}], ids=str)
def test_a_context_that_nothing_is_known_of_has_no_signs(index: ItemIndex, context) -> None:
    columns = columns_of(index, HISTORY, context)
    assert len(SIGNED) == 4 and not any(columns[name].any() for name in SIGNED)


@pytest.mark.parametrize("history", [(), HISTORY], ids=["cold", "warm"])
@pytest.mark.parametrize("context", [CONTEXT, {"page": "home", **CONTEXT}], ids=str)
def test_all_candidates_have_the_signs_of_a_context_alike(index: ItemIndex, context, history) -> None:
    columns = columns_of(index, history, context)
    assert [len(set(columns[name].tolist())) for name in SIGNED] == [1] * SIGNS
    assert all(0.0 < abs(columns[name][0]) < 1.0 for name in SIGNED)


# What is described beside candidates that were found without it.

FEWER = Behaviour(slate=SlateSettings(hide=(), size=5, candidates=12))
USERS = st.tuples(HISTORIES, st.sampled_from([{}, ATTRIBUTES]), st.sampled_from([None, CONTEXT, {"device": "radio"}]))


def others_than(found: Candidates, index: ItemIndex) -> np.ndarray:
    """The rows of the items that are not among `found`."""
    rows = index.table.rows_of(ITEMS)
    return rows[~np.isin(rows, found.rows)]


@given(USERS, USERS, st.sets(st.sampled_from(ITEMS), max_size=30))
def test_what_is_described_is_as_if_it_had_been_found_last(index: ItemIndex, user, other, seen) -> None:
    """Whatever was asked before, and whatever the user had seen then."""
    retriever, hidden = Retriever(FEWER, index), np.array([hash32(item) for item in seen], np.uint32)
    asked, before = (context_of(index, seen_of(who[0]), who[1], "u1", who[2]) for who in (user, other))
    found = retriever.find(asked, hidden)
    rows = others_than(found, index)
    described = np.concatenate([retriever.describe(asked, rows[k : k + 1], found) for k in range(len(rows))])
    assert len(rows) >= 28 and described.dtype == found.features.dtype == np.float32
    assert retriever.describe(asked, rows, found).tolist() == described.tolist()
    for row, told in zip(rows, described, strict=True):
        alone = Retriever(FEWER, index).find(asked, hidden, np.array([row], np.int32))
        assert alone.rows.tolist() == [*found.rows.tolist(), row] and alone.proposed[-1] == 0
        assert alone.features[-1].tolist() == told.tolist()
        assert alone.features[:-1].tolist() == found.features.tolist()
    assert retriever.find(before, None, index.table.rows_of(ITEMS)).size == 40
    assert retriever.describe(asked, rows, found).tolist() == described.tolist()
    assert retriever.find(asked, hidden).features.tolist() == found.features.tolist()


@given(HISTORIES.filter(bool), st.sets(st.sampled_from(ITEMS), max_size=30))
def test_the_share_of_what_no_source_proposed_is_beside_the_most_likely_candidate(index, history, seen) -> None:
    """It was 1 once: each was compared with itself alone."""
    retriever, asked = Retriever(FEWER, index), context_of(index, seen_of(history), {}, "u1")
    found = retriever.find(asked, np.array([hash32(item) for item in seen], np.uint32))
    rows, share = others_than(found, index), retriever.features.names.index("embedding:share")
    if not len(asked.rows):
        return
    table = index.table
    user = recency(len(asked.rows)).astype(float) @ table.context[asked.rows].astype(float)
    logits, of_found = (table.target[each].astype(float) @ user + table.bias[each] for each in (rows, found.rows))
    shares = np.concatenate([retriever.describe(asked, rows[k : k + 1], found)[:, share] for k in range(len(rows))])
    assert shares == pytest.approx(np.exp(np.minimum(logits - of_found.max(), 0.0)), rel=1e-5)
    assert (shares[logits < of_found.max() - 1e-4] < 1.0).all()


BOTH, NEITHER = np.arange(2, dtype=np.int32), np.zeros(0, np.int32)
SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, -1.0, 1e-12, 0.3, 1.0, 40.0])] * 2), max_size=6)


@given(SCORES, st.integers(0, 6))
def test_the_best_of_each_score_is_of_what_is_proposed(scores, proposed):
    found, again = np.full((2, 2), 9.0)
    features.best_of(np.array(scores, np.float32).reshape(-1, 2), min(proposed, len(scores)), BOTH, found)
    expected = [max([LEAST, *(row[column] for row in scores[:proposed])]) for column in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    held, relative = np.array(scores, np.float32).reshape(-1, 2), np.array([False, True])
    both, shaped = np.zeros((2, len(scores), 4), np.float32)
    features.shape_found(held, min(proposed, len(scores)), BOTH, NEITHER, relative, again, both)
    features.shape(held, found, BOTH, NEITHER, relative, shaped)
    assert again.tolist() == found.tolist() and both.tolist() == shaped.tolist()


@given(SCORES, st.tuples(st.sampled_from([LEAST, 0.5, 7.0]), st.sampled_from([1.0, 40.0])), st.booleans())
def test_shapes_are_the_root_and_the_share_and_what_is_plain_stays(scores, best, relative):
    held = np.insert(np.array(scores, np.float32).reshape(-1, 2), 1, -7.0, axis=1)
    found = np.full((len(scores), 6), 99.0, np.float32)
    features.shape(held, np.array(best), BOTH * 2, BOTH[1:], np.array([relative, not relative]), found)
    expected = []
    for row in held[:, ::2].astype(float).tolist():
        shapes: list[float] = []
        for score, most, is_share in zip(row, best, (relative, not relative), strict=True):
            share = min(max(score, 0.0) / most, 1.0)
            shapes += [math.sqrt(share if is_share else max(score, 0.0)), share]
        expected.append([*shapes, -7.0, 99.0])  # what is plain, of any sign; what follows is none of its business
    assert np.ravel(found) == pytest.approx(np.ravel(expected), rel=1e-6)


TWINS = {
    "features.best_of": test_the_best_of_each_score_is_of_what_is_proposed,
    "features.shape_found": test_the_best_of_each_score_is_of_what_is_proposed,
    "features.shape": test_shapes_are_the_root_and_the_share_and_what_is_plain_stays,
}
