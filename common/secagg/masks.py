"""Integers modulo 2ʷ, and masks on them: ChaCha20 streams that are added and taken away again.

A mask is the ChaCha20 stream (RFC 8439) of a seed that is used for nothing else, read as unsigned
integers of w bits. It is made and added piece by piece, so that it never lies in memory as a whole
and its pieces stay in the processor's cache.

Invariants:
    * Sums are exact modulo 2ʷ: numpy's unsigned integers wrap around, and nothing is a float.
    * What does not fit the ring wraps as well and is never refused: whether an outlet answers does
      not depend on its data. A plan's `bound` sees to it that this does not happen.

Example:
    >>> total = to_ring(np.array([-3, 5]), 32)
    >>> add_mask(total, b"s" * 32)
    >>> add_mask(total, b"s" * 32, minus=True)
    >>> from_ring(total)
    array([-3,  5], dtype=int32)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from numpy.typing import NDArray

RingVector = NDArray[np.unsignedinteger]
SignedVector = NDArray[np.signedinteger]
_PIECE_BYTES = 1 << 17
_ZEROS = bytes(_PIECE_BYTES)


def to_ring(values: NDArray[np.int64], bits: int) -> RingVector:
    """A new vector of the values modulo 2ʷ, little-endian."""
    return values.astype(f"<u{bits // 8}")


def from_ring(total: RingVector) -> SignedVector:
    """The representatives in −2ʷ⁻¹ … 2ʷ⁻¹−1, as signed integers of w bits; nothing is copied."""
    return total.view(f"<i{total.itemsize}")


def add_mask(total: RingVector, seed: bytes, *, minus: bool = False) -> None:
    """Add the seed's mask to the vector, in place, or take it away."""
    stream = Cipher(algorithms.ChaCha20(seed, bytes(16)), mode=None).encryptor()
    combine = np.subtract if minus else np.add
    piece = np.empty(_PIECE_BYTES // total.itemsize, dtype=total.dtype)
    raw = piece.data.cast("B")
    for at in range(0, len(total), len(piece)):
        part = total[at : at + len(piece)]
        stream.update_into(_ZEROS[: part.nbytes], raw[: part.nbytes])
        combine(part, piece[: len(part)], out=part)


def arrays_in(
    vector: NDArray[Any], shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, NDArray[Any]]:
    """The arrays that lie in a vector one behind the other, by name; nothing is copied."""
    names = sorted(shapes)
    ends = np.cumsum([math.prod(shapes[name]) for name in names])
    parts = np.split(vector, ends[:-1])
    return {name: part.reshape(shapes[name]) for name, part in zip(names, parts, strict=True)}
