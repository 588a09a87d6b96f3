"""A feature's name says what its column holds: weights are stored by names, so one under another's name spoils them.
The kernels shape scores as their twins in plain Python do.
"""

import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.candidates import features, registry
from riverrank.operators.candidates.context import context_of
from riverrank.operators.candidates.features import LEAST
from riverrank.operators.candidates.retrieval import Candidates, Retriever
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import Behaviour, SlateSettings, SourceSettings
from riverrank.operators.signals.signals import Signals
from riverrank.state.item_tables import NEGATIVES, POSITIVES
from riverrank.state.messages import AutoencoderUpdate, CatalogueUpdate, Feedback, Seen, decode_update
from riverrank.state.records.incoming import Event, Item

BEHAVIOUR = Behaviour(slate=SlateSettings(hide=()))
HISTORY = (Seen("i4", 1, 1.0), Seen("i0", 2, 1.0))
ATTRIBUTES = {"age_band": "25-34"}
CONTEXT = {"device": "tv"}


@pytest.fixture(scope="module")
def index() -> ItemIndex:
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


BOTH, NEITHER = np.arange(2, dtype=np.int32), np.zeros(0, np.int32)
SCORES = st.lists(st.tuples(*[st.sampled_from([0.0, -1.0, 1e-12, 0.3, 1.0, 40.0])] * 2), max_size=6)


@given(SCORES, st.integers(0, 6))
def test_the_best_of_each_score_is_of_what_is_proposed(scores, proposed):
    found, again = np.full((2, 2), 9.0)
    features.best_of(np.array(scores, np.float32).reshape(-1, 2), min(proposed, len(scores)), BOTH, found)
    expected = [max([LEAST, *(row[column] for row in scores[:proposed])]) for column in range(2)]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)
    held, relative = np.array(scores, np.float32).reshape(-1, 2), np.array([False, True])
    both, shaped = np.zeros((2, len(scores), 4))
    features.shape_found(held, min(proposed, len(scores)), BOTH, NEITHER, relative, again, both)
    features.shape(held, found, BOTH, NEITHER, relative, shaped)
    assert again.tolist() == found.tolist() and both.tolist() == shaped.tolist()


@given(SCORES, st.tuples(st.sampled_from([LEAST, 0.5, 7.0]), st.sampled_from([1.0, 40.0])), st.booleans())
def test_shapes_are_the_root_and_the_share_and_what_is_plain_stays(scores, best, relative):
    held = np.insert(np.array(scores, np.float32).reshape(-1, 2), 1, -7.0, axis=1)
    found = np.full((len(scores), 6), 99.0)
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
