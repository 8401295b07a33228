"""Merkle trees against RFC 6962 written down a second time, and against known vectors."""

from __future__ import annotations

import hashlib
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from presspool.common.base.errors import EvidenceError
from presspool.common.transparency.merkle import (
    EMPTY_ROOT,
    Frontier,
    Read,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    new_nodes,
    root,
    verify_consistency,
    verify_inclusion,
)

SIZES = 256
# The eight leaves and roots of the Certificate Transparency reference implementations.
VECTOR_LEAVES = [
    "",
    "00",
    "10",
    "2021",
    "3031",
    "40414243",
    "5051525354555657",
    "606162636465666768696a6b6c6d6e6f",
]
VECTOR_ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
# (old, new): hashes, of the same source.
VECTOR_CONSISTENCY = {
    (6, 8): [
        "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a",
        "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    ],
    (2, 5): [
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b",
    ],
}


class Oracle:
    """RFC 6962 section 2.1 word for word: slices of a list, no stored nodes, memoised."""

    def __init__(self, entries: list[bytes]) -> None:
        self.entries = entries
        self.known: dict[tuple[int, int], bytes] = {}

    def mth(self, low: int, high: int) -> bytes:
        if (low, high) not in self.known:
            self.known[low, high] = self._mth(low, high)
        return self.known[low, high]

    def _mth(self, low: int, high: int) -> bytes:
        if low == high:
            return hashlib.sha256(b"").digest()
        if high - low == 1:
            return hashlib.sha256(b"\x00" + self.entries[low]).digest()
        k = self.split(high - low)
        parts = self.mth(low, low + k) + self.mth(low + k, high)
        return hashlib.sha256(b"\x01" + parts).digest()

    @staticmethod
    def split(n: int) -> int:
        k = 1
        while 2 * k < n:
            k *= 2
        return k

    def path(self, m: int, low: int, high: int) -> list[bytes]:
        if high - low == 1:
            return []
        k = self.split(high - low)
        if m < k:
            return [*self.path(m, low, low + k), self.mth(low + k, high)]
        return [*self.path(m - k, low + k, high), self.mth(low, low + k)]

    def proof(self, m: int, n: int) -> list[bytes]:
        return [] if m in (0, n) else self.subproof(m, 0, n, True)

    def subproof(self, m: int, low: int, high: int, whole: bool) -> list[bytes]:
        if m == high - low:
            return [] if whole else [self.mth(low, high)]
        k = self.split(high - low)
        if m <= k:
            return [*self.subproof(m, low, low + k, whole), self.mth(low + k, high)]
        return [*self.subproof(m - k, low + k, high, False), self.mth(low, low + k)]


def grown(entries: list[bytes]) -> Read:
    nodes: dict[tuple[int, int], bytes] = {}
    for size, entry in enumerate(entries):
        fresh = new_nodes(size, leaf_hash(entry), lambda *at: nodes[at])
        assert not fresh.keys() & nodes.keys(), "a stored node was written twice"
        nodes.update(fresh)
    return lambda level, position: nodes[level, position]


ENTRIES = [f"entry {i}".encode() for i in range(SIZES)]
ORACLE = Oracle(ENTRIES)
READ = grown(ENTRIES)


def test_roots_of_the_certificate_transparency_vectors() -> None:
    entries = [bytes.fromhex(text) for text in VECTOR_LEAVES]
    read, edge = grown(entries), Frontier()
    for size, (entry, expected) in enumerate(zip(entries, VECTOR_ROOTS, strict=True), 1):
        edge.append(leaf_hash(entry))
        assert root(size, read).hex() == edge.root().hex() == expected


def test_consistency_proofs_of_the_certificate_transparency_vectors() -> None:
    read = grown([bytes.fromhex(text) for text in VECTOR_LEAVES])
    for (old, new), expected in VECTOR_CONSISTENCY.items():
        assert [h.hex() for h in consistency_proof(old, new, read)] == expected


def test_the_empty_tree() -> None:
    assert root(0, READ) == Frontier().root() == EMPTY_ROOT == hashlib.sha256(b"").digest()
    verify_consistency((), old=0, new=0, old_root=EMPTY_ROOT, new_root=EMPTY_ROOT)


def test_all_inclusion_proofs_up_to_256_are_the_oracles_and_verify() -> None:
    for size in range(1, SIZES + 1):
        whole = root(size, READ)
        assert whole == ORACLE.mth(0, size)
        for index in range(size):
            proof = inclusion_proof(index, size, READ)
            assert list(proof) == ORACLE.path(index, 0, size)
            verify_inclusion(
                proof, index=index, size=size, leaf=leaf_hash(ENTRIES[index]), root=whole
            )


def test_all_consistency_proofs_up_to_256_are_the_oracles_and_verify() -> None:
    for new in range(SIZES + 1):
        for old in range(new + 1):
            proof = consistency_proof(old, new, READ)
            assert list(proof) == ORACLE.proof(old, new)
            verify_consistency(
                proof, old=old, new=new, old_root=root(old, READ), new_root=root(new, READ)
            )


def flips(proof: tuple[bytes, ...], chosen: random.Random | None) -> list[tuple[bytes, ...]]:
    """Every single-bit change of every hash, or one random bit a hash."""
    found = []
    for place, value in enumerate(proof):
        for bit in range(256) if chosen is None else [chosen.randrange(256)]:
            number = int.from_bytes(value) ^ (1 << bit)
            found.append((*proof[:place], number.to_bytes(32), *proof[place + 1 :]))
    return found


def wrong_shapes(proof: tuple[bytes, ...]) -> list[tuple[bytes, ...]]:
    return [proof[1:], proof[:-1], (*proof, EMPTY_ROOT), (EMPTY_ROOT, *proof)] if proof else []


def check_mutations(sizes: list[int], chosen: random.Random | None) -> int:
    refused = 0
    for new in sizes:
        for old in range(1, new):
            roots = {"old_root": root(old, READ), "new_root": root(new, READ)}
            proof = consistency_proof(old, new, READ)
            for wrong in flips(proof, chosen) + wrong_shapes(proof):
                with pytest.raises(EvidenceError):
                    verify_consistency(wrong, old=old, new=new, **roots)
                refused += 1
        for index in range(new):
            leaf, whole = leaf_hash(ENTRIES[index]), root(new, READ)
            proof = inclusion_proof(index, new, READ)
            for wrong in flips(proof, chosen) + wrong_shapes(proof):
                with pytest.raises(EvidenceError):
                    verify_inclusion(wrong, index=index, size=new, leaf=leaf, root=whole)
                refused += 1
    return refused


def test_one_changed_bit_a_node_is_refused() -> None:
    assert check_mutations([2, 3, 7, 8, 13, 33, 100], random.Random(1)) > 2000


@pytest.mark.soak
def test_every_changed_bit_is_refused() -> None:
    assert check_mutations([2, 3, 5, 7, 8, 13, 21, 33, 64, 100, 255, 256], None) > 100_000


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 20])
def test_a_proof_holds_for_no_other_index_leaf_or_root(size: int) -> None:
    for index in range(size):
        proof, whole = inclusion_proof(index, size, READ), root(size, READ)
        right = {"index": index, "size": size, "leaf": leaf_hash(ENTRIES[index]), "root": whole}
        for other in set(range(-1, size + 1)) - {index}:
            with pytest.raises(EvidenceError):
                verify_inclusion(proof, **{**right, "index": other})  # type: ignore[arg-type]
        for key in ("leaf", "root"):
            with pytest.raises(EvidenceError):
                verify_inclusion(proof, **{**right, key: EMPTY_ROOT})  # type: ignore[arg-type]


