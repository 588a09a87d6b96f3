"""Noise is what a secret and a name make of each other: of the scale that is promised, and the same each time."""

import numpy as np
from riverrank.operators.privacy.choices import GRID, noise_of
from riverrank.operators.privacy.noise import chacha20, key_of, normals


def test_the_generator_is_chacha20_by_the_example_of_its_rfc():
    """RFC 8439, section 2.3.2."""
    key = np.frombuffer(bytes(range(32)), "<u4").astype(np.uint32)
    counter = 1
    nonce = np.frombuffer(bytes.fromhex("000000090000004a00000000"), "<u4").tolist()
    words = np.empty(16, np.uint64)
    chacha20(key, np.uint64(counter | nonce[0] << 32), np.uint64(nonce[1] | nonce[2] << 32), words)
    assert words.astype("<u4").tobytes().hex() == (
        "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e"
        "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e"
    )


def test_noise_is_normal_and_of_the_scale_that_was_asked_for():
    n, deviation = 200_000, 12.5
    drawn = noise_of(b"secret", 3, np.zeros(n), deviation)
    assert abs(drawn.mean()) < 4 * deviation / np.sqrt(n)
    assert abs(drawn.std() / deviation - 1) < 4 / np.sqrt(2 * n)
    for at, share in ((1.0, 0.158655), (2.0, 0.022750), (3.0, 0.001350)):  # of the standard normal distribution, above
        found = np.mean(drawn > at * deviation), np.mean(drawn < -at * deviation)
        assert np.allclose(found, share, atol=4 * np.sqrt(share / n))
    assert np.array_equal(drawn * GRID, np.rint(drawn * GRID))


def test_no_number_follows_from_others():
    """Neighbouring names, and keys that differ in one part, have numbers that are not correlated."""
    n = 50_000
    keys = [("a", 1), ("a", 2), ("b", 1), ("a1",), ("a", "1", "")]
    drawn = [normals(key_of(b"secret", *parts), n) for parts in keys] + [normals(key_of(b"secreu", "a", 1), n)]
    drawn.append(np.roll(drawn[0], 1))
    correlation = np.corrcoef(drawn)
    assert np.abs(correlation - np.eye(len(drawn))).max() < 4.5 / np.sqrt(n)


def test_the_same_secret_and_content_give_the_same_noise_and_any_other_content_other_noise():
    summed = np.zeros(1000)
    first, again = noise_of(b"secret", 1, summed, 1.0), noise_of(b"secret", 1, summed.copy(), 1.0)
    assert np.array_equal(first, again)
    summed[7] = 1 / GRID
    for other in (noise_of(b"secret", 1, summed, 1.0), noise_of(b"secret", 2, 0 * summed, 1.0)):
        assert abs(np.corrcoef(first, other)[0, 1]) < 0.15
