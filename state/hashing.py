"""Stable numbers from strings: the same in every process, run and version."""

from __future__ import annotations

import hashlib
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

try:  # Python's own: OpenSSL's, which hashlib prefers, costs 10 us more where caches are cold
    from _sha3 import shake_128  # type: ignore[import-not-found]
except ImportError:
    from hashlib import shake_128


def shard_of(name: str, shards: int) -> int:
    """Which of `shards` is told of the item or cohort of that name."""
    return hash32(name) % shards


def hash64(text: str) -> int:
    """64 evenly spread bits of `text`, for telling event ids apart."""
    return int.from_bytes(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def hash32(text: str) -> int:
    """32 bits of `text` (CRC-32), for shards, and for telling a user's items apart.

    >>> hash32("i-1")
    3383980904
    """
    return zlib.crc32(text.encode("utf-8", "surrogatepass"))


def session_key(user_id: str) -> int:
    """What the user's session goes by: 32 bits."""
    return hash32(user_id)


def pseudonym(user_id: str, key: bytes) -> str:
    """What the job keeps the state of a user under: 128 bits in hex, from which nobody who lacks the `key`, of 64 bytes
    at most, finds the id, nor whether one that is guessed is there (BLAKE2b as a MAC, RFC 7693 section 2.9). With an
    empty key a guess can be tried.

    >>> pseudonym("u-1", b"secret")
    '641004d3c11681a4ecb57d55793f9ae6'
    """
    return hashlib.blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=16, key=key).hexdigest()


def uniform(seed: int, text: str) -> float:
    """A number in [0, 1) that depends on `seed` and `text` alone: the first of `uniforms`.

    >>> bool(uniform(7, "e-1") == uniforms(7, "e-1", 3)[0])
    True
    """
    return int.from_bytes(random_bits(seed, text, 1), "little") * 2.0**-32


def uniforms(seed: int, text: str, n: int) -> np.ndarray:
    """`n` numbers in [0, 1) that depend on `seed` and `text` alone: float64 (n,), 32 random bits each."""
    import numpy as np  # noqa: PLC0415  `riverrank --help` needs none

    return np.frombuffer(random_bits(seed, text, n), "<u4") * 2.0**-32


def random_bits(seed: int, text: str, n: int) -> bytes:
    """The bits of `uniforms`, each number times 2 ** 32: `n` uint32, little-endian."""
    return shake_128(f"{seed}:{text}".encode("utf-8", "surrogatepass")).digest(4 * n)
