"""The sources of candidates: the kernels of each do what their twins in plain Python do, and each source says of itself
what it does.
"""

import math

import numpy as np
import pytest
import test_autoencoder_scores as told
import test_context_scores
import test_domains
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from made_lists import COUNTS, HISTORY, LISTS, ROW, ROWS, WEIGHT, reach, same, stats_of, tables
from riverrank.operators.candidates import registry
from riverrank.operators.candidates.context import Context
from riverrank.operators.candidates.query import Query
from riverrank.operators.candidates.source import Source
from riverrank.operators.candidates.sources import (
    cohort,
    content,
    covisit,
    domain,
    embedding,
    new,
    popular,
    repeat,
    sessions,
)
from riverrank.operators.index.item_index import ItemIndex
from riverrank.operators.settings import MOST_HISTORY, Behaviour
from riverrank.operators.signals.sessions import MOST_GIVEN, Sessions, neighbours_of
from riverrank.state.item_tables import AFTER, BEFORE, NEGATIVES, POSITIVES


@given(st.lists(ROW, unique=True, min_size=1, max_size=3), LISTS)
def test_cohorts_give_the_mean_share_of_their_lists(members, lists):
    neighbours, weights = tables(lists)
    expected: dict[int, list[float]] = {}
    for member in members:
        total = 1.0 + sum(weights[member, :, AFTER].tolist())
        for other, given_ in zip(neighbours[member].tolist(), weights[member, :, AFTER].tolist(), strict=True):
            if other >= 0:
                expected.setdefault(other, [0.0])[0] += given_ / total / len(members)
    same(reach(cohort.reach, 1, np.array(members, np.int32), neighbours, weights), expected)


def given_by_lists(history, neighbours, weights):
    """For each position in the history: what its list gives after and before, by row."""
    recency = [0.7**h for h in range(len(history))]
    for h, row in enumerate(history):
        shares = [recency[h] / sum(recency) / (1.0 + sum(weights[row, :, side].tolist())) for side in (AFTER, BEFORE)]
        yield {
            other: (shares[0] * float(weights[row, k, AFTER]), shares[1] * float(weights[row, k, BEFORE]))
            for k, other in enumerate(neighbours[row].tolist())
            if other >= 0
        }


@given(HISTORY, LISTS)
def test_covisit_gives_the_shares_of_each_list_the_newer_the_more(history, lists):
    neighbours, weights = tables(lists)
    expected: dict[int, np.ndarray] = {}
    total = sum(covisit.RECENCY**k for k in range(len(history)))
    for h, given_ in enumerate(given_by_lists(history, neighbours, weights)):
        for other, (after, before) in given_.items():
            of_newest = after * total if h == 0 else 0.0
            expected[other] = expected.get(other, np.zeros(3)) + np.array([after, before, of_newest])
    same(reach(covisit.reach, 3, np.array(history, np.int32), covisit.RECENCY, neighbours, weights), expected)


@given(HISTORY, LISTS, st.lists(ROW, unique=True))
def test_the_strongest_of_the_history_is_whose_list_gives_most(history, lists, wanted):
    neighbours, weights = tables(lists)
    slot, found = np.full(ROWS, -1, np.int32), np.full(len(wanted), 9)
    taken, asked = np.array(history, np.int32), np.array(wanted, np.int32)
    covisit.strongest_list(taken, neighbours, weights, asked, slot, found)
    by_list = [{row: sum(pair) for row, pair in one.items()} for one in given_by_lists(history, neighbours, weights)]
    for row, position in zip(wanted, found.tolist(), strict=True):
        most = max((one.get(row, 0.0) for one in by_list), default=0.0)
        best = [h for h, one in enumerate(by_list) if most > 0 and one.get(row, 0.0) > most * (1 - 1e-6)]
        assert position in (best or [-1])
    assert (slot == -1).all() and len(found) == len(wanted)


@given(st.integers(0, 200))
def test_the_total_of_recencies_is_their_sum(n):
    assert covisit.total_of(0.7, n) == pytest.approx(sum(0.7**k for k in range(n)), rel=1e-12)