def test_a_fork_has_no_consistency_proof() -> None:
    forked = grown([*ENTRIES[:9], b"another history", *ENTRIES[10:20]])
    for old in range(10, 20):
        for read in (READ, forked):
            with pytest.raises(EvidenceError):
                verify_consistency(
                    consistency_proof(old, 20, read),
                    old=old,
                    new=20,
                    old_root=root(old, READ),
                    new_root=root(20, forked),
                )


@pytest.mark.parametrize(("old", "new"), [(3, 2), (-1, 2), (0, -1)])
def test_sizes_in_the_wrong_order_are_refused(old: int, new: int) -> None:
    with pytest.raises(EvidenceError, match="old <= new"):
        consistency_proof(old, new, READ)
    with pytest.raises(EvidenceError, match="old <= new"):
        verify_consistency((), old=old, new=new, old_root=EMPTY_ROOT, new_root=EMPTY_ROOT)


def test_an_index_outside_the_tree_has_no_proof() -> None:
    with pytest.raises(EvidenceError, match="leaf index"):
        inclusion_proof(5, 5, READ)


def test_the_empty_trees_root_is_fixed() -> None:
    with pytest.raises(EvidenceError, match="empty tree"):
        verify_consistency((), old=0, new=3, old_root=root(1, READ), new_root=root(3, READ))


def test_equal_sizes_with_different_roots_are_refused() -> None:
    with pytest.raises(EvidenceError, match="different roots"):
        verify_consistency((), old=2, new=2, old_root=root(2, READ), new_root=root(3, READ))


def test_a_proof_where_none_is_needed_is_refused() -> None:
    for old in (0, 3):
        with pytest.raises(EvidenceError, match="none between"):
            verify_consistency(
                (EMPTY_ROOT,), old=old, new=3, old_root=root(old, READ), new_root=root(3, READ)
            )


@given(
    proof=st.lists(st.binary(min_size=31, max_size=33), max_size=70),
    sizes=st.tuples(st.integers(0, 2**63), st.integers(0, 2**63)),
)
@settings(max_examples=300)
def test_arbitrary_proofs_are_refused_and_never_crash(
    proof: list[bytes], sizes: tuple[int, int]
) -> None:
    low, high = sorted(sizes)
    with pytest.raises(EvidenceError):
        verify_inclusion(proof, index=low, size=high, leaf=b"l" * 32, root=b"r" * 32)
    with pytest.raises(EvidenceError):
        verify_consistency(proof, old=low, new=high, old_root=b"o" * 32, new_root=b"n" * 32)


@given(st.lists(st.binary(max_size=8), max_size=40), st.lists(st.binary(max_size=8), max_size=40))
def test_growing_is_consistent(first: list[bytes], more: list[bytes]) -> None:
    before, after = grown(first), grown(first + more)
    old, new = len(first), len(first + more)
    verify_consistency(
        consistency_proof(old, new, after),
        old=old,
        new=new,
        old_root=root(old, before),
        new_root=root(new, after),
    )
