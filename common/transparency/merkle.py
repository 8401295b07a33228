"""RFC 6962 Merkle trees: roots, inclusion proofs and consistency proofs, exact and small.

A log of n entries is a binary tree over their hashes. A leaf is sha256(0x00 ‖ entry), an inner
node sha256(0x01 ‖ left ‖ right), so that no entry can pass for a node. Only *complete* subtrees
are stored (one for each set bit of what an append carries), named by level and position: the node
(l, i) covers the leaves i·2ˡ … (i+1)·2ˡ − 1. Root and proofs of every size are made from those.

Invariants:
    * `new_nodes` never changes a stored node: the tree of n leaves is a part of that of n + 1.
    * A proof verifies for exactly one (index, size, leaf, root), or one (old, new, roots).
    * Verifiers raise `EvidenceError` for anything that is not a proof, and never anything else.

Source: RFC 6962, section 2.1; verification as in RFC 9162, sections 2.1.3.2 and 2.1.4.2.

Example:
    >>> nodes = {}
    >>> for size, entry in enumerate([b"open", b"reserve", b"settle"]):
    ...     nodes.update(new_nodes(size, leaf_hash(entry), lambda *at: nodes[at]))
    >>> read = lambda level, position: nodes[level, position]
    >>> proof = inclusion_proof(2, 3, read)
    >>> verify_inclusion(proof, index=2, size=3, leaf=leaf_hash(b"settle"), root=root(3, read))
    >>> verify_inclusion(proof, index=2, size=3, leaf=leaf_hash(b"give"), root=root(3, read))
    Traceback (most recent call last):
    ...
    presspool.common.base.errors.EvidenceError: inclusion proof does not lead to the root
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence

from presspool.common.base.errors import EvidenceError

Read = Callable[[int, int], bytes]
"""Gives the stored hash of the complete subtree (level, position)."""

HASH_BYTES = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()
# A proof of a tree of 2^63 leaves has 63 hashes, a consistency proof at most one more; the
# witness protocol allows 63 lines.
LONGEST_PROOF = 63


def leaf_hash(entry: bytes) -> bytes:
    """sha256(0x00 ‖ entry)."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """sha256(0x01 ‖ left ‖ right)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def new_nodes(size: int, leaf: bytes, read: Read) -> dict[tuple[int, int], bytes]:
    """The stored nodes that appending `leaf` to a tree of `size` leaves completes.

    Args:
        size: leaves before the append; the new leaf's index.
        leaf: `leaf_hash` of the new entry.
        read: gives the nodes stored so far.
    """
    level, position, value = 0, size, leaf
    found = {(0, size): leaf}
    while position % 2 == 1:
        value = node_hash(read(level, position - 1), value)
        level, position = level + 1, position // 2
        found[level, position] = value
    return found


def root(size: int, read: Read) -> bytes:
    """MTH of the first `size` leaves; the hash of nothing for an empty tree."""
    return _subtree(0, size, read) if size else EMPTY_ROOT