@given(LISTS)
def test_shares_leave_one_for_what_is_in_no_list(lists):
    _, weights = tables(lists)
    after, before = covisit.shares(np.int32(2), 0.5, 4.0, weights)
    assert after == pytest.approx(0.125 / (1.0 + weights[2, :, AFTER].sum()), rel=1e-6)
    assert before == pytest.approx(0.125 / (1.0 + weights[2, :, BEFORE].sum()), rel=1e-6)


@given(st.lists(ROW, max_size=12))
def test_a_repeat_counts_the_more_the_newer_and_the_oftener(again):
    query = Query(ItemIndex(Behaviour()), 120, 5)
    nobody = np.zeros(0, np.int32)
    query.begin(Context(nobody, np.zeros(0, np.float32), {}, (), np.array(again, np.int32)), None)
    source = repeat.Repeat()
    assert source.applies(query) is bool(again)
    if not again:
        return
    source.reach(query, 1)
    reached = query.reached
    expected: dict[int, list[float]] = {}
    for k, row in enumerate(again):
        share, lately, often, last = expected.get(row, [0.0, 1.0 / (1.0 + k), 0.0, float(k == 0)])
        expected[row] = [share + 0.9**k, lately, often + 1.0, last]
    assert reached.rows[: reached.n].tolist() == list(expected)
    assert reached.scores[: reached.n].tolist() == [[0.0, *map(pytest.approx, given)] for given in expected.values()]


def test_a_history_as_long_as_may_be_and_what_came_after_it_have_their_recencies():
    query = Query(ItemIndex(Behaviour()), 120, 5)
    again = np.zeros(1 + MOST_HISTORY, np.int32)
    query.begin(Context(np.zeros(0, np.int32), np.zeros(0, np.float32), {}, (), again), None)
    repeat.Repeat().reach(query, 1)
    assert query.reached.scores[0, [1, 3]].tolist() == pytest.approx([10.0, 501.0], rel=1e-5)
    assert len(repeat._RECENCIES) == len(again)


@given(HISTORY, st.lists(st.tuples(st.integers(1, 4), ROW), max_size=20), COUNTS)
def test_neighbours_give_what_sessions_say_to_what_is_reached(history, pairs, likes):
    held = Sessions(100, ROWS)
    held.take(*zip(*pairs, strict=True) if pairs else ((), ()))
    rows, own = np.array(history, np.int32), held.table.rows.get("00000001", -1)
    given, shares = np.empty(MOST_GIVEN, np.int32), np.empty(MOST_GIVEN, np.float32)
    weighed = np.maximum(np.array(likes, np.float32)[rows], np.float32(1))
    n = neighbours_of(*held.arrays, rows, weighed, own, given, shares)
    expected: dict[int, list[float]] = {}
    for row, share in zip(given[:n].tolist(), shares[:n].tolist(), strict=True):
        expected.setdefault(row, [0.0])[0] += share
    same(reach(sessions.reach, 1, rows, own, *held.arrays, stats_of(POSITIVES, likes)), expected)


VECTOR = st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=5, max_size=5)  # sums are exact
VECTORS = st.lists(VECTOR, min_size=ROWS, max_size=ROWS)
WEIGHTED = st.lists(st.tuples(ROW, WEIGHT), unique_by=lambda pair: pair[0], max_size=5)
PLACES = st.lists(ROW, max_size=10)
NO_ROWS = np.zeros(0, np.int32)


def arrays(*columns):
    """Arrays of pairs: int32 rows and float32 weights, which cannot be written to, as those of a context."""
    rows, weights = np.array([c[0] for c in columns], np.int32), np.array([c[1] for c in columns], np.float32)
    weights.flags.writeable = False
    return rows, weights


def weighed(pairs, vectors):
    return [sum(weight * vectors[row][d] for row, weight in pairs) for d in range(5)]


