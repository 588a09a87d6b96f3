"""Sums of what nobody reads singly: Paillier's encryption, whose ciphertexts are added by whoever holds no key.

The job adds, and a key holder apart from it opens sums, of `least` devices at least and one a round. It holds where the
two follow the protocol and do not work together: a job that passes one update off as a sum is not found out.
"""

from collections.abc import Iterable

import numpy as np
from phe import paillier

BITS = 56  # of a number's place in a plaintext, so that sums of many do not reach into the next
MOST = 1 << 40  # of one number, either way: of the sum of 2 ** 14 devices a place holds any
KEY_BITS = 2048


class Sealer:
    """What a device, or the job, does with the public key."""

    def __init__(self, n: int) -> None:
        """`n` is the modulus that the key holder gives to everyone."""
        self.key = paillier.PaillierPublicKey(n)
        self._bytes = (self.key.nsquare.bit_length() + 7) // 8
        self.places = (n.bit_length() - 2) // BITS

    def seal(self, numbers: np.ndarray) -> tuple[bytes, ...]:
        """Whole `numbers`, int64 (d,), encrypted, some dozens in a ciphertext. Raises ValueError on one beyond MOST."""
        if np.abs(numbers).max(initial=0) > MOST:
            raise ValueError(f"numbers: expected at most {MOST} either way, got {np.abs(numbers).max()}")
        texts = [packed(numbers[at : at + self.places].tolist()) for at in range(0, len(numbers), self.places)]
        return tuple(self._raw(self.key.raw_encrypt(text % self.key.n)) for text in texts)

    def add(self, sealed: Iterable[tuple[bytes, ...]]) -> tuple[bytes, ...]:
        """The sum of what was sealed, sealed. Raises ValueError where they are not of one length, or no ciphertexts."""
        sums: list[int] = []
        for each in sealed:
            texts = [int.from_bytes(text, "little") for text in each]
            if sums and len(texts) != len(sums):
                raise ValueError(f"sealed: expected {len(sums)} ciphertexts, got {len(texts)}")
            if not all(0 < text < self.key.nsquare for text in texts):
                raise ValueError("sealed: expected ciphertexts of this key")
            sums = [a * b % self.key.nsquare for a, b in zip(sums, texts, strict=True)] if sums else texts
        return tuple(map(self._raw, sums))

    def _raw(self, text: int) -> bytes:
        return text.to_bytes(self._bytes, "little")


class KeyHolder:
    """Who holds the private key, apart from the job."""

    def __init__(self, least: int, bits: int = KEY_BITS) -> None:
        """`least` devices are in a sum that is opened; the key has so many `bits`."""
        public, self._private = paillier.generate_paillier_keypair(n_length=bits)
        self.n, self.least = int(public.n), least
        self._opened = -1  # the last round that was

    def open(self, number: int, devices: int, sealed: tuple[bytes, ...], size: int) -> np.ndarray:
        """The sum, int64 (size,), of that round, of so many devices. Raises ValueError for too few, and for a round
        that is no later than one that was opened: the difference of two sums may be one device's.
        """
        if devices < self.least:
            raise ValueError(f"devices: expected {self.least} at least, got {devices}")
        if number <= self._opened:
            raise ValueError(f"number: expected a round after {self._opened}, got {number}")
        self._opened = number
        places = (self.n.bit_length() - 2) // BITS
        numbers: list[int] = []
        for text in sealed:
            plain = self._private.raw_decrypt(int.from_bytes(text, "little"))
            plain -= self.n if plain > self.n // 2 else 0
            numbers += unpacked(plain, min(places, size - len(numbers)))
        return np.array(numbers, np.int64)


def packed(numbers: list[int]) -> int:
    """Numbers as one, each BITS beyond the last; the sum of such is that of their sums.

    >>> unpacked(packed([3, -4]) + packed([-5, 6]), 2)
    [-2, 2]
    """
    return sum(number << (BITS * place) for place, number in enumerate(numbers))


def unpacked(text: int, n: int) -> list[int]:
    """The `n` numbers that are in one."""
    numbers = []
    for _ in range(n):
        number = ((text + (1 << (BITS - 1))) & ((1 << BITS) - 1)) - (1 << (BITS - 1))
        numbers.append(number)
        text = (text - number) >> BITS
    return numbers