def inclusion_proof(index: int, size: int, read: Read) -> tuple[bytes, ...]:
    """PATH(index, D[size]): from the leaf's sibling up to the root's child.

    Raises:
        EvidenceError: no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise EvidenceError("leaf index", expected=f"0 to {size - 1}", got=index)
    proof: list[bytes] = []
    low, high = 0, size
    while high - low > 1:
        middle = low + _split(high - low)
        if index < middle:
            proof.append(_subtree(middle, high, read))
            high = middle
        else:
            proof.append(_subtree(low, middle, read))
            low = middle
    return tuple(reversed(proof))


def consistency_proof(old: int, new: int, read: Read) -> tuple[bytes, ...]:
    """PROOF(old, D[new]): that the tree of `new` leaves begins with that of `old`.

    Empty where `old` is 0 (the empty tree begins every tree) or equal to `new`.

    Raises:
        EvidenceError: sizes in the wrong order.
    """
    if not 0 <= old <= new:
        raise EvidenceError("tree sizes", expected="0 <= old <= new", got=f"{old}, {new}")
    if old in (0, new):
        return ()
    proof: list[bytes] = []
    low, high = 0, new
    while old != high:
        middle = low + _split(high - low)
        if old <= middle:
            proof.append(_subtree(middle, high, read))
            high = middle
        else:
            proof.append(_subtree(low, middle, read))
            low = middle
    # The verifier knows the old root already where the old tree is one complete subtree from 0.
    return tuple(reversed([*proof, _subtree(low, high, read)] if low else proof))


def verify_inclusion(
    proof: Sequence[bytes], *, index: int, size: int, leaf: bytes, root: bytes
) -> None:
    """Check that `leaf` is entry `index` of the tree of `size` leaves with this root.

    Raises:
        EvidenceError: it is not.
    """
    _hashes(proof)
    if not 0 <= index < size:
        raise EvidenceError("leaf index", expected=f"0 to {size - 1}", got=index)
    value = leaf
    for sibling, left in _climb(proof, index, size - 1, "inclusion proof"):
        value = node_hash(sibling, value) if left else node_hash(value, sibling)
    if value != root:
        raise EvidenceError("inclusion proof does not lead to the root")


def verify_consistency(
    proof: Sequence[bytes], *, old: int, new: int, old_root: bytes, new_root: bytes
) -> None:
    """Check that the tree (new, new_root) begins with the tree (old, old_root).

    Raises:
        EvidenceError: it does not.
    """
    _hashes(proof)
    if not 0 <= old <= new:
        raise EvidenceError("tree sizes", expected="0 <= old <= new", got=f"{old}, {new}")
    if (old == 0 and old_root != EMPTY_ROOT) or (new == 0 and new_root != EMPTY_ROOT):
        raise EvidenceError("root of an empty tree", expected=EMPTY_ROOT.hex())
    if old in (0, new):
        if proof:
            raise EvidenceError("consistency proof", expected="none between these sizes")
        if old == new and old_root != new_root:
            raise EvidenceError("two trees of one size with different roots")
        return
    found_old, found_new = _fold_consistency(proof, old, new, old_root)
    if found_old != old_root:
        raise EvidenceError("consistency proof does not lead to the old root")
    if found_new != new_root:
        raise EvidenceError("consistency proof does not lead to the new root")


class Frontier:
    """The right edge of a growing tree: enough to append and to know the root, no more.

    Example:
        >>> edge = Frontier()
        >>> edge.root() == EMPTY_ROOT
        True
        >>> edge.append(leaf_hash(b"open")); edge.size
        1
    """

    def __init__(self) -> None:
        self.size = 0
        self._left: list[bytes] = []  # roots of complete subtrees, the largest first

    def append(self, leaf: bytes) -> None:
        """Add one `leaf_hash`."""
        value, carry = leaf, self.size
        while carry & 1:
            value = node_hash(self._left.pop(), value)
            carry >>= 1
        self._left.append(value)
        self.size += 1

    def root(self) -> bytes:
        """MTH of all leaves so far."""
        if not self._left:
            return EMPTY_ROOT
        value = self._left[-1]
        for left in reversed(self._left[:-1]):
            value = node_hash(left, value)
        return value


def _split(count: int) -> int:
    """k: the largest power of two smaller than `count` (>= 2)."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtree(low: int, high: int, read: Read) -> bytes:
    """MTH(D[low:high]), where `low` is a multiple of the size of the complete tree around it."""
    count = high - low
    if count & (count - 1) == 0:
        level = count.bit_length() - 1
        return read(level, low >> level)
    middle = low + _split(count)
    return node_hash(_subtree(low, middle, read), _subtree(middle, high, read))


def _climb(proof: Sequence[bytes], at: int, last: int, what: str) -> Iterator[tuple[bytes, bool]]:
    """Each hash of a proof from node `at` to the root, and whether it is a left sibling.

    Args:
        proof: the siblings, the lowest first.
        at: the node's place on its level.
        last: the last place on that level.
        what: the proof, for messages.

    Raises:
        EvidenceError: more or fewer hashes than levels with a sibling.
    """
    for sibling in proof:
        if last == 0:
            raise EvidenceError(f"{what} is too long")
        left = at % 2 == 1 or at == last
        yield sibling, left
        # At the right edge there are levels on which the node has no sibling.
        while left and at % 2 == 0 and at != 0:
            at, last = at // 2, last // 2
        at, last = at // 2, last // 2
    if last != 0:
        raise EvidenceError(f"{what} is too short")


def _fold_consistency(
    proof: Sequence[bytes], old: int, new: int, old_root: bytes
) -> tuple[bytes, bytes]:
    """The two roots that a proof between 0 < old < new leads to."""
    path = [old_root, *proof] if old & (old - 1) == 0 else list(proof)
    if not path:
        raise EvidenceError("consistency proof is too short")
    at, last = old - 1, new - 1
    while at % 2 == 1:
        at, last = at // 2, last // 2
    first = second = path[0]
    for sibling, left in _climb(path[1:], at, last, "consistency proof"):
        if left:
            first, second = node_hash(sibling, first), node_hash(sibling, second)
        else:
            second = node_hash(second, sibling)
    return first, second


def _hashes(proof: Sequence[bytes]) -> None:
    if len(proof) > LONGEST_PROOF or any(len(value) != HASH_BYTES for value in proof):
        raise EvidenceError(
            "proof", expected=f"at most {LONGEST_PROOF} hashes of {HASH_BYTES} bytes"
        )
