"""What items and profiles name: anything may be said of them, and nothing of it is too large to be a token."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.operators.catalogue.tokens import (
    CONTEXT,
    CONTEXT_BUCKETS,
    MAX_COHORTS,
    MAX_CONTEXTS,
    MAX_TOKENS,
    cohorts,
    context_values,
    contexts,
    preferences,
    tokens_of,
)
from riverrank.operators.catalogue.vectors import vector_of
from riverrank.state.records.bounds import MAX_COMPONENTS, MAX_NUMBER
from riverrank.state.records.incoming import Item

LONGEST = "x" * 256


def tokens(**attributes):
    return tokens_of(Item("i", 1, attributes=attributes))


@pytest.mark.parametrize(
    ("number", "bucket"),
    [
        (1.7e308, "8.98847e+307~"),
        (-1.79e308, "-8.98847e+307~"),
        (5e-324, "4.94066e-324~"),
        (-(1 << 63), "-9.22337e+18~"),
        (0.0, "0"),
        (-0.0, "0"),
        (19.99, "16~"),
    ],
)
def test_any_number_has_a_bucket(number, bucket):
    assert tokens(price=number) == [f"price={bucket}"]


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(1 << 63), (1 << 63) - 1))
def test_a_number_is_within_a_power_of_two_of_its_bucket(number):
    (token,) = tokens(price=number)
    bucket = token.removeprefix("price=").removesuffix("~")
    if isinstance(number, int) and 1000 <= number < 3000:
        assert abs(float(bucket) - number) <= 5
    elif number:
        assert 0.49 < abs(number / float(bucket)) < 2.01 and math.copysign(1, number) == math.copysign(1, float(bucket))


def test_what_is_longer_than_256_bytes_names_nothing_wherever_it_stands():
    for text in ("x" * 257, "\u20ac" * 86, "x" * 60_000):
        assert tokens_of(Item("i", 1, categories=(text, "drama"))) == ["category=drama"]
        assert tokens(brand=text, colour=[text, "red"]) == ["colour=red"]
        assert tokens(**{text: "red"}) == []
        assert preferences({"likes": [text, "red"], "age": text}) == {"red"}
        assert cohorts({"age": text}) == []
    assert tokens_of(Item("i", 1, categories=(LONGEST,))) == [f"category={LONGEST}"]
    assert tokens(brand="\u20ac" * 85) == ["brand=" + "\u20ac" * 85]
    assert preferences({"likes": LONGEST}) == {LONGEST}


@given(
    st.dictionaries(
        st.text(max_size=5), st.text(max_size=5) | st.floats() | st.lists(st.text(max_size=3)), max_size=20
    ),
    st.lists(st.text(max_size=300), max_size=20),
    st.none() | st.lists(st.floats(-MAX_NUMBER, MAX_NUMBER), max_size=6) | st.just([MAX_NUMBER] * MAX_COMPONENTS),
)
def test_whatever_an_item_says_its_tokens_are_few_and_its_vector_of_length_one(attributes, categories, given):
    item = Item("i", 1, title="a title", categories=tuple(categories), attributes=attributes, embedding=given)
    found = tokens_of(item)
    assert len(found) <= MAX_TOKENS and len(cohorts(attributes)) <= MAX_COHORTS
    assert all(len(token.encode("utf-8", "surrogatepass")) <= 2 * 256 + 1 for token in found)
    vector = vector_of(item, found)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-3)


def context_tokens(context):
    return [value.token for value in context_values(context)]


def test_a_context_says_its_first_short_values_and_an_hour_is_one_of_six():
    said = {"long": "x" * 257, "page": "home", "none": None, "list": ["a"], "price": 9.9, "empty": "", "app": False}
    said |= {"hour": 23, "week": 7, "weather": "rain"}
    assert context_tokens(said) == ["page=home", "app=False", "hour=20~", "week=7"]
    assert [context_tokens({"hour": hour}) for hour in (0, 3, 4, 24, "4")] == [
        [f"hour={value}"] for value in ("0~", "0~", "4~", "24", "4")
    ]
    assert context_tokens({}) == [] and contexts(None) == contexts({}) == ()
    assert [context_tokens({"a": value}) for value in (True, 1, "1", 1.0)] == [["a=True"], ["a=1"], ["a=1"], []]


@given(st.dictionaries(st.text(max_size=9), st.text(max_size=300) | st.integers() | st.booleans() | st.none()))
def test_lists_of_contexts_are_few_and_named_by_no_value(context):
    found = contexts(context)
    assert len(found) == len(context_tokens(context)) <= MAX_CONTEXTS
    for name in found:
        bucket = name.rpartition("#")[2]
        assert name.startswith(CONTEXT) and int(bucket) < CONTEXT_BUCKETS
        assert len(name.encode("utf-8", "surrogatepass")) < 300


def test_values_of_one_name_share_no_list_unless_they_are_many():
    few, many = ({name for k in range(n) for name in contexts({"page": f"p{k}"})} for n in (30, 20_000))
    assert len(few) == 30 and 4000 < len(many) <= CONTEXT_BUCKETS
    assert contexts({"page": "p1"}) != contexts({"device": "p1"})
