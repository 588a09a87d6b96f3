"""What the context of an event says of candidates: its kernel does what its twin in plain Python does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_lists import COUNTS, LISTS, ROW, reach, same, stats_of, tables
from riverrank.operators.candidates.sources import context
from riverrank.state.hashing import hash32
from riverrank.state.item_tables import AFTER, POSITIVES

HASHES = np.array([hash32(f"row {row}") for row in range(8)], np.uint32)


def bits_of(row: int) -> list[bool]:
    mixed = int(HASHES[row]) * 2654435761 >> 16
    return [bool(mixed >> sign & 1) for sign in range(context.SIGNS)]


@given(st.lists(ROW, unique=True, min_size=1, max_size=3), LISTS, COUNTS)
def test_contexts_give_the_mean_share_of_their_lists_and_the_share_of_each_item_that_is_theirs(members, lists, likes):
    neighbours, weights = tables(lists)
    expected: dict[int, np.ndarray] = {}
    expected_signs, signs = np.zeros((2, context.SIGNS))
    for member in members:
        total = 1.0 + sum(weights[member, :, AFTER].tolist())
        known = total / (total + context.KNOWN) / math.sqrt(len(members))
        expected_signs += [known if bit else -known for bit in bits_of(member)]
        for k, other in enumerate(neighbours[member].tolist()):
            if other >= 0:
                rate = min(1.0, float(weights[member, k, AFTER]) / (likes[other] + context.SHRINKAGE))
                given_ = np.array([float(weights[member, k, AFTER]) / total, rate]) / len(members)
                expected[other] = expected.get(other, 0.0) + given_
    rows, stats = np.array(members, np.int32), stats_of(POSITIVES, likes)
    same(reach(context.reach, 2, rows, HASHES, stats, neighbours, weights, signs), expected)
    assert signs == pytest.approx(expected_signs, rel=1e-5, abs=1e-9)


def test_the_signs_of_values_tell_them_apart():
    signs = {tuple(bits_of(row)) for row in range(8)}
    assert len(signs) > 4


TWINS = {
    "context.reach": test_contexts_give_the_mean_share_of_their_lists_and_the_share_of_each_item_that_is_theirs,
}
