"""Shamir's secret sharing of 32 bytes over the prime field of 2²⁵⁶ + 297 elements.

A polynomial of degree t − 1 whose value at 0 is the secret is taken at each outlet's point. Any t
values fix it; fewer are independent of the secret (Shamir, "How to share a secret", CACM 22, 1979).

Invariants:
    * Integers throughout, and the same operations whatever the secret is.
    * More shares than t must lie on the same polynomial, or all of them are refused.

Example:
    >>> shares = split(b"k" * 32, threshold=2, points=(1, 2, 3), randomness=bytes(range(48)))
    >>> combine({1: shares[1], 3: shares[3]}, threshold=2)
    b'kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk'
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from presspool.common.base.errors import EvidenceError

PRIME = 2**256 + 297  # the least prime above 2**256: every secret of 32 bytes is an element
SECRET_BYTES, SHARE_BYTES = 32, 33
WIDE_BYTES = 48  # of randomness for one coefficient: 2⁻¹²⁷ from uniform in total variation


def split(
    secret: bytes, *, threshold: int, points: Iterable[int], randomness: bytes
) -> dict[int, bytes]:
    """Point to share.

    Args:
        secret: 32 bytes.
        threshold: t, the shares that open it.
        points: where the polynomial is taken; different, and none is 0.
        randomness: `WIDE_BYTES` uniform bytes for each of t − 1 coefficients.
    """
    wide = [randomness[at : at + WIDE_BYTES] for at in range(0, len(randomness), WIDE_BYTES)]
    assert len(secret) == SECRET_BYTES
    assert len(randomness) == WIDE_BYTES * (threshold - 1)
    coefficients = [*(int.from_bytes(part) % PRIME for part in wide), int.from_bytes(secret)]
    return {point: _value(coefficients, point).to_bytes(SHARE_BYTES) for point in points}


def combine(shares: Mapping[int, bytes], *, threshold: int) -> bytes:
    """The secret of which these are shares.

    Raises:
        EvidenceError: fewer than t, one that is none, or shares of different secrets.
    """
    if len(shares) < threshold:
        raise EvidenceError("too few", where="shares", expected=threshold, got=len(shares))
    values = {point: int.from_bytes(share) for point, share in sorted(shares.items())}
    if any(len(s) != SHARE_BYTES for s in shares.values()) or max(values.values()) >= PRIME:
        raise EvidenceError("not of this field", where="shares")
    base = tuple(values)[:threshold]
    for point in tuple(values)[threshold:]:
        if _interpolated(values, base, point) != values[point]:
            raise EvidenceError("of different secrets", where="shares")
    secret = _interpolated(values, base, 0)
    if secret >> (8 * SECRET_BYTES):
        raise EvidenceError("of different secrets", where="shares")
    return secret.to_bytes(SECRET_BYTES)


def _value(coefficients: list[int], point: int) -> int:
    """Horner's rule; the highest coefficient comes first."""
    value = 0
    for coefficient in coefficients:
        value = (value * point + coefficient) % PRIME
    return value


def _interpolated(values: Mapping[int, int], base: tuple[int, ...], at: int) -> int:
    weights = _weights(base, at)
    return sum(values[point] * weight for point, weight in zip(base, weights, strict=True)) % PRIME


@lru_cache(maxsize=256)
def _weights(base: tuple[int, ...], at: int) -> tuple[int, ...]:
    """Lagrange's polynomials of these points, at one point; public, so they may be kept."""
    weights = []
    for point in base:
        above = below = 1
        for other in base:
            if other != point:
                above, below = above * (at - other) % PRIME, below * (point - other) % PRIME
        weights.append(above * pow(below, -1, PRIME) % PRIME)
    return tuple(weights)