@given(WEIGHTED, VECTORS)
def test_a_users_vectors_are_weighed_sums_of_the_historys(pairs, vectors):
    rows, weights = arrays(*pairs)
    held = np.array(vectors, np.float32)
    user = np.zeros(5, np.float32)
    embedding.user_vector(rows, weights.copy(), held, user)
    assert user.tolist() == weighed(pairs, vectors)


TOKEN_ROWS = st.lists(st.lists(st.integers(-1, 5), min_size=3, max_size=3), min_size=ROWS, max_size=ROWS)


@given(
    WEIGHTED,
    VECTORS,
    TOKEN_ROWS,
    VECTOR,
    st.lists(st.integers(0, 5), max_size=4),
    st.sampled_from([0.5, 1.0]),
    st.lists(st.integers(0, 3), min_size=6, max_size=6),
)
def test_a_wish_is_a_direction_and_the_tokens_with_most_weight_for_how_common_they_are(
    pairs, vectors, tokens, stated, numbers, weight, sizes
):
    vector, found = np.full(5, 9, np.float32), np.empty(content.WANTED, np.int32)
    n = content.wish(
        *arrays(*pairs),
        *(np.array(vectors, np.float32), np.array(tokens, np.int32), np.array(sizes, np.int32)),
        *(np.array(stated, np.float32), np.array(numbers, np.int32), weight),
        *(vector, found),
    )
    total = np.array(weighed(pairs, vectors)) + weight * np.array(stated)
    length = np.linalg.norm(total)
    assert vector == pytest.approx(total / length if length else total, abs=1e-6)
    shares: dict[int, float] = {}
    for token, share in [(t, w) for row, w in pairs for t in tokens[row]] + [(t, weight) for t in numbers]:
        if token >= 0:
            shares[token] = shares.get(token, 0.0) + share
    rarity = {token: share / math.sqrt(1.0 + sizes[token]) for token, share in shares.items()}
    best = sorted((t for t in rarity if shares[t] > 0), key=lambda token: (-rarity[token], token))
    assert found[:n].tolist() == best[: content.WANTED]


@given(PLACES, VECTORS, VECTOR)
def test_likeness_is_the_dot_product_or_nothing(rows, vectors, vector):
    scores = np.zeros((len(rows), 3), np.float32)
    content.likeness(np.array(rows, np.int32), np.array(vectors, np.float32), np.array(vector, np.float32), scores, 1)
    expected = [max(0.0, sum(a * b for a, b in zip(vectors[row], vector, strict=True))) for row in rows]
    assert scores.tolist() == [[0.0, value, 0.0] for value in expected]


@given(PLACES, VECTORS, VECTOR, HISTORY, st.integers(0, 10))
def test_likeliness_is_beside_the_most_likely_that_is_proposed(rows, vectors, user, history, proposed):
    proposed, recencies = min(proposed, len(rows)), 0.5 ** np.arange(len(history), dtype=np.float32)
    context = np.flip(np.array(vectors, np.float32), axis=0).copy()
    whole = recencies.astype(float) @ context[history] if history else np.zeros(len(user))
    scores, bias = np.zeros((len(rows), 4), np.float32), np.arange(ROWS, dtype=np.float32) / 4
    asked, target = np.array(rows, np.int32), np.array(vectors, np.float32)
    taken = np.array(history, np.int32)
    embedding.likeliness(
        asked, proposed, target, bias, np.array(user, np.float32), taken, recencies, context, scores, 1
    )
    for column, vector in ((1, user), (2, whole)):
        logits = [row / 4 + sum(a * b for a, b in zip(vectors[row], vector, strict=True)) for row in rows]
        expected = [math.exp(min(0.0, logit - max(logits[:proposed], default=-math.inf))) for logit in logits]
        assert scores[:, column] == pytest.approx(expected, rel=1e-5, abs=1e-30)
    assert not scores[:, [0, 3]].any()


