"""A prior as a file: what is written is read, and what is no such file, damaged or newer is refused by name."""

import os
from pathlib import Path
from zlib import crc32

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from riverrank.state.prior import MAGIC, MOST_BYTES, Prior, from_file, read_file, to_file, write_file

PRIOR = Prior(b"ranker", (0.625, 40.0), 7)


@given(st.builds(Prior, st.binary(), st.tuples(st.floats(0, 1), st.floats(0, 1e9)), st.integers(0, 1 << 40)))
def test_what_is_written_is_read(prior: Prior) -> None:
    assert from_file(to_file(prior)) == prior


@given(st.integers(0, len(to_file(PRIOR)) - 1))
def test_a_truncated_file_is_refused(length: int) -> None:
    with pytest.raises(ValueError, match=r"damaged|no file that"):
        from_file(to_file(PRIOR)[:length])


@given(st.integers(0, 8 * len(to_file(PRIOR)) - 1))
def test_a_file_with_a_bit_flipped_is_refused(bit: int) -> None:
    raw = bytearray(to_file(PRIOR))
    raw[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ValueError, match=r"damaged|no file that"):
        from_file(bytes(raw))


@given(st.binary(max_size=200))
def test_random_bytes_are_refused(raw: bytes) -> None:
    for begun in (raw, MAGIC + raw):
        with pytest.raises(ValueError, match=r"damaged|no file that"):
            from_file(begun)


def resealed(stored: bytes) -> bytes:
    """A file whose checksum is right whatever it holds."""
    return MAGIC + crc32(stored).to_bytes(4, "little") + stored


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ([2, b"", [0.0, 0.0], 0], "prior of layout 2: this version reads up to 1; it was written by a newer riverrank"),
        ([1, "text", [0.0, 0.0], 0], "prior of layout 1: Expected `bytes`"),
        ({"ranker": b""}, "prior: no array that begins with the number of its layout"),
    ],
)
def test_what_is_of_a_newer_layout_or_of_none_is_refused(fields: object, told: str) -> None:
    with pytest.raises(ValueError, match=told):
        from_file(resealed(msgspec.msgpack.encode(fields)))


def test_of_a_huge_file_no_more_is_read_than_a_prior_may_have(tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(MAGIC)
    os.truncate(path, 40 * MOST_BYTES)
    raw = read_file(str(path))
    assert len(raw) == MOST_BYTES + 1
    with pytest.raises(ValueError, match=f"expected {MOST_BYTES} at most"):
        from_file(raw)


def test_a_file_that_cannot_be_written_leaves_the_one_before_and_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "shop.prior"
    write_file(str(path), PRIOR)
    write_file(str(path), Prior(b"newer"))
    assert from_file(read_file(str(path))).ranker == b"newer"
    with pytest.raises(TypeError):
        write_file(str(path), Prior(object()))  # type: ignore[arg-type]
    assert from_file(read_file(str(path))).ranker == b"newer"
    assert [found.name for found in tmp_path.iterdir()] == ["shop.prior"]
