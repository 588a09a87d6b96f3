"""Sums over vectors of items: the kernel does what its twin in plain Python does."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kernels import missing_twins
from riverrank.operators.catalogue.vectors import dot_of


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


TWINS = {"vectors.dot_of": test_a_dot_product_is_the_sum_of_products_in_four_parts}


def test_every_kernel_has_a_twin():
    assert missing_twins("catalogue", TWINS, globals()) == set()
