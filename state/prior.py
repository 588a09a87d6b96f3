"""What the job of one shop leaves to that of another, as a file: nothing of any user, and no id of an item.

A file is MAGIC, the CRC-32 of what follows (uint32, little-endian), and a `Prior` as `state.codec` stores it.
"""

from pathlib import Path
from zlib import crc32

import msgspec

from .codec import Layout
from .runtime.files import write_whole

MAGIC = b"riverrank prior\n"
MOST_BYTES = 1 << 24  # of a file: one of a ranker of 100 features has a hundredth
_SUM_BYTES = 4


class Prior(msgspec.Struct, frozen=True, array_like=True, tag=1):
    """Layout 1. `ranker` is a `state.learners.RankerState`, stored by its own layout: without the choices that its nets
    keep, each of which is one user's, and without the steps that Adam made.

    `ratings` is the mean of ratings, as a share of the way from the least to the most that one may be, and how many it
    is the mean of. `learned_from` is how many feedbacks all of it is learned from.
    """

    ranker: bytes = b""
    ratings: tuple[float, float] = (0.0, 0.0)
    learned_from: int = 0


PRIOR = Layout("prior", Prior)


def to_file(prior: Prior) -> bytes:
    """The bytes of a file that holds it."""
    stored = PRIOR.encode(prior)
    return MAGIC + crc32(stored).to_bytes(_SUM_BYTES, "little") + stored


def from_file(raw: bytes) -> Prior:
    """What the bytes of a file hold.

    Raises:
        ValueError: they are of no such file, damaged, or of a newer riverrank.

    >>> from_file(to_file(Prior(b"", (0.625, 40.0), 40))).ratings
    (0.625, 40.0)
    >>> from_file(to_file(Prior())[:-1])
    Traceback (most recent call last):
    ValueError: damaged: its checksum is of other bytes
    """
    if not is_prior(raw):
        raise ValueError("no file that `riverrank prior` wrote")
    if len(raw) > MOST_BYTES:
        raise ValueError(f"of {len(raw)} bytes: expected {MOST_BYTES} at most")
    start = len(MAGIC) + _SUM_BYTES
    stored = raw[start:]
    if crc32(stored).to_bytes(_SUM_BYTES, "little") != raw[len(MAGIC) : start]:
        raise ValueError("damaged: its checksum is of other bytes")
    return PRIOR.decode(stored)


def is_prior(raw: bytes) -> bool:
    """Whether the bytes begin as those of such a file do."""
    return raw.startswith(MAGIC)


def read_file(path: str) -> bytes:
    """The bytes of a file, one more than MOST_BYTES at most: who reads further reads no prior. Raises OSError."""
    with Path(path).open("rb") as file:
        return file.read(MOST_BYTES + 1)


def write_file(path: str, prior: Prior) -> None:
    """Write the file whole, or leave what is there as it was. Raises OSError."""
    write_whole(Path(path), to_file(prior))