@given(PLACES, COUNTS, COUNTS)
def test_likes_are_a_share_shrunk_and_newness_falls_with_what_is_known(rows, liked, disliked):
    stats = stats_of(POSITIVES, liked) + stats_of(NEGATIVES, disliked)
    scores = np.full((len(rows), 3), 99.0, np.float32)
    popular.likes(np.array(rows, np.int32), stats, scores, 0)
    new.newness(np.array(rows, np.int32), stats, scores, 2)
    expected = [((liked[row] + 3) / (liked[row] + 3 + disliked[row] + 1), 99.0, 1 / (1 + liked[row])) for row in rows]
    assert np.ravel(scores) == pytest.approx(np.ravel(expected), rel=1e-6)


def test_sources_are_asked_in_this_order():
    """The proposals of the last are cut where there is no room: another order makes other slates."""
    assert " ".join(source.name for source in registry.SOURCES) == (
        "new trending popular cohort context content repeat embedding autoencoder sessions covisit"
    )


def test_quotas_leave_room_for_each_source():
    quotas = {source.name: source.quota for source in registry.SOURCES}
    assert {name for name, quota in quotas.items() if quota} == {
        *("new", "trending", "popular", "cohort", "context", "content"),
        *("repeat", "embedding", "autoencoder", "sessions", "covisit"),
    }
    assert all(0.0 <= quota <= 0.35 for quota in quotas.values())
    proposals = sum(source.quota * (len(source.proposing) if source.reaches else 1) for source in registry.SOURCES)
    assert 1.0 < proposals < 3.0  # many propose the same; together they fill the room
    first = [
        "new",
        "trending",
        "popular",
        "cohort",
        "context",
        "content",
    ]  # what needs no history, and must not crowd it out
    assert sum(quotas[name] for name in first) < 0.5


EVERY = (*registry.SOURCES, domain.Domain())


@pytest.mark.parametrize("source", EVERY, ids=lambda source: source.name)
def test_a_source_says_of_itself_what_it_does(source):
    own = type(source)
    for flag, method in (("reaches", "reach"), ("ranks", "rank"), ("describes", "describe")):
        assert getattr(source, flag) is (getattr(own, method) is not getattr(Source, method))
    assert source.meaning and source.reason
    assert source.scores
    assert bool(source.quota) is (source.ranks or source.reaches)
    assert (own.__doc__ or "").strip() and own.__doc__ != Source.__doc__


def test_names_of_sources_and_scores_are_one_each():
    names = [source.name for source in EVERY]
    scores = [score.name for source in EVERY for score in source.scores]
    assert len(names) == len(set(names)) > len(registry.SOURCES)
    assert len(scores) == len(set(scores)) > 10


TWINS = {
    "cohort.reach": test_cohorts_give_the_mean_share_of_their_lists,
    "content.likeness": test_likeness_is_the_dot_product_or_nothing,
    "content.wish": test_a_wish_is_a_direction_and_the_tokens_with_most_weight_for_how_common_they_are,
    "covisit.reach": test_covisit_gives_the_shares_of_each_list_the_newer_the_more,
    "covisit.shares": test_shares_leave_one_for_what_is_in_no_list,
    "covisit.strongest_list": test_the_strongest_of_the_history_is_whose_list_gives_most,
    "covisit.total_of": test_the_total_of_recencies_is_their_sum,
    "embedding.likeliness": test_likeliness_is_beside_the_most_likely_that_is_proposed,
    "embedding.user_vector": test_a_users_vectors_are_weighed_sums_of_the_historys,
    "new.newness": test_likes_are_a_share_shrunk_and_newness_falls_with_what_is_known,
    "popular.likes": test_likes_are_a_share_shrunk_and_newness_falls_with_what_is_known,
    "repeat.reach": test_a_repeat_counts_the_more_the_newer_and_the_oftener,
    "sessions.reach": test_neighbours_give_what_sessions_say_to_what_is_reached,
}


def test_every_kernel_has_a_twin():
    others = told, test_context_scores, test_domains
    twins = TWINS | told.TWINS | test_context_scores.TWINS | test_domains.TWINS
    assert missing_twins("candidates/sources", twins, globals(), *map(vars, others)) == set()
