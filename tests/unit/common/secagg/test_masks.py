"""Masks are ChaCha20's own stream, and sums wrap around exactly."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from presspool.common.secagg.masks import add_mask, from_ring, to_ring

SEED = bytes(range(32))


def chacha20(seed: bytes, blocks: int) -> bytes:
    """RFC 8439, section 2.3, with nonce and first counter 0; slow and plain."""

    def quarter(x: list[int], a: int, b: int, c: int, d: int) -> None:
        for i, j, k, turn in ((a, b, d, 16), (c, d, b, 12), (a, b, d, 8), (c, d, b, 7)):
            x[i] = (x[i] + x[j]) & 0xFFFFFFFF
            x[k] = ((x[k] ^ x[i]) << turn | (x[k] ^ x[i]) >> (32 - turn)) & 0xFFFFFFFF

    found = b""
    for counter in range(blocks):
        start = [*struct.unpack("<4I", b"expand 32-byte k"), *struct.unpack("<8I", seed)]
        start += [counter, 0, 0, 0]
        x = list(start)
        for _ in range(10):
            for at in range(4):
                quarter(x, at, 4 + at, 8 + at, 12 + at)
            for at in range(4):
                quarter(x, at, 4 + (at + 1) % 4, 8 + (at + 2) % 4, 12 + (at + 3) % 4)
        found += struct.pack("<16I", *((a + b) & 0xFFFFFFFF for a, b in zip(x, start, strict=True)))
    return found


@pytest.mark.parametrize("bits", [32, 64])
def test_a_mask_is_the_stream_across_the_pieces_border(bits: int) -> None:
    """Pieces are of 2¹⁷ bytes; the last is not full, and its block neither."""
    length = (1 << 17) * 8 // bits + 37
    total = to_ring(np.zeros(length, dtype=np.int64), bits)
    add_mask(total, SEED)
    stream = chacha20(SEED, 2 + ((1 << 17) + 37 * bits // 8) // 64)
    assert total.tobytes() == stream[: total.nbytes]


@pytest.mark.parametrize("bits", [32, 64])
def test_what_is_added_and_taken_away_is_gone(bits: int) -> None:
    edge = 2 ** (bits - 1)
    values = np.array([0, -1, edge - 1, -edge], dtype=np.int64)
    total = to_ring(values, bits)
    add_mask(total, SEED)
    assert total.tolist() != to_ring(values, bits).tolist()
    add_mask(total, SEED, minus=True)
    assert from_ring(total).tolist() == values.tolist()


def test_values_beyond_the_ring_wrap_and_are_not_refused() -> None:
    values = np.array([2**31, -(2**31) - 1, 2**40 + 5], dtype=np.int64)
    assert from_ring(to_ring(values, 32)).tolist() == [-(2**31), 2**31 - 1, 5]
