"""Sums over vectors of items: the kernel does what its twin in plain Python does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from riverrank.operators.catalogue.tokens import tokens_of
from riverrank.operators.catalogue.vectors import dot_of, vector_of
from riverrank.state.records.incoming import Item


@given(st.lists(st.tuples(*[st.floats(-4, 4, width=32)] * 2), max_size=11))
def test_a_dot_product_is_the_sum_of_products_in_four_parts(pairs):
    a, b = np.array(pairs, np.float32).reshape(-1, 2).T.copy()
    found, whole = dot_of(a, b), len(pairs) // 4 * 4
    sums = [np.float32(0.0)] * 4
    for d in range(whole):
        sums[d % 4] += a[d] * b[d]
    for d in range(whole, len(pairs)):
        sums[0] += a[d] * b[d]
    assert found == (sums[0] + sums[1]) + (sums[2] + sums[3])
    assert found == pytest.approx(math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True)), abs=1e-4)


def likeness(one: Item, other: Item) -> float:
    return float(vector_of(one, tokens_of(one)) @ vector_of(other, tokens_of(other)))


def test_items_are_alike_by_their_words_and_more_by_their_categories():
    alien, heir = Item("i1", 1, "Alien on the Shuttle", "A crew wakes."), Item("i2", 1, "The shuttle: ALIEN crew")
    stranger, horror, other = Item("i3", 1, "Gardens of Kyoto"), ("horror",), ("gardening",)
    assert likeness(alien, heir) > 0.6
    assert abs(likeness(alien, stranger)) < 0.4
    same, apart = (
        likeness(Item("i", 1, "Alien shuttle", categories=horror), Item("i", 1, title, categories=categories))
        for title, categories in (("Gardens Kyoto", horror), ("Alien shuttle", other))
    )
    assert same > 0.8
    assert apart < 0.5
    assert not vector_of(Item("i", 1), []).any()


TWINS = {"vectors.dot_of": test_a_dot_product_is_the_sum_of_products_in_four_parts}


def test_every_kernel_has_a_twin():
    assert missing_twins("catalogue", TWINS, globals()) == set()
