"""The kernels that find what is like an item and what is taken with it, against the same in plain numpy."""

import numpy as np
import pytest
from riverrank.operators.catalogue.tokens import MAX_TOKENS
from riverrank.operators.index.vocabulary import Vocabulary
from riverrank.operators.published.alike import (
    CANDIDATES,
    LINKS,
    OF_TOKENS,
    best,
    likeness,
    near_by,
    taken_together,
)
from riverrank.state.item_tables import POSITIVES, STATS

ROWS, WIDTH, DIMENSIONS = 40, 6, 8
LEAST = np.float32(5)


@pytest.fixture
def draw() -> np.random.Generator:
    return np.random.default_rng(7)


def stats_of(positives: np.ndarray) -> np.ndarray:
    stats = np.zeros((len(positives), STATS), np.float32)
    stats[:, POSITIVES] = positives
    return stats


def test_what_is_taken_together_is_what_enough_took_more_than_once_by_its_share(draw: np.random.Generator) -> None:
    neighbours = draw.integers(-1, ROWS, (ROWS, WIDTH)).astype(np.int32)
    weights = draw.random((ROWS, WIDTH, 2)).astype(np.float32) * 2
    weights[neighbours < 0] = 0
    stats, found_any = stats_of(draw.integers(3, 12, ROWS)), 0
    for row in range(ROWS):
        found, values = np.zeros(WIDTH, np.int32), np.zeros(WIDTH, np.float32)
        n = taken_together(row, neighbours, weights, stats, LEAST, found, values)
        both = weights[row].sum(axis=1)
        wanted = [
            (other, both[k] / (1 + both.sum()))
            for k, other in enumerate(neighbours[row].tolist())
            if other >= 0 and both[k] > 1 and min(stats[other, POSITIVES], stats[row, POSITIVES]) >= LEAST
        ]
        assert found[:n].tolist() == [other for other, _ in wanted]
        assert values[:n] == pytest.approx([share for _, share in wanted], rel=1e-5)
        found_any += n
    assert found_any > 20


def test_rows_near_by_are_neighbours_then_of_the_rarest_tokens_then_popular_ones_each_once() -> None:
    words, tokens = Vocabulary(), np.full((ROWS, MAX_TOKENS), -1, np.int32)
    words.fit(ROWS)
    common, rare = words.number("category=all"), words.number("brand=few")
    for row in range(ROWS):
        tokens[row, 0] = common
        tokens[row, 1] = rare if row % 10 == 0 else -1
        words.link(row, tokens[row])
    neighbours = np.full((ROWS, WIDTH), -1, np.int32)
    neighbours[0, :3] = 5, 10, 5
    popular = np.array([5, 0, 33], np.int32)
    stamps, found = np.zeros(ROWS, np.int64), np.zeros(CANDIDATES, np.int32)
    arrays = (tokens, words.sizes, words.heads, words.after, neighbours, popular, stamps)
    n = near_by(0, *arrays, 1, found)
    assert found[:4].tolist() == [5, 10, 30, 20], "neighbours, then who shares the rare token"
    assert sorted(found[:n].tolist()) == list(range(1, ROWS)), "and all others by the common one, none twice"
    few = np.zeros(5, np.int32)
    assert near_by(0, *arrays, 2, few) == 5 and few.tolist() == [5, 10, 30, 20, 39]
    tokens[1] = -1
    assert near_by(1, *arrays, 3, found) == 3 and found[:3].tolist() == [5, 0, 33], "of no token the popular ones"


def test_however_many_items_share_a_token_few_are_looked_at() -> None:
    rows = 4 * LINKS
    words, tokens = Vocabulary(), np.full((rows, MAX_TOKENS), -1, np.int32)
    words.fit(rows)
    for name in ("category=all", "brand=all"):
        number = words.number(name)
        for row in range(rows):
            tokens[row, number] = number
    for row in range(rows):
        words.link(row, tokens[row])
    found = np.zeros(CANDIDATES, np.int32)
    n = near_by(
        0, tokens, words.sizes, words.heads, words.after, np.full((rows, WIDTH), -1, np.int32), np.zeros(0, np.int32),
        np.zeros(rows, np.int64), 1, found,
    )  # fmt: skip
    assert n == OF_TOKENS < CANDIDATES


@pytest.mark.parametrize("kind", ["both", "says nothing", "not learned", "few know it", "nothing"])
def test_likeness_is_the_mean_of_the_cosines_that_there_are(draw: np.random.Generator, kind: str) -> None:
    content, target = (draw.normal(size=(ROWS, DIMENSIONS)).astype(np.float32) for _ in range(2))
    content /= np.linalg.norm(content, axis=1, keepdims=True)
    stats = stats_of(draw.integers(3, 12, ROWS))
    content[1], target[2], stats[0, POSITIVES] = 0, 0, 9
    content[0] *= kind not in ("says nothing", "nothing")
    target[0] *= kind not in ("not learned", "nothing")
    stats[0, POSITIVES] -= 5 * (kind == "few know it")
    rows, values = np.arange(1, ROWS, dtype=np.int32), np.zeros(ROWS - 1, np.float32)
    likeness(0, rows, len(rows), content, target, stats, LEAST, values)
    lengths = np.linalg.norm(target, axis=1)
    learned = (lengths > 0) & (stats[:, POSITIVES] >= LEAST)
    says = bool(content[0].any())
    by_content = content @ content[0] * says
    with np.errstate(invalid="ignore", divide="ignore"):
        cosines = np.nan_to_num(target @ target[0] / (lengths * lengths[0]))
    by_target = np.where(learned, cosines, 0) * learned[0]
    parts = says * content.any(axis=1).astype(int) + (learned & learned[0])
    wanted = (by_content + by_target) / np.maximum(parts, 1)
    assert values == pytest.approx(wanted[1:], abs=1e-5)
    assert (values.max() > 0.3) == (kind != "nothing") and values.max() <= 1


def test_the_best_are_servable_above_what_is_asked_and_in_order(draw: np.random.Generator) -> None:
    rows = draw.permutation(ROWS).astype(np.int32)
    values = np.round(draw.random(ROWS), 1).astype(np.float32)
    values[:5] = 0
    servable = draw.random(ROWS) < 0.7
    found, scores = np.zeros(10, np.int32), np.zeros(10)
    n = best(rows, values, ROWS, 0.0, servable, found, scores)
    order = [k for k in np.argsort(-values, kind="stable").tolist() if servable[rows[k]] and values[k] > 0]
    assert n == 10 and found.tolist() == rows[order[:10]].tolist()
    assert scores.tolist() == values[order[:10]].tolist()
    assert best(rows, values, 5, 0.0, servable, found, scores) == 0
    assert best(rows, values, ROWS, 0.95, servable, found, scores) == np.count_nonzero(servable[rows] & (values > 0.95))
