"""The codec of stored layouts: old bytes are upgraded, newer ones refused, broken ones named."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.state.codec import Layout


class Taste(msgspec.Struct, array_like=True, tag=3):
    """Layout 1 held a count and a name, layout 2 the name first, layout 3 has weights beside it."""

    name: str = ""
    count: int = 0
    weights: dict[str, float] = {}
    later: bytes = b""  # added without a new layout


TASTES = Layout("taste", Taste, {1: lambda fields: fields[::-1], 2: lambda fields: [*fields, {"bias": 1.0}]})


@given(st.builds(Taste, st.text(st.characters(codec="utf-8")), st.integers(0, 9), st.just({"a": 0.5}), st.binary()))
def test_what_is_encoded_is_decoded(value):
    assert TASTES.decode(TASTES.encode(value)) == value


@pytest.mark.parametrize("fields", [[1, 7, "drama"], [2, "drama", 7], [3, "drama", 7, {"bias": 1.0}]])
def test_bytes_of_every_layout_mean_the_same(fields):
    assert TASTES.decode(msgspec.msgpack.encode(fields)) == Taste("drama", 7, {"bias": 1.0})


def test_no_bytes_are_a_value_of_defaults():
    assert TASTES.decode(None) == Taste()


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (
            msgspec.msgpack.encode([4, "drama"]),
            "^taste of layout 4: this version reads up to 3; it was written by a newer",
        ),
        (msgspec.msgpack.encode([0, "drama"]), "^taste of layout 0: this version reads 1 to 3; start without"),
        (msgspec.msgpack.encode([3, 5]), "^taste of layout 3: Expected `str`"),
        (msgspec.msgpack.encode({"name": "drama"}), "^taste: no array that begins with the number of its layout"),
        (msgspec.msgpack.encode([]), "^taste: no array that begins"),
        (msgspec.msgpack.encode([3, "drama"])[:-1], "^taste: "),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(raw, message):
    with pytest.raises(ValueError, match=message):
        TASTES.decode(raw)


def test_a_struct_without_its_layouts_number_is_no_layout():
    with pytest.raises(TypeError, match=r"layout's number .1 to 127. as its tag"):
        Layout("point", msgspec.defstruct("Point", [("x", int, 0)], array_like=True))


@pytest.mark.parametrize("missing", [1, 2])
def test_a_missing_upgrade_is_found_at_import(missing):
    upgrades = {older: list for older in (0, 1, 2) if older != missing}
    with pytest.raises(TypeError, match="one by one"):
        Layout("taste", Taste, upgrades)
