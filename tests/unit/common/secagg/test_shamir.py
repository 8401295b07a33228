"""Any t shares open a secret, fewer tell nothing of it, and false ones are found out."""

from __future__ import annotations

import random
from itertools import combinations

import pytest

from presspool.common.base.errors import EvidenceError
from presspool.common.secagg.shamir import PRIME, SHARE_BYTES, WIDE_BYTES, combine, split


def is_prime(n: int) -> bool:
    """Miller and Rabin's test with forty bases."""
    odd, twos = n - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    draw = random.Random(1)
    for _ in range(40):
        x = pow(draw.randrange(2, n - 1), odd, n)
        if x not in (1, n - 1) and all((x := x * x % n) != n - 1 for _ in range(twos - 1)):
            return False
    return True


def test_the_field_is_of_the_least_prime_above_all_secrets() -> None:
    assert [n for n in range(2**256, PRIME + 1) if n % 2 and n % 3 and is_prime(n)] == [PRIME]


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32, bytes(range(32))])
def test_any_threshold_of_shares_opens(secret: bytes) -> None:
    shares = split(secret, threshold=3, points=range(1, 6), randomness=random.randbytes(96))
    for size in (3, 4, 5):
        for points in combinations(shares, size):
            assert combine({p: shares[p] for p in points}, threshold=3) == secret


def test_fewer_shares_fit_every_secret() -> None:
    """With t − 1 shares fixed, each secret has the one share more that leads to it."""
    shares = split(b"a" * 32, threshold=3, points=(1, 2, 3), randomness=random.randbytes(96))
    one, two = (int.from_bytes(shares[point]) for point in (1, 2))
    for other in (b"b" * 32, bytes(32)):
        third = (int.from_bytes(other) - 3 * one + 3 * two) % PRIME  # of degree 2 through 0, 1, 2
        given = {1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES)}
        assert combine(given, threshold=3) == other


def test_shares_are_the_polynomial_s_values() -> None:
    """By hand: 7 + 5x + 3x², whose coefficients come highest first."""
    randomness = (3).to_bytes(WIDE_BYTES) + (5).to_bytes(WIDE_BYTES)
    shares = split((7).to_bytes(32), threshold=3, points=(1, 2, 10), randomness=randomness)
    assert {p: int.from_bytes(s) for p, s in shares.items()} == {1: 15, 2: 29, 10: 357}


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({1: b""}, "not of this field"),
        ({1: b"\xff" * SHARE_BYTES}, "not of this field"),
        ({4: bytes(SHARE_BYTES)}, "of different secrets"),
        ({1: None, 2: None}, "too few"),
    ],
)
def test_false_shares_are_refused(change: dict[int, bytes | None], says: str) -> None:
    shares = split(b"a" * 32, threshold=3, points=range(1, 5), randomness=random.randbytes(96))
    given = {p: s for p, s in {**shares, **change}.items() if s is not None}
    with pytest.raises(EvidenceError, match=says):
        combine(given, threshold=3)
